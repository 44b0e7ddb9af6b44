"""The SDK's read stream over a file descriptor.

A thread reads, so that a cancel is heard while stdout is blocked. Everything comes in the order in which
it was written, so that a cancel never comes before the call that it is for.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCRequest

from ollama_mcp.transports.pipes import Incoming, post, read_some
from ollama_mcp.transports.stdio.framing import LINE_LIMIT, Line, LineSplitter, Refused, TooLong, decode
from ollama_mcp.transports.stdio.outbox import Outbox


def size_of(line: Line) -> int:
    """Bytes that a line holds.

    >>> size_of(b"{}"), size_of(TooLong(b"ab", b"c", 9))
    (2, 3)
    """
    return len(line.head) + len(line.tail) if isinstance(line, TooLong) else len(line)


_READ_AHEAD = 4 * 1024 * 1024
"""Bytes of lines that the reading thread may be ahead of the server."""


class Inbox(Incoming):
    """Messages of the client, as the SDK's read stream.

    Args:
        outbox: Where the answers go.
        line_limit: The largest message that is read, in bytes.
    """

    def __init__(self, outbox: Outbox, line_limit: int = LINE_LIMIT) -> None:
        self._outbox = outbox  # is told what it owes, and answers what is no message
        self._splitter = LineSplitter(line_limit)
        self._loop = asyncio.get_running_loop()
        self._lines: deque[Line] = deque()
        self._fed = anyio.Event()
        self._emptied = anyio.Event()
        # Each counter has one writing thread, so neither needs a lock.
        self._read = 0
        self._taken = 0
        self._has_room = threading.Event()
        self._closed = False

    def pump(self, fd: int, on_eof: Callable[[], object]) -> None:
        """Read until the end; the body of the reading thread."""
        with suppress(OSError):  # a terminal that has gone is an end like any other
            while chunk := read_some(fd):
                self._hand_over(self._splitter.feed(chunk))
        self._hand_over(self._splitter.finish())
        on_eof()

    def _hand_over(self, lines: list[Line]) -> None:
        lines = [line for line in lines if not _is_blank(line)]
        if lines:
            self._wait_for_room()
            self._read += sum(map(size_of, lines))
            post(self._loop, self._feed, lines)

    def _wait_for_room(self) -> None:
        self._has_room.clear()
        if self._read - self._taken > _READ_AHEAD:
            self._has_room.wait()

    def _feed(self, lines: list[Line]) -> None:
        self._lines.extend(lines)
        self._fed.set()

    async def receive(self) -> SessionMessage:
        """Return the next message.

        Raises:
            anyio.EndOfStream: The stream was closed.
        """
        while True:
            line = await self._next_line()
            try:
                return self._envelope(decode(line))
            except Refused as refused:
                await self._outbox.refuse(refused.answer)

    async def _next_line(self) -> Line:
        await anyio.lowlevel.checkpoint()  # the calls that were let in go on first
        while not self._lines:
            self._emptied.set()
            if self._closed:
                raise anyio.EndOfStream
            self._fed = anyio.Event()
            await self._fed.wait()
        return self._take()

    def _take(self) -> Line:
        line = self._lines.popleft()
        self._taken += size_of(line)
        if self._read - self._taken <= _READ_AHEAD:
            self._has_room.set()
        return line

    def _envelope(self, message: JSONRPCMessage) -> SessionMessage:
        if not isinstance(message, JSONRPCRequest):
            return SessionMessage(message)
        self._outbox.owe(message.id)
        unanswered = partial(self._outbox.forgive, message.id)
        return SessionMessage(message, ServerMessageMetadata(on_request_unanswered=unanswered))

    async def settled(self) -> None:
        """Wait until every request that the client wrote has its answer."""
        while self._lines:
            self._emptied = anyio.Event()
            await self._emptied.wait()
        await self._outbox.settled()

    def close(self) -> None:
        """End the stream for the server, which then cancels what it is doing."""
        self._closed = True
        self._lines.clear()
        self._fed.set()

    async def aclose(self) -> None:
        """End the stream, as the SDK does when it has stopped."""
        self.close()


def _is_blank(line: Line) -> bool:
    return isinstance(line, bytes) and (not line or line.isspace())
