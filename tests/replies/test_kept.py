"""What each principal may keep, and what all may: nobody loses anything to others below an equal share."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.replies import Replies, Reply, Retention, State
from ollama_mcp.replies.kept import Kept


class Piece(Reply[str]):
    """A Reply of a given size, which ends when it is told to."""

    def __init__(self, principal: str, size: int) -> None:
        super().__init__("tok", principal)
        self.bytes = size

    @property
    def size(self) -> int:
        return self.bytes

    def end(self, at: float) -> "Piece":
        self.state, self.ended_at = State.DONE, at
        return self


def fill(kept: Kept, principal: str, count: int, *, size: int = 1, running: bool = False) -> list[Piece]:
    pieces = [Piece(principal, size) for _ in range(count)]
    for at, piece in enumerate(pieces):
        assert kept.add(piece if running else piece.end(at))
    return pieces


def those_kept(kept: Kept, pieces: list[Piece]) -> list[bool]:
    return [piece.handle in kept for piece in pieces]


# --- each principal ----------------------------------------------------------------------------


def test_one_who_keeps_much_pushes_out_nothing_of_another():
    kept = Kept(Retention(most=4, most_bytes=100))
    mine = fill(kept, "me", 4, size=25)
    yours = fill(kept, "you", 50, size=25)
    assert those_kept(kept, mine) == [True] * 4
    assert those_kept(kept, yours) == [False] * 46 + [True] * 4


def test_one_whose_own_go_on_leaves_room_for_those_of_another():
    kept = Kept(Retention(most=4))
    fill(kept, "you", 4, running=True)
    assert not kept.add(Piece("you", 1))
    assert not kept.add(Piece("you", 1).end(9.0))
    mine = fill(kept, "me", 4, running=True)
    assert those_kept(kept, mine) == [True] * 4


def test_spare_ones_go_before_those_that_are_not_read_yet():
    kept = Kept(Retention(most=4, most_bytes=100))
    unread = fill(kept, "me", 1)
    for at in range(1, 70):
        vectors = Piece("me", 1).end(at)
        vectors.spare = True
        assert kept.add(vectors)
    assert those_kept(kept, unread) == [True]
    assert len(kept) == 4
    large = Piece("me", 100).end(70)
    large.spare = True
    kept.add(large)
    assert unread[0].handle in kept
    assert large.handle not in kept


def test_a_spare_one_has_no_room_where_all_others_are_unread():
    kept = Kept(Retention(most=4))
    unread = fill(kept, "me", 4)
    vectors = Piece("me", 1).end(9)
    vectors.spare = True
    assert not kept.add(vectors)
    assert those_kept(kept, unread) == [True] * 4


# --- all together ------------------------------------------------------------------------------


def test_who_has_most_gives_where_all_together_keep_too_many():
    kept = Kept(Retention(most=6, all_most=10))
    yours = fill(kept, "you", 6)
    fill(kept, "they", 4)
    mine = fill(kept, "me", 3)
    assert those_kept(kept, yours) == [False] * 3 + [True] * 3
    assert those_kept(kept, mine) == [True] * 3
    assert (len(kept.of("they")), len(kept)) == (4, 10)


def test_who_holds_most_gives_where_all_together_hold_too_much():
    kept = Kept(Retention(most_bytes=80, all_bytes=100))
    yours = fill(kept, "you", 8, size=10)
    mine = fill(kept, "me", 3, size=10)
    fill(kept, "they", 1, size=90)
    assert those_kept(kept, mine) == [True] * 3
    assert those_kept(kept, yours) == [False] + [True] * 7
    assert kept.of("they")  # the newest is there once, however large it is
    fill(kept, "me", 1)
    assert kept.of("they") == []


def test_what_goes_on_of_many_is_bounded_too():
    kept = Kept(Retention(most=4, all_most=8))
    for principal in ("a", "b"):
        fill(kept, principal, 4, running=True)
    assert not kept.add(Piece("c", 1))
    assert len(kept) == 8


def test_thousands_of_principals_keep_no_more_than_is_there_for_all():
    kept = Kept(Retention(all_most=500, all_bytes=100_000))
    for number in range(5000):
        assert kept.add(Piece(f"p{number}", 1000).end(number))
    assert len(kept) <= 101
    assert len(kept._shares) == len(kept)
    assert kept.of("p4999")


pieces = st.tuples(
    st.sampled_from("abcde"),
    st.integers(0, 60),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["add", "end"]),
)


@dataclass
class Before:
    """Who had what before a step."""

    kept: Kept
    bounds: Retention

    def __post_init__(self) -> None:
        self.pieces = {piece.handle: piece for name in "abcde" for piece in self.kept.of(name)}

    def is_rich(self, principal: str, principals: int, newest: str) -> bool:
        """Whether one has more than an equal share of what there is for all."""
        own = [piece for piece in self.pieces.values() if piece.principal == principal]
        size = sum(piece.bytes for piece in own if piece.finished and piece.handle != newest)
        return len(own) * principals > self.bounds.all_most or size * principals > self.bounds.all_bytes


@given(st.lists(pieces, max_size=60), st.integers(1, 6), st.integers(1, 12), st.integers(20, 200))
def test_nobody_loses_anything_to_others_below_an_equal_share(steps, most, all_most, all_bytes):
    bounds = Retention(most=most, most_bytes=100, all_most=all_most, all_bytes=all_bytes)
    kept, running = Kept(bounds), []
    for at, (principal, size, is_running, is_spare, what) in enumerate(steps):
        before = Before(kept, bounds)
        if what == "end" and running:
            piece = running.pop(0).end(at)
            kept.settle(piece)
        else:
            piece = Piece(principal, size)
            piece.spare = is_spare
            if kept.add(piece if is_running else piece.end(at)) and is_running:
                running.append(piece)
        principals = len({one.principal for one in [*before.pieces.values(), piece]})
        for lost in (one for handle, one in before.pieces.items() if handle not in kept):
            assert lost.finished
            is_own = lost.principal == piece.principal
            assert is_own or before.is_rich(lost.principal, principals, piece.handle)
        ended = [one for name in "abcde" for one in kept.of(name) if one.finished]
        assert len(kept) <= all_most
        assert sum(one.bytes for one in ended if one.handle != kept._newest) <= all_bytes
        assert all(len(kept.of(name)) <= most for name in "abcde")
        assert kept._size == sum(one.bytes for one in ended)


# --- timers ------------------------------------------------------------------------------------


def test_no_timer_is_left_of_what_was_let_go_of(virtually):
    async def run() -> None:
        replies = Replies(Retention(most=8))

        async def work(_: Reply[str]) -> str:
            await asyncio.sleep(0)
            return "x"

        for _ in range(500):
            reply = replies.start(work)
            assert replies.keep(reply)
            await reply.wait()
        timers = asyncio.get_running_loop()._scheduled
        assert sum(not timer.cancelled() for timer in timers) <= 8
        assert len(timers) <= 200

    virtually(run)


@pytest.mark.parametrize("ended", [True, False])
def test_what_is_kept_in_the_moment_of_its_end_counts_once(virtually, ended):
    async def run() -> None:
        replies = Replies()

        async def work(_: Reply[str]) -> str:
            return "x"

        reply = replies.start(work)
        while reply.ended_at is None:
            await asyncio.sleep(0)
        if ended:
            await asyncio.sleep(0)
        replies.keep(reply)
        await asyncio.sleep(1)
        assert replies._held.here().kept._shares[""].sizes == {reply.handle: 0}

    virtually(run)
