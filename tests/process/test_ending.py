"""How it ends: at once, in order, and with Ollama's socket closed."""

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_mcp.testing import Script

HOG = Path(__file__).parent / "hog"
"""A folder whose sitecustomize blocks the event loop at SIGUSR1."""


def idle(serve: Any, _: Any) -> Any:
    return serve()


def in_flight(serve: Any, fake: Any, tokens: int = 3, **arguments: Any) -> Any:
    fake.script(Script(tokens=["a "] * 10, hold_after_tokens=tokens))
    child = serve()
    for call_id in range(3):
        child.call(call_id, progress=True, **arguments)
    fake.wait_for_sync(lambda fake: len(fake.asked("/api/chat")) == 3, timeout=30)
    return child


def before_the_first_token(serve: Any, fake: Any) -> Any:
    return in_flight(serve, fake, tokens=0)


def outlived(serve: Any, fake: Any) -> Any:
    child = in_flight(serve, fake, wait_s=0.5)
    assert all(child.text_of(call_id).startswith("STILL RUNNING") for call_id in range(3))
    return child


def nobody_reads(serve: Any, fake: Any) -> Any:
    fake.script(Script(tokens=["a "] * 10, hold_after_tokens=3))
    child = serve()
    child.out.stop_reading()
    for call_id in range(100):  # a megabyte of answers, and the pipe holds 64 KiB
        child.request(f"list {call_id}", "tools/list")
    child.call(1, progress=True)
    fake.wait_for_sync(lambda fake: fake.asked("/api/chat"), timeout=30)
    return child


def blocked_loop(serve: Any, fake: Any) -> Any:
    fake.script(Script(tokens=["a "] * 10, hold_after_tokens=3))
    child = serve(PYTHONPATH=str(HOG))
    child.call(1)
    fake.wait_for_sync(lambda fake: fake.asked("/api/chat"), timeout=30)
    child.process.send_signal(signal.SIGUSR1)
    child.err.wait_for(lambda line: line == "blocked\n")
    return child


def transfer(serve: Any, fake: Any) -> Any:
    fake.script(Script(hold_after_tokens=0), path="/api/pull")
    child = serve(OLLAMA_MCP_TOOLSETS="manage")
    child.call(1, "ollama_pull_model", progress=True, prompt=None, model="new", confirm="new")
    fake.wait_for_sync(lambda fake: fake.in_flight == 1 and fake.asked("/api/pull"), timeout=30)
    return child


def warming_up(serve: Any, fake: Any) -> Any:
    fake.script(Script(hold_after_tokens=0), path="/api/generate")
    child = serve(OLLAMA_MCP_WARM="llama3.2:3b")
    fake.wait_for_sync(lambda fake: fake.in_flight == 1 and fake.asked("/api/generate"), timeout=30)
    return child


SITUATIONS: list[Callable[[Any, Any], Any]] = [
    idle, before_the_first_token, in_flight, outlived, nobody_reads, blocked_loop, transfer, warming_up
]  # fmt: skip


def end(child: Any, how: str) -> tuple[int, float]:
    """End it; returns the status and the seconds that it took."""
    begin = time.monotonic()
    if how == "EOF":
        child.close_stdin()
    else:
        child.process.send_signal(signal.Signals[how])
    status = child.wait()
    return status, time.monotonic() - begin


_OF_THE_GATE = {(in_flight, "EOF", "2026-07-28"), (in_flight, "SIGTERM", "2025-11-25")}


@pytest.mark.parametrize(
    ("situation", "how", "version"),
    [
        pytest.param(*case, marks=[pytest.mark.gate] if case in _OF_THE_GATE else [])
        for case in itertools.product(SITUATIONS, ("EOF", "SIGTERM", "SIGINT"), ("2025-11-25", "2026-07-28"))
    ],
)
def test_it_is_gone_within_a_second_and_ollamas_socket_is_closed(
    serve: Any, fake: Any, figure: Any, situation: Callable[[Any, Any], Any], how: str, version: str
):
    child = situation(lambda **environment: serve(version, **environment), fake)
    working = fake.in_flight
    status, took = end(child, how)
    assert status == 0
    assert took < figure(1)
    fake.wait_for_sync(lambda fake: fake.disconnects == working and not fake.open_connections)
    assert not [line for line in child.err.rest() if "Traceback" in line.message]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_the_second_signal_ends_it_at_once(serve: Any, fake: Any, version: str, how: str):
    child = blocked_loop(lambda **environment: serve(version, **environment), fake)
    child.process.send_signal(signal.SIGTERM)
    child.err.wait_for(lambda line: line == "asked to end\n")
    child.process.send_signal(signal.Signals[how])
    assert child.wait() == -signal.Signals[how]
    fake.wait_for_sync(lambda fake: fake.disconnects == 1 and not fake.open_connections)


def test_requests_before_the_end_of_stdin_are_answered(start: Any):
    child = start()
    child.version = "2025-06-18"
    info = {"name": "printf", "version": "1"}
    child.request("a", "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=info)
    child.send({"method": "notifications/initialized"})
    child.request("b", "tools/list")
    assert child.finish() == 0
    assert [line.message["id"] for line in child.out.rest()] == ["a", "b"]
