"""Recorded exchanges with a real Ollama: one JSON file each, played back alone or as a folder.

The format is that of the recordings directory: `request` (method, path, host, body), `response.wire`
(pairs of milliseconds since the request and bytes), `response.body` (the same without framing)
and `response.end` (who closed). `expects`, what a client must make of it, is for tests that replay many.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ollama_mcp.ollama_server.go_values import as_object
from ollama_mcp.ollama_server.http_messages import Request, read_answer
from ollama_mcp.testing.scripts import Script, Step, Wait


@dataclass(frozen=True)
class RecordedRequest:
    """The request as it was recorded.

    Attributes:
        method: The HTTP method.
        path: The path.
        host: The Host header.
        body: The body's bytes, empty if there was none; `json` reads them.
    """

    method: str
    path: str
    host: str
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON; None if it is empty or is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Exchange:
    """A recording, which `Exchange.load` reads from a file.

    Attributes:
        name: The recording's name, which is that of its file.
        why: What it was recorded for; may be empty.
        request: The request: `method`, `path`, `host`, `body` (bytes) and `json`.
        status: The answer's HTTP status.
        pieces: The answer as it came: seconds since the request, and bytes with head and framing.
        end: Who closed: "server closed" or "client closed". After the latter a replay waits for the
            client to leave.
        text: The answer's body, without framing; `body()` returns the same.
        expects: What a client must make of it, where somebody has written that into the file.
    """

    name: str
    why: str
    request: RecordedRequest
    status: int
    pieces: tuple[tuple[float, bytes], ...]
    end: str
    text: bytes
    expects: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def load(cls, path: str | Path) -> Exchange:
        """Read a recording.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no recording.
        """
        try:
            return cls._read(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no recording: {error!r}") from error

    @classmethod
    def _read(cls, data: dict[str, Any]) -> Self:
        request, response = data["request"], data["response"]
        return cls(
            name=data["name"],
            why=data["why"],
            request=RecordedRequest(
                request["method"], request["path"], request["host"], _bytes(request["body"])
            ),
            status=response["status"],
            pieces=tuple((ms / 1000, _bytes(piece)) for ms, piece in response["wire"]),
            end=response["end"],
            expects=data.get("expects", {}),
            text=_bytes(response["body"]),
        )

    def save(self, path: str | Path) -> None:
        """Write it as a file that `load` reads: whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.part")
        text = json.dumps(self._as_data(), indent=1, ensure_ascii=False)
        # A lone surrogate, which UTF-8 has not, becomes the escape that JSON has for it.
        unfinished.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        unfinished.replace(path)

    def _as_data(self) -> dict[str, Any]:
        asked = self.request
        return {
            "name": self.name,
            "why": self.why,
            "request": {
                "method": asked.method,
                "path": asked.path,
                "host": asked.host,
                "body": _text(asked.body) if asked.body else None,
            },
            "response": {
                "status": self.status,
                "content_type": read_answer(self.wire).headers.get("content-type", ""),
                "body": _text(self.text),
                "end": self.end,
                "wire": [[round(seconds * 1000, 1), _text(piece)] for seconds, piece in self.pieces],
            },
        } | ({"expects": dict(self.expects)} if self.expects else {})

    @property
    def wire(self) -> bytes:
        """The whole answer with head and framing."""
        return b"".join(piece for _, piece in self.pieces)

    def body(self) -> bytes:
        """Return the answer's body, without framing."""
        return self.text

    def script(self, *, as_recorded_timing: bool = False) -> Script:
        """Return the script that plays it back: where the client had left, it waits for that again."""
        steps = tuple(self._timed()) if as_recorded_timing else tuple(piece for _, piece in self.pieces)
        return Script(raw=steps, how="silence" if self.end == "client closed" else "close")

    def _timed(self) -> Iterator[Step]:
        before = 0.0
        for at, piece in self.pieces:
            yield Wait(at - before)
            yield piece
            before = at


def _text(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:  # also where a character is cut
        return {"base64": base64.b64encode(data).decode()}


def _bytes(text: str | Mapping[str, str] | None) -> bytes:
    if isinstance(text, str):
        return text.encode()
    return base64.b64decode(text["base64"]) if text else b""


class Cassette:
    """A folder of recordings to answer by.

    Of several of equal requests each is played once, in order; the last one stays.

    Args:
        folder: With the files of a `Recorder`, which are played in the order of their numbers.
        as_recorded_timing: With the pauses that the real server made.

    Raises:
        OSError: the folder, or a file in it, cannot be read.
        ValueError: there is no recording in it, or a file is none.
    """

    def __init__(self, folder: str | Path, *, as_recorded_timing: bool = False) -> None:
        files = sorted(Path(folder).glob("*.json"), key=_place)
        if not files:
            raise ValueError(f"there is no recording in {folder}")
        self._waiting = [Exchange.load(file) for file in files]
        self._timing = as_recorded_timing

    def script(self, request: Request) -> Script:
        """Return the answer to a request: HTTP 501, with what is missing, where none was recorded."""
        equal = [exchange for exchange in self._waiting if _is_equal(exchange.request, request)]
        if not equal:
            return Script(status=501, body={"error": self._missing(request)})
        if len(equal) > 1:
            self._waiting.remove(equal[0])
        return equal[0].script(as_recorded_timing=self._timing)

    def _missing(self, request: Request) -> str:
        asked = f"no recording of {request.method} {request.path}"
        near = [exchange for exchange in self._waiting if _is_near(exchange.request, request)]
        if not near:
            there = sorted({f"{made.request.method} {made.request.path}" for made in self._waiting})
            return f"{asked}; there are {', '.join(there)}"
        told = [f"{exchange.name} differs in {_difference(exchange.request, request)}" for exchange in near]
        return f"{asked} with this body: {', '.join(told)}"


def _place(file: Path) -> tuple[int, str]:
    """Return the number at its beginning: 1000 comes after 999."""
    number = re.match(r"[0-9]*", file.name)
    return (int(number[0]) if number and number[0] else 0, file.name)


def _is_near(recorded: RecordedRequest, request: Request) -> bool:
    return (recorded.method, recorded.path) == (request.method, request.path)


def _is_equal(recorded: RecordedRequest, request: Request) -> bool:
    if not _is_near(recorded, request):
        return False
    if recorded.json is None or request.json is None:
        return recorded.body == request.body
    return recorded.json == request.json


def _difference(recorded: RecordedRequest, request: Request) -> str:
    one, other = as_object(recorded.json), as_object(request.json)
    names: Iterable[str] = one.keys() | other.keys()
    return " and ".join(sorted(name for name in names if one.get(name) != other.get(name))) or "its bytes"
