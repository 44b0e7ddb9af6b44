"""Statistics of tool calls, counted for as long as the process lives: how they ended, how long they took."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

OK = "OK"
"""The code of a call that did not fail."""


@dataclass
class Outcome:
    """Outcome of one call; written while the call is counted."""

    code: str = OK


@dataclass
class CallStats:
    """The counts.

    Attributes:
        ended: Calls by tool and code.
        seconds: What they took together, by tool.
        running: Calls that go on.
    """

    ended: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    running: int = 0

    @contextmanager
    def counting(self, tool: str) -> Generator[Outcome]:
        """Count a call; one that is cancelled has the code CANCELLED."""
        outcome, begun = Outcome("CANCELLED"), time.monotonic()
        self.running += 1
        try:
            yield outcome
        finally:
            self.running -= 1
            self.ended[tool, outcome.code] += 1
            self.seconds[tool] += time.monotonic() - begun
