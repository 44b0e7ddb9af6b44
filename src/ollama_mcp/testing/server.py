"""The sockets: reads requests, plays the steps of answers, notices at once when a client leaves."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Protocol, cast

from ollama_mcp.testing.answers import Hold, How, Step, Told, Turn, Wait
from ollama_mcp.testing.framing import HEAD_LIMIT, BadFraming, Head, Request, read_body, read_head
from ollama_mcp.testing.log import ClientLeft, Log

# On, and no time to send what is left: that is how a TCP reset is asked for.
_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
)


class Responder(Protocol):
    """What the server asks for the steps of an answer."""

    def __call__(self, request: Request, *, close: bool) -> Iterator[Step] | AsyncGenerator[Step]:
        """The steps for a request; `close`: the connection ends after them. Asynchronous: as they come."""
        ...


class Turns:
    """Queues by key: of each the first so many are served, the others wait their turn."""

    def __init__(self) -> None:
        self._queues: dict[str, list[asyncio.Event]] = {}

    def join(self, turn: Turn) -> asyncio.Event:
        """Stand in line; the event is set when it is one's turn."""
        event = asyncio.Event()
        self._queues.setdefault(turn.key, []).append(event)
        self._admit(turn)
        return event

    def leave(self, turn: Turn, event: asyncio.Event) -> None:
        """Go, served or not."""
        self._queues[turn.key].remove(event)
        self._admit(turn)

    def _admit(self, turn: Turn) -> None:
        for event in self._queues[turn.key][: turn.limit]:
            event.set()


class Dropped(Exception):
    """We broke the connection off from outside of its answer."""


class Connection(asyncio.Protocol):
    """One client's connection, which answers its requests one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._left = asyncio.Event()
        self._writable = asyncio.Event()
        self._reader = asyncio.StreamReader(limit=HEAD_LIMIT)
        self._number = 0
        self._dropped = False
        self._told = False
        self._turns: list[tuple[Turn, asyncio.Event]] = []

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
        """The client closed, if only its side: as in Go that cancels what it had asked for."""
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, for whatever reason."""
        self._leave()
        self._writable.set()
        self._server.log.closed()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """All that we wrote is on its way."""
        self._writable.set()

    def _leave(self) -> None:
        self._left.set()
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
        request = self._request(head, body)
        self._told = False
        with self._server.log.answering(request):
            try:
                goes_on = await self._play(self._server.respond(request, close=request.wants_close))
            except ClientLeft:
                if not self._told:
                    raise
                return False
            finally:
                self._give_way()
        return goes_on and not request.wants_close

    def _request(self, head: Head, body: bytes) -> Request:
        path, _, query = head.target.partition("?")
        return Request(head.method, path, head.headers, body, time.monotonic(), self._number, query)

    async def _play(self, steps: Iterator[Step] | AsyncGenerator[Step]) -> bool:
        if isinstance(steps, AsyncGenerator):
            return await self._play_live(steps)
        for step in steps:
            if not await self._take(step):
                return False
        return True

    async def _play_live(self, steps: AsyncGenerator[Step]) -> bool:
        async with aclosing(steps):
            while (step := await self._next(steps)) is not None:
                if not await self._take(step):
                    return False
        return True

    async def _next(self, steps: AsyncGenerator[Step]) -> Step | None:
        """The next step, or the end of waiting for it, since the client has left."""
        coming = asyncio.ensure_future(_following(steps))
        left = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait([coming, left], return_when=asyncio.FIRST_COMPLETED)
            self._check()
            return coming.result()
        finally:
            for wait in (coming, left):
                wait.cancel()
            await asyncio.wait([coming])

    async def _take(self, step: Step) -> bool:
        """Play one step; False where it ends the connection."""
        if isinstance(step, bytes):
            await self._send(step)
        elif isinstance(step, Wait):
            await self._pause(step.seconds)
        elif isinstance(step, Turn):
            await self._until(self._take_turn(step))
        elif isinstance(step, Hold):
            await self._until(self._server.released)
        else:
            await self._end(step.how)
            return False
        return True

    def _take_turn(self, turn: Turn) -> asyncio.Event:
        event = self._server.turns.join(turn)
        self._turns.append((turn, event))
        return event

    def _give_way(self) -> None:
        while self._turns:
            self._server.turns.leave(*self._turns.pop())

    async def _send(self, data: bytes) -> None:
        if data:
            self._transport.write(data)
        self._told = isinstance(data, Told) and self._writable.is_set()
        await asyncio.sleep(0)  # let the loop hear of a client that has left
        await self._writable.wait()
        self._check()

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._left.wait()
            except TimeoutError:
                return
        self._check()

    async def _until(self, event: asyncio.Event) -> None:
        if event.is_set():
            return
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._left.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._check()

    def _check(self) -> None:
        if self._left.is_set():
            raise Dropped if self._dropped else ClientLeft

    async def _end(self, how: How) -> None:
        if how == "silence":
            await self._left.wait()
            self._check()
        elif how == "reset":
            self._reset()
        else:
            self._transport.close()

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._transport.abort()

    def drop(self, how: How) -> None:
        """End the connection at once, whatever it is doing."""
        self._dropped = True
        if how == "reset":
            self._reset()
        else:
            self._transport.abort()


async def _following(steps: AsyncGenerator[Step]) -> Step | None:
    return await anext(steps, None)


class Server:
    """A listening socket and its connections, in one event loop."""

    def __init__(self, respond: Responder, log: Log) -> None:
        self.respond = respond
        self.log = log
        self.released: asyncio.Event = asyncio.Event()
        self.turns: Turns = Turns()
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
            OSError: the address is taken.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=4096)
        return self._listener.sockets[0].getsockname()[1]

    def drop(self, how: How) -> None:
        """Break all connections off as they are."""
        for connection in tuple(self._open):
            connection.drop(how)

    async def close(self) -> None:
        """Close the socket and all connections.

        Raises:
            Exception: the first that a script or an endpoint raised while it was running.
        """
        self._listener.close()
        tasks = list(self._open.values())
        for connection, task in tuple(self._open.items()):
            connection.drop("close")
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.wait_closed()
        if self._failures:
            raise self._failures[0]
