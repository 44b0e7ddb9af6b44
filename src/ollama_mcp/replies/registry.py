"""The Replies of an App: those in flight, and those that can be found again by their handle.

A task that nobody holds is collected while it runs, so that all are held until they end. A Reply that
outlives its call, or whose answer is read in parts, is kept under its handle: for a time, in a number,
and in a size that are bounded (`kept`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from ollama_mcp.errors import OllamaError, Timeout, UnknownHandle
from ollama_mcp.loops import PerLoop
from ollama_mcp.replies.answer import Answer
from ollama_mcp.replies.kept import Kept, Retention
from ollama_mcp.replies.reply import Reply, State

T = TypeVar("T")

_CLOSE_S = 1.0
_RECENT = 20


@dataclass(frozen=True)
class Speed:
    """How fast a model wrote one of its last answers."""

    model: str
    tokens_per_s: float


@dataclass
class _Held:
    """What one event loop holds."""

    kept: Kept
    tasks: set[asyncio.Task[Any]] = field(default_factory=set["asyncio.Task[Any]"])
    running: set[Reply[Any]] = field(default_factory=set[Reply[Any]])


class Replies:
    """Begins Replies, holds those in flight, keeps those that will be asked for."""

    def __init__(self, retention: Retention | None = None) -> None:
        self._retention = retention or Retention()
        self._held: PerLoop[_Held] = PerLoop(lambda: _Held(Kept(self._retention)))
        self._recent: deque[Speed] = deque(maxlen=_RECENT)

    # --- beginning and ending -------------------------------------------------------------------

    def start(
        self, work: Callable[[Reply[T]], Coroutine[Any, Any, T]], unit: str = "tok", principal: str = ""
    ) -> Reply[T]:
        """Begin a piece of work and return the Reply that owns it.

        Args:
            work: Gets the Reply, which it keeps up to date, and returns the result.
            unit: What the Reply counts.
            principal: Who asks for it.
        """
        reply: Reply[T] = Reply(unit, principal)
        held = self._held.here()
        held.running.add(reply)
        task = self._hold(reply.run(_contained(work, reply)))
        task.add_done_callback(partial(self._ended, held, reply))
        return reply

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that is no Reply, and hold it until it ends."""
        return self._hold(asyncio.get_running_loop().create_task(work))

    def _hold(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        tasks = self._held.here().tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _ended(self, held: _Held, reply: Reply[Any], task: asyncio.Task[Any]) -> None:
        held.running.discard(reply)
        if reply.handle in held.kept:
            held.kept.settle(reply)  # while it went on, nobody knew how much it would hold
            self._watch(reply.handle)
        if reply.state is not State.DONE or not isinstance(answer := task.result(), Answer):
            return
        if answer.stats.tokens_per_s is not None:
            self._recent.append(Speed(reply.model, answer.stats.tokens_per_s))

    async def stop(self, why: Callable[[str], OllamaError]) -> None:
        """Stop what is in flight on this loop; who waits for it is told why.

        Args:
            why: Makes the failure of one of them, of the text that it had written.
        """
        running = list(self._held.here().running)
        await asyncio.gather(*(reply.cancel(why(reply.text)) for reply in running))

    async def aclose(self) -> None:
        """Cancel what is in flight on this loop and wait until its connections are closed."""
        held = self._held.pop()
        if held is not None:
            held.kept.stop_timers()
        tasks = list(held.tasks) if held else []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)

    # --- keeping and finding --------------------------------------------------------------------

    def keep(self, reply: Reply[Any]) -> bool:
        """Let a Reply be found by its handle from now on; False where there is no room for one more.

        There is room as long as one of the caller's that is kept has ended and is needed no more than
        this one: only those that go on are never dropped.
        """
        kept = self._held.here().kept
        if reply.handle not in kept and kept.add(reply):
            self._watch(reply.handle)
        return reply.handle in kept

    def find(self, handle: str, principal: str = "") -> Reply[Any]:
        """The Reply that a caller has kept under a handle.

        Raises:
            UnknownHandle: There is none, there is none any more, or it is somebody else's.
        """
        reply = self._held.here().kept.get(handle.strip().strip("\"'").lower())
        if reply is None or reply.principal != principal:
            raise self._unknown()
        reply.asked_at = time.monotonic()
        return reply

    def result(self, handle: str, principal: str, kind: type[T]) -> T:
        """What a Reply that a caller has kept ended as, where that is of a kind.

        Raises:
            UnknownHandle: As of `find`, or it is of another kind, or not there yet.
        """
        reply = self.find(handle, principal)
        found = reply.so_far() if reply.state is State.DONE else None
        if not isinstance(found, kind):
            raise self._unknown()
        return found

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes may be kept at all: what nobody may ask for is not worth more."""
        return size <= self._retention.most_bytes

    def _unknown(self) -> UnknownHandle:
        return UnknownHandle(
            "no answer is kept under this handle: it is wrong or too old, or the server was started anew",
            f"Make the call again that gave it; answers stay for {_minutes(self._retention.kept_s)} after "
            "their end, the last ones only.",
        )

    def _watch(self, handle: str) -> None:
        """Look after a kept Reply: stop it once nobody has asked for so long, drop it so long after its end.

        No GPU shall work for nobody. The timer has the handle alone, so that it holds nothing.
        """
        kept, now = self._held.here().kept, time.monotonic()
        reply = kept.get(handle)
        if reply is None:
            return
        left = self._left(reply, now)
        if reply.finished and left <= 0:
            kept.drop(handle)
            return
        if left <= 0:
            self.spawn(reply.cancel(_unclaimed(reply, self._retention.unclaimed_s)))
            left = self._retention.kept_s
        loop = asyncio.get_running_loop()
        kept.call_later(handle, loop.call_later(left, self._watch, handle, context=Context()))

    def _left(self, reply: Reply[Any], now: float) -> float:
        """Seconds until something has to be done about a kept Reply, as far as that is known."""
        if reply.ended_at is not None:
            return reply.ended_at + self._retention.kept_s - now
        if reply.waiters:
            return self._retention.unclaimed_s
        return reply.asked_at + self._retention.unclaimed_s - now

    # --- what can be seen of it -----------------------------------------------------------------

    def running(self, principal: str) -> list[Reply[Any]]:
        """A caller's Replies that are kept and go on, the oldest first."""
        return [reply for reply in self._held.here().kept.of(principal) if not reply.finished]

    @property
    def in_flight(self) -> int:
        """How many Replies go on, on this event loop."""
        return len(self._held.here().running)

    @property
    def recent(self) -> list[Speed]:
        """The last answers' speeds, the oldest first."""
        return list(self._recent)


def _unclaimed(reply: Reply[Any], seconds: float) -> Timeout:
    return Timeout(
        f"the answer was stopped, since nobody had asked for it for {_minutes(seconds)}",
        "Call the first tool again, and ask by the handle until the answer is there.",
        partial_text=reply.text,
        clock="unclaimed",
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:g} s"


async def _contained(work: Callable[[Reply[T]], Coroutine[Any, Any, T]], reply: Reply[T]) -> T:
    """What sys.exit raises would go through the event loop and end the process."""
    try:
        return await work(reply)
    except SystemExit as error:
        raise RuntimeError("sys.exit in the work of a Reply") from error
