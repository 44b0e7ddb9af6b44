"""Checks and repairs of messages before they become objects."""

from __future__ import annotations

import codecs
import json
import re

import pydantic_core

from ollama_mcp.ollama.sanitize import sanitize

_PARTS = 250_000
"""Texts, commas and opening brackets in one message: more than any call
needs, and no more than 32 MiB as objects, while 16 MiB of `[],` would be 460."""
TOO_MANY_PARTS = f"a message may have at most {_PARTS} texts, commas, brackets and halves of characters"
_MARKS = (b",", b"[", b"{")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def has_too_many_parts(line: bytes) -> bool:
    """Return whether a message would become so many objects that they hold many times its size."""
    if line.count(b"\\ud") + line.count(b"\\uD") > _PARTS:  # mending so many would hold the others up
        return True
    if len(line) <= _PARTS or _marks(line, 0, len(line)) + line.count(b'"') // 2 <= _PARTS:
        return False
    parts = end = 0
    for text in _TEXT.finditer(line):  # marks in a text are none
        parts += 1 + _marks(line, end, text.start())
        end = text.end()
        if parts > _PARTS:
            return True
    return parts + _marks(line, end, len(line)) > _PARTS


def _marks(line: bytes, start: int, end: int) -> int:
    return sum(line.count(mark, start, end) for mark in _MARKS)


def repair_surrogates(body: bytes) -> bytes:
    """A message with its lone surrogates and its byte order mark mended; as it is, where there are none."""
    if not (b"\\ud" in body or b"\\uD" in body or body.startswith(codecs.BOM_UTF8)):
        return body
    try:
        pydantic_core.from_json(body)
    except ValueError:
        return _written_anew(body)
    return body


def _written_anew(body: bytes) -> bytes:
    try:
        value = sanitize(json.loads(body.decode("utf-8-sig")))
    except (ValueError, RecursionError):  # whoever reads it next says so
        return body
    return json.dumps(value, separators=(",", ":")).encode()
