"""Sockets: a listening server and its connections, which notice at once when a client leaves.

How a request is answered is the responder's: it sends bytes on the connection and may wait for anything in
`unless_left`, which ends the waiting when there is nobody left to answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar, cast

from ollama_mcp.ollama_server.http_messages import HEAD_LIMIT, BadFraming, Request, read_body, read_head

_T = TypeVar("_T")
# On, and no time to send what is left: that is how a TCP reset is asked for.
_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
)


class Final(bytes):
    """Bytes after which at most the mark of the end is missing: a client that leaves now misses nothing."""


class ClientLeft(Exception):
    """The client closed the connection before its answer was complete."""


class Dropped(Exception):
    """The connection was broken off from outside of its answer."""


class Responder(Protocol):
    """The function that answers requests."""

    async def __call__(self, request: Request, connection: Connection) -> bool:
        """Answer a request on its connection; return whether the connection goes on."""
        ...


class ConnectionLog:
    """A log of connections and requests; this one only numbers the connections."""

    def __init__(self) -> None:
        self.connections: int = 0

    def connected(self) -> int:
        """Count a new connection and return its number."""
        self.connections += 1
        return self.connections

    def closed(self) -> None:
        """Count a connection as gone."""

    def answering(self, request: Request) -> AbstractContextManager[None]:
        """Return the block in which a request is answered; ClientLeft passes through it."""
        return nullcontext()


class Connection(asyncio.Protocol):
    """One client's connection, which answers its requests one after another.

    Attributes:
        left: Set as soon as the client has left.
    """

    def __init__(self, server: Server) -> None:
        self.left: asyncio.Event = asyncio.Event()
        self._server = server
        self._writable = asyncio.Event()
        self._reader = asyncio.StreamReader(limit=HEAD_LIMIT)
        self._number = 0
        self._is_dropped = False
        self._is_final = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to answer."""
        self._transport = cast("asyncio.Transport", transport)
        # No buffer of our own: what a client does not read must stop us as it stops a real server.
        self._transport.set_write_buffer_limits(0)
        self._writable.set()
        self._number = self._server.log.connected()
        self._server.adopt(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._reader.feed_data(data)

    def eof_received(self) -> None:
        """Take it that the client closed, if only its side: as in Go that cancels what it had asked for."""
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take it that the connection is gone, for whatever reason."""
        self._leave()
        self._writable.set()
        self._server.log.closed()

    def pause_writing(self) -> None:
        """Stop: the client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on: all that we wrote is on its way."""
        self._writable.set()

    def _leave(self) -> None:
        self.left.set()
        self._reader.feed_eof()

    # What runs in the connection's task.

    async def serve(self) -> None:
        """Answer until the client or an answer ends the connection."""
        try:
            while await self._answer_one():
                pass
        except BadFraming:
            self._transport.write(_NOT_HTTP)
        except (ClientLeft, Dropped, asyncio.IncompleteReadError):
            pass  # there is nobody to tell
        finally:
            self._transport.close()

    async def _answer_one(self) -> bool:
        head = await read_head(self._reader)
        if head is None:
            return False
        body = await read_body(self._reader, head, self._transport.write)
        path, _, query = head.target.partition("?")
        request = Request(head.method, path, head.headers, body, time.monotonic(), self._number, query)
        self._is_final = False
        with self._server.log.answering(request):
            try:
                goes_on = await self._server.respond(request, self)
            except ClientLeft:
                if not self._is_final:
                    raise
                return False
        return goes_on and not request.wants_close

    # What a responder calls.

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait while the client does not read.

        Raises:
            ClientLeft: There is nobody to send to.
        """
        if data:
            self._transport.write(data)
        self._is_final = isinstance(data, Final) and self._writable.is_set()
        await asyncio.sleep(0)  # let the loop hear of a client that has left
        await self._writable.wait()
        self._check()

    async def pause(self, seconds: float) -> None:
        """Wait so many seconds.

        Raises:
            ClientLeft: The client left meanwhile.
        """
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self.left.wait()
            except TimeoutError:
                return
        self._check()

    async def until_left(self) -> None:
        """Wait for the client to leave.

        Raises:
            ClientLeft: It has.
        """
        await self.left.wait()
        self._check()

    async def unless_left(self, work: Awaitable[_T]) -> _T:
        """Wait for work, and return its result; it is cancelled, and awaited, when the client leaves.

        Raises:
            ClientLeft: The client left before the result was there.
        """
        working, left = asyncio.ensure_future(work), asyncio.ensure_future(self.left.wait())
        try:
            await asyncio.wait([working, left], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self._check()
            return working.result()
        finally:
            left.cancel()
            working.cancel()
            await asyncio.wait([working])

    def _check(self) -> None:
        if self.left.is_set():
            raise Dropped if self._is_dropped else ClientLeft

    def close(self) -> None:
        """Close in order, after what was sent."""
        self._transport.close()

    def reset(self) -> None:
        """Break off with a TCP reset."""
        sock = self._transport.get_extra_info("socket")
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._transport.abort()

    def drop(self, *, reset: bool) -> None:
        """End the connection at once, whatever it is doing."""
        self._is_dropped = True
        if reset:
            self.reset()
        else:
            self._transport.abort()


class Server:
    """A listening socket and its connections, in one event loop."""

    def __init__(self, respond: Responder, log: ConnectionLog | None = None) -> None:
        self.respond = respond
        self.log: ConnectionLog = log or ConnectionLog()
        self._open: dict[Connection, asyncio.Task[None]] = {}
        self._failures: list[BaseException] = []

    def adopt(self, connection: Connection) -> None:
        """Run a new connection."""
        task = asyncio.get_running_loop().create_task(connection.serve())
        self._open[connection] = task
        task.add_done_callback(lambda done: self._done(connection, done))

    def _done(self, connection: Connection, task: asyncio.Task[None]) -> None:
        del self._open[connection]
        error = None if task.cancelled() else task.exception()
        if error:
            self._failures.append(error)

    async def listen(self, host: str, port: int) -> int:
        """Open the socket and return its port; 0 takes a free one.

        Raises:
            OSError: The address is taken.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=4096)
        return self._listener.sockets[0].getsockname()[1]

    def drop(self, *, reset: bool) -> None:
        """Break all connections off as they are."""
        for connection in tuple(self._open):
            connection.drop(reset=reset)

    async def close(self) -> None:
        """Close the socket and all connections.

        Raises:
            Exception: The first that a responder raised while the server was running.
        """
        self._listener.close()
        tasks = list(self._open.values())
        for connection, task in tuple(self._open.items()):
            connection.drop(reset=False)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.wait_closed()
        if self._failures:
            raise self._failures[0]
