"""What a request may be: its method, its type, its framing and its size; how long it may take; how many."""

import json
import socket
import threading
from contextlib import ExitStack
from functools import partial

import pytest

from ollama_mcp.testing import Script
from ollama_mcp.transports.http import application, bodies, protocol, serving

LIMIT = 65536
MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
CALL = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "ollama_list_models", "arguments": {}, "_meta": META},
    }
).encode()
JSON = "Content-Type: application/json"
EITHER = "Accept: application/json, text/event-stream"
PATIENCE = 10
CALLS = [f"Mcp-Protocol-Version: {MODERN}", "Mcp-Method: tools/call", "Mcp-Name: ollama_list_models"]


@pytest.fixture(scope="module")
def served(serve_all):
    return serve_all(OLLAMA_MCP_MAX_LINE=str(LIMIT))


def head(served, method, target, *headers):
    lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{served.port}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def posted(ask, served, *headers, body=CALL):
    lines = ["POST /mcp HTTP/1.1", f"Host: localhost:{served.port}", *headers, "Connection: close"]
    return ask(served.port, lines, body)


def length(body=CALL):
    return f"Content-Length: {len(body)}"


METHODS = [
    ("GET", "/mcp", 406),
    ("HEAD", "/mcp", 405),
    ("PUT", "/mcp", 405),
    ("PATCH", "/mcp", 405),
    ("OPTIONS", "/mcp", 405),
    ("TRACE", "/mcp", 405),
    ("CONNECT", "/mcp", 405),
    ("BREW", "/mcp", 405),
    ("post", "/mcp", 405),
    ("DELETE", "/mcp", 400),
    ("POST", "/metrics", 405),
    ("DELETE", "/metrics", 405),
    ("POST", "/health", 404),
    ("DELETE", "/ready", 404),
    ("GET", "/", 404),
    ("GET", "/sse", 404),
    ("POST", "/messages/", 404),
    ("GET", "/docs", 404),
    ("GET", "/openapi.json", 404),
    ("GET", "/.env", 404),
    ("GET", "/../../etc/passwd", 404),
    ("GET", "/mcp/..%2f..%2fetc/passwd", 404),
]


@pytest.mark.parametrize(("method", "target", "wanted"), METHODS)
def test_a_method_that_is_none_of_its_own_is_refused(ask, served, method, target, wanted):
    lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{served.port}", "Connection: close"]
    assert ask(served.port, lines).status == wanted


TYPES = {
    "application/json": 200,
    "application/json; charset=utf-8": 200,
    "application/json;": 200,
    "text/plain": 400,
    "text/plain;application/json": 400,
    "text/plain, application/json": 400,
    "application/x-www-form-urlencoded": 400,
    "multipart/form-data; boundary=x": 400,
    "text/json": 400,
    "json": 400,
    "": 400,
    None: 400,
}


@pytest.mark.parametrize("written", TYPES)
def test_what_a_form_of_a_page_can_send_is_not_taken(ask, served, written):
    headers = [] if written is None else [f"Content-Type: {written}"]
    assert posted(ask, served, *headers, EITHER, *CALLS, length()).status == TYPES[written]


FRAMES = {
    "as long as it says": ([length()], CALL, 200),
    "in chunks": (["Transfer-Encoding: chunked"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(CALL), CALL), 200),
    "no length": ([], b"", 400),
    "two equal lengths": ([length(), length()], CALL, 200),
    "two lengths": ([length(), "Content-Length: 5"], CALL, 400),
    "two lengths in one": (["Content-Length: 5, 6"], CALL, 400),
    "a negative length": (["Content-Length: -1"], b"", 400),
    "a length with a sign": ([f"Content-Length: +{len(CALL)}"], CALL, 400),
    "a length in hexadecimal": (["Content-Length: 0x10"], b"", 400),
    "a length that is none": (["Content-Length: many"], b"", 400),
    "a length of 5,000 digits": (["Content-Length: " + "9" * 5000], b"", 400),
    "chunks that are none": (["Transfer-Encoding: chunked"], b"zz\r\n", 400),
    "a chunk of 2^80 bytes": (["Transfer-Encoding: chunked"], b"1" + b"0" * 20 + b"\r\n", 400),
    "chunks twice": (["Transfer-Encoding: chunked, chunked"], b"", 400),
    "compressed": (["Transfer-Encoding: gzip, chunked"], b"", 400),
    "a line without a colon": (["nonsense"], b"", 400),
    "a name with a blank": (["a b: c"], b"", 400),
}


@pytest.mark.parametrize(("headers", "body", "wanted"), FRAMES.values(), ids=FRAMES)
def test_a_body_is_framed_in_one_way_or_refused(ask, served, headers, body, wanted):
    assert posted(ask, served, JSON, EITHER, *CALLS, *headers, body=body).status in {wanted, wanted + 101}


def padded(size):
    return CALL[:-1] + b" " * (size - len(CALL)) + b"}"


def chunked(body, size=9999):
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


SIZES = {
    "the largest": ([f"Content-Length: {LIMIT}"], padded(LIMIT), 200),
    "the largest in chunks": (["Transfer-Encoding: chunked"], chunked(padded(LIMIT)), 200),
    "one more, declared": ([f"Content-Length: {LIMIT + 1}"], b"", 413),
    "much more, declared": (["Content-Length: 99999999999999999999"], b"", 413),
    "one more in chunks": (["Transfer-Encoding: chunked"], chunked(padded(LIMIT + 1))[:-5], 413),
    "a chunk that goes on": (["Transfer-Encoding: chunked"], b"ffffffff\r\n" + padded(LIMIT + 1), 413),
    "a byte a chunk": (["Transfer-Encoding: chunked"], chunked(padded(LIMIT + 1), 1)[:-5], 413),
}


@pytest.mark.parametrize(("headers", "body", "wanted"), SIZES.values(), ids=SIZES)
def test_a_body_is_not_larger_than_a_message_may_be(ask, served, headers, body, wanted):
    answer = posted(ask, served, JSON, EITHER, *CALLS, *headers, body=body)
    assert answer.status == wanted
    assert wanted == 200 or b"OLLAMA_MCP_MAX_LINE" in answer.body


BODIES = {
    "nothing": b"",
    "a word": b"null",
    "a number": b"1",
    "a list": b"[" + CALL + b"]",
    "an empty object": b"{}",
    "half of it": CALL[:-9],
    "deeply nested": b"[" * 30_000,
    "objects deeply nested": b'{"a":' * 10_000,
    "no UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
    "a NUL": b"\0",
    "NaN": CALL.replace(b'"arguments": {}', b'"arguments": NaN'),
    "an answer": b'{"jsonrpc":"2.0","id":1,"result":{}}',
}


@pytest.mark.parametrize("headers", [CALLS, []], ids=["2026", "2025"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_message_is_refused_as_such(ask, served, body, headers):
    assert posted(ask, served, JSON, EITHER, *headers, length(body), body=body).status == 400


# --- how long it may take ------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch, serve):
    """A server that waits a fifth of a second where others wait for a minute."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    monkeypatch.setattr(application, "Bodies", partial(bodies.Bodies, seconds=0.2))
    return serve(OLLAMA_MCP_MAX_LINE=str(LIMIT))


def dripped(wire, data=b"x"):
    """What the server says to one who sends a byte at a time, until it closes."""
    said = b""
    for _ in range(100):
        try:
            wire.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return said
        more = wire.read_for(0.05)
        if more == b"":
            return said
        said += more or b""
    raise AssertionError("the server waits on")


SLOW = {
    "nothing": b"",
    "half a line": b"GET /hea",
    "a line": b"GET /health HTTP/1.1\r\n",
    "all but the last byte": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r",
}


@pytest.mark.parametrize("begun", SLOW.values(), ids=SLOW)
def test_a_head_that_does_not_come_is_not_waited_for(hasty, wire, begun):
    with wire(hasty.port) as client:
        client.send(begun)
        assert client.rest().startswith(b"HTTP/1.1 408 ")


def test_a_head_that_drips_is_not_waited_for(hasty, wire):
    with wire(hasty.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nX: ")
        assert dripped(client).startswith(b"HTTP/1.1 408 ")


def test_the_head_of_a_later_request_is_not_waited_for_either(hasty, wire):
    with wire(hasty.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer().status == 200
        client.send(b"GET /health HTTP/1.1\r\nX: ")
        assert dripped(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_body_that_drips_is_answered_408(hasty, wire, framing):
    with wire(hasty.port) as client:
        client.send(head(hasty, "POST", "/mcp", JSON, framing.decode()))
        said = dripped(client, b" " if b"Length" in framing else b"1\r\n \r\n")
        assert said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("host", ["evil.com", "localhost:{port}"])
def test_who_was_answered_before_the_end_of_the_body_cannot_keep_the_connection(hasty, wire, host):
    """uvicorn forgets all its clocks at the first byte of the rest of it."""
    with wire(hasty.port) as client:
        host = host.replace("{port}", str(hasty.port))
        client.send(f"PUT /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n".encode())
        assert client.answer().status in {408, 421}
        dripped(client)


def narrow(bound):
    """As `_bound`, with so small a buffer that the server notices soon who does not read."""

    def narrowed(*where):
        opened = bound(*where)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return opened

    return narrowed


def noted(monkeypatch, name):
    """An event that a connection's method sets once it has run."""
    event, method = threading.Event(), getattr(protocol.PatientProtocol, name)

    def noting(connection, *arguments):
        method(connection, *arguments)
        event.set()

    monkeypatch.setattr(protocol.PatientProtocol, name, noting)
    return event


@pytest.fixture
def unread(monkeypatch, serve, ollama, wire):
    """A client that reads nothing of a large answer, and an event for when the server gives it up."""
    monkeypatch.setattr(protocol, "READER_S", 0.3)
    monkeypatch.setattr(serving, "_bound", narrow(serving._bound))
    full, gone = noted(monkeypatch, "pause_writing"), noted(monkeypatch, "connection_lost")
    served = serve(OLLAMA_MCP_PAGE="10000000")
    ollama.script(Script(tokens=["x" * 10_000] * 200), path="/api/chat", times=1)
    body = CALL.replace(b"ollama_list_models", b"ollama_chat").replace(b"{},", b'{"prompt":"x"},')
    with wire(served.port, narrow=True) as client:
        named = [*CALLS[:2], "Mcp-Name: ollama_chat"]
        client.send(head(served, "POST", "/mcp", JSON, EITHER, *named, length(body)) + body)
        assert full.wait(PATIENCE)
        yield client, gone


def test_who_does_not_read_is_given_up(unread):
    _, gone = unread
    assert gone.wait(PATIENCE)


def test_who_writes_on_instead_of_reading_is_given_up_too(unread):
    client, gone = unread
    client.send(b"G")
    assert gone.wait(PATIENCE)


def test_who_reads_slowly_is_waited_for(unread):
    client, gone = unread
    taken = b""
    while not gone.is_set() and not taken.endswith(b"}}"):
        taken += client.read_for(0.05) or b""
    assert len(taken) > 90_000


# --- how many ------------------------------------------------------------------------------------


def settle(served, wire, token):
    """Wait until the server has noticed who left: cut at its end, the SDK leaves its streams open."""
    scrape = head(served, "GET", "/metrics", f"Authorization: Bearer {token}", "Connection: close")
    for _ in range(1000):
        with wire(served.port) as client:
            client.send(scrape)
            if b"\nollama_mcp_http_in_flight 1\n" in client.answer().body:
                return
    raise AssertionError("the streams are still in flight")


def test_one_connection_too_many_is_answered_503_while_all_others_have_a_request(serve, wire, tmp_path):
    names = {"anne": "anne-has-this-token-of-32-characters", "bert": "bert-has-this-token-of-32-characters"}
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"{name} {token}\n" for name, token in names.items()))
    served = serve(OLLAMA_MCP_TOKEN_FILE=str(tokens), OLLAMA_MCP_SSE="1", OLLAMA_MCP_HTTP_CONNECTIONS="4")
    with ExitStack() as stack:
        opened = [stack.enter_context(wire(served.port)) for _ in range(4)]
        for client, token in zip(opened, [*names.values()] * 2, strict=True):
            client.send(head(served, "GET", "/sse", f"Authorization: Bearer {token}"))
            assert client.answer().status == 200
        with wire(served.port) as one_more:
            said = one_more.rest()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in said
    settle(served, wire, names["bert"])


def test_one_caller_has_half_of_them_and_the_others_the_rest(serve, wire, tmp_path):
    names = {"anne": "anne-has-this-token-of-32-characters", "bert": "bert-has-this-token-of-32-characters"}
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"{name} {token}\n" for name, token in names.items()))
    served = serve(OLLAMA_MCP_TOKEN_FILE=str(tokens), OLLAMA_MCP_SSE="1", OLLAMA_MCP_HTTP_CONNECTIONS="8")

    def streams(name):
        client = wire(served.port)
        client.send(head(served, "GET", "/sse", f"Authorization: Bearer {names[name]}"))
        return client, client.answer()

    annes = [streams("anne") for _ in range(5)]
    assert [answer.status for _, answer in annes] == [200] * 4 + [429]
    assert int(annes[-1][1].headers["retry-after"]) >= 1
    berts = [streams("bert")]
    assert berts[0][1].status == 200
    for client, _ in annes + berts:
        client.close()
    settle(served, wire, names["bert"])
