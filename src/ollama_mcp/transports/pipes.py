"""Shared parts of both ends of stdio: threads that block on a descriptor, and a loop to tell.

Threads, because no event loop can wait for every kind of stdin (a file, /dev/null, a Windows pipe),
and daemons, because a read or a write that never returns must not keep the process. Each message
costs one hop either way.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.shared.message import SessionMessage

CHUNK = 64 * 1024
"""Bytes of one read or write; what a pipe holds."""


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Start a daemon."""
    threading.Thread(target=work, name=f"ollama-mcp-{name}", daemon=True).start()


def post(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: Any) -> None:
    """Call on the loop from any thread; nothing, once the loop has closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


# A descriptor may become non-blocking at any time, when a process that shares it makes it so.


def read_some(fd: int) -> bytes:
    """Wait for bytes and return them; none at the end."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            select.select([fd], [], [])


def write_some(fd: int, data: memoryview) -> int:
    """Write the beginning of `data` and return how much of it."""
    while True:
        try:
            return os.write(fd, data[:CHUNK])
        except BlockingIOError:
            select.select([], [fd], [])


class Stream:
    """Base of both streams: they close, and are context managers."""

    async def aclose(self) -> None:
        """Close this end."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class Incoming(Stream):
    """A stream to read messages from, until it ends."""

    async def receive(self) -> SessionMessage:
        """Return the next message.

        Raises:
            anyio.EndOfStream: There is none any more.
        """
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
