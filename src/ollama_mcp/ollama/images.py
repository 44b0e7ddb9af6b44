"""Pictures as their headers tell of them: which kind of file, how many pixels. Never decoded.

A few thousand bytes can unfold to gigabytes in whoever decodes them, which is Ollama. The kinds are
those that its models take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ollama_mcp.errors import InvalidArgument

_Size = tuple[int, int]
_NO_SIZE = (0, 0)
_MOST_PARTS = 1000
"""Of a JPEG or a WebP before its size; an honest one has a dozen."""


@dataclass(frozen=True)
class Picture:
    """Facts of an image's header. Width and height in pixels, each above 0."""

    kind: str
    width: int
    height: int


def look(data: bytes) -> Picture:
    """Tell what picture the bytes of a file are, by how they begin.

    Raises:
        InvalidArgument: It is none that Ollama takes, or its header gives no size.
    """
    for kind, magic, read in _KINDS:
        if magic.match(data):
            width, height = read(data)
            if not width or not height:
                raise InvalidArgument(
                    f"an image begins as {kind} but its header has no size",
                    "Send a whole image file in base64.",
                )
            return Picture(kind, width, height)
    raise InvalidArgument(
        "an image is of no kind that Ollama takes", "Send a PNG, JPEG, GIF, WebP or BMP file in base64."
    )


def is_picture(data: bytes) -> bool:
    """Return whether the bytes of a file begin as an image's do.

    >>> is_picture(b"GIF89a"), is_picture(b"BMW")
    (True, False)
    """
    return any(magic.match(data) for _, magic, _ in _KINDS)


def _number(data: bytes, at: int, length: int, order: Literal["little", "big"] = "little") -> int:
    """A whole number of so many bytes; 0 where the file ends before it."""
    piece = data[at : at + length]
    return int.from_bytes(piece, order) if len(piece) == length else 0


def _png(data: bytes) -> _Size:
    return _number(data, 16, 4, "big"), _number(data, 20, 4, "big")


def _gif(data: bytes) -> _Size:
    return _number(data, 6, 2), _number(data, 8, 2)


def _bmp(data: bytes) -> _Size:
    if _number(data, 14, 4) == 12:  # OS/2
        return _number(data, 18, 2), _number(data, 20, 2)
    return _signed(data, 18), _signed(data, 22)


def _signed(data: bytes, at: int) -> int:
    """Read a height without its sign: rows from top to bottom have a height below 0."""
    return abs(int.from_bytes(data[at : at + 4], "little", signed=True)) if len(data) >= at + 4 else 0


_MARKER = re.compile(rb"\xff([\x01-\xfe])", re.DOTALL)
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a segment."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9


def _jpeg(data: bytes) -> _Size:
    """Read the first frame header; bytes between segments are passed over, as decoders do."""
    at = 2
    for _ in range(_MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None or found[1][0] in {_SCAN, _END}:
            break
        marker, at = found[1][0], found.end()
        if marker in _FRAMES:
            return _number(data, at + 5, 2, "big"), _number(data, at + 3, 2, "big")
        if marker not in _ALONE:
            at += max(_number(data, at, 2, "big"), 2)
    return _NO_SIZE


def _webp(data: bytes) -> _Size:
    """The largest of what its parts say: some decoders go by the canvas, some by the picture in it."""
    sizes = [read(data, at) for name, at in _parts(data) for read in [_WEBP_PARTS.get(name)] if read]
    return (max(width for width, _ in sizes), max(height for _, height in sizes)) if sizes else _NO_SIZE


def _parts(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The chunks of a RIFF file: name, and where the content begins."""
    at = 12
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data):
            return
        yield data[at : at + 4], at + 8
        length = _number(data, at + 4, 4)
        at += 8 + length + length % 2


def _lossy(data: bytes, at: int) -> _Size:
    if data[at + 3 : at + 6] != b"\x9d\x01\x2a":
        return _NO_SIZE
    return _number(data, at + 6, 2) & 0x3FFF, _number(data, at + 8, 2) & 0x3FFF


def _lossless(data: bytes, at: int) -> _Size:
    if data[at : at + 1] != b"\x2f" or len(data) < at + 5:
        return _NO_SIZE
    bits = _number(data, at + 1, 4)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _canvas(data: bytes, at: int) -> _Size:
    if len(data) < at + 10:
        return _NO_SIZE
    return _number(data, at + 4, 3) + 1, _number(data, at + 7, 3) + 1


_WEBP_PARTS: dict[bytes, Callable[[bytes, int], _Size]] = {
    b"VP8 ": _lossy,
    b"VP8L": _lossless,
    b"VP8X": _canvas,
}
_BMP_HEADERS = b"\x0c\x28\x34\x38\x40\x6c\x7c"
"""Lengths of the headers that there are: two letters alone are no magic."""
_KINDS: tuple[tuple[str, re.Pattern[bytes], Callable[[bytes], _Size]], ...] = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR", re.DOTALL), _png),
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg),
    ("GIF", re.compile(rb"GIF8[79]a"), _gif),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp),
    ("BMP", re.compile(rb"BM.{12}[" + re.escape(_BMP_HEADERS) + rb"]\0\0\0", re.DOTALL), _bmp),
)
