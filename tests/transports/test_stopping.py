"""`run_stdio` in a process of its own: how it ends."""

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

Start = Callable[..., Any]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

WAYS = ["EOF", "SIGTERM", "SIGINT"]


def idle(child: Any) -> None:
    child.initialize()


def in_flight(child: Any) -> None:
    child.initialize()
    child.call(1, "slow", name="it")
    child.err.until("it started")


def blocked(child: Any) -> None:
    child.initialize_unread()
    child.call(1, "slow", name="it")
    child.err.until("it started")
    child.call(2, "fill", progress=True)
    child.err.until("stdout blocked")


def before_any_request(child: Any) -> None:
    # The answer shows that it listens to signals; the SDK still waits for its first request.
    child.write(b"nonsense\n")
    assert child.receive()["error"]["code"] == -32700


def ended_in_order(child: Any, how: str) -> None:
    status, seconds = child.stop_by(how)
    errors = b"".join(child.err.rest()).decode()
    assert (status, seconds < 1) == (0, True), (status, seconds, errors)
    assert "on_stop called" in errors
    assert "lifespan left" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("situation", "how"),
    [(before_any_request, "SIGTERM"), (idle, "EOF"), (idle, "SIGTERM"), (idle, "SIGINT")],
)
def test_an_idle_server_ends_in_order(start: Start, situation: Any, how: str):
    child = start()
    situation(child)
    ended_in_order(child, how)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("situation", [in_flight, blocked])
def test_a_busy_server_cancels_its_calls_and_ends_in_order(start: Start, situation: Any, how: str):
    child = start()
    situation(child)
    ended_in_order(child, how)
    assert b"it cancelled\n" in child.err.seen


def test_a_flood_of_malformed_lines_that_nobody_reads_does_not_keep_the_process(start: Start):
    child = start()
    blocked(child)
    child.write(b"1\n" * 20_000)
    ended_in_order(child, "EOF")


@pytest.mark.parametrize(
    ("tool", "how"), [("stubborn", "EOF"), ("stubborn", "SIGTERM"), ("hog", "EOF"), ("hog", "SIGINT")]
)
def test_a_tool_that_cannot_be_cancelled_does_not_keep_the_process(start: Start, tool: str, how: str):
    child = start()
    child.initialize()
    child.call(1, tool)
    child.err.until(f"{tool} started")
    status, seconds = child.stop_by(how)
    assert (status, seconds < 1) == (0, True), (status, seconds)


@pytest.mark.parametrize("tool", ["struck", "held"])
def test_a_signal_that_another_thread_gets_is_heard(start: Start, tool: str):
    """So is one that comes in the moment before the event loop, or a tool that blocks it, begins to wait."""
    child = start()
    child.initialize()
    child.call(1, tool)
    child.err.until("struck")
    assert child.process.wait(5) == 0


def test_an_on_stop_that_hangs_is_given_up(start: Start):
    child = start("hanging-on-stop")
    blocked(child)
    status, seconds = child.stop_by("EOF")
    assert (status, seconds < 1) == (0, True), (status, seconds)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_it_at_once(start: Start, how: signal.Signals):
    child = start("hanging-on-stop")
    child.initialize()
    child.process.send_signal(how)
    child.err.until("on_stop called")
    status, seconds = child.stop_by("SIGINT")
    assert (status, seconds < 0.2) == (-signal.SIGINT, True), (status, seconds)
    assert not [line for line in child.err.rest() if b"Traceback" in line]


def test_a_signal_after_the_end_of_stdin_does_not_spoil_the_status(start: Start):
    child = start()
    in_flight(child)
    child.close_stdin()
    status, seconds = child.stop_by("SIGTERM")
    assert (status, seconds < 1) == (0, True), (status, seconds)


def test_it_ends_when_nobody_reads_stdout_any_more(start: Start):
    child = start()
    child.initialize_unread()
    child.call(1, "slow", name="it")
    child.err.until("it started")
    child.process.stdout.close()
    child.call(2, "echo", text="to nobody")
    assert child.process.wait(5) == 0
    child.err.until("it cancelled")


def test_what_was_produced_is_written_before_the_end_even_if_the_client_is_slow(start: Start):
    child = start()
    child.initialize_unread()
    child.call(1, "big", size=3_000_000)
    child.call(2, "slow", name="it")
    child.err.until("it started")
    child.close_stdin()
    assert len(child.text_from(1)) == 3_000_000
    assert child.process.wait(5) == 0
