"""The store that the settings name."""

from __future__ import annotations

from pathlib import Path

from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.stores.collection_store import CollectionStore
from ollama_mcp.stores.postgres_collections import PostgresCollections
from ollama_mcp.stores.sqlite_collections import SqliteCollections


def configured_collections(place: str | DatabaseUrl) -> CollectionStore | None:
    """Return the store of collections of OLLAMA_MCP_STORE; opened at its first use, None for none.

    Args:
        place: Folder of SQLite's file, or URL of PostgreSQL; "" for none.
    """
    if isinstance(place, DatabaseUrl):
        return PostgresCollections(place)
    return SqliteCollections(Path(place) / "collections.db") if place else None
