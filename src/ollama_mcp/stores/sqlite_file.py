"""One SQLite file, used by several processes and event loops at once, with the standard library alone.

A transaction runs whole in a thread: a call that is cancelled waits for the few milliseconds of its end, and
nothing is written by halves.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from ollama_mcp.errors import StorageError

T = TypeVar("T")

_BUSY_S = 20.0
"""Seconds that a transaction waits for those of other processes."""


class SqliteFile:
    """A SQLite file that only its owner may read; opened at first use.

        file = SqliteFile(Path("notes.db"), "CREATE TABLE IF NOT EXISTS note(text TEXT)")
        await file.write(lambda db: db.execute("INSERT INTO note VALUES ('tea')"))

    Args:
        path: Path of the file; folders on the way are made. None: the memory of this process.
        schema: Statements that make what is missing.
    """

    def __init__(self, path: Path | None, schema: str) -> None:
        self.path = path
        self._schema = schema
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction that sees one state of the file, and return its result.

        Raises:
            StorageError: The file cannot be used.
        """
        return await anyio.to_thread.run_sync(self._run, "BEGIN", work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `read`, where `work` changes something: all of it, or after a failure nothing."""
        return await anyio.to_thread.run_sync(self._run, "BEGIN IMMEDIATE", work)

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                db = self._db or self._open()
                db.execute(begin)
                try:
                    found = work(db)
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
                raise StorageError(
                    f"{self.path.name if self.path else 'memory'} cannot be used: {_reason(error)}",
                    "Check the disk, and the permissions of the folder of OLLAMA_MCP_STORE.",
                ) from error
            return found

    def _open(self) -> sqlite3.Connection:
        if self.path is not None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite makes its other files with the permissions of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(
            self.path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # safe when a process is killed
            db.executescript(self._schema)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    async def aclose(self) -> None:
        """Close the file; the next use opens it again. What is in memory stays."""
        if self.path is not None:
            await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


def _reason(error: sqlite3.Error | OSError | UnicodeEncodeError) -> str:
    """Return why, without the path."""
    if isinstance(error, UnicodeEncodeError):
        return "a text has half a surrogate pair"
    return (error.strerror or "it cannot be opened") if isinstance(error, OSError) else str(error)
