"""Replies that are found by their handles; over a cap those that have ended go, least recently used first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ollama_mcp.replies.reply import Reply


@dataclass(frozen=True)
class Retention:
    """How long, how many and how much is kept.

    Attributes:
        kept_s: Seconds that a Reply is kept after its end.
        most: Replies that are kept, those that go on among them.
        most_bytes: What finished ones may hold together, apart from the one that was used last.
        unclaimed_s: Seconds after which a Reply is stopped that nobody waits for.
    """

    kept_s: float = 30 * 60
    most: int = 256
    most_bytes: int = 256 << 20
    unclaimed_s: float = 15 * 60


class Kept:
    """Those of one event loop. Only those that have ended are let go of."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._all: dict[str, Reply[Any]] = {}
        self._sizes: dict[str, int] = {}
        """Of those that have ended, the least recently used first."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, handle: object) -> bool:
        """Whether one is kept under that handle."""
        return handle in self._all

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._all)

    def get(self, handle: str) -> Reply[Any] | None:
        """The one of that handle, which is used by that."""
        if handle in self._sizes:
            self._sizes[handle] = self._sizes.pop(handle)
        return self._all.get(handle)

    def of(self, principal: str) -> list[Reply[Any]]:
        """Those of one principal, in the order in which they came."""
        return [reply for reply in self._all.values() if reply.principal == principal]

    def add(self, reply: Reply[Any]) -> bool:
        """Keep one more; False where there is no room for it, since too many go on."""
        self._all[reply.handle] = reply
        if reply.ended_at is not None:
            self.settle(reply)
        self._make_room()
        if len(self._all) > self._retention.most:
            self.drop(reply.handle)
        return reply.handle in self._all

    def settle(self, reply: Reply[Any]) -> None:
        """One has ended: from now on it is known what it holds."""
        if reply.handle not in self._sizes:
            reply.pack()
            self._sizes[reply.handle] = reply.size
            self._make_room()

    def drop(self, handle: str) -> None:
        """Let go of one, if it is kept."""
        self._all.pop(handle, None)
        self._sizes.pop(handle, None)
        self.call_later(handle, None)

    def call_later(self, handle: str, timer: asyncio.TimerHandle | None) -> None:
        """Have one timer for a handle, instead of the one before; none is left when it is let go of."""
        before = self._timers.pop(handle, None)
        if before is not None:
            before.cancel()
        if timer is not None:
            self._timers[handle] = timer

    def stop_timers(self) -> None:
        """Nobody looks after them any more: they go with whatever holds this."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _make_room(self) -> None:
        while self._sizes and len(self._all) > self._retention.most:
            self.drop(next(iter(self._sizes)))
        while len(self._sizes) > 1 and sum(self._sizes.values()) > self._retention.most_bytes:
            self.drop(next(iter(self._sizes)))
