"""The bounded reader of newline-delimited JSON: bytes in, JSON objects out, nothing unclassified.

Split on the byte LF only. Go leaves U+0085 raw inside JSON strings, and readers that split text
into lines break a record there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, cast

import pydantic_core

from ollama_mcp.errors import BadUpstream

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one line; what Ollama's own client allows."""
STREAM_LIMIT = 256 * 1024 * 1024
"""Bytes of one answer."""

_REMEDY = "Check that OLLAMA_HOST is an Ollama server and that no proxy changes its answers."


class NotJson(BadUpstream):
    """A line of an answer that is not JSON."""


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
    try:
        value = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        mended = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], data)
        try:
            value = pydantic_core.from_json(mended, allow_inf_nan=False)
        except ValueError:
            raise NotJson("Ollama sent a line that is not JSON", _REMEDY) from None
    if not isinstance(value, dict):
        raise BadUpstream(f"Ollama sent {type(value).__name__} where an object belongs", _REMEDY)
    return cast("dict[str, Any]", value)


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
        BadUpstream: A line is no object, or longer than a limit.
    """
    begun = bytearray()  # a line that is not whole yet: one buffer, however small its pieces
    total = 0
    too_long = f"Ollama sent a line of more than {line_limit} bytes"
    async for chunk in chunks:
        total += len(chunk)
        if total > stream_limit:
            raise BadUpstream(f"Ollama's answer is longer than {stream_limit} bytes", _REMEDY)
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            if len(begun) + len(end) > line_limit:
                raise BadUpstream(too_long, _REMEDY)
            line: bytes | bytearray = end  # nearly always whole: Ollama sends a line at a time
            if begun:
                begun += end
                line, begun = begun, bytearray()
            if line.strip():
                yield parse(line)
        if len(begun) + len(rest) > line_limit:
            raise BadUpstream(too_long, _REMEDY)
        begun += rest
    if begun.strip():
        yield parse(begun)
