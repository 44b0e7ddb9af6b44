"""A client that mixes up the two eras of the protocol on one pipe."""

from typing import Any

import pytest

from ollama_mcp.testing import Script

HANDSHAKE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "pipes", "version": "1"},
}
AS_FLAG, AS_SETTING = (("serve", "--protocol", "legacy"), {}), ((), {"OLLAMA_MCP_PROTOCOL": "Legacy"})


def probe(child: Any, call_id: str) -> None:
    child.version = "2026-07-28"
    child.request(call_id, "server/discover")
    child.version = ""


def is_served(child: Any) -> None:
    child.send({"method": "notifications/initialized"})
    child.call("chat", prompt="hi", progress=True)
    assert child.text_of("chat") == "You said: hi"
    assert child.finish() == 0
    assert not child.err.rest()


@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not wait"])
def test_a_handshake_after_nothing_but_probes_is_served(start: Any, probes: int, waits: bool):
    child = start()
    for number in range(probes):
        probe(child, f"probe {number}")
        if waits:
            child.answer_to(f"probe {number}")
    child.request("open", "initialize", **HANDSHAKE)
    assert child.result_of("open")["protocolVersion"] == "2025-11-25"
    for number in range(probes):
        assert "2026-07-28" in child.result_of(f"probe {number}")["supportedVersions"]
    is_served(child)


def test_a_handshake_after_any_other_request_of_the_new_era_is_refused(start: Any, fake: Any):
    child = start()
    fake.script(Script(tokens=["a", "b"], hold_after_tokens=1))
    child.open("2026-07-28")
    child.call("going on")
    child.version = ""
    child.request("again", "initialize", **HANDSHAKE)
    assert child.answer_to("again").message["error"]["code"] == -32022
    fake.release()
    assert child.text_of("going on") == "ab"


def test_the_end_of_stdin_is_heard_in_the_session_that_a_handshake_began(start: Any, fake: Any):
    child = start()
    fake.script(Script(tokens=["a"], hold_after_tokens=0))
    probe(child, "probe")
    child.request("open", "initialize", **HANDSHAKE)
    child.send({"method": "notifications/initialized"})
    child.call("held")
    fake.wait_for_sync(lambda fake: fake.in_flight == 1)
    assert child.finish() == 0
    assert child.answer_to("held").message["error"]["message"] == "Connection closed"
    fake.wait_for_sync(lambda fake: fake.disconnects == 1 and not fake.open_connections)


@pytest.mark.parametrize(("flags", "environment"), [AS_FLAG, AS_SETTING], ids=["flag", "setting"])
def test_legacy_knows_no_probe_so_that_the_client_falls_back_to_the_handshake(
    start: Any, flags: tuple[str, ...], environment: dict[str, str]
):
    child = start(*flags, **environment)
    probe(child, "probe")
    assert child.answer_to("probe").message["error"]["code"] == -32601
    child.request("open", "initialize", **{**HANDSHAKE, "protocolVersion": "2026-07-28"})
    assert child.result_of("open")["protocolVersion"] == "2025-11-25", "the newest that has a handshake"
    probe(child, "probe again")
    assert child.answer_to("probe again").message["error"]["code"] == -32601
    is_served(child)


def test_the_flag_wins_over_the_setting(start: Any):
    child = start("serve", "--protocol", "auto", OLLAMA_MCP_PROTOCOL="legacy")
    assert "2026-07-28" in child.open("2026-07-28")["supportedVersions"]


@pytest.mark.parametrize(
    ("flags", "environment", "name"),
    [
        (("--protocol", "old"), {}, "--protocol"),
        (("serve",), {"OLLAMA_MCP_PROTOCOL": "old"}, "OLLAMA_MCP_PROTOCOL"),
    ],
    ids=["flag", "setting"],
)
def test_another_protocol_is_refused_with_those_that_there_are(
    start: Any, flags: tuple[str, ...], environment: dict[str, str], name: str
):
    child = start(*flags, **environment)
    child.close_stdin()  # until then its tools say the same
    assert child.wait() == 2
    said = [line.message.strip() for line in child.err.rest()]
    assert said == [f"ollama-mcp: {name}: 'old' is not allowed; it must be one of auto, legacy"]
