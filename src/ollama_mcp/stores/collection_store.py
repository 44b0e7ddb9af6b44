"""Collections: documents in passages, with their vectors, that are searched by meaning and by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ollama_mcp.errors import InvalidArgument, StorageError
from ollama_mcp.sources import Passage

NEIGHBOUR = 160
"""Characters that a found passage has of each of its neighbours."""


class CollectionKey(NamedTuple):
    """Key of a collection: its owner, "" for the operating system's user, and its name."""

    owner: str
    name: str


@dataclass(frozen=True)
class Fingerprint:
    """What makes vectors comparable: model, SHA-256 of its content, and length."""

    model: str
    digest: str
    dimensions: int


@dataclass(frozen=True)
class Collection:
    """A collection, without its documents.

    Attributes:
        key: Owner and name.
        fingerprint: Model of its vectors.
        documents: Number of documents.
        passages: Number of passages.
        indexed_at: Time of the last change, in seconds since 1970.
    """

    key: CollectionKey
    fingerprint: Fingerprint
    documents: int = 0
    passages: int = 0
    indexed_at: float = 0.0


@dataclass(frozen=True)
class Document:
    """A document of a collection.

    Attributes:
        id: Identifier: the path of a file, else the address, title or hash of a text.
        name: Name for people: the path from the allowed folder on, or the title.
        hash: SHA-256 of what was indexed.
        uri: Address; "" where there is none.
        pattern: Pattern or path by which a file was found; "" for a text.
        stamp: Time of change and size of a file, by which a later change shows; "" for a text.
    """

    id: str
    name: str
    hash: str
    uri: str = ""
    pattern: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class StoredPassage(Passage):
    """A passage of a document.

    Attributes:
        document: Document that it is of.
        number: Place among the passages of the document, from 0.
        line: Line of the document at which it begins, from 1.
        before: End of the passage before; "" for the first.
        after: Beginning of the passage behind; "" for the last.
    """

    document: Document = field(default_factory=lambda: Document("", "", ""))
    number: int = 0
    line: int = 1
    before: str = ""
    after: str = ""

    @property
    def label(self) -> str:
        """Place for people: the document, the line of a file, and the headings."""
        place = f"{self.document.name}:{self.line}" if self.document.stamp else self.document.name
        return place if self.title in {"", self.document.name} else f"{place} · {self.title}"


class NewPassage(NamedTuple):
    """A passage to be stored: its heading, its text, and the line at which it begins."""

    title: str
    text: str
    line: int


@dataclass(frozen=True)
class Found:
    """What a search found: candidates, with two orders of them.

    Attributes:
        passages: Candidates.
        cosines: Cosine similarity of each to the query; None where it was not near.
        by_meaning: Places of candidates, the nearest vector first.
        by_words: Places of candidates, the best BM25 first.
        frequencies: Number of passages of the whole collection that have a word of the query.
        count: Number of passages of the whole collection.
    """

    passages: list[StoredPassage]
    cosines: list[float | None]
    by_meaning: list[int]
    by_words: list[int]
    frequencies: Mapping[str, int]
    count: int


class OtherModel(InvalidArgument):
    """A collection has vectors of another model, with which new ones cannot be compared."""


class CollectionStore(Protocol):
    """A place for collections. Every change is one transaction, and other processes may change them, too."""

    async def collections(self, owner: str) -> list[Collection]:
        """Return the collections of an owner, by name."""
        ...

    async def ensure(self, key: CollectionKey, fingerprint: Fingerprint) -> None:
        """Make a collection, if there is none of that key.

        Raises:
            OtherModel: There is one, of another model.
        """
        ...

    async def documents(self, key: CollectionKey) -> dict[str, Document]:
        """Return the documents of a collection by their identifiers."""
        ...

    async def put(
        self,
        key: CollectionKey,
        document: Document,
        passages: Sequence[NewPassage],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """Store a document, in place of the one that has its identifier.

        Raises:
            InvalidArgument: The collection is gone.
            StorageError: The vectors are not of its length.
        """
        ...

    async def restamp(self, key: CollectionKey, document: Document) -> None:
        """Store how and where a document was found now; its passages stay."""
        ...

    async def remove(self, key: CollectionKey, ids: Sequence[str]) -> None:
        """Remove documents."""
        ...

    async def search(
        self, key: CollectionKey, vector: Sequence[float] | None, words: Sequence[str], most: int, under: str
    ) -> Found:
        """Return the passages nearest to a query.

        Args:
            key: Collection.
            vector: Vector of the query; None: by words only.
            words: Words of the query.
            most: Candidates by each of meaning and words, at most.
            under: Beginning of the names of the documents that are searched; "" for all.
        """
        ...

    async def drop(self, key: CollectionKey) -> None:
        """Remove a collection with all that it has."""
        ...

    async def aclose(self) -> None:
        """Close what is open; the next use opens it again."""
        ...


def require_vectors(vectors: Sequence[Sequence[float]], count: int, dimensions: int) -> None:
    """Refuse vectors that a collection cannot take: too few, of another length, or zero.

    Raises:
        StorageError: They are such.
    """
    if len(vectors) != count or any(len(v) != dimensions or not any(v) for v in vectors):
        raise StorageError(
            f"the vectors are not {count} of {dimensions} numbers", "Name another embedding model."
        )


def missing(key: CollectionKey) -> InvalidArgument:
    """Return the error of a collection that is gone."""
    return InvalidArgument(f"there is no collection {key.name}", "Index documents into it first.")


def other_model(key: CollectionKey, has: Fingerprint, given: Fingerprint) -> OtherModel:
    """Return the error of a collection whose vectors another model made."""
    same = has.model == given.model
    why = f"another version of {has.model}" if same else f"{has.model} ({has.dimensions} dimensions)"
    return OtherModel(
        f"collection {key.name} was indexed with {why}",
        f"Install that model again, or forget the collection and index it anew with {given.model}.",
    )
