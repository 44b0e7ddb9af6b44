"""The SDK's read stream over a file descriptor, with priority for requests that are answered at once.

A thread reads, so that a cancel is heard while stdout is blocked. A client that calls ten thousand times
would otherwise wait ten thousand answers long for a status: in a crowd, requests that are answered at once
pass those that are not. Nothing else passes, so that a cancel never comes before the call that it is for.
Where there is no crowd, everything comes in the order in which it was written.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
import pydantic_core
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCRequest

from ollama_mcp.transports.pipes import Incoming, post, read_some
from ollama_mcp.transports.stdio.framing import LINE_LIMIT, Line, LineSplitter, Refused, TooLong, decode
from ollama_mcp.transports.stdio.outbox import Outbox

_CROWD = 64
"""Lines that wait, above which there is a crowd."""

_SHORT = 4096
"""Bytes of the longest line that may pass; reading a longer one twice would cost more than it saves."""


class PriorityInbox:
    """The lines that wait for the server.

    Args:
        priority_tools: Names of the tools whose calls may pass.
    """

    def __init__(self, priority_tools: Collection[str] = ()) -> None:
        self._at_once = frozenset(priority_tools)
        self._marks = [b'"ping"', b'"tasks/', *(f'"{name}"'.encode() for name in self._at_once)]
        self._turns: deque[Line] = deque()
        self._passing: deque[Line] = deque()
        self._is_open = False

    def __bool__(self) -> bool:
        return bool(self._turns or self._passing)

    @property
    def is_crowded(self) -> bool:
        """True if many messages wait."""
        return len(self._turns) > _CROWD

    def add(self, line: Line) -> None:
        """Queue a message."""
        lane = self._passing if self.is_crowded and self._may_pass(line) else self._turns
        lane.append(line)

    def take(self) -> Line:
        """Take the next one; there must be one."""
        if self._passing and (self._is_open or not self._turns):
            return self._passing.popleft()
        line = self._turns.popleft()
        # Until the first call the session may not be open yet, and nobody passes its opening.
        self._is_open = self._is_open or (isinstance(line, bytes) and b'"tools/call"' in line)
        return line

    def clear(self) -> None:
        """Drop all that waits."""
        self._turns.clear()
        self._passing.clear()

    def _may_pass(self, line: Line) -> bool:
        if isinstance(line, TooLong) or len(line) > _SHORT or not any(mark in line for mark in self._marks):
            return False
        try:
            message = pydantic_core.from_json(line)
        except ValueError:
            return False
        match message:
            case {"method": "ping" | "tasks/get" | "tasks/update" | "tasks/cancel", "id": _}:
                return True
            case {"method": "tools/call", "id": _, "params": {"name": str(name)}}:
                return name in self._at_once
            case _:
                return False


def size_of(line: Line) -> int:
    """Bytes that a line holds.

    >>> size_of(b"{}"), size_of(TooLong(b"ab", b"c", 9))
    (2, 3)
    """
    return len(line.head) + len(line.tail) if isinstance(line, TooLong) else len(line)


_READ_AHEAD = 4 * 1024 * 1024
"""Bytes of lines that the reading thread may be ahead of the server: what is not read cannot pass."""


class Inbox(Incoming):
    """Messages of the client, as the SDK's read stream.

    Args:
        outbox: Where the answers go.
        line_limit: The largest message that is read, in bytes.
        priority_tools: Names of the tools whose calls may pass others that wait.
    """

    def __init__(
        self, outbox: Outbox, line_limit: int = LINE_LIMIT, priority_tools: Collection[str] = ()
    ) -> None:
        self._outbox = outbox  # is told what it owes, and answers what is no message
        self._splitter = LineSplitter(line_limit)
        self._loop = asyncio.get_running_loop()
        self._lines = PriorityInbox(priority_tools)
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
        for line in lines:
            self._lines.add(line)
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
        if self._lines.is_crowded:  # those that are let in go on first, and who may pass can come
            await anyio.lowlevel.checkpoint()
        while not self._lines:
            self._emptied.set()
            if self._closed:
                raise anyio.EndOfStream
            self._fed = anyio.Event()
            await self._fed.wait()
        return self._take()

    def _take(self) -> Line:
        line = self._lines.take()
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
