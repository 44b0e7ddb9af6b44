"""A Reply: one generation (or batch of embeddings), from its first byte to its last, as others see it.

The work runs in a task of its own, so that it can outlive the call that began it; callers wait for
it, watch it and cancel it through this object.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Any, Generic, TypeVar

import anyio

from ollama_mcp.errors import StreamBroken

T = TypeVar("T")

_CLOSE_S = 1.0
_TAIL = 400
"""Characters of the newest text that are kept for the status line."""


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class State(StrEnum):
    """Where a Reply is."""

    WAITING = "waiting"
    LOADING = "loading"
    READING = "reading the prompt"
    THINKING = "thinking"
    WRITING = "writing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Reply(Generic[T]):
    """One piece of work in flight or finished.

    Attributes:
        state: Where it is.
        model: The model that works, once that is known.
        unit: What `count` counts: tok or texts.
        count: Units so far; a token of Ollama's stream is one of its lines.
        total: How many there will be at most, where that is known.
        notes: What the caller should know.
        begun: Set with the first unit.
        look: Finds out where a Reply is from which nothing has come yet.
    """

    def __init__(self, unit: str = "tok") -> None:
        self.state: State = State.WAITING
        self.model = ""
        self.unit = unit
        self.count: int = 0
        self.total: int | None = None
        self.notes: list[str] = []
        self.begun: asyncio.Event = asyncio.Event()
        self.look: Callable[[], Awaitable[None]] | None = None
        self.started_at: float = time.monotonic()
        self.first_at: float | None = None
        self._settled: list[str] = []
        self._tail = ""
        self._task: asyncio.Task[T] | None = None

    # --- for the one who works ------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin; the task is the one to cancel and to keep."""
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ended)
        return self._task

    def advance(self, state: State, units: int = 1) -> None:
        """Say that units have come."""
        self.state = state
        self.count += units
        if self.first_at is None:
            self.first_at = time.monotonic()
            self.begun.set()

    async def find_out(self, is_loaded: Callable[[str], Awaitable[bool]]) -> None:
        """Tell a model that is loading from one that reads: nothing comes from either."""
        state = State.READING if await is_loaded(self.model) else State.LOADING
        if self.first_at is None and not self.finished:
            self.state = state

    def show(self, text: str) -> None:
        """Keep the newest text for the status line; it may yet turn out not to be the answer."""
        self._tail = (self._tail + text)[-_TAIL:]

    def settle(self, text: str) -> None:
        """Say that this text is the next part of the answer, come what may."""
        if text:
            self._settled.append(text)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.state = State.CANCELLED
        else:
            # Asking for the exception tells asyncio that nobody else has to.
            self.state = State.DONE if task.exception() is None else State.FAILED

    # --- for those who wait and watch -----------------------------------------------------------

    async def result(self) -> T:
        """Wait for the end; cancelling the waiter cancels the work, and waits until it let go.

        Raises:
            OllamaError: The work failed, or was cancelled by somebody else than the waiter.
        """
        if self._task is None:
            raise RuntimeError("this Reply was not started")
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled() and not _is_cancelled():
                raise StreamBroken(
                    "the answer was broken off before it was complete: the server closes", "Call again."
                ) from None
            await self.cancel()
            raise

    async def cancel(self) -> None:
        """Stop the work; returns when its connection is closed."""
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task], timeout=_CLOSE_S)

    @property
    def finished(self) -> bool:
        """Whether it has ended, however."""
        return self.state in _ENDED

    def text_since(self, mark: int) -> tuple[str, int]:
        """The text of the answer that was settled since `mark`, and the next mark."""
        return "".join(self._settled[mark:]), len(self._settled)

    def status(self, limit: int = 160) -> str:
        """One line for a person: how far it is, how fast, the tail of the text."""
        told = self._waited() if self.first_at is None else self._counted()
        line = " · ".join([*told, *self.notes[-1:]])
        line = " ".join(line.split())
        room = limit - len(line) - len(" · …")
        tail = " ".join(self._tail.split())
        if not tail or room < 8:
            return line[:limit]
        return f"{line} · {tail if len(tail) <= room else '…' + tail[-room:]}"

    def _waited(self) -> list[str]:
        waited = int(time.monotonic() - self.started_at)
        return [self._where() + (f", {waited} s" if waited else "")]

    def _where(self) -> str:
        if self.state is State.LOADING:
            return f"loading {self.model}"
        return f"waiting for {self.model or 'Ollama'}" if self.state is State.WAITING else self.state.value

    def _counted(self) -> list[str]:
        elapsed = time.monotonic() - (self.first_at or self.started_at)
        of = f"/{self.total}" if self.total and self.unit != "tok" else ""
        parts = [f"{self.count}{of} {self.unit}"]
        if elapsed > 0.2 and self.count > 1:
            parts.append(f"{(self.count - 1) / elapsed:.0f} {self.unit}/s")
        return ["thinking", *parts] if self.state is State.THINKING else parts
