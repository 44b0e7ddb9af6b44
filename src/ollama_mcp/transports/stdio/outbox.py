"""The SDK's write stream over a file descriptor: a bounded queue and a thread that empties it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

import anyio
import anyio.lowlevel
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCResponse, RequestId

from ollama_mcp.transports.pipes import CHUNK, Stream, post, write_some
from ollama_mcp.transports.stdio.framing import encode

_BACKLOG_LIMIT = 64 * 1024
"""Bytes that wait for the writing thread before `send` waits. Small, so that a client which reads
again soon sees what is new."""

_REFUSAL_LIMIT = 1024 * 1024
"""The same for answers to malformed lines, for which reading must not wait long."""

_STALLED_AFTER = 0.1
"""Seconds in which a client that still reads takes some bytes."""


def _is_progress(message: JSONRPCMessage) -> bool:
    return isinstance(message, JSONRPCNotification) and message.method == "notifications/progress"


class Outbox(Stream):
    """Messages to the client, as the SDK's write stream; knows which requests still want an answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._owed: set[RequestId] = set()
        # Each counter has one writing thread, so neither needs a lock.
        self._added = 0
        self._written = 0
        self._stalled_at = -1  # bytes written when the client was last seen to have stopped reading
        self._watchers = 0
        self._moved = anyio.Event()
        self._turn = anyio.Lock()
        self._hurried = False
        self._closed = False
        self._lost = False

    @property
    def _backlog(self) -> int:
        return self._added - self._written

    def pump(self, fd: int, on_lost: Callable[[], object]) -> None:
        """Write whatever comes; the body of the writing thread, which ends when nobody reads any more."""
        with suppress(OSError):
            while True:
                self._write(fd, self._take())
        self._lost = self._closed = True
        post(self._loop, self._wake)
        on_lost()

    def _take(self) -> bytes:
        """Wait for a message, and take with it those which wait already: one write for many."""
        parts = [self._queue.get()]
        size = len(parts[0])
        while size < CHUNK and not self._queue.empty():
            parts.append(self._queue.get())
            size += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = write_some(fd, rest)
            rest = rest[count:]
            self._written += count
            if self._watchers:
                post(self._loop, self._wake)

    async def send(self, item: SessionMessage) -> None:
        """Queue a message, after waiting for room.

        Progress waits until nothing else waits, and until it is written: a client that reads again
        gets the newest report, not a queue of old ones, and the reporter knows when it went out.

        Raises:
            anyio.ClosedResourceError: The stream is closed, or would have to wait during shutdown.
        """
        message = item.message
        try:
            if self._backlog >= _BACKLOG_LIMIT or self._turn.locked():
                await self._wait_for_room()
            if _is_progress(message):
                await self._until(lambda: self._hurried or self._closed or not self._backlog)
            self.put(message)
            if _is_progress(message):
                await self._until(lambda: self._hurried or self._closed or not self._backlog)
        finally:
            if isinstance(message, JSONRPCResponse | JSONRPCError):
                self._settle(message.id)
        # A handler that reports in a tight loop must not keep the others from running.
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def put(self, message: JSONRPCMessage) -> None:
        """Queue a message at once.

        Raises:
            anyio.ClosedResourceError: The stream is closed.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        data = encode(message)
        self._added += len(data)
        self._queue.put(data)

    async def refuse(self, answer: JSONRPCError) -> None:
        """Queue the answer to a malformed line, unless too many wait already and nobody reads them."""
        if self._backlog >= _REFUSAL_LIMIT:
            await self._while_read(lambda: self._backlog < _REFUSAL_LIMIT)
        if self._backlog < _REFUSAL_LIMIT and not self._closed:
            self.put(answer)
        await anyio.lowlevel.checkpoint()  # a flood of such lines must not keep the others from running

    def owe(self, request_id: RequestId) -> None:
        """Note a request."""
        self._owed.add(request_id)

    async def forgive(self, request_id: RequestId) -> None:
        """Note that a request will never be answered; the SDK's hook, hence async."""
        self._settle(request_id)

    def _settle(self, request_id: RequestId | None) -> None:
        if request_id is not None:
            self._owed.discard(request_id)
        if self._watchers:
            self._wake()

    async def settled(self, but: RequestId | None = None) -> None:
        """Wait until no request wants an answer, other than that one, or until there is no time left."""
        await self._until(lambda: self._hurried or not self._owed - {but})

    async def _wait_for_room(self) -> None:
        async with self._turn:
            await self._until(lambda: self._hurried or self._closed or self._backlog < _BACKLOG_LIMIT)
        if self._backlog >= _BACKLOG_LIMIT:
            raise anyio.ClosedResourceError

    async def _until(self, done: Callable[[], bool]) -> None:
        self._watchers += 1
        try:
            while not done():
                await self._moved.wait()
        finally:
            self._watchers -= 1

    def _wake(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    def hurry(self) -> None:
        """Make `send` fail from now on where it would wait."""
        self._hurried = True
        self._wake()

    async def flush(self) -> None:
        """Wait until all is written, for as long as the client reads."""
        await self._while_read(lambda: self._lost or not self._backlog)

    async def _while_read(self, done: Callable[[], bool]) -> None:
        """Wait, but not for a client that has stopped reading."""
        while not done() and self._written != self._stalled_at:
            before = self._written
            with anyio.move_on_after(_STALLED_AFTER):
                await self._until(lambda: done() or self._written > before)  # noqa: B023
            if self._written == before:
                self._stalled_at = before

    async def aclose(self) -> None:
        """Take no more messages; those queued are still written."""
        self._closed = True
        self._wake()
