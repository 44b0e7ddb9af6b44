"""What a server can say: answers as lists of small steps, which faults edit and the server plays.

    endpoint -> Answer (Whole, Stream, Verbatim) -> a script's edits -> steps -> the socket

A step is bytes to send, a Pause (Wait, Hold, Turn) or the End of the connection. A Stream's records are dicts
(a line each) or bytes (a line as it is); they are made one by one while they are sent, so that what
an endpoint does between two of them (loading a model, installing it) happens at that time, and not
at all if the client has left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ollama_mcp.testing import framing, go

How: TypeAlias = Literal["close", "reset", "silence"]
"""How a connection ends early: orderly, with a TCP reset, or not at all (open, but never a byte again)."""

JSON = "application/json; charset=utf-8"
RUNNER_JSON = "application/json"  # what came through the model runner has no charset
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Wait:
    """A pause between the bytes of `Script(raw=...)`.

    Attributes:
        seconds: How long nothing is sent.
    """

    seconds: float


class Told(bytes):
    """Bytes after which at most the mark of the end is missing: a client that leaves now misses nothing."""


@dataclass(frozen=True)
class Hold:
    """Nothing until `FakeOllama.release()`."""


@dataclass(frozen=True)
class Turn:
    """Nothing until fewer than `limit` answers of the same key are going on; None is no limit."""

    key: str
    limit: int | None


@dataclass(frozen=True)
class End:
    """The connection ends here, in whatever the client was reading."""

    how: How


@dataclass(frozen=True)
class Partial:
    """The beginning of a record: its chunk announces `line`, and only the first `size` bytes come."""

    line: bytes
    size: int


Pause: TypeAlias = Wait | Hold | Turn
Step: TypeAlias = bytes | Pause | End
Element: TypeAlias = dict[str, Any] | Step | Partial


@dataclass(frozen=True)
class Whole:
    """An answer in one piece. `chunked`: without a length, as what came through the model runner."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    chunked: bool = False


@dataclass(frozen=True)
class Stream:
    """An answer in records. `fold` makes the one object of `stream: false` of them; None: NDJSON."""

    records: Iterator[Element]
    fold: Callable[[Sequence[dict[str, Any]]], dict[str, Any]] | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": NDJSON})
    status: int = 200


@dataclass(frozen=True)
class Verbatim:
    """Bytes as they are, head and framing and all. The connection is done for afterwards."""

    steps: Iterable[Step]


Answer: TypeAlias = Whole | Stream | Verbatim


class Refusal(Exception):
    """An endpoint's error answer: a status, and `{"error": text}` as Ollama words it."""

    def __init__(self, status: int, text: str, *, runner: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.runner = runner
        """Whether it comes from the model runner, which is chunked and names no charset."""

    @property
    def answer(self) -> Whole:
        """The answer that says so."""
        kind = RUNNER_JSON if self.runner else JSON
        return Whole(go.dump({"error": self.text}), self.status, {"Content-Type": kind}, self.runner)


def whole(value: object, status: int = 200) -> Whole:
    """An object as an answer in one piece."""
    return Whole(go.dump(value), status)


def plain(status: int, text: str, **headers: str) -> Whole:
    """A text that is not JSON, as the router's own 404 and 405."""
    return Whole(text.encode(), status, headers | {"Content-Type": "text/plain"})


def empty(status: int = 200) -> Whole:
    """An answer without a body or a Content-Type."""
    return Whole(b"", status, {})


def steps(answer: Answer, *, close: bool, bodyless: bool) -> Iterator[Step]:
    """The bytes and pauses of an answer. `bodyless`: to a HEAD, which gets the head only."""
    if isinstance(answer, Verbatim):
        yield from answer.steps
    elif isinstance(answer, Whole):
        yield Told(_whole(answer, close=close, bodyless=bodyless))
    elif bodyless:
        yield framing.head_bytes(answer.status, answer.headers, close=close, chunked=True)
    elif answer.fold is None:
        yield from _lines(answer, close=close)
    else:
        yield from _folded(answer, answer.fold, close=close)


def _whole(answer: Whole, *, close: bool, bodyless: bool = False) -> bytes:
    if bodyless:  # with the length of the body that is left out, if there is one
        return framing.head_bytes(answer.status, answer.headers, close=close, length=len(answer.body) or None)
    return framing.whole_bytes(
        answer.status, answer.headers, answer.body, close=close, chunked=answer.chunked
    )


def _lines(answer: Stream, *, close: bool) -> Iterator[Step]:
    # The head goes with the first record, as Go sends it: before that, nothing tells a client
    # that it was heard, and an error still has a status of its own.
    head = framing.head_bytes(answer.status, answer.headers, close=close, chunked=True)
    for element in answer.records:
        if isinstance(element, Pause):
            yield element
        elif isinstance(element, End):
            yield element
            return
        elif head and _error(element):
            yield Told(_whole(_failed(element), close=close))
            return
        else:
            data = head + _chunk(element)
            yield Told(data) if is_last(element) else data
            head = b""
    yield Told(head + framing.LAST_CHUNK)


def _chunk(element: dict[str, Any] | bytes | Partial) -> bytes:
    if isinstance(element, Partial):
        return b"%x\r\n%b" % (len(element.line), element.line[: element.size])
    return framing.chunk(line(element))


def line(record: dict[str, Any] | bytes) -> bytes:
    """A record as a line of NDJSON."""
    data = go.dump(record) if isinstance(record, dict) else record
    return data if data.endswith(b"\n") else data + b"\n"


def is_last(record: Element) -> bool:
    """Whether a record, or a line as it is, says that it is the last one."""
    read = go.as_object(_read(record) if isinstance(record, bytes) else record)
    return bool(read.get("done") or read.get("status") == "success")


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _folded(
    answer: Stream, fold: Callable[[Sequence[dict[str, Any]]], dict[str, Any]], *, close: bool
) -> Iterator[Step]:
    records: list[dict[str, Any]] = []
    for element in answer.records:
        if isinstance(element, Pause):
            yield element
        elif isinstance(element, End):
            yield element
            return
        elif isinstance(element, dict):
            records.append(element)
    failed = next((record for record in records if _error(record)), None)
    done = Whole(go.dump(fold(records)), answer.status, answer.headers) if failed is None else _failed(failed)
    yield Told(_whole(done, close=close))


def _error(element: Element) -> bool:
    return isinstance(element, dict) and "error" in element


def _failed(element: Element) -> Whole:
    return Whole(go.dump(element), 500, {"Content-Type": RUNNER_JSON})
