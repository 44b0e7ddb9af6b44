"""The SDK's read stream over a file descriptor: a thread that reads, and lines made into messages.

Reading never waits for writing: a cancel is heard while stdout is blocked.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Self

import anyio
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCRequest

from ollama_mcp.transports.frames import Refused, decode
from ollama_mcp.transports.lines import LINE_LIMIT, Line, LineSplitter
from ollama_mcp.transports.outbox import Outbox
from ollama_mcp.transports.pipes import Stream, post, read_some

_READ_AHEAD = 2
"""Chunks of lines that the reading thread may be ahead of the server."""


class Inbox(Stream):
    """What the client writes, as the SDK's read stream."""

    def __init__(self, outbox: Outbox, line_limit: int = LINE_LIMIT) -> None:
        self._outbox = outbox  # is told what it owes, and answers what is no message
        self._splitter = LineSplitter(line_limit)
        self._loop = asyncio.get_running_loop()
        self._lines: deque[Line] = deque()
        self._fed = anyio.Event()
        self._emptied = anyio.Event()
        self._chunks = 0
        self._permits = threading.Semaphore(_READ_AHEAD)
        self._closed = False

    def pump(self, fd: int, on_eof: Callable[[], object]) -> None:
        """Read until the end; the body of the reading thread."""
        with suppress(OSError):  # a terminal that has gone is an end like any other
            while chunk := read_some(fd):
                self._hand_over(self._splitter.feed(chunk))
        self._hand_over(self._splitter.finish())
        on_eof()

    def _hand_over(self, lines: list[Line]) -> None:
        if lines:
            self._permits.acquire()
            post(self._loop, self._feed, lines)

    def _feed(self, lines: list[Line]) -> None:
        self._lines.extend(line for line in lines if not _is_blank(line))
        self._chunks += 1
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
        while not self._lines:
            self._use_up()
            if self._closed:
                raise anyio.EndOfStream
            self._fed = anyio.Event()
            await self._fed.wait()
        return self._lines.popleft()

    def _envelope(self, message: JSONRPCMessage) -> SessionMessage:
        if not isinstance(message, JSONRPCRequest):
            return SessionMessage(message)
        self._outbox.owe(message.id)
        unanswered = partial(self._outbox.forgive, message.id)
        return SessionMessage(message, ServerMessageMetadata(on_request_unanswered=unanswered))

    def _use_up(self) -> None:
        if self._chunks:
            self._permits.release(self._chunks)
        self._chunks = 0
        self._emptied.set()

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

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


def _is_blank(line: Line) -> bool:
    return isinstance(line, bytes) and (not line or line.isspace())
