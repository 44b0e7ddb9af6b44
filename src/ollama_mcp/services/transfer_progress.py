"""How far a pull, a push or a create is: the lines of Ollama's stream, summed up over all layers.

Ollama counts one layer after the other, from wherever it stands; `completed` can go down, and a layer
that was not named yet makes the whole larger. Here the count only grows and is never above the total.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ollama_mcp.client.error_answers import scrub
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.ollama.api_models import ProgressLine
from ollama_mcp.services.units import format_bytes, format_duration, format_part

SPACING_S = 0.25
"""Between two counts that a Job shows: a pull has seventeen lines a second."""
_RECENT_S = 10.0
"""What the speed is the average of."""
_MOST_LAYERS = 10_000
_LONGEST_LEFT_S = 99 * 3600
_DIGEST = re.compile(r"(?:sha256:)?\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass
class _Layer:
    total: int
    completed: int
    first: int


class Layers:
    """The bytes of all layers.

    Attributes:
        total: Bytes of the layers that were named so far.
        count: Bytes of them that are there.
        moved: Bytes that came while we watched: without what was there when a layer was first named.
        missing: Bytes of the layers that were not there as a whole when they were first named.
    """

    def __init__(self) -> None:
        self.total: int = 0
        self.count: int = 0
        self.moved: int = 0
        self.missing: int = 0
        self._layers: dict[str, _Layer] = {}

    def feed(self, line: ProgressLine) -> None:
        """Add what a line says; one without a total says nothing about bytes."""
        if line.total <= 0:
            return
        layer = self._layer(line)
        if layer is None:
            return
        grown = max(line.total - layer.total, 0)
        layer.total += grown
        self.total += grown
        self.missing += grown
        news = max(min(line.completed, layer.total) - layer.completed, 0)
        layer.completed += news
        self.count += news
        self.moved += news

    def _layer(self, line: ProgressLine) -> _Layer | None:
        key = line.digest or line.status
        layer = self._layers.get(key)
        if layer is None and len(self._layers) < _MOST_LAYERS:
            there = max(min(line.completed, line.total), 0)
            layer = self._layers[key] = _Layer(line.total, there, there)
            self.total += line.total
            self.count += there
            self.missing += line.total if there < line.total else 0
        return layer

    def finish(self) -> None:
        """Ollama has said that it has succeeded: its last counts of the layers were not the last ones."""
        self.count = self.total


class TransferProgress:
    """Keeps a Job up to date with the lines of a stream.

    Args:
        job: Counts bytes; its status line becomes `1.2 of 4.7 GB · 26 % · 54 MB/s · 65 s left · pulling …`.
        now: A clock in seconds.
    """

    def __init__(self, job: Job[Any], now: Callable[[], float] = time.monotonic) -> None:
        self.layers: Layers = Layers()
        self.status: str = ""
        self._job = job
        self._now = now
        self._since = now()
        self._shown_at = 0.0
        self._moves_bytes = False
        self._recent: deque[tuple[float, int]] = deque()
        job.unit = "bytes"
        job.tell = self.describe

    def take(self, line: ProgressLine) -> None:
        """Take a line in; the Job shows it now or, at most a quarter of a second later, with a next one."""
        now = self._now()
        self.layers.feed(line)
        self._moves_bytes = line.total > 0
        status = _status(line.status)
        if status != self.status:
            self.status, self._since = status, now
        is_first = self.layers.total and self._job.total is None
        if is_first or now - self._shown_at >= SPACING_S:
            self._show(now)

    def finish(self) -> None:
        """The work has succeeded."""
        self.layers.finish()
        self._show(self._now())

    def _show(self, now: float) -> None:
        job, layers = self._job, self.layers
        self._shown_at = now
        if layers.total:  # before the first layer nothing can move
            self._recent.append((now, layers.moved))
            while self._recent[0][0] < now - _RECENT_S:
                self._recent.popleft()
        job.state, job.total = JobState.WORKING, layers.total or None
        if layers.count > job.count:  # not without news: the first unit begins the Job
            job.advance(JobState.WORKING, layers.count - job.count)

    def describe(self) -> list[str]:
        """How far it is, in parts of one line."""
        layers = self.layers
        amount: list[str] = []
        if layers.total:
            amount = [format_part(layers.count, layers.total), f"{100 * layers.count // layers.total} %"]
        if self._moves_bytes:
            return [*amount, *self._speed(), self.status]
        waited = int(self._now() - self._since)
        doing = self.status or f"waiting for {self._job.model or 'Ollama'}"
        return [*amount, doing + (f", {waited} s" if waited else "")]

    def _speed(self) -> list[str]:
        """Speed and time left, once there is something to measure."""
        if not self._recent:
            return []
        began, moved = self._recent[0]
        elapsed = self._now() - began
        speed = (self.layers.moved - moved) / elapsed if elapsed >= SPACING_S else 0.0
        if speed < 1:
            return []
        left = (self.layers.total - self.layers.count) / speed
        return [
            f"{format_bytes(speed)}/s",
            *([f"{format_duration(left)} left"] if 1 <= left < _LONGEST_LEFT_S else []),
        ]


def _status(said: str) -> str:
    """A status in a few words, digests as Ollama's own command shortens them.

    >>> _status("using existing layer sha256:" + "941f309b54ca" + "0" * 52)
    'using existing layer 941f309b54ca'
    """
    return scrub(_DIGEST.sub(r"\1", said))[:60]
