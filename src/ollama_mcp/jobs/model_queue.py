"""The ModelQueue: how many calls a model has at once, how many wait for their turn, and whose turn it is.

Ollama has a queue of its own, which is neither bounded nor visible. Here so many calls run, so many
wait, and the next one is told at once that there is no room. Among callers the turns go round; of
one caller's calls the first comes first.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from ollama_mcp.errors import Busy
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.ollama.model_names import canonical

TRANSFERS = "(transfers)"
"""The queue of pulls, pushes and creations, which share one; no model can have this name."""
_NEWEST_WEIGHS = 0.3
_SHORTEST_GUESS_S = 1.0


class QueueEntry:
    """A place in the queue of a model.

    Attributes:
        model: The model.
        caller: Who waits.
    """

    def __init__(self, queue: _Queue, caller: str) -> None:
        self.model = queue.model
        self.caller = caller
        self.granted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue = queue

    @property
    def position(self) -> int:
        """Position in the queue, from 1; 0 once its turn has come."""
        return next(
            (place for place, queue_entry in enumerate(self._queue.turns(), 1) if queue_entry is self), 0
        )


@dataclass(frozen=True)
class QueueStatistics:
    """Statistics of one model's queue.

    Attributes:
        model: Its name; `TRANSFERS` for those.
        running: Calls that run.
        waiting: Calls that wait.
        mean_s: Seconds that a call took, the newest counting most; None before the first has ended.
        admitted: Calls that have run or do.
        refused: Calls that found no room.
    """

    model: str
    running: int
    waiting: int
    mean_s: float | None
    admitted: int
    refused: int


@dataclass
class _Queue:
    """Calls of one model: since when each runs, and who waits, in the order of their turns."""

    model: str
    running: dict[int, float] = field(default_factory=dict[int, float])
    waiting: dict[str, deque[QueueEntry]] = field(default_factory=dict[str, "deque[QueueEntry]"])
    mean_s: float | None = None
    admitted: int = 0
    refused: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def length(self) -> int:
        return sum(map(len, self.waiting.values()))

    @property
    def calls(self) -> str:
        """Describe in words what runs and waits here."""
        return "transfers" if self.model == TRANSFERS else f"calls of {self.model}"

    def begin(self, now: float) -> int:
        """Count one more running call; return its number."""
        number = next(self.numbers)
        self.running[number] = now
        self.admitted += 1
        return number

    def learn(self, number: int, now: float) -> None:
        """See how long one has taken."""
        took = now - self.running[number]
        self.mean_s = took if self.mean_s is None else self.mean_s + (took - self.mean_s) * _NEWEST_WEIGHS

    def join(self, queue_entry: QueueEntry) -> None:
        self.waiting.setdefault(queue_entry.caller, deque()).append(queue_entry)

    def leave(self, queue_entry: QueueEntry) -> None:
        """Somebody waits no more."""
        own = self.waiting.get(queue_entry.caller)
        if own is not None and queue_entry in own:
            own.remove(queue_entry)
            if not own:
                del self.waiting[queue_entry.caller]

    def next(self) -> QueueEntry | None:
        """Take the entry whose turn it is; its caller goes to the end of the round."""
        while self.waiting:
            caller = next(iter(self.waiting))
            own = self.waiting.pop(caller)
            while own:
                queue_entry = own.popleft()
                if not queue_entry.granted.done():  # else its waiter is being cancelled
                    if own:
                        self.waiting[caller] = own
                    return queue_entry
        return None

    def turns(self) -> Iterator[QueueEntry]:
        """Return the waiting entries in the order of their turns."""
        rounds = [list(own) for own in self.waiting.values()]
        for turn in range(max(map(len, rounds), default=0)):
            yield from (own[turn] for own in rounds if turn < len(own))

    def guess_s(self, now: float) -> float:
        """Seconds until one of those that run has probably ended."""
        if self.mean_s is not None:
            expected = self.mean_s / max(len(self.running), 1)
        else:  # so long at least have they taken
            expected = max((now - since for since in self.running.values()), default=0.0)
        return round(max(expected, _SHORTEST_GUESS_S), 1)


class ModelQueue:
    """Bounded calls, and a bounded queue, for each model; counts of its own on each event loop.

    Args:
        parallel: Calls of a model that run at once.
        queue: Calls of a model that may wait.
        clock: Seconds that only grow.
    """

    def __init__(self, parallel: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._parallel = parallel
        self._queue = queue
        self._clock = clock
        self._queues: PerLoop[dict[str, _Queue]] = PerLoop(dict[str, _Queue])

    @asynccontextmanager
    async def admit(
        self,
        model: str,
        caller: str = "",
        on_wait: Callable[[QueueEntry], None] | None = None,
        *,
        bounded: bool = True,
    ) -> AsyncGenerator[None]:
        """Wait for a turn of this model, and have it for as long as the context lasts.

        Args:
            model: Its name.
            caller: Who calls: turns go round among those who wait.
            on_wait: Gets the entry, if there is a wait.
            bounded: False for the next part of work that has begun: it waits, however many do.

        Raises:
            Busy: As many wait as may; `retry_after_s` is an estimate.
        """
        queue = self._queue_of(model)
        if len(queue.running) < self._parallel:
            number = queue.begin(self._clock())
        else:
            if bounded and queue.length >= self._queue:
                queue.refused += 1
                raise self._busy(queue)
            number = await self._wait(queue, caller, on_wait)
        try:
            yield
            queue.learn(number, self._clock())  # not of what failed or was cancelled: that says nothing
        finally:
            self._end(queue, number)

    async def _wait(self, queue: _Queue, caller: str, on_wait: Callable[[QueueEntry], None] | None) -> int:
        queue_entry = QueueEntry(queue, caller)
        queue.join(queue_entry)
        try:
            if on_wait is not None:
                on_wait(queue_entry)
            return await queue_entry.granted
        except asyncio.CancelledError:
            if queue_entry.granted.done() and not queue_entry.granted.cancelled():
                self._end(queue, queue_entry.granted.result())  # its turn came in the same moment
            raise
        finally:
            queue.leave(queue_entry)  # however it ends; once its turn has come it stands there no more

    def _end(self, queue: _Queue, number: int) -> None:
        """End a running call, and begin the next at once, so that nobody comes in between."""
        del queue.running[number]
        queue_entry = queue.next()
        if queue_entry is not None:
            queue_entry.granted.set_result(queue.begin(self._clock()))

    def _queue_of(self, model: str) -> _Queue:
        lines, key = self._queues.here(), canonical(model)
        if key not in lines:
            lines[key] = _Queue(model)
        return lines[key]

    def _busy(self, queue: _Queue) -> Busy:
        wait = queue.guess_s(self._clock())
        way_round = "" if queue.model == TRANSFERS else ", or name another model"
        return Busy(
            f"{len(queue.running)} {queue.calls} run and {queue.length} wait, which is the most",
            f"Try again in about {wait:g} s (an estimate){way_round}; the operator's "
            "OLLAMA_MCP_QUEUE sets how many may wait.",
            retry_after_s=wait,
            estimated=True,
            running=len(queue.running),
            waiting=queue.length,
        )

    def statistics(self) -> tuple[QueueStatistics, ...]:
        """The lines of this event loop, as they are now."""
        return tuple(
            QueueStatistics(
                queue.model, len(queue.running), queue.length, queue.mean_s, queue.admitted, queue.refused
            )
            for queue in self._queues.here().values()
        )
