"""Progress of a pull, a push or a create: the lines of Ollama's stream, summed up over all layers.

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
"""Seconds between two counts that a Job shows: a pull has seventeen lines a second."""
_RECENT_S = 10.0
"""Seconds over which the speed is averaged."""
_MOST_LAYERS = 10_000
_LONGEST_LEFT_S = 99 * 3600
"""A longer time left is not shown."""
_DIGEST = re.compile(r"(?:sha256:)?\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass
class _Layer:
    """Bytes of one layer: all, and those that are there."""

    total: int
    completed: int


class Layers:
    """The bytes of all layers of a model.

        layers = Layers()
        layers.feed(ProgressLine(status="pulling 9f86…", digest="sha256:9f86…", total=10, completed=4))
        layers.count, layers.total  # (4, 10)

    Attributes:
        total: Bytes of the layers that were named so far.
        count: Bytes of them that are there.
        moved: Bytes that came since: without those that were there when a layer was first named.
        missing: Bytes of the layers that were not there as a whole when they were first named.
    """

    def __init__(self) -> None:
        self.total: int = 0
        self.count: int = 0
        self.moved: int = 0
        self.missing: int = 0
        self._layers: dict[str, _Layer] = {}

    def feed(self, line: ProgressLine) -> None:
        """Add a line; one without a total has no count of bytes."""
        if line.total <= 0:
            return
        key = line.digest or line.status
        layer = self._layers.get(key)
        if layer is None:
            if len(self._layers) >= _MOST_LAYERS:
                return
            there = max(min(line.completed, line.total), 0)
            layer = self._layers[key] = _Layer(line.total, there)
            self.total += line.total
            self.count += there
            self.missing += line.total if there < line.total else 0
        grown = max(line.total - layer.total, 0)
        layer.total += grown
        self.total += grown
        self.missing += grown
        moved = max(min(line.completed, layer.total) - layer.completed, 0)
        layer.completed += moved
        self.count += moved
        self.moved += moved

    def finish(self) -> None:
        """Count all layers as there: Ollama has said success, after counts that were not the last ones."""
        self.count = self.total


class TransferProgress:
    """Shows the lines of a stream in a Job.

        progress = TransferProgress(job)
        async for line in lines:
            progress.take(line)
        progress.finish()

    Attributes:
        layers: The bytes.
        status: Ollama's last status, shortened.

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
        """Take a line; the Job shows it now or, at most a quarter of a second later, with a next one."""
        now = self._now()
        self.layers.feed(line)
        self._moves_bytes = line.total > 0
        # Digests as Ollama's own command shortens them.
        status = scrub(_DIGEST.sub(r"\1", line.status))[:60]
        if status != self.status:
            self.status, self._since = status, now
        is_first = self.layers.total and self._job.total is None
        if is_first or now - self._shown_at >= SPACING_S:
            self._show(now)

    def finish(self) -> None:
        """Show all bytes, as the work has succeeded."""
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
        """Return the parts of the status line."""
        layers = self.layers
        amount: list[str] = []
        if layers.total:
            amount = [format_part(layers.count, layers.total), f"{100 * layers.count // layers.total} %"]
        if self._moves_bytes:
            speed = 0.0
            if self._recent:
                began, moved = self._recent[0]
                elapsed = self._now() - began
                speed = (layers.moved - moved) / elapsed if elapsed >= SPACING_S else 0.0
            if speed >= 1:  # bytes a second: below, nothing can be said of the time that is left
                amount.append(f"{format_bytes(speed)}/s")
                left = (layers.total - layers.count) / speed
                if 1 <= left < _LONGEST_LEFT_S:
                    amount.append(f"{format_duration(left)} left")
            return [*amount, self.status]
        waited = int(self._now() - self._since)
        doing = self.status or f"waiting for {self._job.model or 'Ollama'}"
        return [*amount, doing + (f", {waited} s" if waited else "")]
