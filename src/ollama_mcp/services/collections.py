"""Collections of a caller: which there are, which may be read, and how one is searched or forgotten."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import anyio.to_thread

from ollama_mcp.errors import Forbidden, InvalidArgument, ModelNotFound
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.confirmation import Confirmation, require_yes
from ollama_mcp.stores.collection_store import (
    Collection,
    CollectionKey,
    CollectionStore,
    Document,
    Found,
    other_model,
)

CANDIDATES = 64
"""Passages that a collection gives for a question, by each of meaning and words."""
NOTHING_FOUND = Found([], [], [], [], {}, 0)
_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class OpenCollection:
    """A collection that a caller may read.

    Attributes:
        store: Store that has it.
        collection: Itself.
        digest: SHA-256 of what its model's name means now; "" where that is not installed.
    """

    store: CollectionStore
    collection: Collection
    digest: str

    @property
    def model(self) -> str:
        """Model that made its vectors."""
        return self.collection.fingerprint.model

    def require_model(self) -> None:
        """Refuse to search by meaning where the model is not what it was.

        Raises:
            ModelNotFound: It is not installed any more.
            OtherModel: Its name means another one now.
        """
        has = self.collection.fingerprint
        if not self.digest:
            raise ModelNotFound(
                f"{has.model} is not installed any more", f"Install it: ollama pull {has.model}."
            )
        if self.digest != has.digest:
            raise other_model(self.collection.key, has, has)

    async def search(self, vector: Sequence[float] | None, words: Sequence[str], under: str = "") -> Found:
        """Return its passages nearest to a question; as of `CollectionStore`."""
        return await self.store.search(self.collection.key, vector, words, CANDIDATES, under)


class Collections:
    """Collections of callers. Each belongs to whom made it; the operator may share theirs with all.

        index = await app.collections.open("", "notes")
        found = await app.retriever.rank("How long does tea steep?", [], job, index)

    Args:
        store: Store that has them; None where the operator has set none.
        catalog: Models that are installed.
        shared: Names of the operator's collections that all may read.
    """

    def __init__(self, store: CollectionStore | None, catalog: Catalog, shared: Sequence[str]) -> None:
        self._store = store
        self._catalog = catalog
        self._shared = shared

    @property
    def store(self) -> CollectionStore:
        """The store.

        Raises:
            Forbidden: The operator has set none.
        """
        if self._store is None:
            raise Forbidden("nothing is stored here", "Have the operator name a folder in OLLAMA_MCP_STORE.")
        return self._store

    async def aclose(self) -> None:
        """Close the store, where there is one."""
        if self._store is not None:
            await self._store.aclose()

    async def listed(self, caller: str) -> list[Collection]:
        """Return the collections that a caller may read, by name: their own, and those that are shared."""
        if self._store is None:
            return []
        found = await self.store.collections(caller)
        if caller and self._shared:
            own = {one.key.name for one in found}
            found += [
                one
                for one in await self.store.collections("")
                if one.key.name in self._shared and one.key.name not in own
            ]
        return sorted(found, key=lambda one: one.key.name)

    async def own(self, caller: str, name: str) -> Collection | None:
        """Return a collection of the caller's own; None where there is none of that name."""
        return next((one for one in await self.store.collections(caller) if one.key.name == name), None)

    async def open(self, caller: str, name: str) -> OpenCollection:
        """Return a collection to be searched. A caller who has only one need not name it.

        Raises:
            InvalidArgument: There is none of that name; the remedy has those that there are.
            Forbidden: The operator has set no store.
        """
        listed = await self.listed(caller)
        found = next((one for one in listed if one.key.name == name or (not name and len(listed) == 1)), None)
        if found is None:
            raise self._unknown(name, [one.key.name for one in listed])
        entry = await self._catalog.entry(found.fingerprint.model)
        return OpenCollection(self.store, found, entry.digest if entry else "")

    def _unknown(self, name: str, names: Sequence[str]) -> InvalidArgument:
        cause = f"there is no collection {name[:64]!r}" if name else "no collection is named"
        if not names:
            return InvalidArgument(cause, "Index documents first.")
        known = " or ".join(f'collection="{one}"' for one in names[:20])
        return InvalidArgument(cause, f"Send {known}.")

    async def forget(self, caller: str, name: str, confirmed: Confirmation | None) -> Collection:
        """Remove a collection of the caller's own, and return what it was.

        Args:
            caller: Who asks.
            name: Its name.
            confirmed: What the user has confirmed; None: nobody has been asked.

        Raises:
            NotConfirmed: The user has not confirmed this name.
            InvalidArgument: The caller has none of that name.
        """
        found = await self.own(caller, name)
        if found is None:
            raise self._unknown(name, [one.key.name for one in await self.store.collections(caller)])
        what = f"forget collection {name} with {found.documents} documents"
        require_yes(confirmed, name, what, "Its files stay; it has to be indexed anew.")
        await self.store.drop(found.key)
        return found


def stamp_of(found: os.stat_result) -> str:
    """Return the time of change and the size of a file, by which a change shows."""
    return f"{found.st_mtime_ns}:{found.st_size}"


async def changed_since(documents: Sequence[Document]) -> dict[str, str]:
    """Return what happened to files since they were indexed, by the documents' identifiers: changed, gone."""

    def look() -> dict[str, str]:
        changes: dict[str, str] = {}
        for document in documents:
            if document.stamp:
                try:
                    is_same = stamp_of(os.stat(document.id)) == document.stamp
                except OSError:
                    changes[document.id] = "gone since it was indexed"
                else:
                    if not is_same:
                        changes[document.id] = "changed since it was indexed"
        return changes

    return await anyio.to_thread.run_sync(look)


def key_of(caller: str, name: str) -> CollectionKey:
    """Return the key of a caller's own collection.

    Raises:
        InvalidArgument: The name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:80]!r} cannot be the name of a collection",
            "Send 1 to 64 letters, digits, dots, dashes or underscores, such as notes.",
        )
    return CollectionKey(caller, name)
