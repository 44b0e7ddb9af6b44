"""Which line is next: in a crowd of calls, those that are answered at once pass those that are not.

A client that calls ten thousand times would otherwise wait ten thousand answers long for a status.
Nothing but such a request passes, so that a cancel never comes before the call that it is for; and
where there is no crowd, everything comes in the order in which it was written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import pydantic_core

from ollama_mcp.transports.stdio.lines import Line, TooLong

_CROWD = 64
"""Lines that wait, above which there is a crowd."""

_SHORT = 4096
"""Bytes of the longest line that may pass; reading a longer one twice would cost more than it saves."""


class Lanes:
    """The lines that wait for the server.

    Args:
        at_once: Names of the tools whose calls may pass.
    """

    def __init__(self, at_once: Collection[str] = ()) -> None:
        self._at_once = frozenset(at_once)
        self._marks = [b'"ping"', *(f'"{name}"'.encode() for name in self._at_once)]
        self._turns: deque[Line] = deque()
        self._passing: deque[Line] = deque()
        self._is_open = False

    def __bool__(self) -> bool:
        return bool(self._turns or self._passing)

    @property
    def is_crowded(self) -> bool:
        """Whether many wait."""
        return len(self._turns) > _CROWD

    def add(self, line: Line) -> None:
        """One more waits."""
        lane = self._passing if self.is_crowded and self._may_pass(line) else self._turns
        lane.append(line)

    def take(self) -> Line:
        """Take the next one; there must be one."""
        if self._passing and (self._is_open or not self._turns):
            return self._passing.popleft()
        line = self._turns.popleft()
        # Until the first call the session may not be open yet, and nobody passes its opening.
        self._is_open = self._is_open or (isinstance(line, bytes) and b'"tools/call"' in line)
        return line

    def clear(self) -> None:
        """Nobody waits any more."""
        self._turns.clear()
        self._passing.clear()

    def _may_pass(self, line: Line) -> bool:
        if isinstance(line, TooLong) or len(line) > _SHORT or not any(mark in line for mark in self._marks):
            return False
        try:
            message = pydantic_core.from_json(line)
        except ValueError:
            return False
        match message:
            case {"method": "ping", "id": _}:
                return True
            case {"method": "tools/call", "id": _, "params": {"name": str(name)}}:
                return name in self._at_once
            case _:
                return False


def size_of(line: Line) -> int:
    """Bytes that a line holds.

    >>> size_of(b"{}"), size_of(TooLong(b"ab", b"c", 9))
    (2, 3)
    """
    return len(line.head) + len(line.tail) if isinstance(line, TooLong) else len(line)
