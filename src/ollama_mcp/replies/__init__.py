"""Replies: what is being generated now, kept strongly until it ends, in whichever call or loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ollama_mcp.replies.reply import Reply, State

__all__ = ["Replies", "Reply", "State"]

T = TypeVar("T")

_CLOSE_S = 1.0


class Replies:
    """The Replies in flight, by event loop: a task that nobody holds is collected while it runs."""

    def __init__(self) -> None:
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = (
            WeakKeyDictionary()
        )

    def start(self, work: Callable[[Reply[T]], Coroutine[Any, Any, T]], unit: str = "tok") -> Reply[T]:
        """Begin a piece of work and return the Reply that owns it.

        Args:
            work: Gets the Reply, which it keeps up to date, and returns the result.
            unit: What the Reply counts.
        """
        reply: Reply[T] = Reply(unit)
        tasks = self._tasks.setdefault(asyncio.get_running_loop(), set())
        task = reply.run(_contained(work, reply))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return reply

    async def aclose(self) -> None:
        """Cancel what is in flight on this loop and wait until its connections are closed."""
        tasks = list(self._tasks.pop(asyncio.get_running_loop(), ()))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)


async def _contained(work: Callable[[Reply[T]], Coroutine[Any, Any, T]], reply: Reply[T]) -> T:
    """What sys.exit raises would go through the event loop and end the process."""
    try:
        return await work(reply)
    except SystemExit as error:
        raise RuntimeError("sys.exit in the work of a Reply") from error
