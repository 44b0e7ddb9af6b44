"""PostgreSQL, used by several processes and event loops at once, by the driver psycopg.

A transaction runs whole in a thread: a call that is cancelled waits for its end, and nothing is written by
halves. (A cancelled call of psycopg's own asynchronous connection closes that connection.)
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio.to_thread

from ollama_mcp.errors import StorageError
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.settings.database_url import DatabaseUrl

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

_AT_ONCE = 4
"""Transactions, and so connections, at once."""
_DEFAULTS = {
    "application_name": "ollama-mcp",
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "tcp_user_timeout": 30_000,  # a server that is gone without a word
}
"""Parameters of libpq where the URL has no others."""
_LIMITS = "SET LOCAL lock_timeout = '20s'; SET LOCAL statement_timeout = '60s'; SET LOCAL jit = off"
_READ, _WRITE = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED"
_OLDEST = (0, 8)
"""Version of pgvector that looks on in an index until it has as many as were asked for."""
_EXTENSION_NAME = "vector"
_EXTENSION = """
SELECT quote_ident(n.nspname), e.extversion
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""
_IS_THERE = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'ollama_mcp' AND tablename = %s"
"""In the tables of the catalog: to_regclass may not yet know what another process has just made."""
_PGVECTOR = "Install pgvector 0.8 or newer on that server, and have its administrator run: {}."


class Transaction:
    """A transaction that has begun. Statements have `%s` for each value."""

    def __init__(self, db: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._db = db

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, and return the rows that it gives."""
        found = self._db.execute(statement.encode(), [_storable(value) for value in values] or None)
        return found.fetchall() if found.description else []

    def row(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        """As `rows`: the first row, or None."""
        return next(iter(self.rows(statement, *values)), None)

    def each(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of values, in one go."""
        with self._db.cursor() as cursor:
            cursor.executemany(statement.encode(), [[_storable(value) for value in row] for row in rows])


class PostgresDatabase:
    """A database of PostgreSQL with pgvector, in which our tables have the schema `ollama_mcp`.

        database = PostgresDatabase(DatabaseUrl("postgresql://db/notes"), "note", "CREATE TABLE note(a text)")
        await database.write(lambda do: do.rows("INSERT INTO note VALUES (%s)", "tea"))

    Args:
        url: Its URL; connections are opened at first use.
        table: Table that is there where the statements have run.
        schema: Statements that make the tables.
    """

    def __init__(self, url: DatabaseUrl, table: str, schema: str) -> None:
        self._url = url
        self._table = table
        self._schema = schema
        self._names = ""
        self._idle: deque[psycopg.Connection[tuple[Any, ...]]] = deque()
        self._turns = PerLoop(lambda: anyio.CapacityLimiter(_AT_ONCE))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction that sees one state of the database, and return its result.

        Work may be run twice: the second time on a new connection, if the first one was gone.

        Raises:
            StorageError: The database cannot be used.
        """
        return await anyio.to_thread.run_sync(self._run, _READ, work, limiter=self._turns.here())

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """As `read`, where `work` changes something, and may do so twice: all of it, or nothing."""
        return await anyio.to_thread.run_sync(self._run, _WRITE, work, limiter=self._turns.here())

    def _run(self, begin: str, work: Callable[[Transaction], T]) -> T:
        psycopg = _psycopg()
        is_again = False
        while True:
            kept = next(self._kept(), None)
            db = kept
            try:
                db = db or self._open()
                try:
                    db.execute(f"{begin}; {_LIMITS}; SET LOCAL search_path = {self._names}".encode())
                    found = work(Transaction(db))
                    db.execute("COMMIT")
                except BaseException:
                    if not db.closed:
                        db.rollback()
                    raise
                finally:
                    if not db.closed:
                        self._idle.append(db)
            except psycopg.Error as error:
                # A table was dropped since this began, or the server was started anew since the last call.
                is_passing = isinstance(error, psycopg.errors.UndefinedTable) or (kept and kept.closed)
                if not is_passing or is_again:
                    raise _failure(error) from None  # its text and its context may have the URL
                is_again = True
                self._close()
            else:
                return found

    def _open(self) -> psycopg.Connection[tuple[Any, ...]]:
        psycopg = _psycopg()
        parameters = _DEFAULTS | psycopg.conninfo.conninfo_to_dict(self._url.secret)
        # A pooler between gives each transaction another connection, on which nothing has been prepared.
        db = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
        try:
            if not self._names:
                self._names = self._prepared(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepared(self, db: psycopg.Connection[tuple[Any, ...]]) -> str:
        """Make the tables where they are missing, and return the schemas in which names are looked up."""
        do = Transaction(db)
        if not do.row(_IS_THERE, self._table):
            with db.transaction():
                do.rows("SELECT pg_advisory_xact_lock(hashtext('ollama_mcp'))")
                if not do.row(_IS_THERE, self._table):
                    try:
                        do.rows(f"CREATE EXTENSION IF NOT EXISTS {_EXTENSION_NAME}")
                    except _psycopg().DatabaseError as error:
                        if db.closed:
                            raise
                        raise StorageError(
                            f"PostgreSQL cannot make its extension {_EXTENSION_NAME} here: {_name_of(error)}",
                            _PGVECTOR.format("CREATE EXTENSION vector"),
                        ) from None
                    do.rows("CREATE SCHEMA IF NOT EXISTS ollama_mcp")
                    do.rows("SET LOCAL search_path = ollama_mcp")
                    do.rows(self._schema)
        name, version = do.row(_EXTENSION) or ("public", "0")
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
            raise StorageError(
                f"PostgreSQL's extension vector is of version {version} here",
                _PGVECTOR.format("ALTER EXTENSION vector UPDATE"),
            )
        return f"ollama_mcp, {name}"

    def _kept(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with suppress(IndexError):
            while True:
                yield self._idle.pop()

    async def aclose(self) -> None:
        """Close the connections; the next use opens new ones."""
        await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        for db in self._kept():
            db.close()


def _psycopg() -> Any:
    """Return psycopg, which comes with the extra `postgres`.

    Raises:
        StorageError: It is not installed.
    """
    try:
        import psycopg  # noqa: PLC0415
    except ImportError:
        raise StorageError(
            "PostgreSQL needs psycopg, which is not installed", 'Install "ollama-mcp[postgres]".'
        ) from None
    return psycopg


def _storable(value: Any) -> Any:
    """Return a value as PostgreSQL can have it: no text there has NUL."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_storable(one) for one in cast("list[Any]", value)]
    return value


_REMEDIES = {
    "25": "Name a server that can be written, not a replica, in OLLAMA_MCP_STORE.",
    "42501": "Have its administrator let the user of OLLAMA_MCP_STORE have the schema ollama_mcp.",
    "53": "Have its administrator look at its disk, memory and connections.",
    "57014": "Try again; if it stays so, have its administrator look at what it is doing.",
    "55P03": "Try again when the other processes have done.",
}
"""What helps, by the beginning of an SQLSTATE."""


def _failure(error: psycopg.Error) -> StorageError:
    """Return the error in words of ours: those of PostgreSQL have addresses, users and statements."""
    state = error.sqlstate or ""
    if not state:
        cause = (
            "PostgreSQL refuses the user, the password or the database"
            if "FATAL" in str(error)
            else "PostgreSQL cannot be reached"
        )
        return StorageError(
            cause, "Check host, port, user, password and database of OLLAMA_MCP_STORE, and that it runs."
        )
    remedy = next((text for begin, text in _REMEDIES.items() if state.startswith(begin)), "")
    return StorageError(
        f"PostgreSQL failed: {_name_of(error)} ({state})", remedy or "Look this code up in its documentation."
    )


def _name_of(error: psycopg.Error) -> str:
    """Return the name of an error as words, such as "insufficient privilege"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
