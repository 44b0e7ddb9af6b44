"""Bytes in, lines out: the splitter under the stdio transport, which holds no line longer than its limit."""

from __future__ import annotations

from dataclasses import dataclass

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message in."""

EDGE = 512
"""Bytes kept of either end of a line that is too long: enough to find whom to answer."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """What is left of a line over the limit."""

    head: bytes
    tail: bytes
    limit: int
    """Bytes that it could have had."""


Line = bytes | TooLong


class LineSplitter:
    """Cuts a stream of bytes at every LF, wherever its chunks end."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._head: bytes | None = None  # of the line that is being skipped

    def feed(self, chunk: bytes) -> list[Line]:
        """Take a chunk and return the lines that it completes, without their LF."""
        *pieces, rest = chunk.split(b"\n")
        lines = [self._complete(piece) for piece in pieces]
        self._keep(rest)
        return lines

    def finish(self) -> list[Line]:
        """Return the last line, if the stream ended without a LF."""
        return [self._complete(b"")] if self._buffer else []

    def _complete(self, piece: bytes) -> Line:
        self._keep(piece)
        rest, self._buffer = bytes(self._buffer), bytearray()
        head, self._head = self._head, None
        return rest if head is None else TooLong(head, rest, self._limit)

    def _keep(self, piece: bytes) -> None:
        self._buffer += piece
        if self._head is None and len(self._buffer) > self._limit:
            self._head = bytes(self._buffer[:EDGE])
        if self._head is not None:
            del self._buffer[:-EDGE]
