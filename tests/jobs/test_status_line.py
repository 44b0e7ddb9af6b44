"""What is said of a Job while it goes on and after its end: a line for a person."""

import asyncio
import gc
import re
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_mcp.errors import Cancelled, StreamBroken, Upstream
from ollama_mcp.jobs.answers import Unfinished
from ollama_mcp.jobs.job import Job, JobState, StillRunning, ordinal
from ollama_mcp.jobs.model_queue import TRANSFERS
from ollama_mcp.jobs.store import JobStore


async def written(job: Job[Any], tokens: int, pause: float = 1.0, state: JobState = JobState.WRITING) -> None:
    """So many tokens, each after its pause."""
    for place in range(tokens):
        await asyncio.sleep(pause)
        job.advance(state)
        job.write(f"t{place} ")


def in_line(job: Job[Any], position: int, model: str) -> None:
    job.queue(SimpleNamespace(position=position, model=model))


# --- counts and speeds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "pause", "speed"),
    [(1, 3.0, ""), (2, 1.0, "1 tok/s"), (2, 0.1, ""), (3, 0.15, "7 tok/s"), (5, 0.5, "2 tok/s")],
)
def test_a_speed_is_told_once_it_can_be_measured(virtually, tokens, pause, speed):
    async def run() -> str:
        job: Job[str] = Job()
        await written(job, tokens, pause)
        return job.summary()

    assert re.findall(r"\d+ tok/s", virtually(run)) == ([speed] if speed else [])


def test_one_token_alone_has_no_speed_however_long_ago_it_came(virtually):
    async def run() -> str:
        job: Job[str] = Job()
        await written(job, 1)
        await asyncio.sleep(9)
        return job.summary()

    assert virtually(run) == "1 tok · writing"


def test_a_speed_stays_what_it_was_at_the_end(virtually):
    async def run() -> list[str]:
        job = JobStore().start(lambda job: written(job, 5, 0.5))
        await job.wait()
        found = [job.summary()]
        await asyncio.sleep(1000)
        return [*found, job.summary()]

    assert virtually(run) == ["5 tok · 2 tok/s · done"] * 2


def test_how_many_there_will_be_is_told_where_it_is_a_number_and_no_limit(virtually, snapshot):
    async def run() -> list[str]:
        lines = []
        for unit, total in (("texts", 10), ("texts", None), ("tok", 10)):
            job: Job[Any] = Job(unit)
            job.total = total
            job.advance(JobState.WRITING, 3)
            lines.append(job.status())
        return lines

    assert virtually(run) == snapshot


# --- where it is -------------------------------------------------------------------------------


def test_a_reply_says_where_it_is_until_something_comes(virtually, snapshot):
    async def run() -> list[str]:
        job: Job[str] = Job()
        lines = [job.summary()]
        job.model = "m"
        lines.append(job.summary())
        await asyncio.sleep(3)
        lines.append(job.summary())
        for position, model in ((2, "m"), (3, TRANSFERS), (0, "m")):
            in_line(job, position, model)
            lines.append(job.summary())
        job.enter()
        lines.append(job.status())
        for loaded in (False, True):
            await job.find_out(lambda model, loaded=loaded: asyncio.sleep(0, model == "m" and loaded))
            lines.append(job.summary())
        return lines

    assert virtually(run) == snapshot


def test_whose_turn_has_come_is_in_line_no_more():
    job: Job[str] = Job()
    in_line(job, 1, "m")
    assert job.state is JobState.QUEUED
    job.enter()
    assert (job.state, job.queue_entry) == (JobState.WAITING, None)


def test_thinking_is_said_first_and_once(virtually, snapshot):
    async def run() -> list[str]:
        job: Job[str] = Job()
        await written(job, 3, state=JobState.THINKING)
        return [job.summary(), job.status()]

    assert virtually(run) == snapshot


def test_who_has_words_of_its_own_is_told_in_them_but_for_the_place_in_line(virtually, snapshot):
    async def run() -> list[str]:
        job: Job[str] = Job()
        job.tell = lambda: ["model 1 of 2", "m"]
        job.advance(JobState.WRITING)
        found = [job.summary()]
        in_line(job, 1, "m")
        job.first_at = None
        return [*found, job.summary()]

    assert virtually(run) == snapshot


@pytest.mark.parametrize(
    ("number", "place"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (10, "10th"), (11, "11th"), (12, "12th"), (13, "13th"),
     (14, "14th"), (21, "21st"), (22, "22nd"), (23, "23rd"), (111, "111th"), (112, "112th"), (121, "121st")],
)  # fmt: skip
def test_places_are_written_as_people_write_them(number, place):
    assert ordinal(number) == place


# --- the tail of the text ----------------------------------------------------------------------


def line_with(text: str, **limit: int) -> str:
    job: Job[str] = Job()
    job.advance(JobState.WRITING)
    job.write(text)
    return job.status(**limit)


def test_the_line_has_at_most_its_limit_and_its_tail_is_the_newest_text():
    for limit in (160, 40, 17):
        line = line_with("b" * 1000 + "a" * 5, limit=limit)
        assert len(line) == limit
        assert "…" in line
        assert line.endswith("aaaaa")
    assert line_with("short") == "1 tok · short"


def test_the_tail_is_on_one_line_with_one_space_between_words():
    assert line_with("a\n\n  b\tc ") == "1 tok · a b c"


def test_a_line_without_room_has_no_tail():
    assert line_with("a" * 50, limit=8) == "1 tok"
    assert line_with("a" * 50, limit=3) == "1 t"


def test_the_newest_note_is_part_of_the_line():
    job: Job[str] = Job()
    job.notes += ["oldest", "older", "new"]
    job.advance(JobState.WRITING)
    assert job.status() == "1 tok · new"


def test_thoughts_are_seen_in_the_line_though_they_are_no_text():
    job: Job[str] = Job()
    job.advance(JobState.THINKING)
    job.write("", "I see")
    job.write("", " it.")
    assert (job.status(), job.text) == ("thinking · 1 tok · I see it.", "")


def test_another_draft_begins_with_nothing_of_the_one_before():
    job: Job[str] = Job()
    job.write("wrong")
    job.restart()
    job.write("right")
    assert job.text == "right"


# --- who waits, and the end --------------------------------------------------------------------


def test_who_has_waited_too_long_is_told_how_far_it_is_and_how_to_wait_on(virtually):
    async def run() -> None:
        job = JobStore().start(lambda job: written(job, 9))
        with pytest.raises(StillRunning) as told:
            await job.wait(2.5)
        assert told.value.job is job
        assert told.value.handle == job.handle
        assert f'ollama_continue(handle="{job.handle}")' in str(told.value)
        await job.cancel()

    virtually(run)


def test_when_somebody_last_waited_is_remembered(virtually):
    async def run() -> list[float]:
        job = JobStore().start(lambda job: written(job, 9))
        found = [job.asked_at - job.started_at]
        for _ in range(2):
            with pytest.raises(StillRunning):
                await job.wait(2)
            found.append(job.asked_at - job.started_at)
        await job.cancel()
        return found

    assert virtually(run) == [0, 2, 4]


def test_of_a_reply_that_goes_on_there_is_its_text_and_where_to_wait_for_the_rest(virtually):
    async def run() -> None:
        job = JobStore().start(lambda job: written(job, 9))
        await asyncio.sleep(2.5)
        assert job.so_far() == Unfinished("t0 t1 ", "2 tok · 1 tok/s · writing", job.handle, None)
        assert job.failure is None
        await job.cancel()

    virtually(run)


def test_of_a_reply_that_is_done_there_is_what_it_ended_as(virtually):
    async def run() -> None:
        made = SimpleNamespace(size=77)
        job = JobStore().start(lambda job: asyncio.sleep(1, made))
        assert await job.wait() is made
        assert job.so_far() is made
        assert job.size == 77

    virtually(run)


def test_of_a_reply_that_failed_there_is_what_its_failure_kept(virtually):
    async def work(job: Job[Any], kept: str) -> None:
        job.write("written ")
        raise Upstream("it broke", "Call again", partial_text=kept)

    async def run() -> list[str]:
        found = []
        for kept in ("kept", ""):
            job = JobStore().start(lambda job, kept=kept: work(job, kept))
            await asyncio.wait([asyncio.create_task(job.wait())])
            found.append(str(job.so_far()))
            assert job.size == sys.getsizeof("written ")
        return found

    assert virtually(run) == ["kept", "written "]


def test_who_asks_for_what_a_defect_ended_is_told_of_the_defect(virtually):
    async def work(_: Job[Any]) -> None:
        raise ZeroDivisionError("a defect")

    async def run() -> None:
        job = JobStore().start(work)
        await asyncio.wait([asyncio.create_task(job.wait())])
        with pytest.raises(ZeroDivisionError, match="a defect"):
            job.so_far()

    virtually(run)


def test_who_stopped_a_reply_is_told_so_and_not_to_try_again(virtually):
    async def run() -> Cancelled:
        job = JobStore().start(lambda job: written(job, 9))
        await asyncio.sleep(1.5)
        await job.stop()
        with pytest.raises(Cancelled) as told:
            await job.wait()
        return told.value

    error = virtually(run)
    assert "as its caller wished" in str(error)
    assert (error.code, error.partial_text, error.retryable) == ("CANCELLED", "t0 ", False)


def test_who_waits_when_the_server_closes_is_told_so_and_to_call_again(virtually):
    async def run() -> StreamBroken:
        jobs = JobStore()
        job = jobs.start(lambda job: written(job, 9))
        await asyncio.sleep(1.5)
        await jobs.aclose()
        with pytest.raises(StreamBroken) as told:
            await job.wait()
        return told.value

    error = virtually(run)
    assert "the server closes" in str(error)
    assert (error.partial_text, error.retryable) == ("t0 ", True)


def test_why_a_reply_was_cancelled_first_is_what_is_told(virtually):
    async def run() -> None:
        job = JobStore().start(lambda job: written(job, 9))
        await asyncio.sleep(0)
        first = asyncio.create_task(job.cancel(Upstream("first", "a")))
        await asyncio.sleep(0)
        await job.cancel(Upstream("second", "b"))
        await first
        with pytest.raises(Upstream, match="first"):
            await job.wait()

    virtually(run)


def test_cancelling_waits_a_second_for_work_that_does_not_let_go_and_no_longer(virtually):
    async def work(_: Job[Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(10)

    async def run() -> tuple[float, bool]:
        job = JobStore().start(work)
        await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        await job.cancel()
        took, finished = asyncio.get_running_loop().time() - before, job.finished
        await asyncio.sleep(20)
        return took, finished

    assert virtually(run) == (1.0, False)


class _Large:
    """A request with its images."""


@pytest.mark.parametrize("is_named", [True, False])
def test_a_failure_lets_go_of_what_its_cause_held(virtually, is_named):
    def inner() -> weakref.ref[_Large]:
        large = _Large()
        held.append(weakref.ref(large))
        raise ValueError("the cause")

    async def work(_: Job[Any]) -> None:
        try:
            inner()
        except ValueError as cause:
            if is_named:
                raise Upstream("it broke", "a") from cause
            raise Upstream("it broke", "a")  # noqa: B904 - the other way to have a cause

    held: list[weakref.ref[_Large]] = []

    async def run() -> None:
        job = JobStore().start(work)
        await asyncio.wait([asyncio.create_task(job.wait())])
        gc.collect()
        assert job.state is JobState.FAILED
        assert [thing() for thing in held] == [None]

    virtually(run)
