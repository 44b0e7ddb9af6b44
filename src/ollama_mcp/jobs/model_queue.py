"""The Gate: how many calls a model has at once, how many wait for their turn, and whose turn it is.

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
"""The line of pulls, pushes and creations, which share one; no model can have this name."""
_MOST_LINES = 256
"""Models with a line; above this, those are forgotten where nothing runs."""
_NEWEST_WEIGHS = 0.3
_SHORTEST_GUESS_S = 1.0


class Ticket:
    """A place in the line before a model.

    Attributes:
        model: The model.
        principal: Who waits.
    """

    def __init__(self, line: _Line, principal: str) -> None:
        self.model = line.model
        self.principal = principal
        self.granted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._line = line

    @property
    def position(self) -> int:
        """Which in line it is, from 1; 0 once its turn has come."""
        return next((place for place, ticket in enumerate(self._line.turns(), 1) if ticket is self), 0)


@dataclass(frozen=True)
class LineStatistics:
    """One model's line.

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
class _Line:
    """Calls of one model: since when each runs, and who waits, in the order of their turns."""

    model: str
    running: dict[int, float] = field(default_factory=dict[int, float])
    waiting: dict[str, deque[Ticket]] = field(default_factory=dict[str, "deque[Ticket]"])
    mean_s: float | None = None
    admitted: int = 0
    refused: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def length(self) -> int:
        return sum(map(len, self.waiting.values()))

    @property
    def calls(self) -> str:
        """What runs and waits here, in words."""
        return "transfers" if self.model == TRANSFERS else f"calls of {self.model}"

    def begin(self, now: float) -> int:
        """One more runs; returns its number."""
        number = next(self.numbers)
        self.running[number] = now
        self.admitted += 1
        return number

    def learn(self, number: int, now: float) -> None:
        """See how long one has taken."""
        took = now - self.running[number]
        self.mean_s = took if self.mean_s is None else self.mean_s + (took - self.mean_s) * _NEWEST_WEIGHS

    def join(self, ticket: Ticket) -> None:
        self.waiting.setdefault(ticket.principal, deque()).append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Somebody waits no more."""
        own = self.waiting.get(ticket.principal)
        if own is not None and ticket in own:
            own.remove(ticket)
            if not own:
                del self.waiting[ticket.principal]

    def next(self) -> Ticket | None:
        """Take the ticket whose turn it is; its principal goes to the end of the round."""
        while self.waiting:
            principal = next(iter(self.waiting))
            own = self.waiting.pop(principal)
            while own:
                ticket = own.popleft()
                if not ticket.granted.done():  # else its waiter is being cancelled
                    if own:
                        self.waiting[principal] = own
                    return ticket
        return None

    def turns(self) -> Iterator[Ticket]:
        """Those who wait, in the order in which their turns come."""
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


class Gate:
    """Bounded calls, and a bounded line, for each model; counts of its own on each event loop.

    Args:
        parallel: Calls of a model that run at once.
        queue: Calls of a model that may wait.
        clock: Seconds that only grow.
    """

    def __init__(self, parallel: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._parallel = parallel
        self._queue = queue
        self._clock = clock
        self._lines: PerLoop[dict[str, _Line]] = PerLoop(dict[str, _Line])

    @asynccontextmanager
    async def admit(
        self, model: str, principal: str = "", on_wait: Callable[[Ticket], None] | None = None
    ) -> AsyncGenerator[None]:
        """Wait for a turn of this model, and have it for as long as the context lasts.

        Args:
            model: Its name.
            principal: Who calls: turns go round among those who wait.
            on_wait: Gets the ticket, if there is a wait.

        Raises:
            Busy: As many wait as may; `retry_after_s` is an estimate.
        """
        line = self._line(model)
        if len(line.running) < self._parallel:
            number = line.begin(self._clock())
        else:
            number = await self._wait(line, principal, on_wait)
        try:
            yield
            line.learn(number, self._clock())  # not of what failed or was cancelled: that says nothing
        finally:
            self._end(line, number)

    async def _wait(self, line: _Line, principal: str, on_wait: Callable[[Ticket], None] | None) -> int:
        if line.length >= self._queue:
            line.refused += 1
            raise self._busy(line)
        ticket = Ticket(line, principal)
        line.join(ticket)
        try:
            if on_wait is not None:
                on_wait(ticket)
            return await ticket.granted
        except asyncio.CancelledError:
            if ticket.granted.done() and not ticket.granted.cancelled():
                self._end(line, ticket.granted.result())  # its turn came in the same moment
            raise
        finally:
            line.leave(ticket)  # however it ends; once its turn has come it stands there no more

    def _end(self, line: _Line, number: int) -> None:
        """One has ended: whoever is next begins at once, so that nobody comes in between."""
        del line.running[number]
        ticket = line.next()
        if ticket is not None:
            ticket.granted.set_result(line.begin(self._clock()))

    def _line(self, model: str) -> _Line:
        lines, key = self._lines.here(), canonical(model)
        if key not in lines:
            if len(lines) >= _MOST_LINES:
                self._forget_idle(lines)
            lines[key] = _Line(model)
        return lines[key]

    def _forget_idle(self, lines: dict[str, _Line]) -> None:
        for key in [key for key, line in lines.items() if not line.running]:
            del lines[key]

    def _busy(self, line: _Line) -> Busy:
        wait = line.guess_s(self._clock())
        way_round = "" if line.model == TRANSFERS else ", or name another model"
        return Busy(
            f"{len(line.running)} {line.calls} run and {line.length} wait, which is the most",
            f"Try again in about {wait:g} s (an estimate){way_round}; the operator's "
            "OLLAMA_MCP_QUEUE sets how many may wait.",
            retry_after_s=wait,
            estimated=True,
            running=len(line.running),
            waiting=line.length,
        )

    def statistics(self) -> tuple[LineStatistics, ...]:
        """The lines of this event loop, as they are now."""
        return tuple(
            LineStatistics(
                line.model, len(line.running), line.length, line.mean_s, line.admitted, line.refused
            )
            for line in self._lines.here().values()
        )
