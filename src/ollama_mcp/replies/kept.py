"""Replies that are found by their handles: how many each principal may keep, and all of them together.

Within what one principal may keep, its own are let go of, the spare and the oldest first. Where all
together keep too much, whoever has most gives: nobody loses anything to others as long as they have no
more than an equal share of what there is for all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ollama_mcp.replies.reply import Reply


@dataclass(frozen=True)
class Retention:
    """How long, how many and how much is kept.

    Attributes:
        kept_s: Seconds that a Reply is kept after its end.
        most: Replies of one principal that are kept, those that go on among them.
        most_bytes: What finished ones of one principal may hold together.
        all_most: Replies of all principals that are kept.
        all_bytes: What finished ones of all may hold together, apart from the one that ended last.
        unclaimed_s: Seconds after which a Reply is stopped that nobody waits for.
    """

    kept_s: float = 30 * 60
    most: int = 64
    most_bytes: int = 64 << 20
    all_most: int = 4096
    all_bytes: int = 256 << 20
    unclaimed_s: float = 15 * 60


@dataclass
class _Share:
    """What one principal has: all, by handle, and the sizes of those that have ended."""

    replies: dict[str, Reply[Any]] = field(default_factory=dict[str, Reply[Any]])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    size: int = 0

    def first(self, besides: str = "") -> str:
        """The one to let go of first: a spare one before the others, and of those the oldest.

        Args:
            besides: One that stays.
        """
        return min((handle for handle in self.sizes if handle != besides), key=self._rank)

    def _rank(self, handle: str) -> tuple[bool, float]:
        reply = self.replies[handle]
        return not reply.spare, reply.ended_at or 0.0


class Kept:
    """Those of one event loop. Only those that have ended are let go of."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._all: dict[str, Reply[Any]] = {}
        self._shares: dict[str, _Share] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._size = 0
        self._newest = ""

    def __contains__(self, handle: object) -> bool:
        """Whether one is kept under that handle."""
        return handle in self._all

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._all)

    def get(self, handle: str) -> Reply[Any] | None:
        """The one of that handle."""
        return self._all.get(handle)

    def of(self, principal: str) -> list[Reply[Any]]:
        """Those of one principal, in the order in which they came."""
        share = self._shares.get(principal)
        return list(share.replies.values()) if share else []

    def add(self, reply: Reply[Any]) -> bool:
        """Keep one more; False where there is no room for it, since too many go on."""
        if reply.handle in self._all:
            return True
        share = self._shares.setdefault(reply.principal, _Share())
        self._all[reply.handle] = share.replies[reply.handle] = reply
        if reply.ended_at is None:
            self._make_room(share)
        else:
            self.settle(reply)
        if len(share.replies) > self._retention.most or len(self._all) > self._retention.all_most:
            self.drop(reply.handle)
        return reply.handle in self._all

    def settle(self, reply: Reply[Any]) -> None:
        """One has ended: from now on it is known what it holds."""
        share = self._shares[reply.principal]
        if reply.handle in share.sizes:
            return
        reply.pack()
        size = reply.size
        share.sizes[reply.handle] = size
        share.size += size
        self._size += size
        self._newest = reply.handle
        self._make_room(share)

    def drop(self, handle: str) -> None:
        """Let go of one, if it is kept."""
        reply = self._all.pop(handle, None)
        if reply is None:
            return
        share = self._shares[reply.principal]
        del share.replies[handle]
        size = share.sizes.pop(handle, 0)
        share.size -= size
        self._size -= size
        if not share.replies:
            del self._shares[reply.principal]
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

    # --- room -----------------------------------------------------------------------------------

    def _make_room(self, share: _Share) -> None:
        bounds = self._retention
        while share.sizes and len(share.replies) > bounds.most:
            self.drop(share.first())
        while share.size > bounds.most_bytes and len(share.sizes) > 1:
            self.drop(share.first())
        while len(self._all) > bounds.all_most and (giver := self._has_most()) is not None:
            self.drop(giver.first())
        while self._size - self._size_of_newest() > bounds.all_bytes:
            self.drop(self._largest().first(besides=self._newest))

    def _has_most(self) -> _Share | None:
        """Who has most Replies and can give one: only of those with more than an equal share."""
        enough = self._retention.all_most / len(self._shares)
        rich = [share for share in self._shares.values() if share.sizes and len(share.replies) > enough]
        return max(rich, key=lambda share: len(share.replies), default=None)

    def _largest(self) -> _Share:
        """Who holds most, the newest aside: that one is there once, however large it is."""
        return max(self._shares.values(), key=lambda share: share.size - share.sizes.get(self._newest, 0))

    def _size_of_newest(self) -> int:
        newest = self._all.get(self._newest)
        return self._shares[newest.principal].sizes[self._newest] if newest else 0
