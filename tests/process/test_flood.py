"""Many more calls at once than may run: each is run or BUSY, and a status behind them is answered."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_mcp.testing import FakeOllama, Script

CALLS = 2_000
RUNNING, WAITING = 4, 64
PATIENCE = 40
"""Seconds for all of them, on a busy machine; `benchmarks/flood.py` has the figures of a quiet one."""


def memory_mib(child: Any, name: str) -> float:
    lines = Path(f"/proc/{child.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def call(call_id: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def crowd(count: int, model: str = "llama3.2:3b") -> list[dict[str, Any]]:
    return [call(number, "ollama_chat", prompt="x", model=model, wait_s=0) for number in range(count)]


def outcome(message: dict[str, Any]) -> str:
    result = message["result"]
    return result["content"][0]["text"].split(":")[0] if result.get("isError") else "run"


def answers(child: Any) -> list[Any]:
    """What came for the crowd, in the order in which it came."""
    return [line for line in tuple(child.out.seen) if isinstance(line.message.get("id"), int)]


def hanging(fake: FakeOllama) -> None:
    fake.script(Script(hold_after_tokens=0), path="/api/version")
    fake.script(Script(hold_after_tokens=0), path="/api/ps")
    fake.script(Script(hold_after_tokens=0), path="/api/chat")


def writing(fake: FakeOllama) -> None:
    fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path="/api/chat")


@pytest.mark.parametrize("backend", [writing, hanging])
def test_each_call_of_a_crowd_is_run_or_busy_and_a_status_behind_it_is_answered(
    serve: Any, fake: FakeOllama, backend: Callable[[FakeOllama], None]
):
    child = serve()
    child.call("warm")
    child.result_of("warm")
    backend(fake)
    before = memory_mib(child, "VmRSS:")
    child.send(*crowd(CALLS))
    child.send(call("status", "ollama_status"))
    child.out.wait_for(lambda _: len(answers(child)) >= CALLS - RUNNING - WAITING, PATIENCE)
    fake.release()
    child.out.wait_for(lambda _: len(answers(child)) == CALLS, PATIENCE)

    assert not child.answer_to("status").message["result"].get("isError")
    more = memory_mib(child, "VmHWM:") - before
    ends = Counter(outcome(line.message) for line in answers(child))
    print(f"\n{CALLS} calls: {dict(ends)}; +{more:.0f} MiB")
    assert {line.message["id"] for line in answers(child)} == set(range(CALLS))
    assert ends == {"run": RUNNING + WAITING, "BUSY": CALLS - RUNNING - WAITING}
    assert fake.max_in_flight <= RUNNING + 1, "more than may run were sent to Ollama; one may be a status"
    assert more < 150
    assert child.finish() == 0
    assert not child.err.rest()


def test_a_cancel_within_a_crowd_is_heard_and_no_call_is_lost(serve: Any, fake: FakeOllama):
    child = serve()
    child.call("warm")
    child.result_of("warm")
    writing(fake)
    cancelled = {0, 1, RUNNING + 5}
    child.send(*crowd(500))
    for number in cancelled:
        child.cancel(number)
    wanted = 500 - RUNNING - WAITING
    child.out.wait_for(lambda _: len(answers(child)) >= wanted, PATIENCE)
    fake.wait_for_sync(lambda fake: fake.disconnects == 2)
    fake.release()
    child.out.wait_for(lambda _: len(answers(child)) == 500 - len(cancelled), PATIENCE)
    time_of_end = time.monotonic()
    assert child.finish() == 0
    assert time.monotonic() - time_of_end < 1
    ids = [line.message["id"] for line in child.out.rest() if isinstance(line.message.get("id"), int)]
    assert sorted(ids) == sorted(set(range(500)) - cancelled)
