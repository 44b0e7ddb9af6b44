"""Recorded exchanges with a real Ollama: one JSON file each, played back byte for byte.

The format is that of the recordings directory: `request` (method, path, host, body), `response.wire`
(pairs of milliseconds since the request and bytes), `response.body` (the same without framing),
`response.end` (who closed) and `expects` (what a client must make of it).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ollama_mcp.testing.answers import Step, Wait
from ollama_mcp.testing.framing import read_answer
from ollama_mcp.testing.scripts import Script


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
    """A recording. None of the fields has a default; `Exchange.load` reads them from a file.

    Attributes:
        name: The recording's name, which is that of its file.
        why: What it was recorded for; may be empty.
        request: The request: `method`, `path`, `host`, `body` (bytes) and `json`.
        status: The answer's HTTP status.
        pieces: The answer as it came: seconds since the request, and bytes with head and framing.
        end: Who closed: "server closed" or "client closed". After the latter a replay waits for the
            client to leave.
        expects: What a client must make of it. The fake itself does not read it.
        text: The answer's body, without framing; `body()` returns the same.
    """

    name: str
    why: str
    request: RecordedRequest
    status: int
    pieces: tuple[tuple[float, bytes], ...]
    end: str
    expects: Mapping[str, Any]
    text: bytes

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
            expects=data["expects"],
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
            "expects": dict(self.expects),
        }

    @property
    def wire(self) -> bytes:
        """The whole answer with head and framing."""
        return b"".join(piece for _, piece in self.pieces)

    def body(self) -> bytes:
        """The answer's body, without framing."""
        return self.text

    def script(self, *, as_recorded_timing: bool = False) -> Script:
        """The script that plays it back: where the client had left, it waits for that again."""
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
