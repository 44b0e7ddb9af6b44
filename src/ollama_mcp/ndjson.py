"""The bounded reader of newline-delimited JSON: bytes in, JSON objects out, nothing unclassified.

Split on the byte LF only. Go leaves U+0085 raw inside JSON strings, and readers that split text
into lines break a record there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, cast

import pydantic_core

from ollama_mcp.errors import BadUpstream

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one line; what Ollama's own client allows."""
STREAM_LIMIT = 256 * 1024 * 1024
"""Bytes of one answer."""

_REMEDY = "Check that OLLAMA_HOST is an Ollama server and that no proxy changes its answers."


def parse_object(data: bytes) -> dict[str, Any]:
    """Read one JSON object.

    NaN and lone surrogates, which JSON does not have but Python reads, are let through: what
    leaves this program is cleaned where it leaves.

    Raises:
        BadUpstream: It is not JSON, or not an object.
    """
    value = _parse(data)
    if not isinstance(value, dict):
        raise BadUpstream(f"Ollama sent {type(value).__name__} where an object belongs", _REMEDY)
    return cast("dict[str, Any]", value)


def _parse(data: bytes) -> Any:
    try:
        return pydantic_core.from_json(data)
    except ValueError:
        return _parse_slowly(data)


def _parse_slowly(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise BadUpstream("Ollama sent a line that is not JSON", _REMEDY) from None


async def read_objects(
    chunks: AsyncIterable[bytes], *, line_limit: int = LINE_LIMIT, stream_limit: int = STREAM_LIMIT
) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a stream; blank lines are skipped, the last line needs no LF.

    Args:
        chunks: The bytes, cut anywhere.
        line_limit: The longest line, in bytes.
        stream_limit: The longest stream, in bytes.

    Raises:
        BadUpstream: A line that is no object, or a limit is passed.
    """
    lines = _Lines(line_limit, stream_limit)
    async for chunk in chunks:
        for line in lines.feed(chunk):
            yield parse_object(line)
    for line in lines.rest():
        yield parse_object(line)


class _Lines:
    """Bytes in, whole lines out. Pieces of a long line are joined once, not at every chunk."""

    def __init__(self, line_limit: int, stream_limit: int) -> None:
        self._line_limit = line_limit
        self._stream_limit = stream_limit
        self._pieces: list[bytes] = []
        self._length = 0
        self._total = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._total += len(chunk)
        if self._total > self._stream_limit:
            raise BadUpstream(f"Ollama's answer is longer than {self._stream_limit} bytes", _REMEDY)
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            self._keep(part)
            yield from self.rest()
        self._keep(rest)

    def rest(self) -> Iterator[bytes]:
        line = b"".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        if line.strip():
            yield line

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length > self._line_limit:
            raise BadUpstream(f"Ollama sent a line of more than {self._line_limit} bytes", _REMEDY)
        if piece:
            self._pieces.append(piece)
