"""What a request may be: its method, its type, its framing and its size; how long it may take; how many."""

import json
from contextlib import ExitStack
from functools import partial

import pytest

from ollama_mcp.transports.http import application, middleware

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
    monkeypatch.setattr(
        application, "BodyLimitMiddleware", partial(middleware.BodyLimitMiddleware, seconds=0.2)
    )
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


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_body_that_drips_is_answered_408(hasty, wire, framing):
    with wire(hasty.port) as client:
        client.send(head(hasty, "POST", "/mcp", JSON, framing.decode()))
        said = dripped(client, b" " if b"Length" in framing else b"1\r\n \r\n")
        assert said.startswith(b"HTTP/1.1 408 ")


# --- how many ------------------------------------------------------------------------------------


def settle(served, wire):
    """Wait until the server has noticed who left: cut at its end, the SDK leaves its streams open."""
    scrape = head(served, "GET", "/metrics", "Connection: close")
    for _ in range(1000):
        with wire(served.port) as client:
            client.send(scrape)
            if b"\nollama_mcp_http_in_flight 1\n" in client.answer().body:
                return
    raise AssertionError("the streams are still in flight")


def test_one_request_too_many_is_answered_503(serve, wire, tmp_path):
    served = serve(OLLAMA_MCP_SSE="1", OLLAMA_MCP_HTTP_CONNECTIONS="4")
    with ExitStack() as stack:
        opened = [stack.enter_context(wire(served.port)) for _ in range(4)]
        for client in opened:
            client.send(head(served, "GET", "/sse"))
            assert client.answer().status == 200
        with wire(served.port) as one_more:
            one_more.send(head(served, "GET", "/sse"))
            said = one_more.rest()
        assert said.startswith(b"HTTP/1.1 503 ")
    settle(served, wire)
