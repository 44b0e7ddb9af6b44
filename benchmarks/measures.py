"""What is measured: one function a group of figures, all servers in turn, so that they share the weather."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from child import Child, running, time_to_initialize

from ollama_mcp.testing import FakeOllama, Script

TOKENS = 20
BACKEND_S = 0.05
IN_FLIGHT = 32
BATCH = 2 * IN_FLIGHT
RATE = 200.0
DIRECT = [sys.executable, str(Path(__file__).with_name("direct.py"))]


@dataclass(frozen=True)
class Contestant:
    """A server to measure: its name, its command, its settings, and what its ollama_chat takes."""

    name: str
    command: list[str]
    arguments: dict[str, Any]
    asks_ollama: bool = True
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Effort:
    """How much is done for the figures."""

    starts: int
    lone_calls: int
    batches: int
    stream_s: float


FULL = Effort(starts=20, lone_calls=500, batches=20, stream_s=10.0)
QUICK = Effort(starts=1, lone_calls=5, batches=1, stream_s=0.5)

Figures = dict[str, dict[str, float]]
"""Figures by their names, each by the server's name."""


def answer(fake: FakeOllama, tokens: int, *, delay_first: float = 0.0, delay: float = 0.0) -> None:
    """Answer every chat with so many tokens from now on."""
    script = Script(tokens=["words "] * tokens, delay_first=delay_first, delay=delay)
    fake.script(script, path="/api/chat")


@asynccontextmanager
async def all_running(servers: Sequence[Contestant], fake: FakeOllama) -> AsyncGenerator[dict[str, Child]]:
    """The servers, each with a session and a first call behind it."""
    answer(fake, TOKENS)
    async with AsyncExitStack() as stack:
        children = {
            server.name: await stack.enter_async_context(running(server.command, fake.url, server.settings))
            for server in servers
        }
        for server in servers:
            await children[server.name].request("tools/list")
            await children[server.name].chat(server.arguments)
        yield children


async def start(servers: Sequence[Contestant], fake: FakeOllama, effort: Effort) -> Figures:
    """Time from starting the process to its answer to `initialize`; memory after a first call."""
    times: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(effort.starts):
        for server in servers:
            times[server.name].append(await time_to_initialize(server.command, fake.url))
    async with all_running(servers, fake) as children:
        return {
            "start to initialize, ms": {name: _p50_ms(found) for name, found in times.items()},
            "idle memory, MB": {name: child.rss_mb for name, child in children.items()},
        }


async def lone(servers: Sequence[Contestant], fake: FakeOllama, effort: Effort) -> Figures:
    """The median time that a call takes longer than the same request made directly with httpx.

    Of a backend that answers at once: what a real one takes would only blur the difference.
    """
    async with all_running(servers, fake) as children, running(DIRECT, fake.url) as direct:
        base = await _lone_calls(servers, children, direct, effort, progress=False)
        with_token = await _lone_calls(servers, children, direct, effort, progress=True)
    return {"added to a call, ms": base, "added to a call with a progressToken, ms": with_token}


async def _lone_calls(
    servers: Sequence[Contestant],
    children: dict[str, Child],
    direct: Child,
    effort: Effort,
    *,
    progress: bool,
) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ("direct", *children)}
    for _ in range(effort.lone_calls):
        times["direct"].append(await _timed(direct, {}, progress=False))
        for server in servers:
            times[server.name].append(
                await _timed(children[server.name], server.arguments, progress=progress)
            )
    return {name: _p50_ms(times[name]) - _p50_ms(times["direct"]) for name in children}


async def _timed(child: Child, arguments: dict[str, Any], *, progress: bool) -> float:
    begun = time.perf_counter()
    await child.chat(arguments, progress=progress)
    return time.perf_counter() - begun


def _p50_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e3


async def busy(servers: Sequence[Contestant], fake: FakeOllama, effort: Effort) -> Figures:
    """Calls a second with 32 in flight, what each costs, and how many connections they took."""
    calls = effort.batches * BATCH
    async with all_running(servers, fake) as children:
        answer(fake, TOKENS, delay_first=BACKEND_S)
        connections = {
            server.name: await _connections(fake, children[server.name], server) for server in servers
        }
        before = {name: child.cpu_s for name, child in children.items()}
        took = dict.fromkeys(children, 0.0)
        for _ in range(effort.batches):
            for server in servers:
                took[server.name] += await _batch(children[server.name], server)
        return {
            "calls a second, 32 in flight": {name: calls / seconds for name, seconds in took.items()},
            "CPU a call, 32 in flight, ms": {
                name: (child.cpu_s - before[name]) / calls * 1e3 for name, child in children.items()
            },
            "connections for 32 in flight": connections,
        }


async def _connections(fake: FakeOllama, child: Child, server: Contestant) -> float:
    """Those that it opens for a batch, and the one that it had."""
    before = fake.connections
    await _batch(child, server)
    return fake.connections - before + 1


async def _batch(child: Child, server: Contestant) -> float:
    begun = time.perf_counter()

    async def worker() -> None:
        for _ in range(BATCH // IN_FLIGHT):
            await child.chat(server.arguments)

    await asyncio.gather(*[worker() for _ in range(IN_FLIGHT)])
    return time.perf_counter() - begun


async def stream(servers: Sequence[Contestant], fake: FakeOllama, effort: Effort) -> Figures:
    """What a call of 200 tokens a second costs, in percent of a core, without and with a progressToken."""
    async with all_running(servers, fake) as children:
        answer(fake, round(RATE * effort.stream_s), delay=1 / RATE)
        without = await _streaming(servers, children, progress=False)
        with_token = await _streaming(servers, children, progress=True)
    return {
        "a call of 200 tokens/s, % of a core": without,
        "progress for it, % of a core": {name: with_token[name] - without[name] for name in children},
    }


async def _streaming(
    servers: Sequence[Contestant], children: dict[str, Child], *, progress: bool
) -> dict[str, float]:
    """Two calls at once on every server."""
    before = {name: child.cpu_s for name, child in children.items()}
    begun = time.perf_counter()
    await asyncio.gather(
        *[children[server.name].chat(server.arguments, progress=progress) for server in [*servers, *servers]]
    )
    took = time.perf_counter() - begun
    return {name: (child.cpu_s - before[name]) / 2 / took * 100 for name, child in children.items()}


MEASURES = (start, lone, busy, stream)
