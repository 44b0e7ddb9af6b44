"""What a handle finds: results of their kind, for their caller, for their time."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from ollama_mcp.errors import Timeout, UnknownHandle
from ollama_mcp.jobs.answers import Answer, EmbeddingStats, Stats, Unfinished, Vectors
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.jobs.store import JobStore, Retention

MINUTE = 60.0


def ends_as(result: Any, after: float = 0.0):
    async def work(_: Job[Any]) -> Any:
        await asyncio.sleep(after)
        if isinstance(result, Exception):
            raise result
        return result

    return work


async def kept(jobs: JobStore, result: Any, after: float = 0.0, caller: str = "me") -> Job[Any]:
    """A Job that is kept; ended already where it takes no time."""
    job = jobs.start(ends_as(result, after), caller=caller)
    if not after:
        await asyncio.wait([asyncio.create_task(job.wait())])
    assert jobs.keep(job)
    return job


def test_vectors_are_found_by_their_handle_and_nothing_else_is(virtually):
    async def run() -> None:
        jobs = JobStore()
        vectors = Vectors([[1.0]], EmbeddingStats("m"))
        job = await kept(jobs, vectors)
        assert jobs.result(f' "{job.handle}"', "me", Vectors) is vectors
        others = [
            (job.handle, "you", Vectors),
            (job.handle, "me", Answer),
            ("0" * 32, "me", Vectors),
            ((await kept(jobs, vectors, after=9)).handle, "me", Vectors),
            ((await kept(jobs, vectors, after=9)).handle, "me", Unfinished),
            ((await kept(jobs, ZeroDivisionError("a defect"))).handle, "me", Vectors),
        ]
        for handle, caller, kind in others:
            with pytest.raises(UnknownHandle):
                jobs.result(handle, caller, kind)
        await jobs.aclose()

    virtually(run)


@pytest.mark.parametrize(
    ("seconds", "told"), [(1800.0, "30 min"), (60.0, "1 min"), (59.5, "59.5 s"), (30.0, "30 s")]
)
def test_who_comes_too_late_is_told_how_long_answers_stay(virtually, seconds, told):
    async def run() -> str:
        with pytest.raises(UnknownHandle) as error:
            JobStore(Retention(kept_s=seconds)).find("0" * 32)
        return str(error.value)

    assert virtually(run).endswith(
        "no answer is kept under this handle: it is wrong or too old, or the server was started anew. "
        f"Make the call again that gave it; answers stay for {told} after their end, the last ones only."
    )


def test_there_is_room_for_what_fits_to_the_byte():
    jobs = JobStore(Retention(most_bytes=1000))
    assert jobs.has_room_for(1000)
    assert not jobs.has_room_for(1001)


def test_whoever_found_it_last_is_the_last_who_asked(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = await kept(jobs, "x", after=9999)
        await asyncio.sleep(10 * MINUTE)
        jobs.find(job.handle, "me")
        await asyncio.sleep(15 * MINUTE - 1)
        assert not job.finished
        await asyncio.sleep(2)
        assert job.state is JobState.CANCELLED

    virtually(run)


def test_who_asks_after_it_was_stopped_is_told_what_to_do_better(virtually):
    async def run() -> Timeout:
        jobs = JobStore()
        job = await kept(jobs, "x", after=9999)
        await asyncio.sleep(16 * MINUTE)
        with pytest.raises(Timeout) as error:
            await job.wait()
        return error.value

    error = virtually(run)
    assert str(error).endswith(
        ": the answer was stopped, since nobody had asked for it for 15 min. "
        "Call the first tool again, and ask by the handle until the answer is there."
    )
    assert error.details["clock"] == "unclaimed"


def test_each_is_stopped_and_let_go_at_its_own_time(virtually):
    async def run() -> None:
        jobs = JobStore()
        made: list[weakref.ref[Job[Any]]] = []
        for _ in range(3):
            made.append(weakref.ref(await kept(jobs, "x", after=9999)))
            await asyncio.sleep(MINUTE)
        await asyncio.sleep(12 * MINUTE + 1)
        found = [job() for job in made]
        assert [job is not None and job.finished for job in found] == [True, False, False]
        await asyncio.sleep(2 * MINUTE)
        assert all(job is not None and job.finished for job in found)
        found.clear()
        await asyncio.sleep(28 * MINUTE)
        gc.collect()
        assert [job() is None for job in made] == [True, False, False]
        await asyncio.sleep(2 * MINUTE)
        gc.collect()
        assert [job() is None for job in made] == [True, True, True]

    virtually(run)


def test_closing_waits_a_second_for_what_does_not_let_go_and_no_longer(virtually):
    async def work(_: Job[Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(10)

    async def run() -> float:
        jobs = JobStore()
        jobs.start(work)
        await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        await jobs.aclose()
        took = asyncio.get_running_loop().time() - before
        await asyncio.sleep(20)
        return took

    assert virtually(run) == 1.0


def test_stopping_tells_each_who_waits_why_with_what_it_had_written(virtually):
    async def work(job: Job[Any]) -> None:
        job.write(job.caller * 2)
        await asyncio.sleep(60)

    async def run() -> list[str | None]:
        jobs = JobStore()
        waits = [asyncio.create_task(jobs.start(work, caller=who).wait()) for who in "ab"]
        await asyncio.sleep(1)
        assert jobs.in_flight == 2
        await jobs.stop(lambda text: Timeout("the server ends", "Wait", partial_text=text))
        assert jobs.in_flight == 0
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(error, Timeout) and "the server ends" in str(error) for error in ended)
        return [error.partial_text for error in ended if isinstance(error, Timeout)]

    assert virtually(run) == ["aa", "bb"]


def test_a_speed_is_remembered_of_answers_that_have_one(virtually):
    async def run() -> list[float]:
        jobs = JobStore()
        ends: list[Any] = [
            Answer("x", stats=Stats("m", tokens_per_s=5.0)),
            Answer("x", stats=Stats("m")),
            Vectors([[1.0]], EmbeddingStats("m")),
            ZeroDivisionError("a defect"),
            Answer("x", stats=Stats("m", tokens_per_s=0.5)),
        ]
        for end in ends:
            await kept(jobs, end)
        return [speed.tokens_per_s for speed in jobs.recent]

    assert virtually(run) == [5.0, 0.5]


def test_work_that_ends_the_process_ends_as_a_failure_of_its_own(virtually):
    async def work(_: Job[Any]) -> None:
        raise SystemExit(3)

    async def run() -> None:
        with pytest.raises(RuntimeError, match=r"sys\.exit in the work of a Job"):
            await JobStore().start(work).wait()

    virtually(run)


def test_a_reply_is_begun_for_whom_and_in_what_it_is_said(virtually):
    async def run() -> None:
        jobs = JobStore()
        job = jobs.start(ends_as("x"), "texts", "me")
        usual = jobs.start(ends_as("x"))
        assert (job.unit, job.caller) == ("texts", "me")
        assert (usual.unit, usual.caller) == ("tok", "")
        await jobs.aclose()

    virtually(run)
