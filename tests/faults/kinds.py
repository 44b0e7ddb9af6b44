"""What can go wrong in an answer of Ollama's, as scripts of the fake."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from ollama_mcp.ollama_server.http_messages import LAST_CHUNK, chunk, head_bytes, whole_bytes
from ollama_mcp.testing import Script, Wait

from .calls import BOUNDARIES, ENDPOINTS, JSON, NDJSON, Endpoint

GARBAGE = bytes(range(128, 256)) * 4
PIECE_S = 0.03
"""Seconds between the pieces of what comes for ever: far below every clock."""


@dataclass(frozen=True)
class Case:
    """One fault at one moment of one request."""

    endpoint: Endpoint
    fault: str
    moment: str
    make: Callable[[], Script]

    @property
    def id(self) -> str:
        return f"{self.endpoint.name}-{self.fault}-{self.moment}"


# --- at any byte ---------------------------------------------------------------------------------

ANOTHER = whole_bytes(200, JSON, b'{"models":[],"response":"of another call","done":true}', close=False)


def _for_ever(first: bytes, piece: bytes, wait_s: float = 0.0) -> Iterator[bytes | Wait]:
    yield first
    while True:
        yield piece
        yield Wait(wait_s)


def _raw(data: bytes | Iterable[Any], how: Any = "close") -> Script:
    return Script(raw=data, how=how)


def _at_any_byte(endpoint: Endpoint) -> Iterator[Case]:
    for place, moment in enumerate(endpoint.moments, ENDPOINTS.index(endpoint)):
        sent = endpoint.until(moment)
        for how in ("reset", "close"):
            yield Case(endpoint, how, moment, partial(_raw, sent, how))
        if moment != "after-end":  # which would be the first byte of the next answer
            yield Case(endpoint, "silence", moment, partial(_raw, sent, "silence"))
            tail, name = (ANOTHER, "another-answer") if place % 2 else (GARBAGE, "garbage")
            yield Case(endpoint, name, moment, partial(_raw, (sent, Wait(PIECE_S), tail)))
    trickle = b"HTTP/1.1 200 OK\r\nX-Long: "
    yield Case(endpoint, "trickle", "head", lambda: _raw(_for_ever(trickle, b"x", PIECE_S)))
    yield Case(endpoint, "continue-for-ever", "head", lambda: _raw(_for_ever(b"", CONTINUE, PIECE_S)))
    if endpoint.form == "stream":
        yield from _at_any_line(endpoint)


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MEGABYTE = chunk(b"x" * 1_000_000)


def _at_any_line(endpoint: Endpoint) -> Iterator[Case]:
    for moment in BOUNDARIES:
        sent = endpoint.until(moment)
        blanks = partial(_for_ever, sent, chunk(b"\n"), PIECE_S)
        yield Case(endpoint, "blanks-for-ever", moment, lambda blanks=blanks: _raw(blanks()))
        flood = partial(_for_ever, sent, _MEGABYTE)
        yield Case(endpoint, "line-for-ever", moment, lambda flood=flood: _raw(flood()))
    for moment in ("body", "first-line", "between", "line", "character", "before-done", "done-line"):
        body = endpoint.body[: endpoint.sent(moment)]
        yield Case(endpoint, "ends-in-order", moment, partial(Script, status=200, headers=NDJSON, body=body))
        unframed = head_bytes(200, NDJSON, close=True) + body
        yield Case(endpoint, "ends-unframed", moment, partial(_raw, unframed))


# --- lines that are none --------------------------------------------------------------------------

DEEP = b"[" * 100_000
LINES: dict[str, bytes] = {
    "list": b"[1,2]",
    "null": b"null",
    "number": b"5",
    "true": b"true",
    "text": b'"text"',
    "no-json": b"<html>",
    "half-object": b'{"response":"x"',
    "two-objects": b'{"response":"x"}{"response":"y"}',
    "bom": b'\xef\xbb\xbf{"response":"x"}',
    "bad-utf8": b'{"response":"\xff\xfe"}',
    "nan": b'{"response":"x","eval_count":NaN}',
    "infinity": b'{"response":"x","eval_count":-Infinity}',
    "deep-list": DEEP,
    "deep-object": b'{"a":' * 100_000,
    "gzip": gzip.compress(b'{"response":"x"}').replace(b"\n", b" "),
    "long": b'{"response":"' + b"x" * (8 * 1024 * 1024) + b'"}',
    "error-text": b'{"error":"the runner died"}',
    "error-object": b'{"error":{"message":"the runner died","code":500}}',
    "error-number": b'{"error":5}',
    "error-false": b'{"error":false}',
    "error-null": b'{"error":null}',
    "blank": b"\n \n\t\n",
    "crlf": b'{"done":false}\r',
    "empty-object": b"{}",
    "other-object": b'{"choices":[],"object":"chat.completion"}',
    "huge-number": b'{"done":false,"eval_count":1' + b"0" * 50 + b"}",
    "huger-number": b'{"done":false,"eval_count":1' + b"0" * 5000 + b"}",
    "null-fields": b'{"message":null,"response":null,"status":null,"done":null,"eval_count":null}',
    "odd-counts": b'{"done":false,"eval_count":"x","total":{},"completed":[1],"created_at":5,"digest":[]}',
    "odd-text": b'{"message":{"content":5},"response":5,"status":5}',
    "odd-message": b'{"message":"x","response":["x"],"status":{}}',
    "odd-done": b'{"done":"perhaps","status":[]}',
    "odd-calls": b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":5}}]},"response":{}}',
    "odd-names": b'{"done":false,"\\u0000":1,"":2,"__proto__":3,"\\ud800":4}',
}


def _odd_lines(endpoint: Endpoint) -> Iterator[Case]:
    for moment, place in BOUNDARIES.items():
        before, after = endpoint.lines[:place], endpoint.lines[place:] if place is not None else ()
        for name, line in LINES.items():
            yield Case(endpoint, f"line-{name}", moment, partial(Script, lines=[*before, line, *after]))


# --- objects that are none -------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    name: line
    for name, line in LINES.items()
    if not name.startswith(("odd", "null-", "huge", "bad", "bom", "blank", "crlf", "nan", "inf", "long"))
} | {
    "nothing": b"",
    "blank": b" \n ",
    "bom": b"\xef\xbb\xbf{}",
    "bad-utf8": b'{"models":[{"name":"\xff"}]}',
    "nan": b'{"models":[{"size":NaN}]}',
    "infinity": b'{"embeddings":[[Infinity,1],[1,1]]}',
}
VALUES: dict[str, bytes] = {
    "null": b"null",
    "number": b"5",
    "text": b'"x"',
    "object": b'{"a":1}',
    "list-of-null": b"[null]",
    "list-of-numbers": b"[5,6]",
    "list-of-lists": b"[[],[]]",
    "list-of-objects": b'[{"name":5,"size":"x","details":[],"model":{}}]',
    "huge": b"1" + b"0" * 400,
}
VECTORS: dict[str, bytes] = {
    "nan": b"[[NaN,1],[1,1]]",
    "null": b"[[null,1],[1,1]]",
    "text": b'[["0.5",1],["x",1]]',
    "infinite": b"[[1e999,1],[1,1]]",
    "too-large": b"[[1e39,1],[1,1]]",
    "too-few": b"[[1,0]]",
    "too-many": b"[[1,0],[0,1],[1,1]]",
    "of-other-lengths": b"[[1,0],[0,1,0]]",
    "of-no-length": b"[[],[]]",
    "half-empty": b"[[1,0],[]]",
    "flat": b"[1,0]",
    "deep": b"[[[1,0]],[[0,1]]]",
    "none": b"[]",
}


def _odd_objects(endpoint: Endpoint) -> Iterator[Case]:
    answer = json.loads(endpoint.body)
    lists = [name for name, value in answer.items() if isinstance(value, list)]
    field = (lists or list(answer))[0].encode()
    odd = {f"body-{name}": body for name, body in BODIES.items()}
    odd |= {f"field-{name}": b'{"%b":%b}' % (field, value) for name, value in VALUES.items()}
    if endpoint.name == "embed":
        odd |= {f"vectors-{name}": b'{"embeddings":%b}' % value for name, value in VECTORS.items()}
    for fault, body in odd.items():
        yield Case(endpoint, fault, "answer", partial(Script, status=200, headers=JSON, body=body))


# --- answers that are none -------------------------------------------------------------------------

HTML = {"Content-Type": "text/html; charset=utf-8"}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
PAGE = b"<!doctype html><html><h1>It works!</h1></html>"
OLLAMA_SAYS = json.dumps({"error": "that did not work"}).encode()
STATUSES: dict[str, tuple[int, dict[str, str], bytes]] = (
    {
        f"{status}-{kind}": (status, headers, body)
        for status in (400, 401, 403, 404, 405, 407, 413, 422, 429, 500, 501, 502, 503, 504)
        for kind, headers, body in (("json", JSON, OLLAMA_SAYS), ("html", HTML, PAGE), ("empty", {}, b""))
    }
    | {
        f"{status}-elsewhere": (status, {"Location": "http://127.0.0.1:9/api/x"}, b"")
        for status in (301, 302, 303, 307, 308)
    }
    | {
        "300-without-location": (300, {}, b""),
        "304": (304, {}, b""),
        "418-other-json": (418, JSON, b'{"detail":"no"}'),
        "500-nested": (500, JSON, json.dumps({"error": json.dumps({"error": {"message": "x"}})}).encode()),
        "500-no-text": (500, JSON, b'{"error":{"message":["x"]}}'),
        "500-huge": (500, JSON, b'{"error":"' + b"x" * 1_000_000 + b'"}'),
        "500-list": (500, JSON, b"[1]"),
        "400-overflow": (400, JSON, b'{"error":"the prompt exceeds the available context size"}'),
        "599": (599, {}, b""),
        "200-html": (200, HTML, PAGE),
        "200-text": (200, TEXT, b"Welcome to nginx!"),
    }
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BOMB = gzip.compress(b"\x00" * 10_000_000)
GREETINGS: dict[str, bytes] = {
    "smtp": b"220 mail.example.com ESMTP Postfix\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "tls": b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + b"\x11" * 111,
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00\x03\x00\x00\x00\x64" * 3,
    "redis": b"-ERR unknown command 'POST'\r\n",
    "mysql": b"\x4a\x00\x00\x00\x0a8.0.36\x00" + b"\x08" * 60,
    "plain-text": b"hello, this is no HTTP\n\n",
    "http-0.9": PAGE,
    "zeros": b"\x00" * 4096,
    "bad-version": b"HTTP/9.9 200 OK\r\n\r\n",
    "bad-status": b"HTTP/1.1 abc OK\r\n\r\n",
    "no-colon": b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
    "bad-length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    "minus-length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "nul-in-header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
    "huge-header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
}


def _odd_answers(endpoint: Endpoint) -> Iterator[Case]:
    for name, (status, headers, body) in STATUSES.items():
        yield Case(
            endpoint, f"status-{name}", "answer", partial(Script, status=status, headers=headers, body=body)
        )
    for status in (302, 404, 500, 503):
        head = head_bytes(status, JSON, close=False, length=1000) + b'{"error":"th'
        for how in ("reset", "close", "silence"):
            yield Case(endpoint, f"status-{status}-cut-{how}", "answer", partial(_raw, head, how))
    for name, greeting in GREETINGS.items():
        yield Case(endpoint, f"service-{name}", "answer", partial(_raw, greeting))
        yield Case(endpoint, f"service-{name}-waits", "answer", partial(_raw, greeting, "silence"))
    headers = partial(_for_ever, b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"y" * 1000 + b"\r\n")
    yield Case(endpoint, "headers-for-ever", "answer", lambda: _raw(headers()))
    for encoding in ("gzip", "deflate", "br", "zstd", "x-unknown", "identity, gzip"):
        wire = whole_bytes(200, NDJSON | {"Content-Encoding": encoding}, gzip.compress(b"{}"), close=False)
        yield Case(endpoint, f"encoded-{encoding.replace(', ', '-')}", "answer", partial(_raw, wire))
    bomb = whole_bytes(200, NDJSON | {"Content-Encoding": "gzip"}, BOMB, close=False)
    yield Case(endpoint, "encoded-bomb", "answer", partial(_raw, bomb))
    yield Case(endpoint, "length-too-large", "answer", partial(_raw, _lying(endpoint, 100)))
    yield Case(endpoint, "length-too-large-waits", "answer", partial(_raw, _lying(endpoint, 100), "silence"))
    if endpoint.body:
        yield Case(endpoint, "length-too-small", "answer", partial(_raw, _lying(endpoint, -7)))
    both = (
        _HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(endpoint.body) + LAST_CHUNK
    )
    yield Case(endpoint, "length-and-chunked", "answer", partial(_raw, both))
    yield Case(
        endpoint, "other-object", "answer", partial(_raw, whole_bytes(200, JSON, b'{"hello":1}', close=True))
    )


def _lying(endpoint: Endpoint, more: int) -> bytes:
    headers = NDJSON if endpoint.form == "stream" else JSON
    return head_bytes(200, headers, close=False, length=len(endpoint.body) + more) + endpoint.body


def _cases(endpoint: Endpoint) -> Iterator[Case]:
    place = ENDPOINTS.index(endpoint)
    yield from _some(_at_any_byte(endpoint), place, 1 if endpoint.name in {"chat", "pull", "embed"} else 2)
    yield from _some(_odd_answers(endpoint), place, 1 if endpoint.name == "chat" else 12)
    if endpoint.form == "stream":
        yield from _some(_odd_lines(endpoint), place, {"chat": 1, "pull": 3}.get(endpoint.name, 10))
    if endpoint.form == "object":
        yield from _some(_odd_objects(endpoint), place, 1 if endpoint.name == "embed" else 5)


def _some(cases: Iterator[Case], first: int, step: int) -> Iterator[Case]:
    """One of so many: others for each endpoint, so that all are there."""
    return islice(cases, first % step, None, step)


CASES: dict[str, Case] = {case.id: case for endpoint in ENDPOINTS for case in _cases(endpoint)}
