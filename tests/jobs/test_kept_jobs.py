"""What is kept under handles: a number and a size that are bounded, for all callers together."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.jobs.store import KeptJobs, Retention


def ended(caller: str = "", size: int = 1) -> Job[Any]:
    """A Job that has ended, and holds about so many bytes."""
    job: Job[Any] = Job(caller=caller)
    job.state, job.ended_at = JobState.DONE, 0.0
    job._result = type("Result", (), {"size": size})()
    return job


def running(caller: str = "") -> Job[Any]:
    return Job(caller=caller)


def test_the_one_that_was_used_longest_ago_goes_first():
    kept = KeptJobs(Retention(most=3))
    first, second, third, fourth = (ended() for _ in range(4))
    for job in (first, second, third):
        assert kept.add(job)
    assert kept.get(first.handle) is first
    assert kept.add(fourth)
    assert [job.handle in kept for job in (first, second, third, fourth)] == [True, False, True, True]


def test_over_the_size_old_ones_go_and_the_newest_stays_however_large():
    kept = KeptJobs(Retention(most_bytes=100))
    small, large = ended(size=60), ended(size=500)
    assert kept.add(small)
    assert kept.add(large)
    assert small.handle not in kept
    assert large.handle in kept


def test_what_goes_on_is_never_dropped_and_at_the_cap_there_is_no_room_for_more():
    kept = KeptJobs(Retention(most=2))
    first, second, third = running(), running(), running()
    assert kept.add(first)
    assert kept.add(second)
    assert not kept.add(third)
    assert first.handle in kept
    assert second.handle in kept


def test_one_that_went_on_counts_from_its_end():
    kept = KeptJobs(Retention(most_bytes=100))
    old, job = ended(size=60), running()
    kept.add(old)
    kept.add(job)
    job.state, job.ended_at, job._result = JobState.DONE, 0.0, type("Result", (), {"size": 90})()
    kept.settle(job)
    kept.settle(job)
    assert old.handle not in kept
    assert job.handle in kept


def test_a_caller_sees_its_own():
    kept = KeptJobs(Retention())
    mine, other = running("anne"), running("bert")
    kept.add(mine)
    kept.add(other)
    assert kept.of("anne") == [mine]
    assert kept.of("nobody") == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30))
def test_whatever_comes_the_caps_hold(steps):
    kept = KeptJobs(Retention(most=5, most_bytes=100))
    for goes_on, size in steps:
        kept.add(running() if goes_on else ended(size=size))
        assert len(kept) <= 5
        assert sum(kept._sizes.values()) <= 100 or len(kept._sizes) == 1


def test_no_timer_is_left_of_what_was_let_go_of(virtually):
    async def run() -> list[bool]:
        kept, loop = KeptJobs(Retention(most=1)), asyncio.get_running_loop()
        timers = [loop.call_later(9, lambda: None) for _ in range(3)]
        jobs = [ended(), ended()]
        for job, timer in zip(jobs, timers, strict=False):
            kept.add(job)
            kept.call_later(job.handle, timer)
        kept.call_later(jobs[1].handle, timers[2])
        kept.stop_timers()
        return [timer.cancelled() for timer in timers]

    assert virtually(run) == [True, True, True]


pytestmark = pytest.mark.filterwarnings("error")
