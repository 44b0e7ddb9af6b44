"""What goes on: the server, its loaded models, our queue and the last speeds, told at once.

Whoever asks wants to know why nothing happens, so that nothing may hold the answer up: the server is
asked in the background, and what it said last is told with its age where it does not answer now.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import fmean

import anyio

from ollama_mcp.client.failures import timed_out
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.jobs.model_queue import TRANSFERS, QueueStatistics
from ollama_mcp.jobs.per_loop import Background
from ollama_mcp.jobs.store import JobStore
from ollama_mcp.ollama.api_models import RunningModel
from ollama_mcp.ollama.endpoints import VERSION
from ollama_mcp.services.backend import OllamaBackend

PATIENCE_S = 0.15
"""Seconds to wait for the server before what it said last is told."""
LATE = f"no answer within {PATIENCE_S:g} s"
_CLOCK_S = 5.0
_FRESH_S = 1.0
"""Seconds for which a probe takes the last answer: it may be asked by anybody, as often as they like."""


@dataclass(frozen=True)
class Seen:
    """What the server said; `loaded` is None where it does not say."""

    version: str
    loaded: list[RunningModel] | None


@dataclass(frozen=True)
class Status:
    """What goes on.

    Attributes:
        seen: What the server said last; None before its first answer.
        age_s: Seconds since then.
        trouble: Why it does not answer now; "" if it does.
        lines: Calls that run and wait, by model, in this process.
        transfers: Pulls, pushes and creations that run and wait; None before the first.
        running: The caller's Jobs that go on and have a handle.
        in_flight: All Jobs that go on, in this process.
        speeds: Tokens a second of the last answers, by model.
    """

    seen: Seen | None
    age_s: float
    trouble: str
    lines: tuple[QueueStatistics, ...] = ()
    transfers: QueueStatistics | None = None
    running: list[Job[object]] = field(default_factory=list[Job[object]])
    in_flight: int = 0
    speeds: dict[str, float] = field(default_factory=dict[str, float])


class StatusProbe:
    """Tells the Status of one App."""

    def __init__(self, backend: OllamaBackend, jobs: JobStore) -> None:
        self._client = backend.client
        self._snapshot = backend.catalog.snapshot
        self._model_queue = backend.model_queue
        self._jobs = jobs
        self._look: Background[None] = Background(self._ask, jobs.spawn)

    async def status(self, caller: str = "") -> Status:
        """What goes on now, as far as it can be said within `PATIENCE_S`."""
        trouble = _trouble(await self._look.run(PATIENCE_S))
        version, lines = self._snapshot.version, self._model_queue.statistics()
        seen = None if version.known is None else Seen(version.known, self._snapshot.loaded.known)
        return Status(
            seen=seen,
            age_s=version.age_s if seen else 0.0,
            trouble=trouble,
            lines=tuple(line for line in lines if line.model != TRANSFERS),
            transfers=next((line for line in lines if line.model == TRANSFERS), None),
            running=self._jobs.running(caller),
            in_flight=self._jobs.in_flight,
            speeds=self._speeds(),
        )

    async def is_up(self) -> bool:
        """Whether the server answers, or did so a moment ago; the caller says how long to wait."""
        if self._snapshot.version.age_s < _FRESH_S:
            return True
        return not _trouble(await self._look.run(None))

    async def _ask(self) -> None:
        """Not tried again where it fails: the reason is told at once, and the next status looks anew."""
        with anyio.move_on_after(_CLOCK_S):
            loaded = await self._snapshot.loaded.now(once=True)
            version = await self._snapshot.version.now(once=True)
            if loaded is None and not version:  # neither: it is no Ollama at all
                await self._client.call(VERSION)
            return
        raise timed_out("idle", self._client.address)

    def _speeds(self) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for speed in self._jobs.recent:
            found.setdefault(speed.model, []).append(speed.tokens_per_s)
        return {model: round(fmean(speeds), 1) for model, speeds in found.items()}


def _trouble(probe: asyncio.Task[None]) -> str:
    """Why there is no answer; "" where there is one."""
    if not probe.done():
        return LATE
    if probe.cancelled():
        return "the connections were closed"
    error = probe.exception()
    if error is None:
        return ""
    if not isinstance(error, OllamaError):
        raise error
    return f"{error.code}: {error.cause}"
