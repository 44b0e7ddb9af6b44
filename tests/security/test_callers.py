"""What one caller over HTTP can do with what is another's: nothing, and in the words of what is not there."""

import json
import re

import pytest

from ollama_mcp.testing import Script

ANNE, BERT = "anne-has-this-token-of-32-characters", "bert-has-this-token-of-32-characters"
UNKNOWN = "0" * 32


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"anne {ANNE}\nanne2 {ANNE[::-1]}\nbert {BERT}\n")
    return str(path)


@pytest.fixture(scope="module")
def served(serve_all, tokens):
    return serve_all(OLLAMA_MCP_TOKEN_FILE=tokens)


def result(served, token, tool, **arguments):
    response = served.call(tool, headers=bearer(token), **arguments)
    return served.answer_in(response)["result"]


# --- sessions ------------------------------------------------------------------------------------

SAID = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
KIND = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def message(method, params=None):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}).encode()


@pytest.fixture
def session(served):
    """The id of a session of Anne's."""
    opened = served.ask("POST", headers={**KIND, **bearer(ANNE)}, content=message("initialize", SAID))
    return opened.headers["mcp-session-id"]


WITH_SESSION = {
    "a call": ("POST", message("tools/call", {"name": "ollama_status", "arguments": {}})),
    "a list": ("POST", message("tools/list")),
    "a ping": ("POST", message("ping")),
    "a notification": ("POST", b'{"jsonrpc":"2.0","method":"notifications/initialized"}'),
    "an answer": ("POST", b'{"jsonrpc":"2.0","id":1,"result":{}}'),
    "the stream": ("GET", b""),
    "the end": ("DELETE", b""),
}  # fmt: skip


@pytest.mark.parametrize(("method", "body"), WITH_SESSION.values(), ids=WITH_SESSION)
def test_a_session_of_another_is_no_session(served, session, method, body):
    def asked(token, name):
        headers = {**KIND, **bearer(token), "mcp-session-id": name, "mcp-protocol-version": "2025-11-25"}
        return served.ask(method, headers=headers, content=body)

    foreign, unknown = asked(BERT, session), asked(BERT, UNKNOWN)
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text == unknown.text
    alive = served.ask(
        "POST", headers={**KIND, **bearer(ANNE), "mcp-session-id": session}, content=message("ping")
    )
    assert alive.status_code == 200


# --- handles -------------------------------------------------------------------------------------


@pytest.fixture
def handle(served):
    """That of vectors of Anne's."""
    found = result(served, ANNE, "ollama_embeddings", input=["a", "b"])
    return re.search(r"[0-9a-f]{32}", json.dumps(found["content"]))[0]


@pytest.mark.parametrize("tool", ["ollama_continue", "ollama_cancel"])
@pytest.mark.parametrize("token", [BERT, ANNE[::-1]])
def test_a_handle_of_another_is_no_handle(served, handle, tool, token):
    foreign = result(served, token, tool, handle=handle)["content"][0]["text"]
    unknown = result(served, token, tool, handle=UNKNOWN)["content"][0]["text"]
    assert foreign.startswith("UNKNOWN_HANDLE: ")
    assert foreign.replace(handle, UNKNOWN) == unknown


def read(served, token, uri):
    request = message("resources/read", {"uri": uri, "_meta": served.said})
    named = {"mcp-protocol-version": "2026-07-28", "mcp-method": "resources/read", "mcp-name": uri}
    return served.ask("POST", headers={**KIND, **bearer(token), **named}, content=request).text


def test_vectors_of_another_are_no_vectors(served, handle):
    served.said = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    own = read(served, ANNE, f"ollama://embeddings/{handle}")
    foreign = read(served, BERT, f"ollama://embeddings/{handle}")
    unknown = read(served, BERT, f"ollama://embeddings/{UNKNOWN}")
    assert "error" not in json.loads(own)
    assert json.loads(foreign)["error"]
    assert foreign.replace(handle, UNKNOWN) == unknown


def test_what_runs_for_another_is_not_told(served, ollama):
    ollama.script(Script(tokens=["a"] * 9, hold_after_tokens=2), times=1)
    running = result(served, ANNE, "ollama_chat", prompt="x", wait_s=1)
    assert running["content"][0]["text"].startswith("STILL RUNNING")
    name = re.search(r"[0-9a-f]{32}", running["content"][0]["text"])[0]
    assert name in json.dumps(result(served, ANNE, "ollama_status"))
    assert name not in json.dumps(result(served, BERT, "ollama_status"))
    assert "UNKNOWN_HANDLE" in json.dumps(result(served, BERT, "ollama_cancel", handle=name))
    assert name in json.dumps(result(served, ANNE, "ollama_status"))
    assert "UNKNOWN_HANDLE" not in json.dumps(result(served, ANNE, "ollama_cancel", handle=name))


def test_without_tokens_nobody_is_told_of_anybodys_handles(serve, ollama):
    served = serve()
    ollama.script(Script(tokens=["a"] * 9, hold_after_tokens=2), times=1)
    running = served.answer_in(served.call("ollama_chat", prompt="x", wait_s=1))["result"]
    handle = re.search(r"[0-9a-f]{32}", running["content"][0]["text"])[0]
    status = served.answer_in(served.call("ollama_status"))["result"]
    assert status["structuredContent"]["running"] == []
    assert handle not in json.dumps(status)
    served.said = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    asked = message("resources/read", {"uri": "ollama://status", "_meta": served.said})
    named = {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "resources/read",
        "mcp-name": "ollama://status",
    }
    assert handle not in served.ask("POST", headers={**KIND, **named}, content=asked).text
    ended = served.answer_in(served.call("ollama_cancel", handle=handle))["result"]
    assert ended["content"][0]["text"].startswith("Stopped"), "who has the handle can use it"


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_a_slash_behind_the_address_does_not_matter(served, path):
    answer = served.ask("POST", path, headers={**KIND, **bearer(ANNE)}, content=message("initialize", SAID))
    assert answer.status_code == 200
    assert served.ask("POST", path, headers=KIND, content=message("initialize", SAID)).status_code == 401


# --- tokens go no further ------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["ollama_chat", "ollama_embeddings", "ollama_list_models"])
def test_nothing_of_a_callers_headers_reaches_ollama(served, ollama, tool):
    before = len(ollama.requests)
    arguments = {"ollama_chat": {"prompt": "x"}, "ollama_embeddings": {"input": ["a"]}}.get(tool, {})
    others = ("cookie", "x-api-key", "proxy-authorization", "x-forwarded-for")
    given = {**bearer(ANNE), **dict.fromkeys(others, "from-the-caller")}
    assert served.call(tool, headers=given, **arguments).status_code == 200
    sent = ollama.requests[before:]
    assert sent
    assert not [r for r in sent if "from-the-caller" in str(r.headers) or ANNE in str(r.headers)]
