"""Replies that outlive their call: handles, how long they are kept, who may stop them."""

import asyncio
import contextvars
import gc
import re
import weakref
from functools import partial

import pytest

from ollama_mcp.errors import Cancelled, OllamaError, StreamBroken, Timeout, UnknownHandle, Upstream
from ollama_mcp.jobs.answers import Answer, EmbeddingStats, Stats, Unfinished, Vectors
from ollama_mcp.jobs.job import Job, JobState, StillRunning
from ollama_mcp.jobs.store import JobStore, Retention
from ollama_mcp.ollama.api_models import ToolCall
from ollama_mcp.services.specs import build_chat
from ollama_mcp.testing import Script

HOUR = 3600.0


def ends_with(text: str, after: float = 0.0):
    """Work that is an answer after so many seconds."""

    async def work(job: Job[Answer]) -> Answer:
        job.model = "m"
        for part in text:
            job.advance(JobState.WRITING)
            job.write(part)
            job.settle(part)
            if after:
                await asyncio.sleep(after / len(text))
        return Answer(text, stats=Stats("m", tokens_per_s=5.0))

    return work


def fails_with(error: Exception):
    async def work(job: Job[Answer]) -> Answer:
        job.write("half")
        await asyncio.sleep(0)
        raise error

    return work


async def kept(jobs: JobStore, text: str = "x", after: float = 0.0) -> Job[Answer]:
    """A Job that is kept; ended already where it takes no time."""
    job = jobs.start(ends_with(text, after))
    if not after:
        await job.wait()
    assert jobs.keep(job)
    return job


def is_kept(jobs: JobStore, job: Job[Answer]) -> bool:
    try:
        return jobs.find(job.handle) is job
    except UnknownHandle:
        return False


# --- handles -----------------------------------------------------------------------------------


def test_handles_are_128_bits_and_no_two_are_alike():
    handles = {Job().handle for _ in range(1000)}
    assert len(handles) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", handle) for handle in handles)
    bits = [sum(int(handle, 16) >> bit & 1 for handle in handles) for bit in range(128)]
    assert all(350 < ones < 650 for ones in bits)


def test_a_handle_is_found_however_a_model_copies_it(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs)
        for way in ("{}", " {}\n", '"{}"', "'{}'"):
            assert jobs.find(way.format(job.handle)) is job
        assert jobs.find(job.handle.upper()) is job

    virtually(run)


def test_a_stranger_is_told_what_is_told_of_a_handle_that_never_was(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = jobs.start(ends_with("x", 9), caller="me")
        jobs.keep(job)
        assert jobs.find(job.handle, "me") is job
        told = []
        for handle, who in ((job.handle, "you"), (job.handle, ""), ("0" * 32, "you"), ("", "me")):
            with pytest.raises(UnknownHandle) as error:
                jobs.find(handle, who)
            told.append(error.value.as_data())
        assert told == [told[0]] * 4
        assert job.handle not in str(told)
        await job.cancel()

    virtually(run)


def test_a_reply_that_is_not_kept_has_no_handle_that_finds_it(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = jobs.start(ends_with("x"))
        await job.wait()
        assert not is_kept(jobs, job)

    virtually(run)


def test_a_callers_running_replies_are_those_that_are_kept_and_go_on(virtually):
    async def run() -> None:
        jobs = JobStore()
        mine = [jobs.start(ends_with("x", after), caller="me") for after in (1, 9, 9)]
        yours = jobs.start(ends_with("x", 9), caller="you")
        for job in (*mine[:2], yours):
            jobs.keep(job)
        assert jobs.running("me") == mine[:2]
        assert jobs.in_flight == 4
        await asyncio.sleep(2)
        assert jobs.running("me") == [mine[1]]
        assert jobs.running("you") == [yours]
        assert jobs.running("") == []
        await jobs.aclose()

    virtually(run)


# --- how long and how many ---------------------------------------------------------------------


def test_an_answer_is_kept_for_half_an_hour_after_its_end(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(unclaimed_s=9 * HOUR))
        job = await kept(jobs, "x", after=2 * HOUR)
        await asyncio.sleep(2 * HOUR + 29 * 60)
        assert is_kept(jobs, job)
        await asyncio.sleep(2 * 60)
        with pytest.raises(UnknownHandle, match="30 min"):
            jobs.find(job.handle)

    virtually(run)


def test_what_is_too_old_is_let_go_though_nobody_asks(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = weakref.ref(await kept(jobs))
        assert job() is not None
        await asyncio.sleep(31 * 60)
        gc.collect()
        assert job() is None

    virtually(run)


def test_the_oldest_finished_one_goes_first_when_there_are_too_many(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(most=64))
        slow = await kept(jobs, "x", after=100)
        found = []
        for _ in range(63):
            found.append(await kept(jobs))
            await asyncio.sleep(1)
        assert all(is_kept(jobs, job) for job in [slow, *found])
        more = [await kept(jobs) for _ in range(3)]
        assert [is_kept(jobs, job) for job in found] == [False] * 3 + [True] * 60
        assert all(is_kept(jobs, job) for job in [slow, *more])
        await jobs.aclose()

    virtually(run)


def test_what_goes_on_is_never_dropped_and_one_more_has_no_room(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(most=3))
        running = [await kept(jobs, "x", after=9) for _ in range(3)]
        one_more = jobs.start(ends_with("y", 9.5))
        assert not jobs.keep(one_more)
        ended = jobs.start(ends_with("z"))
        await ended.wait()
        assert not jobs.keep(ended)
        assert all(is_kept(jobs, job) for job in running)
        assert not is_kept(jobs, one_more)
        await asyncio.sleep(10)
        assert jobs.keep(one_more)
        await jobs.aclose()

    virtually(run)


def test_the_oldest_finished_ones_go_first_when_they_hold_too_much(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(most_bytes=10_000))
        found = []
        for _ in range(5):
            found.append(await kept(jobs, "x" * 3000))
            await asyncio.sleep(1)
        assert [is_kept(jobs, job) for job in found] == [False, False, True, True, True]

    virtually(run)


def test_those_that_end_under_their_handles_hold_no_more_than_others(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(most_bytes=10_000))
        found = [await kept(jobs, "x" * 3000, after=seconds) for seconds in (5, 6, 7, 8, 9)]
        await asyncio.sleep(10)
        assert [is_kept(jobs, job) for job in found] == [False, False, True, True, True]

    virtually(run)


def test_text_counts_in_bytes(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(most_bytes=10_000))
        first = await kept(jobs, "\N{GRINNING FACE}" * 1500)
        await asyncio.sleep(1)
        await kept(jobs, "\N{GRINNING FACE}" * 1500)
        assert not is_kept(jobs, first)

    virtually(run)


def test_all_that_belongs_to_an_answer_counts():
    call = ToolCall.model_validate({"function": {"name": "f", "arguments": {"a": "\ud800" + "x" * 5000}}})
    for answer in (
        Answer("x" * 5000, stats=Stats("m")),
        Answer("", thinking="x" * 5000, stats=Stats("m")),
        Answer("", tool_calls=[call], stats=Stats("m")),
    ):
        assert 5000 < answer.size < 25_000


def test_what_had_a_handle_is_there_once_more_however_large_it_is(virtually):
    async def run() -> None:
        jobs = JobStore(Retention(most_bytes=10_000))

        async def embed(_: Job[Vectors]) -> Vectors:
            await asyncio.sleep(5)
            return Vectors([[0.5] * 1000] * 3, EmbeddingStats("m", count=3, dimensions=1000))

        job = jobs.start(embed, unit="texts")
        jobs.keep(job)
        await asyncio.sleep(9)
        assert jobs.find(job.handle).size > 10_000
        await asyncio.sleep(1)
        await kept(jobs)
        assert not is_kept(jobs, job)

    virtually(run)


def test_keeping_twice_is_keeping(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "x", after=5)
        assert jobs.keep(job)
        await job.wait()
        assert jobs.keep(job)
        assert is_kept(jobs, job)

    virtually(run)


# --- nobody asks -------------------------------------------------------------------------------


def test_what_nobody_asks_for_is_stopped_and_says_so(virtually, bench):
    async def run() -> None:
        async with bench() as b:
            b.fake.script(Script(tokens=["a "] * 4000, delay=1))
            job = b.begin(prompt="x")
            with pytest.raises(StillRunning):
                await job.wait(10)
            assert b.app.jobs.keep(job)
            await asyncio.sleep(14 * 60 + 59)
            assert not job.finished
            await asyncio.sleep(2)
            assert job.state is JobState.CANCELLED
            await b.fake.wait_for(lambda fake: fake.disconnects)
            with pytest.raises(Timeout, match="nobody had asked for it for 15 min") as told:
                await b.app.jobs.find(job.handle).wait()
            assert told.value.partial_text == "a " * told.value.partial_text.count("a")
            assert 905 <= told.value.partial_text.count("a") <= 912
            assert b.app.jobs.in_flight == 0

    virtually(run)


@pytest.mark.parametrize("way", ["wait", "partial"])
def test_who_asks_now_and_then_keeps_the_work_going(virtually, way):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "x" * 100, after=3 * HOUR)
        for _ in range(17):
            await asyncio.sleep(10 * 60)
            found = jobs.find(job.handle)
            if way == "partial":
                assert isinstance(found.so_far(), Unfinished)
            else:
                with pytest.raises(StillRunning):
                    await found.wait(1)
        assert await job.wait() == "x" * 100

    virtually(run)


def test_who_waits_for_hours_keeps_the_work_going(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "x", after=3 * HOUR)
        assert await job.wait() == "x"

    virtually(run)


def test_the_time_counts_from_the_last_who_waited(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "x", after=3 * HOUR)
        with pytest.raises(StillRunning):
            await job.wait(40 * 60)
        await asyncio.sleep(15 * 60 - 1)
        assert not job.finished
        await asyncio.sleep(2)
        assert job.finished

    virtually(run)


def test_the_operators_time_is_what_counts(virtually, bench):
    async def run() -> None:
        async with bench(unclaimed_timeout=60.0) as b:
            b.fake.script(Script(tokens=["a "] * 4000, delay=1))
            job = b.begin(prompt="x")
            b.app.jobs.keep(job)
            await asyncio.sleep(61)
            with pytest.raises(Timeout, match="1 min"):
                await job.wait()

    virtually(run)


# --- waiters and cancelling --------------------------------------------------------------------


def test_several_wait_and_the_leaving_of_one_stops_nothing(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "whole", after=10)
        waits = [asyncio.create_task(job.wait()) for _ in range(5)]
        await asyncio.sleep(1)
        assert job.waiters == 5
        for wait in waits[:2]:
            wait.cancel()
        await asyncio.sleep(1)
        assert job.waiters == 3
        assert await asyncio.gather(*waits[2:]) == ["whole"] * 3
        assert job.waiters == 0

    virtually(run)


def test_a_reply_that_is_stopped_keeps_what_was_written(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "whole", after=10)
        await asyncio.sleep(3)
        await job.stop()
        with pytest.raises(Cancelled, match="as its caller wished") as told:
            await job.wait()
        found = jobs.find(job.handle).so_far()
        assert isinstance(found, Unfinished)
        assert (found.text, told.value.partial_text, str(found.failure)) == ("wh", "wh", str(told.value))
        await job.stop()
        assert jobs.find(job.handle).so_far() == found

    virtually(run)


def test_each_who_waits_gets_a_failure_of_its_own(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = jobs.start(fails_with(Upstream("it broke", "Call again", partial_text="half")))
        found = await asyncio.gather(*(job.wait() for _ in range(3)), return_exceptions=True)
        assert len({id(error) for error in found}) == 3
        assert {str(error) for error in found} == {"UPSTREAM: it broke. Call again."}

    virtually(run)


def test_asking_again_for_a_failure_does_not_make_it_grow(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = jobs.start(fails_with(Upstream("it broke", "Call again")))
        depths = []
        for _ in range(50):
            with pytest.raises(OllamaError) as told:
                await job.wait()
            depths.append(len(told.traceback))
        assert depths[-1] == depths[0]

    virtually(run)


def test_closing_stops_all_and_tells_those_who_wait(virtually, bench):
    async def run() -> None:
        async with bench() as b:
            b.fake.script(Script(tokens=["a "] * 4000, delay=1))
            jobs = [b.begin(prompt=str(n)) for n in range(3)]
            b.app.jobs.keep(jobs[0])
            waits = [asyncio.create_task(job.wait()) for job in jobs]
            await asyncio.sleep(5)
            await b.app.jobs.aclose()
            for found in await asyncio.gather(*waits, return_exceptions=True):
                assert isinstance(found, StreamBroken)
                assert found.partial_text == "a " * 5
            await b.fake.wait_for(lambda fake: fake.disconnects == 3)
            assert b.app.jobs.in_flight == 0
            assert not is_kept(b.app.jobs, jobs[0])
            assert await b.app.jobs.start(ends_with("again")).wait() == "again"

    virtually(run)


def test_closing_where_nothing_goes_on_is_nothing(virtually):
    virtually(lambda: JobStore().aclose())


# --- what is held ------------------------------------------------------------------------------


class _Large:
    """Something that a call has and an answer does not need."""


def test_nothing_is_held_of_what_has_ended_and_is_not_kept(virtually):
    async def run() -> None:
        jobs = JobStore()
        ended = [jobs.start(ends_with("x")), jobs.start(fails_with(Upstream("a", "b")))]
        await asyncio.gather(*(job.wait() for job in ended), return_exceptions=True)
        gone = [weakref.ref(job) for job in ended]
        ended.clear()
        await asyncio.sleep(0)
        gc.collect()
        assert [job() for job in gone] == [None, None]

    virtually(run)


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_what_was_let_go_leaves_no_timer_for_the_rest_of_its_time(virtually, after):
    async def run() -> None:
        jobs = JobStore(Retention(most=64))
        for _ in range(1000):
            await kept(jobs, "x", after)
            await asyncio.sleep(2)
        waiting = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
        assert len(waiting) <= 64
        await jobs.aclose()
        assert all(timer.cancelled() for timer in waiting)

    virtually(run)


@pytest.mark.parametrize("error", [None, Upstream("a", "b", partial_text="x")])
def test_what_is_kept_does_not_hold_the_request_or_the_call(virtually, error):
    current: contextvars.ContextVar[_Large] = contextvars.ContextVar("current")

    async def begin(jobs: JobStore) -> tuple[Job[Answer], list[weakref.ref[_Large]]]:
        request, call = _Large(), _Large()
        current.set(call)

        async def work(job: Job[Answer], request: _Large) -> Answer:
            await asyncio.sleep(1)
            try:
                inner = weakref.ref(request)
                assert error is None or {}[inner]
            except KeyError as lost:
                raise error from lost
            return Answer("x", stats=Stats("m"))

        job = jobs.start(partial(work, request=request))
        assert jobs.keep(job)
        return job, [weakref.ref(request), weakref.ref(call)]

    async def run() -> None:
        jobs = JobStore()
        job, held = await asyncio.create_task(begin(jobs))
        await asyncio.sleep(2)
        assert is_kept(jobs, job)
        gc.collect()
        assert [thing() for thing in held] == [None, None]

    virtually(run)


def test_what_is_kept_holds_its_text_once(virtually):
    async def run() -> None:
        jobs = JobStore()
        done = await kept(jobs, "x" * 1000)
        assert done.text == ""
        assert done.text_since(0)[0] == ""
        broken = await kept(jobs, "y" * 1000, after=10)
        await asyncio.sleep(5)
        written = broken.text
        await broken.stop()
        assert broken._written == [written]
        assert 499 <= len(written) <= 501

    virtually(run)


def test_the_last_speeds_are_remembered(virtually, bench):
    async def run() -> None:
        jobs = JobStore()
        for _ in range(30):
            await kept(jobs)
        assert [(speed.model, speed.tokens_per_s) for speed in jobs.recent] == [("m", 5.0)] * 20

    virtually(run)


def test_a_chat_is_found_by_its_handle_byte_for_byte(virtually, bench):
    async def run() -> None:
        tokens = ["a\r\n", "\N{COMBINING ACUTE ACCENT}", "\N{GRINNING FACE}", " ", "end"]
        async with bench() as b:
            b.fake.script(Script(tokens=tokens, delay=10))
            job = b.app.jobs.start(partial(b.app.generator.run, build_chat(prompt="x")))
            with pytest.raises(StillRunning):
                await job.wait(15)
            assert b.app.jobs.keep(job)
            found = await b.app.jobs.find(job.handle).wait()
            assert (found, found.stats.done_reason) == ("".join(tokens), "stop")

    virtually(run)
