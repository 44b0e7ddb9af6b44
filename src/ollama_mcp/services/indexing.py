"""Indexing: documents are read, cut in passages, embedded and stored in a collection, as one job.

Only what has changed is read anew. Each document is stored whole, so that a run that is broken off goes on
where it was when it is repeated.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio.to_thread

from ollama_mcp.errors import InvalidArgument, OllamaError
from ollama_mcp.jobs.job import Job, JobState, Part
from ollama_mcp.ollama.sanitize import sanitize_text, strip_invisible
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.collections import Collections, key_of
from ollama_mcp.services.embedding import Embedder, EmbedSpec
from ollama_mcp.services.file_access import Place, printable
from ollama_mcp.services.files.batch import NoFileFits, find_files, has_folder
from ollama_mcp.services.files.documents import read_document
from ollama_mcp.services.splitting import split_document
from ollama_mcp.services.units import format_bytes, format_duration
from ollama_mcp.settings.limits import Limits, check_length, check_texts, setting_of
from ollama_mcp.sources import Passage
from ollama_mcp.stores.collection_store import (
    Collection,
    CollectionKey,
    CollectionStore,
    Document,
    Fingerprint,
    NewPassage,
    other_model,
)

_AT_ONCE = 64
"""Passages that are embedded together, of one document or of several."""
_LONGEST = 500
"""Characters of a text's address."""


_TELLS_AFTER_S = 2.0
"""A speed and a time left of less than that are guesses."""


@dataclass(frozen=True)
class IndexSpec:
    """A checked request to index.

    Attributes:
        collection: Name of the collection.
        files: Paths and patterns; with no documents either, those of last time.
        documents: Texts with titles and addresses.
    """

    collection: str
    files: tuple[str, ...] = ()
    documents: tuple[Passage, ...] = ()


def build_index(
    limits: Limits, collection: str, files: Sequence[str] = (), documents: Sequence[Passage] = ()
) -> IndexSpec:
    """Check a request and make its spec.

    Raises:
        InvalidArgument: The name cannot be one, or a document is empty.
        TooLarge: The documents are too many or too large.
    """
    key_of("", collection)
    check_texts(limits, [document.text for document in documents])
    if any(not document.text.strip() for document in documents):
        raise InvalidArgument("a document is empty", "Leave it out.")
    return IndexSpec(collection, tuple(files), tuple(documents))


@dataclass
class Indexed:
    """What came of indexing.

    Attributes:
        collection: Name of the collection.
        model: Embedding model.
        dimensions: Length of its vectors.
        documents: Documents in the collection now.
        passages: Passages in the collection now.
        read: Documents that were read and stored.
        unchanged: Documents that were as they were.
        removed: Documents that were there and are gone.
        failed: Reason of each document that could not be indexed, by its name.
        stored: Passages that were stored.
        seconds: Time that it took.
        notes: Notes for the caller.
    """

    collection: str
    model: str = ""
    dimensions: int = 0
    documents: int = 0
    passages: int = 0
    read: int = 0
    unchanged: int = 0
    removed: int = 0
    stored: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list[str])

    @property
    def size(self) -> int:
        """Bytes, about, that it takes."""
        return 500 + sum(200 + len(name) + len(why) for name, why in self.failed.items())


@dataclass
class _Run:
    """One run of indexing: its collection, and the documents whose passages are still to be embedded."""

    key: CollectionKey
    store: CollectionStore
    embedder: Embedder
    model: str
    digest: str
    known: dict[str, Document]
    found: Indexed
    job: Job[Indexed]
    limits: Limits
    started: float = field(default_factory=time.monotonic)
    size: int = 0
    emptied: list[str] = field(default_factory=list[str])
    """Documents that had text, and have none now."""
    waiting: list[tuple[Document, list[NewPassage]]] = field(
        default_factory=list[tuple[Document, list[NewPassage]]]
    )

    def status(self) -> list[str]:
        """Return parts of the status line."""
        job = self.job
        told = [
            f"{job.count} of {job.total} documents",
            f"{self.found.stored} passages",
            format_bytes(self.size),
        ]
        elapsed = time.monotonic() - self.started
        if self.found.stored and job.count and job.total and elapsed >= _TELLS_AFTER_S:
            told.append(f"{self.found.stored / elapsed:.0f} passages/s")
            told.append(f"{format_duration(elapsed * (job.total - job.count) / job.count)} left")
        return told

    async def add(self, document: Document, text: str) -> None:
        """Take in a document: nothing more is to be done if its content is as it was."""
        before = self.known.get(document.id)
        if before is not None and before.hash == document.hash:
            if before != document:
                await self.store.restamp(self.key, document)
            self.found.unchanged += 1
            self.job.advance(JobState.WORKING)
            return
        passages = await anyio.to_thread.run_sync(
            lambda: split_document(document.name, strip_invisible(sanitize_text(text))[0])
        )
        if not passages:
            self.fail(document.name, "it has no text")
            if before is not None:
                self.emptied.append(document.id)
            return
        if len(passages) > self.limits.texts:  # their vectors are in memory together
            self.fail(
                document.name,
                f"it has {len(passages)} passages; the limit is {self.limits.texts} ({setting_of('texts')})",
            )
            return
        self.waiting.append((document, passages))
        if sum(len(passages) for _, passages in self.waiting) >= _AT_ONCE:
            await self.store_waiting()

    def fail(self, name: str, why: str) -> None:
        """Say that a document could not be indexed."""
        self.found.failed[printable(name)] = why
        self.job.advance(JobState.WORKING)

    async def store_waiting(self) -> None:
        """Embed the passages that wait, and store their documents one by one."""
        if not self.waiting:
            return
        texts = [f"{one.title}\n{one.text}" for _, passages in self.waiting for one in passages]
        spec = EmbedSpec(texts, self.model, queries=0, truncate=True)
        vectors = (await self.embedder.run(spec, Part("texts", self.job.caller))).vectors
        await self.store.ensure(self.key, Fingerprint(self.model, self.digest, max(map(len, vectors))))
        for document, passages in self.waiting:
            mine, vectors = vectors[: len(passages)], vectors[len(passages) :]
            kept = [n for n, vector in enumerate(mine) if any(vector)]
            if len(kept) < len(mine):
                lost = len(mine) - len(kept)
                self.found.notes.append(f"{document.name}: {lost} passages could not be embedded")
                document = replace(document, hash="", stamp="")  # noqa: PLW2901 - the next run reads it again
            await self.store.put(self.key, document, [passages[n] for n in kept], [mine[n] for n in kept])
            self.found.read += 1
            self.found.stored += len(kept)
            self.job.advance(JobState.WORKING)
        self.waiting.clear()


class Indexer:
    """Fills collections, one job a run.

    indexed = await app.indexer.run(build_index(limits, "notes", ["notes/**/*.md"]), roots, job)
    indexed.passages
    """

    def __init__(self, backend: OllamaBackend, embedder: Embedder, collections: Collections) -> None:
        self._catalog = backend.catalog
        self._settings = backend.settings
        self._embedder = embedder
        self._collections = collections

    async def run(
        self, spec: IndexSpec, roots: Sequence[Path], job: Job[Indexed], limits: Limits | None = None
    ) -> Indexed:
        """Index documents into the caller's collection, which is made if there is none.

        Args:
            spec: The request.
            roots: Folders below which files may be read.
            job: Job that counts documents, and shows passages and bytes.
            limits: Limits of files; those of the settings by default.

        Raises:
            InvalidArgument: There is nothing to index, or the collection is of another model.
            OllamaError: As of files, embeddings and the store.
        """
        limits = limits or self._settings.limits
        store, key = self._collections.store, key_of(job.caller, spec.collection)
        there = await self._collections.own(job.caller, spec.collection)
        model, digest = await self._model(there)
        known = await store.documents(key) if there else {}
        found = Indexed(spec.collection, model)
        run = _Run(key, store, self._embedder, model, digest, known, found, job, limits)

        job.show(["looking for files"])
        again = not spec.files and not spec.documents
        patterns = sorted({one.pattern for one in known.values()} - {""}) if again else spec.files
        if again and not patterns:
            raise InvalidArgument("there is nothing to index", 'Send "files" or "documents".')
        known_patterns = {one.pattern for one in known.values()}
        places, away = await self._places(patterns, roots, limits, found, known_patterns, is_repeated=again)
        job.total = len(places) + len(spec.documents)
        job.tell = run.status
        for document, text in _documents_of(spec.documents):
            await run.add(document, text)
        for place, pattern in places.items():
            before = known.get(str(place.path))
            try:
                # A parser may take long; a thread whose caller has gone reads to the end.
                read = await anyio.to_thread.run_sync(
                    read_document, place, pattern, before, roots, limits, abandon_on_cancel=True
                )
            except OllamaError as error:
                cause = error.cause.removeprefix(printable(place.path.name)).strip()
                run.fail(place.shown, f"{cause}. {error.remedy}")
                continue
            if read is None:
                found.unchanged += 1
                job.advance(JobState.WORKING)
            else:
                run.size += read.size
                await run.add(read.document, read.text)
        await run.store_waiting()

        here = {str(place.path) for place in places}
        looked_at = set(patterns) - away
        absent = [one.id for one in known.values() if one.pattern in looked_at and one.id not in here]

        def left() -> list[str]:  # a file whose folder is away, too, may come back
            return [one for one in absent if Path(one).parent.is_dir()]

        gone = [*run.emptied, *await anyio.to_thread.run_sync(left)]
        if gone:
            await store.remove(key, gone)
            found.removed = len(gone)
        now = await self._collections.own(job.caller, spec.collection)
        if now is None:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(found.failed.items())[:5])
            raise InvalidArgument(f"nothing could be indexed: {reasons}", "Name files with text.")
        found.documents, found.passages = now.documents, now.passages
        found.dimensions = now.fingerprint.dimensions
        found.seconds = round(time.monotonic() - run.started, 3)
        return found

    async def _model(self, there: Collection | None) -> tuple[str, str]:
        """Return the embedding model with its digest: that of the collection, else the configured one."""
        name = there.fingerprint.model if there else ""
        choice = await self._catalog.resolve(name, ["embedding"], default=self._settings.embedding_model)
        entry = await self._catalog.entry(choice.model.name)
        digest = entry.digest if entry else ""
        if there and digest != there.fingerprint.digest:
            given = replace(there.fingerprint, digest=digest)
            raise other_model(there.key, there.fingerprint, given)
        return choice.model.name, digest

    async def _places(
        self,
        patterns: Sequence[str],
        roots: Sequence[Path],
        limits: Limits,
        found: Indexed,
        known_patterns: set[str],
        *,
        is_repeated: bool,
    ) -> tuple[dict[Place, str], set[str]]:
        """Return the files that patterns mean, each with its pattern, and the patterns that mean none now."""
        places: dict[Place, str] = {}
        away: set[str] = set()
        for pattern in patterns:
            try:
                for place in await anyio.to_thread.run_sync(find_files, [pattern], roots, limits):
                    if isinstance(place, Place):
                        places.setdefault(place, pattern)
                    elif not is_repeated:
                        found.failed[printable(place)] = "there is no such file"
            except OllamaError as error:
                is_none = isinstance(error, NoFileFits) and pattern in known_patterns
                if is_none and await anyio.to_thread.run_sync(has_folder, pattern, roots):
                    continue  # all of its files are deleted
                if not is_repeated:
                    raise
                # A folder may be away for now, or be another process's: what it had stays.
                away.add(pattern)
                end = "/".join(Path(pattern).parts[-3:])  # whoever asks need not know where folders are
                found.failed[printable(end)] = f"{error.cause}; its documents are kept"
            check_length(limits, "files", places)
        return places, away


def _documents_of(passages: Sequence[Passage]) -> list[tuple[Document, str]]:
    """Return texts as documents; of several with one address or title, each is known by its content, too."""
    documents = [_document_of(one) for one in passages]
    times = Counter(one.id for one in documents)
    return [
        (replace(one, id=f"{one.id} {one.hash[:16]}") if times[one.id] > 1 else one, passage.text)
        for one, passage in zip(documents, passages, strict=True)
    ]


def _document_of(passage: Passage) -> Document:
    """Return a text as a document: known by its address, else its title, else its content."""
    title, uri = (
        " ".join(strip_invisible(sanitize_text(text))[0].split()) for text in (passage.title, passage.uri)
    )
    content = hashlib.sha256(f"{title}\n{passage.text}".encode(errors="replace")).hexdigest()
    id = uri or title or content  # noqa: A001 - the attribute's name
    if len(id) > _LONGEST:
        id = hashlib.sha256(id.encode(errors="replace")).hexdigest()  # noqa: A001 - as above
    return Document(f"text:{id}", title[:200] or f"text {content[:8]}", content, uri[:_LONGEST])
