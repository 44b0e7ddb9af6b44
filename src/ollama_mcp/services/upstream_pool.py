"""Connections to upstreams: begun at first use, one on each event loop, begun anew after a failure.

How a connection is made is MCP, and belongs to the tools: here it is any client that is entered and left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError

BEGIN_S = 15.0
"""Seconds for a connection; a server that ignores `server/discover` costs the SDK 10."""
BACK_OFF_S = 30.0
"""Seconds after a failure to connect in which nobody tries again."""
_END_S = 0.45
"""Seconds for an end in order: a child gets 0.25 s after EOF, and 0.1 s after SIGTERM."""

_log = logging.getLogger(__name__)

Connect = Callable[[UpstreamServer, asyncio.Event], AbstractAsyncContextManager[Any]]
"""Makes a client of a server; sets the event when the connection has ended by itself."""


@dataclass(frozen=True)
class UpstreamStatus:
    """State of an upstream, on this event loop.

    Attributes:
        name: Name in the file.
        state: "not started", "starting", "running" or "failed".
        error: Reason of the last failure; "" for none.
        tools: Number of its tools that may be called; None before they were listed.
    """

    name: str
    state: str
    error: str = ""
    tools: int | None = None


class _Connection:
    """A connection, and the task that owns it: what a task has entered, the same task must leave."""

    def __init__(self, server: UpstreamServer, connect: Connect) -> None:
        self.client: Any = None
        self.error = ""
        self._begun = asyncio.Event()
        self._stop = asyncio.Event()
        # An empty context: the connection must not keep the identity and the trace of its first caller.
        self.task = asyncio.get_running_loop().create_task(self._own(server, connect), context=Context())

    async def _own(self, server: UpstreamServer, connect: Connect) -> None:
        try:
            async with connect(server, self._stop) as client:
                self.client = client
                self._begun.set()
                await self._stop.wait()
        except Exception as error:  # noqa: BLE001 - whatever a transport raises: the reason of a failed row
            self.error = server.redact(str(error) or type(error).__name__)
            _log.debug("upstream %s: %s", server.name, self.error)
        finally:
            self.client = None
            self._begun.set()

    async def begun(self) -> Any:
        """Return the client.

        Raises:
            SourceError: There is none, and why.
        """
        try:
            async with asyncio.timeout(BEGIN_S):
                await self._begun.wait()
        except TimeoutError:
            # Not by a cancel scope around the transport: those of anyio belong to the owner's task.
            self.error = f"it did not start within {BEGIN_S:g} s"
            self.task.cancel()
        if self.client is None:
            raise SourceError(self.error or "it has ended")
        return self.client

    @property
    def is_starting(self) -> bool:
        return not self._begun.is_set()

    async def close(self) -> None:
        """End it in order; by a cancel, where that takes too long."""
        self._stop.set()
        if self.is_starting:
            self.task.cancel()
        await asyncio.wait([self.task], timeout=_END_S)
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task], timeout=_END_S)


@dataclass
class _Here:
    """Connections of one event loop, and what is known of each server."""

    connections: dict[str, _Connection] = field(default_factory=dict[str, _Connection])
    failures: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    """Time and reason of the last failure to connect."""
    tools: dict[str, int] = field(default_factory=dict[str, int])
    closing: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])


class UpstreamPool:
    """Connections to the servers of an mcp.json.

        pool = UpstreamPool(settings.upstreams)
        client = await pool.client("notes", connect)

    Args:
        servers: The servers.
    """

    def __init__(self, servers: Sequence[UpstreamServer]) -> None:
        self.servers: Mapping[str, UpstreamServer] = {server.name: server for server in servers}
        self._here: PerLoop[_Here] = PerLoop(_Here)

    async def client(self, name: str, connect: Connect) -> Any:
        """Return the client of a server; several callers begin one connection.

        Raises:
            SourceError: There is no connection, and why; for `BACK_OFF_S` at once.
        """
        here = self._here.here()
        now = asyncio.get_running_loop().time()
        failed_at, why = here.failures.get(name, (-BACK_OFF_S, ""))
        if now - failed_at < BACK_OFF_S:
            wait_s = BACK_OFF_S - (now - failed_at)
            raise SourceError(f"{why}; the next attempt is possible in {wait_s:.0f} s")
        connection = here.connections.get(name)
        if connection is not None and not connection.is_starting and connection.client is None:
            self._let_go(here, name)  # it has ended by itself
            connection = None
        if connection is None:
            connection = here.connections[name] = _Connection(self.servers[name], connect)
        try:
            client = await connection.begun()
        except SourceError as error:
            if here.connections.get(name) is connection:  # once, whoever waited
                here.failures[name] = asyncio.get_running_loop().time(), str(error)
                self._let_go(here, name)
            raise
        here.failures.pop(name, None)
        return client

    def discard(self, name: str, client: Any, *, why: str = "") -> None:
        """Give up a connection that is broken; the next call begins another one.

        Args:
            name: Name of the server.
            client: Client that failed; another one, of a newer connection, is kept.
            why: Reason to begin none for `BACK_OFF_S`; "" to begin one at once.
        """
        here = self._here.here()
        connection = here.connections.get(name)
        if connection is not None and connection.client is client:
            if why:
                here.failures[name] = asyncio.get_running_loop().time(), why
            self._let_go(here, name)

    def note_tools(self, name: str, count: int) -> None:
        """Remember how many tools of a server may be called, for `statuses`."""
        self._here.here().tools[name] = count

    def statuses(self) -> list[UpstreamStatus]:
        """Return the state of each server, on this event loop."""
        here = self._here.here()
        found: list[UpstreamStatus] = []
        for name in self.servers:
            connection, (_, why) = here.connections.get(name), here.failures.get(name, (0.0, ""))
            state = "failed" if why else "not started"
            if connection is not None and connection.is_starting:
                state = "starting"
            elif connection is not None and connection.client is not None:
                state = "running"
            elif connection is not None and connection.error:
                state, why = "failed", connection.error
            found.append(UpstreamStatus(name, state, why, here.tools.get(name)))
        return found

    async def aclose(self) -> None:
        """End all connections of this event loop, side by side, within half a second."""
        here = self._here.here()
        while here.connections or here.closing:  # a call that is being cancelled may begin one more
            for name in list(here.connections):
                self._let_go(here, name)
            await asyncio.wait(here.closing)
        self._here.pop()

    def _let_go(self, here: _Here, name: str) -> None:
        closing = asyncio.get_running_loop().create_task(here.connections.pop(name).close())
        here.closing.add(closing)
        closing.add_done_callback(here.closing.discard)
