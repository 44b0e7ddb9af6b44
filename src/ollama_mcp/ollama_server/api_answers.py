"""Answers: in one piece, or in records that become lines of NDJSON or one object, and their bytes.

Records are made one by one while they are sent, so that what a back end does between two of them (loading
a model, installing it) happens at that time, and not at all if the client has left.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ollama_mcp.ollama_server.go_values import Refusal, as_object, dump
from ollama_mcp.ollama_server.http_messages import LAST_CHUNK, chunk, head_bytes, whole_bytes

JSON = "application/json; charset=utf-8"
RUNNER_JSON = "application/json"  # what came through the model runner has no charset
NDJSON = "application/x-ndjson"

Record: TypeAlias = dict[str, Any]
Fold: TypeAlias = Callable[[Sequence[Record]], Record]
Records: TypeAlias = Iterator[Any] | AsyncGenerator[Record]
"""Records as they come: those of the fake may have pauses and faults between them."""


@dataclass(frozen=True)
class Whole:
    """An answer in one piece. `chunked`: without a length, as what came through the model runner."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    chunked: bool = False

    def encode(self, *, close: bool, bodyless: bool = False) -> bytes:
        """Return its bytes. `bodyless`: for a HEAD, which gets the head only, with the body's length."""
        if bodyless:
            return head_bytes(self.status, self.headers, close=close, length=len(self.body) or None)
        return whole_bytes(self.status, self.headers, self.body, close=close, chunked=self.chunked)


@dataclass(frozen=True)
class Stream:
    """An answer in records. `fold` makes the one object of `stream: false` of them; None: NDJSON."""

    records: Records
    fold: Fold | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": NDJSON})
    status: int = 200


Answer: TypeAlias = Whole | Stream


def whole(value: object, status: int = 200) -> Whole:
    """Return an object as an answer in one piece."""
    return Whole(dump(value), status)


def plain(status: int, text: str, **headers: str) -> Whole:
    """Return a text that is not JSON, as the router's own 404 and 405."""
    return Whole(text.encode(), status, headers | {"Content-Type": "text/plain"})


def empty(status: int = 200) -> Whole:
    """Return an answer without a body or a Content-Type."""
    return Whole(b"", status, {})


def refused(refusal: Refusal) -> Whole:
    """Return the answer `{"error": text}` of a refusal."""
    kind = RUNNER_JSON if refusal.runner else JSON
    return Whole(dump({"error": refusal.text}), refusal.status, {"Content-Type": kind}, refusal.runner)


def one_object(records: Records) -> Stream:
    """Return an answer that is its last record, whatever `stream` says."""
    return Stream(records, lambda made: dict(made[-1]), {"Content-Type": JSON})


def line(record: Record | bytes) -> bytes:
    """Return a record as a line of NDJSON."""
    data = dump(record) if isinstance(record, dict) else record
    return data if data.endswith(b"\n") else data + b"\n"


def is_last(record: object) -> bool:
    """Return whether a record, or a line as it is, says that it is the last one."""
    if isinstance(record, bytes):
        try:
            record = json.loads(record)
        except (ValueError, RecursionError):
            return False
    read = as_object(record)
    return bool(read.get("done") or read.get("status") == "success")


class RecordFramer:
    """Makes the bytes of a Stream out of its records, as they come.

    The head goes with the first record, as Go sends it: before that, nothing tells a client that it was
    heard, and an error still has a status of its own.

    Attributes:
        is_over: Whether an error has ended the answer, so that nothing may follow.
    """

    def __init__(self, answer: Stream, *, close: bool) -> None:
        self.is_over = False
        self._answer = answer
        self._close = close
        self._made: list[Record] = []
        self._head = head_bytes(answer.status, answer.headers, close=close, chunked=True)

    def record(self, record: Record | bytes) -> bytes:
        """Return what a record sends; nothing where all of them become one object at the end."""
        if self._answer.fold:
            if isinstance(record, dict):
                self._made.append(record)
            return b""
        if self._head and isinstance(record, dict) and "error" in record:
            return self._failed(record)
        return self._after_head(chunk(line(record)))

    def part(self, record: bytes, size: int) -> bytes:
        """Return a chunk that announces a record and has only the first bytes of it."""
        return self._after_head(b"%x\r\n%b" % (len(record), record[:size]))

    def refuse(self, refusal: Refusal) -> bytes:
        """Return an error: with its own status, or as the last line where the stream has begun."""
        if self._head:
            self.is_over = True
            return refused(refusal).encode(close=self._close)
        return chunk(line({"error": refusal.text})) + LAST_CHUNK

    def end(self) -> bytes:
        """Return the end of the answer, or all of it if it is one object."""
        if not self._answer.fold:
            return self._after_head(LAST_CHUNK)
        failed = next((record for record in self._made if "error" in record), None)
        if failed is not None:
            return self._failed(failed)
        body = dump(self._answer.fold(self._made))
        return Whole(body, self._answer.status, self._answer.headers).encode(close=self._close)

    def _failed(self, record: Record) -> bytes:
        self.is_over = True
        return Whole(dump(record), 500, {"Content-Type": RUNNER_JSON}).encode(close=self._close)

    def _after_head(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + data
