"""The bounded reader of newline-delimited JSON: bytes in, JSON objects out, nothing unclassified.

Split on the byte LF only. Go leaves U+0085 raw inside JSON strings, and readers that split text
into lines break a record there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any, cast

import pydantic_core

from ollama_mcp.errors import BadUpstream

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one line; what Ollama's own client allows."""
STREAM_LIMIT = 256 * 1024 * 1024
"""Bytes of one answer."""

_REMEDY = "Check that OLLAMA_HOST is an Ollama server and that no proxy changes its answers."


class NotJson(BadUpstream):
    """A line that is no JSON."""


_UNIT = rb"[0-9a-fA-F]{2}"
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB]" + _UNIT + rb"\\u[dD][c-fC-F]" + _UNIT  # a pair
    + rb"|(\\u[dD][89a-fA-F]" + _UNIT + rb")"  # half a pair
    + rb"|\\.",
    re.DOTALL,
)  # fmt: skip


def parse_object(data: bytes | bytearray) -> dict[str, Any]:
    r"""Read one JSON object.

    Lone surrogates, which no encoding has, become U+FFFD, as in Go.

    >>> parse_object(rb'{"a": "x\ud800y"}')
    {'a': 'x�y'}

    Raises:
        BadUpstream: It is not JSON (NaN, a byte order mark, and 200 levels of nesting are not), or
            not an object.
    """
    value = _parse(data)
    if not isinstance(value, dict):
        raise BadUpstream(f"Ollama sent {type(value).__name__} where an object belongs", _REMEDY)
    return cast("dict[str, Any]", value)


def _parse(data: bytes | bytearray) -> Any:
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        repair_surrogates = _ESCAPE.sub(_mended, data)
    try:
        return pydantic_core.from_json(repair_surrogates, allow_inf_nan=False)
    except ValueError:
        raise NotJson("Ollama sent a line that is not JSON", _REMEDY) from None


def _mended(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]


async def read_objects(
    chunks: AsyncIterable[bytes],
    *,
    line_limit: int = LINE_LIMIT,
    stream_limit: int = STREAM_LIMIT,
    parse: Callable[[bytes | bytearray], dict[str, Any]] = parse_object,
) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a stream; blank lines are skipped, the last line needs no LF.

    Args:
        chunks: The bytes, cut anywhere.
        line_limit: The longest line, in bytes.
        stream_limit: The longest stream, in bytes.
        parse: Reads a line.

    Raises:
        BadUpstream: A line that is no object, or a limit is passed.
    """
    lines = _Lines(line_limit, stream_limit)
    async for chunk in chunks:
        for line in lines.feed(chunk):
            yield parse(line)
    for line in lines.rest():
        yield parse(line)


class _Lines:
    """Bytes in, whole lines out. A line that is not whole yet is one buffer, however small its pieces."""

    def __init__(self, line_limit: int, stream_limit: int) -> None:
        self._line_limit = line_limit
        self._stream_limit = stream_limit
        self._line = bytearray()
        self._total = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | bytearray]:
        self._total += len(chunk)
        if self._total > self._stream_limit:
            raise BadUpstream(f"Ollama's answer is longer than {self._stream_limit} bytes", _REMEDY)
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = self._whole(end)
            if line.strip():
                yield line
        if rest:
            self._check(rest)
            self._line += rest

    def rest(self) -> Iterator[bytes | bytearray]:
        line = self._whole(b"")
        if line.strip():
            yield line

    def _whole(self, end: bytes) -> bytes | bytearray:
        self._check(end)
        if not self._line:  # nearly always: Ollama sends a line at a time
            return end
        line, self._line = self._line, bytearray()
        line += end
        return line

    def _check(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > self._line_limit:
            raise BadUpstream(f"Ollama sent a line of more than {self._line_limit} bytes", _REMEDY)
