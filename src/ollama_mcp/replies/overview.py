"""What goes on: the server, its loaded models, our queue and the last speeds, told at once.

Whoever asks wants to know why nothing happens, so that nothing may hold the answer up: the server is
asked in the background, and what it said last is told with its age where it does not answer now.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TypeVar

import anyio

from ollama_mcp.bodies import Response
from ollama_mcp.client import OllamaClient
from ollama_mcp.client.failures import clock_ran_out, is_missing
from ollama_mcp.endpoints import PS, VERSION, Call
from ollama_mcp.errors import NotOllama, OllamaError
from ollama_mcp.guards import TRANSFERS, Gate, LineStatistics
from ollama_mcp.loops import Refreshed
from ollama_mcp.replies.registry import Replies
from ollama_mcp.replies.reply import Reply
from ollama_mcp.wire import RunningModel

ResponseT = TypeVar("ResponseT", bound=Response)

PATIENCE_S = 0.15
"""Seconds to wait for the server before what it said last is told."""
LATE = f"no answer within {PATIENCE_S:g} s"
_CLOCK_S = 5.0
_FRESH_S = 1.0
"""Seconds for which a probe takes the last answer: it may be asked by anybody, as often as they like."""
_VERSION, _PS = replace(VERSION, once=True), replace(PS, once=True)
"""Not tried again: the reason is told at once, and the next status looks anew."""


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
        running: The caller's Replies that go on and have a handle.
        in_flight: All Replies that go on, in this process.
        speeds: Tokens a second of the last answers, by model.
    """

    seen: Seen | None
    age_s: float
    trouble: str
    lines: tuple[LineStatistics, ...] = ()
    transfers: LineStatistics | None = None
    running: list[Reply[object]] = field(default_factory=list[Reply[object]])
    in_flight: int = 0
    speeds: dict[str, float] = field(default_factory=dict[str, float])


class Overview:
    """Tells the Status of one App."""

    def __init__(self, client: OllamaClient, gate: Gate, replies: Replies) -> None:
        self._client = client
        self._gate = gate
        self._replies = replies
        self._seen: Refreshed[Seen] = Refreshed(self._look, replies.spawn)

    async def status(self, principal: str = "") -> Status:
        """What goes on now, as far as it can be said within `PATIENCE_S`."""
        trouble = _trouble(await self._seen.refresh(PATIENCE_S))
        seen, lines = self._seen.last, self._gate.statistics()
        return Status(
            seen=seen,
            age_s=self._seen.age_s if seen else 0.0,
            trouble=trouble,
            lines=tuple(line for line in lines if line.model != TRANSFERS),
            transfers=next((line for line in lines if line.model == TRANSFERS), None),
            running=self._replies.running(principal),
            in_flight=self._replies.in_flight,
            speeds=self._speeds(),
        )

    async def is_up(self) -> bool:
        """Whether the server answers, or did so a moment ago; the caller says how long to wait."""
        if self._seen.age_s < _FRESH_S:
            return True
        return not _trouble(await self._seen.refresh(None))

    async def _look(self) -> Seen:
        with anyio.move_on_after(_CLOCK_S):
            version = await self._if_there(_VERSION)
            running = await self._if_there(_PS)
            if version is None and running is None:  # neither: it is no Ollama at all
                await self._client.call(_VERSION)
            return Seen(version.version if version else "", running.models if running else None)
        raise clock_ran_out("idle", self._client.address)

    async def _if_there(self, endpoint: Call[None, ResponseT]) -> ResponseT | None:
        """What a server says at an endpoint; None where it speaks a part of the API without that."""
        try:
            return await self._client.call(endpoint)
        except NotOllama as error:
            if is_missing(error):
                return None
            raise

    def _speeds(self) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for speed in self._replies.recent:
            found.setdefault(speed.model, []).append(speed.tokens_per_s)
        return {model: round(fmean(speeds), 1) for model, speeds in found.items()}


def _trouble(probe: asyncio.Task[Seen]) -> str:
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
