"""Collections in a SQLite file: words by its FTS5, vectors by numpy over one matrix in memory.

Vectors are kept as 8-bit integers with a scale: of 20,000 passages a search takes 3 ms and 8 MB, where an
index of SQLite's own kind took 25 ms. On Cranfield the order is as good as with 32-bit floats.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollama_mcp.errors import StorageError
from ollama_mcp.stores.collection_store import (
    NEIGHBOUR,
    Collection,
    CollectionKey,
    Document,
    Fingerprint,
    Found,
    NewPassage,
    StoredPassage,
    missing,
    other_model,
    require_vectors,
)
from ollama_mcp.stores.sqlite_file import SqliteFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collection(
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL,
    model TEXT NOT NULL, digest TEXT NOT NULL, dimensions INTEGER NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0, indexed_at REAL NOT NULL,
    UNIQUE(owner, name));
CREATE TABLE IF NOT EXISTS document(
    collection INTEGER NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, hash TEXT NOT NULL, uri TEXT NOT NULL,
    pattern TEXT NOT NULL, stamp TEXT NOT NULL, PRIMARY KEY(collection, id)) WITHOUT ROWID;
"""
_OF_A_COLLECTION = """
CREATE TABLE passage_{0}(
    id INTEGER PRIMARY KEY, document TEXT NOT NULL, number INTEGER NOT NULL, line INTEGER NOT NULL,
    title TEXT NOT NULL, text TEXT NOT NULL, scale REAL NOT NULL, vector BLOB NOT NULL,
    UNIQUE(document, number));
CREATE VIRTUAL TABLE words_{0} USING fts5(
    title, text, content='passage_{0}', content_rowid='id', tokenize='porter unicode61');
CREATE TRIGGER put_{0} AFTER INSERT ON passage_{0} BEGIN
    INSERT INTO words_{0}(rowid, title, text) VALUES (new.id, new.title, new.text); END;
CREATE TRIGGER gone_{0} AFTER DELETE ON passage_{0} BEGIN
    INSERT INTO words_{0}(words_{0}, rowid, title, text) VALUES ('delete', old.id, old.title, old.text); END
"""
"""Tables of their own: BM25 counts words within a collection, and to forget one is to drop them."""
_MATRICES = 4
"""Collections whose vectors stay in memory."""
_BLOCK = 512
"""Vectors that are multiplied at once: their floats fit into a processor's cache."""


@dataclass(frozen=True)
class _Matrix:
    """Vectors of a collection, as of its number of changes."""

    changes: int
    ids: NDArray[np.int64]
    scales: NDArray[np.float32]
    vectors: NDArray[np.int8]


class SqliteCollections:
    """A `CollectionStore` in one file, for several processes.

    store = SqliteCollections(Path("collections.db"))
    await store.ensure(CollectionKey("", "notes"), Fingerprint("all-minilm:22m", digest, 384))
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA)
        self._matrices: dict[int, _Matrix] = {}

    async def collections(self, owner: str) -> list[Collection]:
        """Return the collections of an owner; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> list[Collection]:
            rows = db.execute("SELECT id, name FROM collection WHERE owner = ? ORDER BY name", (owner,))
            return [_collection(db, CollectionKey(owner, name), number) for number, name in rows.fetchall()]

        return await self._file.read(work)

    async def ensure(self, key: CollectionKey, fingerprint: Fingerprint) -> None:
        """Make a collection; as of `CollectionStore`."""
        _numpy()  # rather now than behind an empty collection

        def work(db: sqlite3.Connection) -> Fingerprint:
            made = db.execute(
                "INSERT OR IGNORE INTO collection"
                "(owner, name, model, digest, dimensions, changes, indexed_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                # Changes begin at no number that one had which was dropped: some process has its vectors.
                (*key, *astuple(fingerprint), time.time_ns(), time.time()),
            )
            number, there = _entry(db, key)
            if made.rowcount:
                for statement in _OF_A_COLLECTION.format(number).split(";\n"):
                    db.execute(statement)
            return there

        there = await self._file.write(work)
        if there != fingerprint:
            raise other_model(key, there, fingerprint)

    async def documents(self, key: CollectionKey) -> dict[str, Document]:
        """Return the documents of a collection; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> dict[str, Document]:
            number, _ = _entry(db, key)
            rows = db.execute(
                "SELECT id, name, hash, uri, pattern, stamp FROM document WHERE collection = ?", (number,)
            )
            return {row[0]: Document(*row) for row in rows}

        return await self._file.read(work)

    async def put(
        self,
        key: CollectionKey,
        document: Document,
        passages: Sequence[NewPassage],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """Store a document; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> None:
            number, fingerprint = _entry(db, key)
            require_vectors(vectors, len(passages), fingerprint.dimensions)
            _remove(db, number, [document.id])
            db.execute(
                "INSERT INTO document(collection, id, name, hash, uri, pattern, stamp) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, *vars(document).values()),
            )
            db.executemany(
                f"INSERT INTO passage_{number}(document, number, line, title, text, scale, vector) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (document.id, place, passage.line, passage.title, passage.text, *_quantized(vector))
                    for place, (passage, vector) in enumerate(zip(passages, vectors, strict=True))
                ],
            )
            _changed(db, number)

        await self._file.write(work)

    async def restamp(self, key: CollectionKey, document: Document) -> None:
        """Store how and where a document was found; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> None:
            number, _ = _entry(db, key)
            id, *values = vars(document).values()  # noqa: A001 - the column's name
            # No INSERT: another process may have removed it, and it would come back without passages.
            db.execute(
                "UPDATE document SET name = ?, hash = ?, uri = ?, pattern = ?, stamp = ? "
                "WHERE collection = ? AND id = ?",
                (*values, number, id),
            )

        await self._file.write(work)

    async def remove(self, key: CollectionKey, ids: Sequence[str]) -> None:
        """Remove documents; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> None:
            number, _ = _entry(db, key)
            _remove(db, number, ids)
            _changed(db, number)

        await self._file.write(work)

    async def search(
        self, key: CollectionKey, vector: Sequence[float] | None, words: Sequence[str], most: int, under: str
    ) -> Found:
        """Return the passages nearest to a query; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> Found:
            number, fingerprint = _entry(db, key)
            if vector is not None and len(vector) != fingerprint.dimensions:
                raise StorageError(
                    f"the query has {len(vector)} numbers, and the vectors of {key.name} have "
                    f"{fingerprint.dimensions}",
                    "Forget the collection, and index it anew.",
                )
            (count,) = db.execute(f"SELECT count(*) FROM passage_{number}").fetchone()  # noqa: S608
            allowed: set[int] | None = None
            if under:
                rows = db.execute(
                    f"SELECT p.id FROM document d JOIN passage_{number} p ON p.document = d.id "  # noqa: S608
                    "WHERE d.collection = ? AND substr(d.name, 1, ?) = ?",
                    (number, len(under), under),
                )
                allowed = {one for (one,) in rows}
            near = {} if vector is None else self._nearest(db, number, vector, most, allowed)
            matched: list[int] = []
            if words:
                rows = db.execute(
                    f"SELECT rowid FROM words_{number} WHERE words_{number} MATCH ? ORDER BY rank",  # noqa: S608
                    (" OR ".join(map(_quoted, words)),),
                )
                ids = (one for (one,) in rows if allowed is None or one in allowed)
                matched = list(islice(ids, most))
            frequencies = {
                word: db.execute(
                    f"SELECT count(*) FROM words_{number} WHERE words_{number} MATCH ?",  # noqa: S608
                    (_quoted(word),),
                ).fetchone()[0]
                for word in words
            }
            ids = list(dict.fromkeys([*near, *matched]))
            places = {one: place for place, one in enumerate(ids)}
            return Found(
                _passages(db, key, number, ids),
                [near.get(one) for one in ids],
                [places[one] for one in near],
                [places[one] for one in matched],
                frequencies,
                count,
            )

        return await self._file.read(work)

    def _nearest(
        self,
        db: sqlite3.Connection,
        number: int,
        vector: Sequence[float],
        most: int,
        allowed: set[int] | None,
    ) -> dict[int, float]:
        """Return the nearest passages with their cosines, the nearest first."""
        np = _numpy()
        matrix = self._matrix(db, number)
        query = np.asarray(vector, dtype=np.float32)
        query /= np.linalg.norm(query) or 1.0
        cosines = np.empty(len(matrix.ids), dtype=np.float32)
        for begin in range(0, len(cosines), _BLOCK):
            end = begin + _BLOCK
            cosines[begin:end] = matrix.vectors[begin:end].astype(np.float32) @ query
        cosines *= matrix.scales
        if allowed is not None:
            cosines[~np.isin(matrix.ids, list(allowed))] = -2.0
            most = min(most, len(allowed))
        best = np.argpartition(-cosines, most - 1)[:most] if most < len(cosines) else np.arange(len(cosines))
        best = best[np.argsort(-cosines[best], kind="stable")][:most]
        return {int(matrix.ids[place]): float(cosines[place]) for place in best}

    def _matrix(self, db: sqlite3.Connection, number: int) -> _Matrix:
        """Return the vectors of a collection; read anew where it has changed."""
        np = _numpy()
        changes, dimensions = db.execute(
            "SELECT changes, dimensions FROM collection WHERE id = ?", (number,)
        ).fetchone()
        known = self._matrices.pop(number, None)
        if known is None or known.changes != changes:
            rows = db.execute(f"SELECT id, scale, vector FROM passage_{number}").fetchall()  # noqa: S608
            known = _Matrix(
                changes,
                np.array([one for one, _, _ in rows], dtype=np.int64),
                np.array([scale for _, scale, _ in rows], dtype=np.float32),
                np.frombuffer(b"".join(stored for *_, stored in rows), dtype=np.int8).reshape(-1, dimensions),
            )
        self._matrices[number] = known  # the newest is the last
        while len(self._matrices) > _MATRICES:
            self._matrices.pop(next(iter(self._matrices)))
        return known

    async def drop(self, key: CollectionKey) -> None:
        """Remove a collection; as of `CollectionStore`."""

        def work(db: sqlite3.Connection) -> None:
            number, _ = _entry(db, key)
            db.execute(f"DROP TABLE words_{number}")
            db.execute(f"DROP TABLE passage_{number}")
            db.execute("DELETE FROM document WHERE collection = ?", (number,))
            db.execute("DELETE FROM collection WHERE id = ?", (number,))

        await self._file.write(work)

    async def aclose(self) -> None:
        """Close the file."""
        self._matrices.clear()
        await self._file.aclose()


def _numpy() -> Any:
    """Return numpy, which takes 0.1 s to import and comes with the extra `rag`.

    Raises:
        StorageError: It is not installed.
    """
    try:
        import numpy  # noqa: PLC0415
    except ImportError:
        raise StorageError(
            "collections need numpy, which is not installed",
            'Install "ollama-mcp[rag]" where the server is; `ollama-mcp doctor` has the command.',
        ) from None
    return numpy


def _entry(db: sqlite3.Connection, key: CollectionKey) -> tuple[int, Fingerprint]:
    row = db.execute(
        "SELECT id, model, digest, dimensions FROM collection WHERE owner = ? AND name = ?", key
    ).fetchone()
    if row is None:
        raise missing(key)
    return row[0], Fingerprint(*row[1:])


def _collection(db: sqlite3.Connection, key: CollectionKey, number: int) -> Collection:
    _, fingerprint = _entry(db, key)
    (documents,) = db.execute("SELECT count(*) FROM document WHERE collection = ?", (number,)).fetchone()
    (passages,) = db.execute(f"SELECT count(*) FROM passage_{number}").fetchone()  # noqa: S608
    (indexed_at,) = db.execute("SELECT indexed_at FROM collection WHERE id = ?", (number,)).fetchone()
    return Collection(key, fingerprint, documents, passages, indexed_at)


def _remove(db: sqlite3.Connection, number: int, ids: Sequence[str]) -> None:
    db.executemany(f"DELETE FROM passage_{number} WHERE document = ?", [(one,) for one in ids])  # noqa: S608
    db.executemany("DELETE FROM document WHERE collection = ? AND id = ?", [(number, one) for one in ids])


def _changed(db: sqlite3.Connection, number: int) -> None:
    db.execute(
        "UPDATE collection SET changes = changes + 1, indexed_at = ? WHERE id = ?", (time.time(), number)
    )


def _quoted(word: str) -> str:
    # An operator of FTS5 is a word here; NUL would end the text.
    return '"' + word.replace('"', '""').replace("\0", " ") + '"'


def _quantized(vector: Sequence[float]) -> tuple[float, bytes]:
    """Return a vector of length 1 as a scale and 8-bit integers."""
    np = _numpy()
    numbers = np.asarray(vector, dtype=np.float32)
    numbers = numbers / np.linalg.norm(numbers)
    scale = float(np.abs(numbers).max()) / 127
    return scale, np.round(numbers / scale).astype(np.int8).tobytes()


def _passages(
    db: sqlite3.Connection, key: CollectionKey, number: int, ids: Sequence[int]
) -> list[StoredPassage]:
    """Return passages by their numbers, in that order, with the ends of their neighbours."""
    rows = db.execute(
        "SELECT p.id, p.text, p.title, p.number, p.line, substr(before.text, ?), substr(after.text, 1, ?), "  # noqa: S608
        "d.id, d.name, d.hash, d.uri, d.pattern, d.stamp "
        f"FROM json_each(?) wanted CROSS JOIN passage_{number} p ON p.id = wanted.value "
        "CROSS JOIN document d ON d.collection = ? AND d.id = p.document "
        f"LEFT JOIN passage_{number} before ON before.document = p.document AND before.number = p.number - 1 "
        f"LEFT JOIN passage_{number} after ON after.document = p.document AND after.number = p.number + 1",
        (-NEIGHBOUR, NEIGHBOUR, json.dumps(ids), number),
    )
    made = {
        one: StoredPassage(
            text, key.name, title, document[3], document=Document(*document), number=place, line=line,
            before=before or "", after=after or "",
        )
        for one, text, title, place, line, before, after, *document in rows
    }  # fmt: skip
    return [made[one] for one in ids]
