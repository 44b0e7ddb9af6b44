"""Conversations in a SQLite file, or in memory, by the standard library alone."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from ollama_mcp.ollama.api_models import Message
from ollama_mcp.stores.conversation_store import (
    MOST_BYTES,
    MOST_MESSAGES,
    Conversation,
    ConversationKey,
    Stored,
    stored,
)
from ollama_mcp.stores.sqlite_file import SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversation(
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL,
    size INTEGER NOT NULL, used_at REAL NOT NULL, model TEXT NOT NULL, system TEXT NOT NULL,
    begin INTEGER NOT NULL, summary TEXT NOT NULL, per_token REAL NOT NULL, UNIQUE(owner, name));
CREATE INDEX IF NOT EXISTS used ON conversation(used_at);
CREATE TABLE IF NOT EXISTS message(
    conversation INTEGER NOT NULL, number INTEGER NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY(conversation, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image(
    conversation INTEGER NOT NULL, hash TEXT NOT NULL, base64 TEXT NOT NULL, PRIMARY KEY(conversation, hash));
"""
_COLUMNS = "count, size, used_at, model, system, begin, summary, per_token"
MOST_MEMORY = 256 << 20
"""Bytes of all conversations in memory; a disk has room, and its owner."""


class SqliteConversations:
    """A `ConversationStore` in one file, for several processes; without a path in the memory of this one.

    Images are stored once each, and named by their hash in the messages.

        store = SqliteConversations(Path("conversations.db"))
        await store.append(Conversation(ConversationKey("", "tea")), [Message(role="user", content="hi")])

    Args:
        path: File; None: memory.
        kept_s: Seconds after which a conversation that nobody has used is removed.
    """

    def __init__(self, path: Path | None = None, kept_s: float = 90 * 86400) -> None:
        self._file = SqliteFile(path, _SCHEMA)
        self._kept_s = kept_s

    async def read(self, key: ConversationKey) -> Stored:
        """Return a conversation with its messages; as of `ConversationStore`."""

        def work(db: sqlite3.Connection) -> Stored:
            row = db.execute(
                f"SELECT id, {_COLUMNS} FROM conversation WHERE owner = ? AND name = ?",  # noqa: S608
                key,
            ).fetchone()
            if row is None:
                return stored(Conversation(key), [], {})
            images = dict(
                db.execute("SELECT hash, base64 FROM image WHERE conversation = ?", (row[0],)).fetchall()
            )
            rows = db.execute(
                "SELECT number, json FROM message WHERE conversation = ? ORDER BY number", (row[0],)
            ).fetchall()
            return stored(Conversation(key, *row[1:]), rows, images)

        return await self._file.read(work)

    async def append(self, conversation: Conversation, messages: Sequence[Message]) -> int:
        """Add messages; as of `ConversationStore`."""

        def work(db: sqlite3.Connection) -> int:
            now = time.time()
            key = conversation.key
            row = db.execute(
                "SELECT id, count, size FROM conversation WHERE owner = ? AND name = ?", key
            ).fetchone()
            if row is None:
                made = db.execute(
                    f"INSERT INTO conversation(owner, name, {_COLUMNS}) "  # noqa: S608
                    "VALUES (?, ?, 0, 0, 0, '', '', 0, '', 0)",
                    key,
                )
                row = made.lastrowid or 0, 0, 0
            number, before, size = row
            known = conversation.behind(before)
            for place, message in enumerate(messages, before):
                named: list[str] = []
                for image in message.images or ():
                    digest = hashlib.sha256(image.encode()).hexdigest()
                    put = db.execute("INSERT OR IGNORE INTO image VALUES (?, ?, ?)", (number, digest, image))
                    size += len(image) if put.rowcount else 0
                    named.append(digest)
                text = message.model_copy(update={"images": named or None}).model_dump_json(exclude_none=True)
                db.execute("INSERT INTO message VALUES (?, ?, ?)", (number, place, text))
                size += len(text.encode())
            db.execute(
                "UPDATE conversation SET count = ?, size = ?, used_at = ?, model = ?, system = ?, "
                "begin = max(begin, ?), summary = CASE WHEN ? >= begin THEN ? ELSE summary END, "
                "per_token = ? WHERE id = ?",  # a summary belongs to its beginning
                (before + len(messages), size, now, known.model, known.system, known.begin, known.begin,
                 known.summary, known.per_token, number),
            )  # fmt: skip
            _shorten(db, number, before + len(messages), size)
            _purge(db, None, now - self._kept_s)
            if self._file.path is None:
                _make_room(db)
            return before

        return await self._file.write(work)

    async def listed(self, owner: str) -> list[Conversation]:
        """Return the conversations of an owner; as of `ConversationStore`."""

        def work(db: sqlite3.Connection) -> list[Conversation]:
            rows = db.execute(
                f"SELECT name, {_COLUMNS} FROM conversation WHERE owner = ? ORDER BY used_at DESC",  # noqa: S608
                (owner,),
            )
            return [Conversation(ConversationKey(owner, row[0]), *row[1:]) for row in rows]

        return await self._file.read(work)

    async def drop(self, key: ConversationKey) -> bool:
        """Remove a conversation; as of `ConversationStore`."""

        def work(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT id FROM conversation WHERE owner = ? AND name = ?", key).fetchone()
            _remove(db, [row[0]] if row else [])
            return row is not None

        return await self._file.write(work)

    async def purge(self, owner: str | None, before: float) -> int:
        """Remove conversations that were not used for long; as of `ConversationStore`."""
        return await self._file.write(lambda db: _purge(db, owner, before))

    async def aclose(self) -> None:
        """Close the file."""
        await self._file.aclose()


def _shorten(db: sqlite3.Connection, number: int, count: int, size: int) -> None:
    """Remove the oldest messages, with images that only they name, of a conversation that is too long.

    What stays begins with a message of the user: no result of a tool is left without its call.
    """
    (kept,) = db.execute(
        "SELECT coalesce(min(number), 0) FROM message WHERE conversation = ?", (number,)
    ).fetchone()
    first = max(kept, count - MOST_MESSAGES)
    while first > kept or (size > MOST_BYTES and first < count - 1):
        if first == kept:
            first = (kept + count) // 2
        (turn,) = db.execute(
            "SELECT min(number) FROM message WHERE conversation = ? AND number >= ? "
            "AND json_extract(json, '$.role') = 'user'",
            (number, first),
        ).fetchone()
        kept = first = first if turn is None else turn
        db.execute("DELETE FROM message WHERE conversation = ? AND number < ?", (number, first))
        db.execute(
            "DELETE FROM image WHERE conversation = ? AND NOT EXISTS (SELECT 1 FROM message WHERE "
            "message.conversation = image.conversation AND instr(message.json, image.hash))",
            (number,),
        )
        (size,) = db.execute(
            "SELECT (SELECT coalesce(sum(length(CAST(json AS BLOB))), 0) FROM message "
            "WHERE conversation = :id) + "
            "(SELECT coalesce(sum(length(base64)), 0) FROM image WHERE conversation = :id)",
            {"id": number},
        ).fetchone()
        db.execute("UPDATE conversation SET size = ? WHERE id = ?", (size, number))


def _make_room(db: sqlite3.Connection) -> None:
    """Remove conversations that were not used for the longest time, of all that take too much memory."""
    size = 0
    rows = db.execute("SELECT id, size FROM conversation ORDER BY used_at DESC, id DESC").fetchall()
    for place, (one, bytes_of_it) in enumerate(rows):
        size += bytes_of_it
        if place and size > MOST_MEMORY:
            _remove(db, [one])


def _purge(db: sqlite3.Connection, owner: str | None, before: float) -> int:
    whose = "" if owner is None else " AND owner = :owner"
    rows = db.execute(
        f"SELECT id FROM conversation WHERE used_at < :before{whose}",  # noqa: S608
        {"before": before, "owner": owner},
    )
    ids = [one for (one,) in rows.fetchall()]
    _remove(db, ids)
    return len(ids)


def _remove(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    for table, column in (("message", "conversation"), ("image", "conversation"), ("conversation", "id")):
        db.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(one,) for one in ids])  # noqa: S608
