"""A folder of recordings as a server's memory: each request gets the answer to an equal one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ollama_mcp.testing import go
from ollama_mcp.testing.framing import Request
from ollama_mcp.testing.replay import Exchange, RecordedRequest
from ollama_mcp.testing.scripts import Script


class Cassette:
    """Answers by recordings. Of several of equal requests each is played once, in order; the last one stays.

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
        """The answer to a request: HTTP 501, with what is missing, where none was recorded."""
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
    """By the number at its beginning: 1000 comes after 999."""
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
    one, other = go.as_object(recorded.json), go.as_object(request.json)
    names: Iterable[str] = one.keys() | other.keys()
    return " and ".join(sorted(name for name in names if one.get(name) != other.get(name))) or "its bytes"
