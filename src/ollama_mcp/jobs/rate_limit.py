"""Rate limit: a call is admitted, or refused with the time after which it may come."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from ollama_mcp.errors import RateLimited

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"(?:([a-z][a-z0-9_]*)\s*=)?\s*([0-9]{1,9})\s*/\s*(s|min|h)\Z")
_MOST_REMEMBERED = 32_768
"""Callers with a debt, for each scope; above this, the one is forgotten who has not called for longest."""


@dataclass(frozen=True)
class Rate:
    """A number of calls in a number of seconds, evenly spread but for a burst."""

    count: int
    seconds: float

    @property
    def interval(self) -> float:
        """Seconds that one call costs."""
        return self.seconds / self.count

    def __str__(self) -> str:
        units = {seconds: unit for unit, seconds in _SECONDS.items()}
        return f"{self.count}/{units.get(self.seconds, f'{self.seconds:g} s')}"


def parse_rates(text: str) -> dict[str, Rate]:
    """Read rates: one for all tools together (by the name ""), others for one tool each.

    >>> parse_rates("60/min, ollama_chat=10/h")
    {'': Rate(count=60, seconds=60.0), 'ollama_chat': Rate(count=10, seconds=3600.0)}

    Raises:
        ValueError: That is no rate, or one tool has two.
    """
    rates: dict[str, Rate] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _RATE.match(part)
        name, count, unit = found.groups(default="") if found else ("", "0", "")
        if not int(count) or name in rates:
            raise ValueError("rates such as 60/min, ollama_chat=10/min (s, min or h)")
        rates[name] = Rate(int(count), _SECONDS[unit])
    return rates


def format_rates(rates: Mapping[str, Rate]) -> str:
    """The rates as `parse_rates` reads them.

    >>> format_rates(parse_rates("ollama_chat=10/h,60/min"))
    'ollama_chat=10/h, 60/min'
    """
    return ", ".join(f"{name}={rate}" if name else str(rate) for name, rate in rates.items())


class RateLimit:
    """The generic cell rate algorithm: each call costs an interval, and a burst of them may be owed.

    Args:
        rates: By tool; "" is for all of them together. Without any, everything is allowed.
        burst: Calls that may come at once.
        clock: Seconds that only grow.
    """

    def __init__(
        self, rates: Mapping[str, Rate], burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rates = rates
        self._burst = burst
        self._clock = clock
        self._paid = {scope: OrderedDict[str, float]() for scope in rates}  # a dict's front gets slow
        """Until when each caller's calls are accounted for, by scope and caller, who called last is last."""

    def admit(self, tool: str, caller: str = "") -> None:
        """Count a call.

        Args:
            tool: Its name, as this program has it.
            caller: Who calls; each has a count of its own.

        Raises:
            RateLimited: It is one too many, and is not counted; `retry_after_s` says when it fits.
        """
        now = self._clock()
        scopes = {scope: self._until(caller, scope, now) for scope in ("", tool) if scope in self._rates}
        wait = max((self._wait(scope, until - now) for scope, until in scopes.items()), default=0.0)
        for scope, until in scopes.items():
            cost = self._rates[scope].interval if wait <= 0 else 0.0
            self._remember(caller, scope, until + cost, now)
        if wait > 0:
            raise _too_many(tool, wait)

    def _until(self, caller: str, scope: str, now: float) -> float:
        return max(self._paid[scope].pop(caller, now), now)

    def _wait(self, scope: str, owed: float) -> float:
        return owed - self._rates[scope].interval * (self._burst - 1)

    def _remember(self, caller: str, scope: str, until: float, now: float) -> None:
        """Remember a call, also one that is refused, so that its caller is not forgotten.

        Two at most are looked at for each that comes, so that it takes the same time however many there are.
        """
        paid = self._paid[scope]
        paid[caller] = until
        for oldest in list(islice(paid, 2)):
            if paid[oldest] <= now or len(paid) > _MOST_REMEMBERED:
                del paid[oldest]


def _too_many(tool: str, wait: float) -> RateLimited:
    seconds = math.ceil(wait * 1000) / 1000  # rounded up, so that waiting it out is enough
    return RateLimited(
        f"too many calls of {tool}",
        f"Try again in {seconds:g} s; the operator's OLLAMA_MCP_RATE sets how many there may be.",
        retry_after_s=seconds,
    )
