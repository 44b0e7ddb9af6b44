"""What requests hold in memory: bytes that count for whoever sent them until nobody works on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_at_hand: ContextVar[Claim[Any] | None] = ContextVar("claim", default=None)


class Claim(Generic[K]):
    """The bytes of one request, which count as long as somebody holds it.

    Args:
        held: Bytes by owner, of all requests together; who has none is not in it.
        owner: Whose request it is.

    Attributes:
        owner: Whose it is.
        size: Bytes; 0 for what is too small to count.
    """

    def __init__(self, held: Counter[K], owner: K) -> None:
        self._held = held
        self.owner = owner
        self._holders = 0
        self.size = 0

    def grow(self, size: int) -> None:
        """Have so many bytes from now on; for one who holds it."""
        self._held[self.owner] += size - self.size
        self.size = size

    def hold(self) -> None:
        """One more works on it."""
        if self.size and not self._holders:
            self._held[self.owner] += self.size
        self._holders += 1

    def let_go(self) -> None:
        """One less."""
        self._holders -= 1
        if self.size and not self._holders:
            give_back(self._held, self.owner, self.size)

    @contextmanager
    def at_hand(self) -> Generator[None]:
        """Hold it, and be what `working` holds in this task and in those that begin here."""
        before = _at_hand.set(self)
        self.hold()
        try:
            yield
        finally:
            self.let_go()
            _at_hand.reset(before)


def size_at_hand() -> int:
    """Bytes of the request that is at hand; 0 where there is none, and for a small one."""
    claim = _at_hand.get()
    return claim.size if claim is not None else 0


@contextmanager
def working() -> Generator[None]:
    """Hold the claim of the request at hand, where there is one: work may outlive the call that began it."""
    claim = _at_hand.get()
    if claim is None:
        yield
        return
    claim.hold()
    try:
        yield
    finally:
        claim.let_go()


def give_back(counts: Counter[K], owner: K, amount: int) -> None:
    """Count so many less, and forget who has none."""
    counts[owner] -= amount
    if not counts[owner]:
        del counts[owner]
