"""Conversations in PostgreSQL, for several processes and machines."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

from ollama_mcp.ollama.api_models import Message
from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.stores.conversation_store import (
    MOST_BYTES,
    MOST_MESSAGES,
    Conversation,
    ConversationKey,
    Stored,
    stored,
)
from ollama_mcp.stores.postgres_database import PostgresDatabase, Transaction

_SCHEMA = """
CREATE TABLE conversation(
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, name text NOT NULL,
    count integer NOT NULL DEFAULT 0, size bigint NOT NULL DEFAULT 0, used_at float8 NOT NULL,
    model text NOT NULL DEFAULT '', system text NOT NULL DEFAULT '', begin integer NOT NULL DEFAULT 0,
    summary text NOT NULL DEFAULT '', per_token float8 NOT NULL DEFAULT 0, UNIQUE(owner, name));
CREATE INDEX ON conversation(used_at);
CREATE TABLE message(
    conversation integer NOT NULL REFERENCES conversation ON DELETE CASCADE, number integer NOT NULL,
    json text NOT NULL, PRIMARY KEY(conversation, number));
CREATE TABLE image(
    conversation integer NOT NULL REFERENCES conversation ON DELETE CASCADE, hash text NOT NULL,
    base64 text NOT NULL, PRIMARY KEY(conversation, hash))
"""
_COLUMNS = "count, size, used_at, model, system, begin, summary, per_token"
_SIZE = """
SELECT (SELECT coalesce(sum(octet_length(json)), 0) FROM message WHERE conversation = %s)
     + (SELECT coalesce(sum(octet_length(base64)), 0) FROM image WHERE conversation = %s)
"""
_NEXT_TURN = """
SELECT min(number) FROM message WHERE conversation = %s AND number >= %s AND json::jsonb->>'role' = 'user'
"""


class PostgresConversations:
    """A `ConversationStore` in a PostgreSQL database.

    store = PostgresConversations(DatabaseUrl("postgresql://me@db/notes"))
    await store.append(Conversation(ConversationKey("", "tea")), [Message(role="user", content="hi")])

    Args:
        url: URL of the database.
        kept_s: Seconds after which a conversation that nobody has used is removed.
    """

    def __init__(self, url: DatabaseUrl, kept_s: float = 90 * 86400) -> None:
        self._database = PostgresDatabase(url, "conversation", _SCHEMA)
        self._kept_s = kept_s

    async def read(self, key: ConversationKey) -> Stored:
        """Return a conversation with its messages; as of `ConversationStore`."""

        def work(do: Transaction) -> Stored:
            row = do.row(
                f"SELECT id, {_COLUMNS} FROM conversation WHERE owner = %s AND name = %s",  # noqa: S608
                *key,
            )
            if row is None:
                return stored(Conversation(key), [], {})
            kept = do.rows("SELECT hash, base64 FROM image WHERE conversation = %s", row[0])
            images: dict[str, str] = {one[0]: one[1] for one in kept}
            rows = do.rows("SELECT number, json FROM message WHERE conversation = %s ORDER BY number", row[0])
            return stored(Conversation(key, *row[1:]), rows, images)

        return await self._database.read(work)

    async def append(self, conversation: Conversation, messages: Sequence[Message]) -> int:
        """Add messages; as of `ConversationStore`."""

        def work(do: Transaction) -> int:
            now = time.time()
            do.rows(
                "INSERT INTO conversation(owner, name, used_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                *conversation.key, now,
            )  # fmt: skip
            # Locked: somebody else who goes on with it waits for this turn's end.
            number, before = do.rows(
                "SELECT id, count FROM conversation WHERE owner = %s AND name = %s FOR UPDATE",
                *conversation.key,
            )[0]
            known = conversation.behind(before)
            for place, message in enumerate(messages, before):
                named: list[str] = []
                for image in message.images or ():
                    named.append(hashlib.sha256(image.encode()).hexdigest())
                    do.rows(
                        "INSERT INTO image VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                        number,
                        named[-1],
                        image,
                    )
                text = message.model_copy(update={"images": named or None}).model_dump_json(exclude_none=True)
                do.rows("INSERT INTO message VALUES (%s, %s, %s)", number, place, text)
            count = before + len(messages)
            size = _shortened(do, number, count)
            do.rows(
                "UPDATE conversation SET count = %s, size = %s, used_at = %s, model = %s, system = %s, "
                "begin = greatest(begin, %s), summary = CASE WHEN %s >= begin THEN %s ELSE summary END, "
                "per_token = %s WHERE id = %s",  # a summary belongs to its beginning
                count, size, now, known.model, known.system, known.begin, known.begin, known.summary,
                known.per_token, number,
            )  # fmt: skip
            do.rows("DELETE FROM conversation WHERE used_at < %s", now - self._kept_s)
            return before

        return await self._database.write(work)

    async def listed(self, owner: str) -> list[Conversation]:
        """Return the conversations of an owner; as of `ConversationStore`."""

        def work(do: Transaction) -> list[Conversation]:
            rows = do.rows(
                f"SELECT name, {_COLUMNS} FROM conversation "  # noqa: S608
                "WHERE owner = %s ORDER BY used_at DESC",
                owner,
            )
            return [Conversation(ConversationKey(owner, row[0]), *row[1:]) for row in rows]

        return await self._database.read(work)

    async def drop(self, key: ConversationKey) -> bool:
        """Remove a conversation; as of `ConversationStore`."""
        statement = "DELETE FROM conversation WHERE owner = %s AND name = %s RETURNING id"
        return bool(await self._database.write(lambda do: do.rows(statement, *key)))

    async def purge(self, owner: str | None, before: float) -> int:
        """Remove conversations that were not used for long; as of `ConversationStore`."""
        statement = (
            "DELETE FROM conversation WHERE used_at < %s AND (%s::text IS NULL OR owner = %s) RETURNING id"
        )
        return len(await self._database.write(lambda do: do.rows(statement, before, owner, owner)))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._database.aclose()


def _shortened(do: Transaction, number: int, count: int) -> int:
    """Remove the oldest messages of a conversation that is too long, and return its size in bytes.

    What stays begins with a message of the user: no result of a tool is left without its call.
    """
    kept: int = do.rows("SELECT coalesce(min(number), 0) FROM message WHERE conversation = %s", number)[0][0]
    size: int = do.rows(_SIZE, number, number)[0][0]
    first = max(kept, count - MOST_MESSAGES)
    while first > kept or (size > MOST_BYTES and first < count - 1):
        if first == kept:
            first = (kept + count) // 2
        turn = do.rows(_NEXT_TURN, number, first)[0][0]
        kept = first = first if turn is None else turn
        do.rows("DELETE FROM message WHERE conversation = %s AND number < %s", number, first)
        do.rows(
            "DELETE FROM image i WHERE conversation = %s AND NOT EXISTS (SELECT 1 FROM message m WHERE "
            "m.conversation = i.conversation AND position(i.hash IN m.json) > 0)",
            number,
        )
        size = do.rows(_SIZE, number, number)[0][0]
    return int(size)
