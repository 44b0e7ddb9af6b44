"""The stores that the settings name."""

from __future__ import annotations

from pathlib import Path

from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.stores.collection_store import CollectionStore
from ollama_mcp.stores.conversation_store import ConversationStore
from ollama_mcp.stores.postgres_collections import PostgresCollections
from ollama_mcp.stores.postgres_conversations import PostgresConversations
from ollama_mcp.stores.sqlite_collections import SqliteCollections
from ollama_mcp.stores.sqlite_conversations import SqliteConversations


def configured_collections(place: str | DatabaseUrl) -> CollectionStore | None:
    """Return the store of collections of OLLAMA_MCP_STORE; opened at its first use, None for none.

    Args:
        place: Folder of SQLite's file, or URL of PostgreSQL; "" for none.
    """
    if isinstance(place, DatabaseUrl):
        return PostgresCollections(place)
    return SqliteCollections(Path(place) / "collections.db") if place else None


def configured_conversations(place: str | DatabaseUrl, days: int) -> ConversationStore:
    """Return the store of conversations of OLLAMA_MCP_STORE; opened at its first use, memory for none.

    Args:
        place: Folder of SQLite's file, or URL of PostgreSQL; "" for none.
        days: Days after which a conversation that nobody has used is removed.
    """
    if isinstance(place, DatabaseUrl):
        return PostgresConversations(place, days * 86400.0)
    return SqliteConversations(Path(place) / "conversations.db" if place else None, days * 86400.0)
