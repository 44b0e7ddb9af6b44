"""What is kept under handles: a number and a size that are bounded, for all callers together."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.jobs.job import Reply, State
from ollama_mcp.jobs.store import Kept, Retention


def ended(principal: str = "", size: int = 1) -> Reply[Any]:
    """A Reply that has ended, and holds about so many bytes."""
    reply: Reply[Any] = Reply(principal=principal)
    reply.state, reply.ended_at = State.DONE, 0.0
    reply._result = type("Result", (), {"size": size})()
    return reply


def running(principal: str = "") -> Reply[Any]:
    return Reply(principal=principal)


def test_the_one_that_was_used_longest_ago_goes_first():
    kept = Kept(Retention(most=3))
    first, second, third, fourth = (ended() for _ in range(4))
    for reply in (first, second, third):
        assert kept.add(reply)
    assert kept.get(first.handle) is first
    assert kept.add(fourth)
    assert [reply.handle in kept for reply in (first, second, third, fourth)] == [True, False, True, True]


def test_over_the_size_old_ones_go_and_the_newest_stays_however_large():
    kept = Kept(Retention(most_bytes=100))
    small, large = ended(size=60), ended(size=500)
    assert kept.add(small)
    assert kept.add(large)
    assert small.handle not in kept
    assert large.handle in kept


def test_what_goes_on_is_never_dropped_and_at_the_cap_there_is_no_room_for_more():
    kept = Kept(Retention(most=2))
    first, second, third = running(), running(), running()
    assert kept.add(first)
    assert kept.add(second)
    assert not kept.add(third)
    assert first.handle in kept
    assert second.handle in kept


def test_one_that_went_on_counts_from_its_end():
    kept = Kept(Retention(most_bytes=100))
    old, reply = ended(size=60), running()
    kept.add(old)
    kept.add(reply)
    reply.state, reply.ended_at, reply._result = State.DONE, 0.0, type("Result", (), {"size": 90})()
    kept.settle(reply)
    kept.settle(reply)
    assert old.handle not in kept
    assert reply.handle in kept


def test_a_caller_sees_its_own():
    kept = Kept(Retention())
    mine, other = running("anne"), running("bert")
    kept.add(mine)
    kept.add(other)
    assert kept.of("anne") == [mine]
    assert kept.of("nobody") == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30))
def test_whatever_comes_the_caps_hold(steps):
    kept = Kept(Retention(most=5, most_bytes=100))
    for goes_on, size in steps:
        kept.add(running() if goes_on else ended(size=size))
        assert len(kept) <= 5
        assert sum(kept._sizes.values()) <= 100 or len(kept._sizes) == 1


def test_no_timer_is_left_of_what_was_let_go_of(virtually):
    async def run() -> list[bool]:
        kept, loop = Kept(Retention(most=1)), asyncio.get_running_loop()
        timers = [loop.call_later(9, lambda: None) for _ in range(3)]
        replies = [ended(), ended()]
        for reply, timer in zip(replies, timers, strict=False):
            kept.add(reply)
            kept.call_later(reply.handle, timer)
        kept.call_later(replies[1].handle, timers[2])
        kept.stop_timers()
        return [timer.cancelled() for timer in timers]

    assert virtually(run) == [True, True, True]


pytestmark = pytest.mark.filterwarnings("error")
