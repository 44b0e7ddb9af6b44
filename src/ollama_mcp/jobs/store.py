"""The jobs of an App: those that run, and those that can be found again by their handle.

A task that nobody holds is collected while it runs, so that all are held until they end. A job that
outlives its call, or whose answer is read in pages, is kept under its handle: for a time, in a number,
and in a size that are bounded (`Retention`). Over a bound those that have ended go, least recently used
first.
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
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.jobs.per_loop import PerLoop

T = TypeVar("T")

_CLOSE_S = 1.0
_RECENT = 20


@dataclass(frozen=True)
class Speed:
    """Speed at which a model wrote one of its last answers."""

    model: str
    tokens_per_s: float


@dataclass
class _Held:
    """Jobs and tasks of one event loop."""

    kept: KeptJobs
    tasks: set[asyncio.Task[Any]] = field(default_factory=set["asyncio.Task[Any]"])
    running: set[Job[Any]] = field(default_factory=set[Job[Any]])


class JobStore:
    """Begins Jobs, holds those in flight, keeps those that will be asked for."""

    def __init__(self, retention: Retention | None = None) -> None:
        self._retention = retention or Retention()
        self._held: PerLoop[_Held] = PerLoop(lambda: _Held(KeptJobs(self._retention)))
        self._recent: deque[Speed] = deque(maxlen=_RECENT)

    # --- beginning and ending -------------------------------------------------------------------

    def start(
        self, work: Callable[[Job[T]], Coroutine[Any, Any, T]], unit: str = "tok", caller: str = ""
    ) -> Job[T]:
        """Begin a piece of work and return the Job that owns it.

        Args:
            work: Gets the Job, which it keeps up to date, and returns the result.
            unit: What the Job counts.
            caller: Who asks for it.
        """
        job: Job[T] = Job(unit, caller)
        held = self._held.here()
        held.running.add(job)
        task = self._hold(job.run(_contained(work, job)))
        task.add_done_callback(partial(self._ended, held, job))
        return job

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that is no Job, and hold it until it ends."""
        return self._hold(asyncio.get_running_loop().create_task(work))

    def _hold(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        tasks = self._held.here().tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _ended(self, held: _Held, job: Job[Any], task: asyncio.Task[Any]) -> None:
        held.running.discard(job)
        if job.handle in held.kept:
            held.kept.settle(job)  # while it went on, nobody knew how much it would hold
            self._watch(job.handle)
        if job.state is not JobState.DONE or not isinstance(answer := task.result(), Answer):
            return
        if answer.stats.tokens_per_s is not None:
            self._recent.append(Speed(job.model, answer.stats.tokens_per_s))

    async def stop(self, why: Callable[[str], OllamaError]) -> None:
        """Stop what is in flight on this loop; who waits for it is told why.

        Args:
            why: Makes the failure of one of them, of the text that it had written.
        """
        running = list(self._held.here().running)
        await asyncio.gather(*(job.cancel(why(job.text)) for job in running))

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

    def keep(self, job: Job[Any]) -> bool:
        """Let a Job be found by its handle from now on; False where there is no room for one more.

        There is room as long as one of the caller's that is kept has ended and is needed no more than
        this one: only those that go on are never dropped.
        """
        kept = self._held.here().kept
        if job.handle not in kept and kept.add(job):
            self._watch(job.handle)
        return job.handle in kept

    def find(self, handle: str, caller: str = "") -> Job[Any]:
        """The Job that a caller has kept under a handle.

        Raises:
            UnknownHandle: There is none, there is none any more, or it is somebody else's.
        """
        job = self._held.here().kept.get(handle.strip().strip("\"'").lower())
        if job is None or job.caller != caller:
            raise self._unknown()
        job.asked_at = time.monotonic()
        return job

    def result(self, handle: str, caller: str, kind: type[T]) -> T:
        """Return the result of a job that a caller has kept, if it is of that kind.

        Raises:
            UnknownHandle: As of `find`, or it is of another kind, or not there yet.
        """
        job = self.find(handle, caller)
        found = job.so_far() if job.state is JobState.DONE else None
        if not isinstance(found, kind):
            raise self._unknown()
        return found

    def has_room_for(self, size: int) -> bool:
        """Return whether so many bytes may be kept at all."""
        return size <= self._retention.most_bytes

    def _unknown(self) -> UnknownHandle:
        return UnknownHandle(
            "no answer is kept under this handle: it is wrong or too old, or the server was started anew",
            f"Make the call again that gave it; answers stay for {_minutes(self._retention.kept_s)} after "
            "their end, the last ones only.",
        )

    def _watch(self, handle: str) -> None:
        """Look after a kept Job: stop it once nobody has asked for so long, drop it so long after its end.

        No GPU shall work for nobody. The timer has the handle alone, so that it holds nothing.
        """
        kept, now = self._held.here().kept, time.monotonic()
        job = kept.get(handle)
        if job is None:
            return
        left = self._left(job, now)
        if job.finished and left <= 0:
            kept.drop(handle)
            return
        if left <= 0:
            self.spawn(job.cancel(_unclaimed(job, self._retention.unclaimed_s)))
            left = self._retention.kept_s
        loop = asyncio.get_running_loop()
        kept.call_later(handle, loop.call_later(left, self._watch, handle, context=Context()))

    def _left(self, job: Job[Any], now: float) -> float:
        """Seconds until something has to be done about a kept Job, as far as that is known."""
        if job.ended_at is not None:
            return job.ended_at + self._retention.kept_s - now
        if job.waiters:
            return self._retention.unclaimed_s
        return job.asked_at + self._retention.unclaimed_s - now

    # --- what can be seen of it -----------------------------------------------------------------

    def kept_s(self, job: Job[Any]) -> float:
        """Return the seconds, from its beginning, for which a kept job can be found if nobody asks again."""
        if job.ended_at is not None:
            return job.ended_at + self._retention.kept_s - job.started_at
        return job.asked_at + min(self._retention.unclaimed_s, self._retention.kept_s) - job.started_at

    def running(self, caller: str) -> list[Job[Any]]:
        """A caller's Jobs that are kept and go on, the oldest first."""
        return [job for job in self._held.here().kept.of(caller) if not job.finished]

    @property
    def in_flight(self) -> int:
        """Number of jobs that run on this event loop."""
        return len(self._held.here().running)

    @property
    def recent(self) -> list[Speed]:
        """The last answers' speeds, the oldest first."""
        return list(self._recent)


def _unclaimed(job: Job[Any], seconds: float) -> Timeout:
    return Timeout(
        f"the answer was stopped, since nobody had asked for it for {_minutes(seconds)}",
        "Call the first tool again, and ask by the handle until the answer is there.",
        partial_text=job.text,
        clock="unclaimed",
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:g} s"


async def _contained(work: Callable[[Job[T]], Coroutine[Any, Any, T]], job: Job[T]) -> T:
    """Turn SystemExit into a failure: through the event loop it would end the process."""
    try:
        return await work(job)
    except SystemExit as error:
        raise RuntimeError("sys.exit in the work of a Job") from error


@dataclass(frozen=True)
class Retention:
    """Bounds of what is kept: time, number and size.

    Attributes:
        kept_s: Seconds that a Job is kept after its end.
        most: Jobs that are kept, those that go on among them.
        most_bytes: What finished ones may hold together, apart from the one that was used last.
        unclaimed_s: Seconds after which a Job is stopped that nobody waits for.
    """

    kept_s: float = 30 * 60
    most: int = 256
    most_bytes: int = 256 << 20
    unclaimed_s: float = 15 * 60


class KeptJobs:
    """Kept jobs of one event loop. Only jobs that have ended are dropped."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._all: dict[str, Job[Any]] = {}
        self._sizes: dict[str, int] = {}
        """Of those that have ended, the least recently used first."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, handle: object) -> bool:
        """Return whether a job is kept under that handle."""
        return handle in self._all

    def __len__(self) -> int:
        """Return the number of kept jobs."""
        return len(self._all)

    def get(self, handle: str) -> Job[Any] | None:
        """The one of that handle, which is used by that."""
        if handle in self._sizes:
            self._sizes[handle] = self._sizes.pop(handle)
        return self._all.get(handle)

    def of(self, caller: str) -> list[Job[Any]]:
        """Return the jobs of one caller, in the order in which they came."""
        return [job for job in self._all.values() if job.caller == caller]

    def add(self, job: Job[Any]) -> bool:
        """Keep one more; False where there is no room for it, since too many go on."""
        self._all[job.handle] = job
        if job.ended_at is not None:
            self.settle(job)
        self._make_room()
        if len(self._all) > self._retention.most:
            self.drop(job.handle)
        return job.handle in self._all

    def settle(self, job: Job[Any]) -> None:
        """Count the size of a job that has ended."""
        if job.handle not in self._sizes:
            job.pack()
            self._sizes[job.handle] = job.size
            self._make_room()

    def drop(self, handle: str) -> None:
        """Let go of one, if it is kept."""
        self._all.pop(handle, None)
        self._sizes.pop(handle, None)
        self.call_later(handle, None)

    def call_later(self, handle: str, timer: asyncio.TimerHandle | None) -> None:
        """Have one timer for a handle, instead of the one before; none is left when it is let go of."""
        before = self._timers.pop(handle, None)
        if before is not None:
            before.cancel()
        if timer is not None:
            self._timers[handle] = timer

    def stop_timers(self) -> None:
        """Stop all timers: the jobs are dropped with this store."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _make_room(self) -> None:
        while self._sizes and len(self._all) > self._retention.most:
            self.drop(next(iter(self._sizes)))
        while len(self._sizes) > 1 and sum(self._sizes.values()) > self._retention.most_bytes:
            self.drop(next(iter(self._sizes)))
