"""How it ends: at once, in order, and with Ollama's socket closed."""

import signal
import time
from typing import Any

import pytest

from ollama_mcp.testing import Script


@pytest.mark.parametrize("tokens", [0, 3], ids=["before the first token", "in the middle"])
@pytest.mark.parametrize("how", ["EOF", "SIGTERM", "SIGINT"])
def test_it_is_gone_within_a_second_and_ollamas_socket_is_closed(
    serve: Any, fake: Any, how: str, tokens: int
):
    child = serve()
    fake.script(Script(tokens=["a "] * 10, hold_after_tokens=tokens))
    for call_id in range(3):
        child.call(call_id, progress=True)
    fake.wait_for_sync(lambda fake: len(fake.asked("/api/chat")) == 3)
    begin = time.monotonic()
    if how == "EOF":
        child.close_stdin()
    else:
        child.process.send_signal(signal.Signals[how])
    assert child.wait() == 0
    assert time.monotonic() - begin < 1
    fake.wait_for_sync(lambda fake: fake.disconnects == 3 and not fake.open_connections)
    assert not [line for line in child.err.rest() if "Traceback" in line.message]


def test_requests_before_the_end_of_stdin_are_answered(start: Any):
    child = start()
    child.version = "2025-06-18"
    info = {"name": "printf", "version": "1"}
    child.request("a", "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=info)
    child.send({"method": "notifications/initialized"})
    child.request("b", "tools/list")
    assert child.finish() == 0
    assert [line.message["id"] for line in child.out.rest()] == ["a", "b"]
