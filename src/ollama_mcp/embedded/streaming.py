"""Blocking work in a thread that stops when its caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ollama_mcp.embedded.llama import Llama

Json = dict[str, Any]
_T = TypeVar("_T")


class _Chunks:
    """The thread's side and the loop's side of one completion."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Json | None] = asyncio.Queue()
        self._stop = threading.Event()

    def run(self, llama: Llama, body: Json) -> None:
        """Run in the thread, until the end or until stopped."""
        try:
            llama.complete(body, self._put)
        finally:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    def stop(self) -> None:
        """Ask the thread to end; it does so at the next chunk, one batch of the prompt at most."""
        self._stop.set()

    def _put(self, chunk: Json) -> bool:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
        return self._stop.is_set()

    async def __aiter__(self) -> AsyncIterator[Json]:
        while (chunk := await self._queue.get()) is not None:
            yield chunk


@asynccontextmanager
async def completion(llama: Llama, body: Json) -> AsyncGenerator[AsyncIterator[Json]]:
    """Run a completion; leaving the block stops it and waits for its thread.

    Args:
        llama: The loaded model; the caller holds its slot.
        body: llama.cpp's request, with ``stream``.
    """
    chunks = _Chunks()
    work = asyncio.get_running_loop().run_in_executor(None, chunks.run, llama, body)
    try:
        yield aiter(chunks)
    finally:
        chunks.stop()
        with anyio.CancelScope(shield=True):
            await work


async def stoppable(work: Callable[[threading.Event], _T]) -> _T:
    """Run work in a thread; when cancelled, ask it to stop and wait until it did.

    Args:
        work: Looks at the event between its steps.
    """
    stop = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        return await asyncio.shield(future)
    finally:
        stop.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([future])
