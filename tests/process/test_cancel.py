"""A cancelled call: Ollama's socket closes at once, and the client never hears of that call again."""

import heapq
import os
import random
import time
from typing import Any, NamedTuple

import pytest

from ollama_mcp.testing import Script

COUNT, IN_GATE = 500, 60
LANES = 8
"""Calls that are in flight at one time."""
PIPE_S = 0.5
"""What a report that was already written may need to be read on a busy machine."""


@pytest.fixture
def fake(watched: Any) -> Any:
    watched.script(Script(tokens=["warm"]), Script(tokens=["word "] * 500, delay_first=0.1, delay=0.02))
    return watched


class Held(NamedTuple):
    """What a process holds, apart from its connections to Ollama."""

    descriptors: int
    threads: int
    running: int
    waiting: int
    jobs: int


def held(child: Any, fake: Any, call_id: str) -> Held:
    child.call(call_id, "ollama_status", prompt=None)
    status = child.result_of(call_id)["structuredContent"]
    folder = f"/proc/{child.process.pid}"
    descriptors, connections = len(os.listdir(f"{folder}/fd")), fake.open_connections
    line = [sum(entry[name] for entry in status["queue"]) for name in ("running", "waiting")]
    return Held(descriptors - connections, len(os.listdir(f"{folder}/task")), *line, len(status["running"]))


def cancel_at_random(child: Any, moments: list[float]) -> dict[int, float]:
    """Call once for each moment, a few at a time, and cancel it so many seconds later; returns when."""
    waiting = list(enumerate(moments))
    pending: list[tuple[float, int]] = []
    cancelled: dict[int, float] = {}
    while waiting or pending:
        while waiting and len(pending) < LANES:
            call_id, moment = waiting.pop()
            heapq.heappush(
                pending, (child.call(call_id, prompt=str(call_id), progress=True) + moment, call_id)
            )
        due, call_id = heapq.heappop(pending)
        time.sleep(max(due - time.monotonic(), 0))  # the moment itself, not a wait for something
        cancelled[call_id] = child.cancel(call_id)
    return cancelled


@pytest.mark.gate
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_cancelling_at_random_moments_closes_the_socket_and_nothing_follows(
    serve: Any, fake: Any, thorough: bool, figure: Any, version: str
):
    count = COUNT if thorough else IN_GATE
    child = serve(version, OLLAMA_MCP_PARALLEL="32")
    child.call("warm")
    child.result_of("warm")
    before = held(child, fake, "before")
    dice = random.Random(version)
    cancelled = cancel_at_random(child, [dice.uniform(0, 0.3) for _ in range(count)])
    fake.wait_for_sync(lambda fake: not fake.in_flight, timeout=30)
    assert held(child, fake, "after") == before == Held(before.descriptors, before.threads, 0, 0, 0)
    del fake.asked_at["x"]  # of the first call

    took = sorted(fake.left_at[prompt] - cancelled[int(prompt)] for prompt in fake.asked_at)
    early = sum(fake.left_at[p] - fake.asked_at[p] < 0.1 for p in fake.asked_at)
    print(
        f"\n{version}: {count} cancelled, {count - len(took)} before Ollama was asked, {early} before the "
        f"first token; upstream closed after p50 {took[len(took) // 2] * 1000:.1f} ms, "
        f"p99 {took[int(len(took) * 0.99)] * 1000:.1f} ms, at most {took[-1] * 1000:.1f} ms"
    )
    assert len(took) > count * 0.8
    assert count / 25 < early < len(took) - count / 25
    assert took[int(len(took) * 0.99)] <= figure(0.05)
    assert took[-1] <= 5  # a call that went on would take ten seconds

    assert child.finish() == 0
    for line in child.out.rest():
        assert line.message.get("id") not in cancelled, "a cancelled call was answered"
        token = line.message.get("params", {}).get("progressToken")
        if token in cancelled:
            over = fake.left_at.get(str(token), cancelled[token])
            assert line.at <= over + PIPE_S, "a report came after the end"
    assert not child.err.rest()
