"""What large messages hold counts for their caller until nothing is left of it, also without a client."""

import gc

import pytest

from ollama_mcp.testing import FakeOllama, Script

LARGE = "x" * 200_000
FIT = 10
"""So many of these fit into eight messages of the largest size."""
REFUSED = {"name": "ollama_chat", "arguments": {"prompt": LARGE, "options": {"no_such_option": 1}}}


def chat(**arguments):
    return {"name": "ollama_chat", "arguments": {"prompt": LARGE, **arguments}}


@pytest.fixture
def served(serve):
    return serve(OLLAMA_MCP_MAX_LINE="256 KiB")


@pytest.fixture
def ollama():
    """Begins answers, and does not end them before `release`."""
    with FakeOllama.in_thread() as fake:
        fake.script(Script(tokens=["a"] * 3, hold_after_tokens=1))
        yield fake


def passes_again(status):
    return next(code for code in (status() for _ in range(1000)) if code != 429) == 200


def test_a_call_counts_until_it_has_ended_though_its_client_has_left(served, ollama):
    session = served.opened()
    statuses = [served.leave("tools/call", chat(), session) for _ in range(FIT + 2)]
    assert statuses == [200] * FIT + [429] * 2
    assert served.call().status_code == 200  # a small one always passes
    ollama.release()
    assert passes_again(lambda: served.leave("tools/call", chat(), session))


def test_an_answer_that_goes_on_behind_its_call_counts_until_it_has_ended(served, ollama):
    session = served.opened()
    answers = [served.tell("tools/call", chat(wait_s=0.01), session) for _ in range(FIT + 1)]
    assert [answer.status_code for answer in answers] == [200] * FIT + [429]
    assert all("STILL RUNNING" in answer.text for answer in answers[:FIT])
    ollama.release()
    assert passes_again(lambda: served.tell("tools/call", chat(), session).status_code)


def test_that_of_a_call_of_2026_counts_as_long(served, ollama):
    def call():
        return served.call("ollama_chat", prompt=LARGE, wait_s=0.01).status_code

    assert [call() for _ in range(FIT + 1)] == [200] * FIT + [429]
    ollama.release()
    assert passes_again(call)


def test_a_session_that_is_idle_holds_nothing_of_its_last_message(served):
    """The SDK would hold it until the next message comes."""
    for session in [served.opened() for _ in range(FIT + 5)]:
        answer = served.tell("tools/call", REFUSED, session)
        assert answer.status_code == 200
        assert "UNKNOWN_OPTION" in answer.text


def test_calls_that_end_with_their_session_count_no_more(served):
    """They are cancelled, and hold themselves."""
    session = served.opened()
    gc.disable()
    try:
        assert [served.leave("tools/call", chat(), session) for _ in range(FIT)] == [200] * FIT
        assert served.ask("DELETE", headers=session).status_code == 200
        assert passes_again(lambda: served.tell("tools/call", REFUSED, served.opened()).status_code)
    finally:
        gc.enable()


def test_what_a_client_says_of_itself_is_kept_with_its_session_and_not_long(served):
    said = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": LARGE, "version": "1"},
    }
    session = served.opened()
    for headers in (None, session):
        answer = served.answer_in(served.tell("initialize", said, headers))
        assert "too long" in answer["error"]["message"]
    assert "UNKNOWN_OPTION" in served.tell("tools/call", REFUSED, session).text
