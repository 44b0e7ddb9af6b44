"""A cancelled call: Ollama's socket closes at once, and the client never hears of that call again."""

import gc
import heapq
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ollama_mcp.testing import FakeOllama, Script

COUNT = 200
LANES = 8
"""Calls that are in flight at one time."""
PIPE_S = 0.5
"""What a report that was already written may need to be read on a busy machine."""


class Watched(FakeOllama):
    """Says when the client of each prompt left; the fake's own log has no names."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.asked_at: dict[str, float] = {}
        self.left_at: dict[str, float] = {}

    def _respond(self, request: Any, *, close: bool) -> Iterator[Any]:
        steps = super()._respond(request, close=close)
        if request.path != "/api/chat":
            yield from steps
            return
        prompt = request.json["messages"][-1]["content"]
        self.asked_at[prompt] = time.monotonic()
        try:
            yield from steps
        except GeneratorExit:  # the connection's task gave up, in the step in which the client left
            self.left_at[prompt] = time.monotonic()
            raise


@pytest.fixture
def fake() -> Iterator[Watched]:
    gc.freeze()  # a full collection of what pytest holds would stop the fake's clock
    with Watched.in_thread() as fake:
        fake.script(Script(tokens=["word "] * 500, delay_first=0.1, delay=0.02))
        yield fake
    gc.unfreeze()


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


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_cancelling_at_random_moments_closes_the_socket_and_nothing_follows(
    serve: Any, fake: Watched, version: str
):
    child = serve(version, OLLAMA_MCP_PARALLEL="32")
    child.call("warm", "ollama_list_models", prompt=None)
    child.result_of("warm")
    dice = random.Random(version)
    cancelled = cancel_at_random(child, [dice.uniform(0, 0.3) for _ in range(COUNT)])
    fake.wait_for_sync(lambda fake: not fake.in_flight)
    child.call("after", "ollama_list_models", prompt=None)
    child.result_of("after")

    took = sorted(fake.left_at[prompt] - cancelled[int(prompt)] for prompt in fake.asked_at)
    early = sum(fake.left_at[p] - fake.asked_at[p] < 0.1 for p in fake.asked_at)
    print(
        f"\n{version}: {COUNT} cancelled, {COUNT - len(took)} before Ollama was asked, {early} before the "
        f"first token; upstream closed after p50 {took[len(took) // 2] * 1000:.1f} ms, "
        f"p99 {took[int(len(took) * 0.99)] * 1000:.1f} ms, at most {took[-1] * 1000:.1f} ms"
    )
    assert len(took) > COUNT * 0.8
    assert 20 < early < len(took) - 20
    # The percentiles are for people to read on a quiet machine (pytest -s). What must hold on a busy one:
    # a call that went on would take ten seconds.
    assert took[len(took) // 2] <= 0.05
    assert took[-1] <= 1

    assert child.finish() == 0
    for line in child.out.rest():
        assert line.message.get("id") not in cancelled, "a cancelled call was answered"
        token = line.message.get("params", {}).get("progressToken")
        if token in cancelled:
            over = fake.left_at.get(str(token), cancelled[token])
            assert line.at <= over + PIPE_S, "a report came after the end"
    assert not child.err.rest()
