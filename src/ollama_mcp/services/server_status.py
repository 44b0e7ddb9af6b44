"""The status: the server, its loaded models, the queue and the last speeds, at once.

A user asks for it to find out why nothing happens, so that nothing may hold it up: the server is asked in
the background, and where it does not answer now, its last answer is returned with its age.
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
from ollama_mcp.services.upstream_pool import UpstreamPool, UpstreamStatus

PATIENCE_S = 0.15
"""Seconds to wait for the server before its last answer is taken."""
LATE = f"no answer within {PATIENCE_S:g} s"
_CLOCK_S = 5.0
"""Seconds for a look in the background."""
_FRESH_S = 1.0
"""Seconds for which a health check takes the last answer: anybody may make one at any rate."""


@dataclass(frozen=True)
class Seen:
    """The last answer of the server: its version, and the loaded models, or None where it has no /api/ps."""

    version: str
    loaded: list[RunningModel] | None


@dataclass(frozen=True)
class Status:
    """The status of the server and of this process.

    Attributes:
        seen: The last answer of the server; None before the first.
        age_s: Its age in seconds.
        trouble: The reason why the server does not answer now; "" if it does.
        lines: Calls that run and wait, by model, in this process.
        transfers: Pulls, pushes and creations that run and wait; None before the first.
        running: The caller's Jobs that go on and have a handle.
        in_flight: The number of all Jobs that go on, in this process.
        speeds: Tokens a second of the last answers, by model.
        upstreams: State of each upstream.
        warnings: Settings that are unknown, and so without effect.
    """

    seen: Seen | None
    age_s: float
    trouble: str
    lines: tuple[QueueStatistics, ...] = ()
    transfers: QueueStatistics | None = None
    running: list[Job[object]] = field(default_factory=list[Job[object]])
    in_flight: int = 0
    speeds: dict[str, float] = field(default_factory=dict[str, float])
    upstreams: list[UpstreamStatus] = field(default_factory=list[UpstreamStatus])
    warnings: tuple[str, ...] = ()


class StatusProbe:
    """Finds out the Status of one App.

    status = await StatusProbe(backend, jobs, upstreams).status()
    status.trouble or status.seen.version
    """

    def __init__(self, backend: OllamaBackend, jobs: JobStore, upstreams: UpstreamPool) -> None:
        self._client = backend.client
        self._warnings = backend.settings.unknown
        self._snapshot = backend.catalog.snapshot
        self._model_queue = backend.model_queue
        self._jobs = jobs
        self._upstreams = upstreams
        self._look: Background[None] = Background(self._ask, jobs.spawn)

    async def status(self, caller: str = "") -> Status:
        """Return the status, as far as it is known within `PATIENCE_S`."""
        trouble = _trouble(await self._look.run(PATIENCE_S))
        speeds: dict[str, list[float]] = {}
        for speed in self._jobs.recent:
            speeds.setdefault(speed.model, []).append(speed.tokens_per_s)
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
            speeds={model: round(fmean(each), 1) for model, each in speeds.items()},
            upstreams=self._upstreams.statuses(),
            warnings=self._warnings,
        )

    async def is_up(self) -> bool:
        """Return whether the server answers, or did so a second ago; waits until the caller cancels it."""
        if self._snapshot.version.age_s < _FRESH_S:
            return True
        return not _trouble(await self._look.run(None))

    async def _ask(self) -> None:
        """Ask the server once: a failure is told at once, and the next status asks again."""
        with anyio.move_on_after(_CLOCK_S):
            loaded = await self._snapshot.loaded.now(once=True)
            version = await self._snapshot.version.now(once=True)
            if loaded is None and not version:  # neither: it is no Ollama at all
                await self._client.call(VERSION)
            return
        raise timed_out("idle", self._client.address)


def _trouble(probe: asyncio.Task[None]) -> str:
    """Return why there is no answer; "" where there is one."""
    if not probe.done():
        return LATE
    if probe.cancelled():
        return "the connections were closed"
    error = probe.exception()
    if error is None:
        return ""
    if not isinstance(error, OllamaError):
        raise error
    return f"{error.code}: {error.cause}. {error.remedy}".rstrip(". ")
