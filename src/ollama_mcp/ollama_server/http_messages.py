"""HTTP/1.1 as far as a server of NDJSON needs it: requests read, answers written and taken apart."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from typing import Any

HEAD_LIMIT = 1 << 20
"""Bytes that a request's head may have; Go's own limit."""

_DIGITS = {10: re.compile(r"[0-9]+"), 16: re.compile(r"[0-9A-Fa-f]+")}
_LONGEST_NUMBER = 100
_STATUS_LINE = re.compile(r"HTTP/1\.[0-9] ([2-9][0-9]{2})(?: |$)")  # an interim answer (1xx) is none
_STATUSES = frozenset(HTTPStatus)
_CHUNKED_FROM = 2048  # Go gives a Content-Length to what a handler wrote in one go, up to this size


class BadFraming(Exception):
    """Bytes that are not HTTP; Go answers 400 in plain text and closes."""


@dataclass(frozen=True)
class Request:
    """One request as it came.

    Attributes:
        method: The HTTP method as it came, which is in capitals from any usual client.
        path: The path, without the query.
        headers: The headers by name, names in lower case; of equal ones the last.
        body: The body's bytes, without chunks; `json` reads them.
        at: When its last byte had been read, in seconds of `time.monotonic`.
        connection: The number of its connection, from 1: equal numbers mean that the client kept it
            alive.
        query: What stands after the `?`; empty by default.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    connection: int
    query: str = ""

    @cached_property
    def json(self) -> Any:
        """The body read as JSON; None if it is empty or is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def wants_close(self) -> bool:
        """Whether the client asked for the connection to end after this answer."""
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True)
class Head:
    """The first lines of a request, read."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Wait for the next request's head; None where the client ended between two requests.

    Raises:
        BadFraming: the bytes are no head, or one of more than HEAD_LIMIT.
    """
    try:
        raw = await _until(reader, b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    return parse_head(raw)


async def _until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return await reader.readuntil(end)
    except asyncio.LimitOverrunError as error:
        raise BadFraming(f"no {end!r} in {HEAD_LIMIT} bytes") from error


def parse_head(raw: bytes) -> Head:
    """Read a head up to and with its empty line.

    Raises:
        BadFraming: the first line or a header has not the form of one.
    """
    first, *lines = raw.decode("latin-1").strip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadFraming(f"no request line: {first[:80]!r}")
    headers = dict(_header(line) for line in lines)
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Head(words[0], words[1], headers)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or line[0] in " \t":  # a folded one would be taken for another header
        raise BadFraming(f"no header: {line[:80]!r}")
    return name.strip().lower(), value.strip()


async def read_body(reader: asyncio.StreamReader, head: Head, write: Callable[[bytes], object]) -> bytes:
    """Read the body that belongs to a head, after the `100 Continue` that the client may wait for.

    Raises:
        BadFraming: a length is no number.
        asyncio.IncompleteReadError: the client left in the middle of it.
    """
    if head.headers.get("expect", "").lower() == "100-continue":
        write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if head.chunked:
        return await _read_chunks(reader)
    return await reader.readexactly(_number(head.headers.get("content-length", "0"), 10))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := _size(await _until(reader, b"\r\n")):
        body += (await reader.readexactly(size + 2))[:-2]
    while await _until(reader, b"\r\n") != b"\r\n":
        pass  # trailers, which nobody asked for
    return bytes(body)


def _size(line: bytes) -> int:
    return _number(line.partition(b";")[0].decode("latin-1"), 16)


def _number(text: str, base: int) -> int:
    # Not what int() takes: a sign, or a _ between digits.
    if not _DIGITS[base].fullmatch(text.strip(" \t\r\n")) or len(text) > _LONGEST_NUMBER:
        raise BadFraming(f"no length: {text[:80]!r}")
    return int(text, base)


def head_bytes(
    status: int, headers: Mapping[str, str], *, close: bool, length: int | None = None, chunked: bool = False
) -> bytes:
    """Return a status line and headers, in the order in which Go writes them; those that are given win."""
    reason = HTTPStatus(status).phrase if status in _STATUSES else f"status code {status}"
    own = {
        "Date": formatdate(usegmt=True),
        "Content-Length": None if length is None else str(length),
        "Connection": "close" if close else None,
        "Transfer-Encoding": "chunked" if chunked else None,
    }
    given = {name.lower() for name in headers}
    ours = {name: value for name, value in own.items() if value and name.lower() not in given}
    lines = [f"{name}: {value}" for name, value in {**headers, **ours}.items()]
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *lines, "", ""]).encode("latin-1")


def whole_bytes(
    status: int, headers: Mapping[str, str], body: bytes, *, close: bool, chunked: bool = False
) -> bytes:
    """Return an answer in one piece: with its length or, as Go, in a chunk where it is long or `chunked`."""
    if chunked or len(body) > _CHUNKED_FROM:
        return head_bytes(status, headers, close=close, chunked=True) + chunk(body) + LAST_CHUNK
    return head_bytes(status, headers, close=close, length=len(body)) + body


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; empty data makes none, since that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class ReadAnswer:
    """An answer, taken apart.

    Attributes:
        status: The HTTP status.
        headers: The headers by name, names in lower case; of equal ones the last.
        body: The body, without chunks, as far as it came.
        spans: Where the pieces of the body lie in the bytes that were read: first, and one past the last.
        end: Where the body ends; behind it there may be trailers.
        is_complete: Whether the framing itself tells that all of it came.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    spans: tuple[tuple[int, int], ...]
    end: int
    is_complete: bool


def read_answer(wire: bytes) -> ReadAnswer:
    """Take apart what a server sent until it, or the client, closed.

    Raises:
        BadFraming: it has not the form of an answer, or is an interim one (1xx).
    """
    head, end, _ = wire.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = _STATUS_LINE.match(first)
    if not end or status is None:
        raise BadFraming(f"no status line: {first[:80]!r}")
    headers = dict(_header(line) for line in lines)
    start = len(head) + len(end)
    spans, is_complete = _spans(wire, start, headers)
    body = b"".join(wire[one:other] for one, other in spans)
    return ReadAnswer(int(status[1]), headers, body, spans, spans[-1][1] if spans else start, is_complete)


def _spans(wire: bytes, start: int, headers: Mapping[str, str]) -> tuple[tuple[tuple[int, int], ...], bool]:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return tuple(_chunks(wire, start)), wire.endswith(LAST_CHUNK)
    length = headers.get("content-length")
    is_complete = length is not None and _number(length, 10) <= len(wire) - start
    return ((start, len(wire)),), is_complete


def _chunks(wire: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield the chunks that came, the last one perhaps cut."""
    while (end := wire.find(b"\r\n", at)) >= 0 and (size := _size(wire[at:end])):
        at = end + 2 + size
        yield end + 2, min(at, len(wire))
        at += 2
