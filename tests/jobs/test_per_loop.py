"""One thing for each event loop, and work that several wait for at once."""

import asyncio
import gc
import logging
import weakref

import anyio
import pytest

from ollama_mcp.errors import InternalError, Upstream
from ollama_mcp.jobs.per_loop import Background, PerLoop, SingleFlight

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def in_time(anyio_backend, caplog):
    """Within ten seconds, and nothing said by asyncio about what nobody retrieved."""
    with anyio.fail_after(10), caplog.at_level(logging.DEBUG, "asyncio"):
        yield
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.getMessage()]


class Work:
    """Counts how often it was begun and how often it was cancelled; ends when it is told to."""

    def __init__(self, error: BaseException | None = None, last_words: Exception | None = None) -> None:
        self.begun = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self._error = error
        self._last_words = last_words

    async def __call__(self) -> list[int]:
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if self._last_words is not None:
                raise self._last_words from None
            raise
        if self._error is not None:
            raise self._error
        return [self.begun]


async def ticks(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def waiters(shared: SingleFlight, work: Work, count: int, key: str = "key") -> list[asyncio.Task[list[int]]]:
    return [asyncio.create_task(shared.do(key, work)) for _ in range(count)]


# --- one for each loop -------------------------------------------------------------------------


def test_each_loop_has_its_own_and_that_of_a_closed_one_goes():
    things: PerLoop[list[int]] = PerLoop(list)

    async def twice() -> list[int]:
        assert things.here() is things.here()
        return things.here()

    first, second = asyncio.run(twice()), asyncio.run(twice())
    assert first is not second
    assert len(things) <= 1


def test_what_holds_its_loop_does_not_keep_it_for_ever():
    things: PerLoop[list[object]] = PerLoop(list)

    async def hold() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        things.here().append(loop)
        return weakref.ref(loop)

    ended = asyncio.run(hold())
    asyncio.run(hold())
    gc.collect()
    assert ended() is None


async def test_what_is_taken_away_is_made_anew():
    things: PerLoop[list[int]] = PerLoop(list)
    assert things.pop() is None
    things.here().append(1)
    assert things.pop() == [1]
    assert things.here() == []


# --- shared work -------------------------------------------------------------------------------


async def test_what_many_want_at_once_is_done_once():
    shared, work = SingleFlight(), Work()
    calls = waiters(shared, work, 50)
    await ticks()
    work.may_end.set()
    results = await asyncio.gather(*calls)
    assert results == [[1]] * 50
    assert work.begun == 1


async def test_what_is_wanted_after_the_end_is_done_anew():
    shared, work = SingleFlight(), Work()
    work.may_end.set()
    assert [await shared.do("key", work) for _ in range(3)] == [[1], [2], [3]]


async def test_another_key_is_other_work():
    shared, work = SingleFlight(), Work()
    work.may_end.set()
    await asyncio.gather(*waiters(shared, work, 2, "a"), *waiters(shared, work, 2, "b"))
    assert work.begun == 2


async def test_the_cancelling_of_one_leaves_the_others_their_result():
    shared, work = SingleFlight(), Work()
    first, *others = waiters(shared, work, 3)
    await ticks()
    first.cancel()
    await ticks()
    work.may_end.set()
    assert await asyncio.gather(*others) == [[1], [1]]
    assert first.cancelled()
    assert not work.cancelled


async def test_the_work_is_cancelled_with_the_last_who_wants_it():
    shared, work = SingleFlight(), Work()
    calls = waiters(shared, work, 3)
    await ticks()
    for left, call in enumerate(calls):
        assert work.cancelled == 0, left
        call.cancel()
        await ticks()
    assert work.cancelled == 1
    assert all(call.cancelled() for call in calls)


async def test_all_who_are_cancelled_at_once_cancel_the_work():
    shared, work = SingleFlight(), Work()
    calls = waiters(shared, work, 3)
    await ticks()
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await ticks()
    assert work.cancelled == 1


async def test_a_newcomer_does_not_join_what_is_being_cancelled():
    shared, work = SingleFlight(), Work()
    (call,) = waiters(shared, work, 1)
    await ticks()
    call.cancel()
    await ticks(1)
    (newcomer,) = waiters(shared, work, 1)
    await ticks()
    work.may_end.set()
    assert await newcomer == [2]


async def test_a_newcomer_of_the_same_moment_keeps_the_work_alive():
    shared, work = SingleFlight(), Work()
    (call,) = waiters(shared, work, 1)
    await ticks()
    (newcomer,) = waiters(shared, work, 1)
    call.cancel()  # the newcomer has not run yet, and does before the cancelled one
    await ticks()
    work.may_end.set()
    assert (await newcomer)[0] in (1, 2)


async def test_a_failure_reaches_each_as_a_copy_of_its_own():
    error = Upstream("it broke", "Call again", partial_text="x", window=7)
    shared, work = SingleFlight(), Work(error)
    calls = waiters(shared, work, 3)
    await ticks()
    work.may_end.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert len({id(one) for one in [error, *found]}) == 4
    for one in found:
        assert (type(one), str(one), one.as_data()) == (Upstream, str(error), error.as_data())
    found[0].remedy = "other"
    assert found[1].remedy == "Call again"


async def test_a_failure_is_told_with_the_place_where_it_happened():
    async def fails() -> None:
        raise Upstream("it broke", "Call again")

    with pytest.raises(Upstream) as told:
        await SingleFlight().do("key", fails)
    assert any(entry.name == "fails" for entry in told.traceback)


class _Odd(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")


@pytest.mark.parametrize(
    "error", [_Odd(1, 2), InternalError(), KeyError("x")], ids=lambda e: type(e).__name__
)
async def test_a_failure_that_cannot_be_copied_comes_as_it_is(error):
    shared, work = SingleFlight(), Work(error)
    calls = waiters(shared, work, 2)
    await ticks()
    work.may_end.set()
    for found in await asyncio.gather(*calls, return_exceptions=True):
        assert type(found) is type(error)
        assert str(found) == str(error)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_failure_in_the_moment_of_cancelling_is_nobodys(count):
    shared, work = SingleFlight(), Work(Upstream("it broke", "Call again"))
    calls = waiters(shared, work, count)
    await ticks()
    work.may_end.set()
    await ticks(1)  # now the work fails, before those who wait hear of it
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    del calls
    await ticks()


async def test_what_the_work_says_when_it_is_cancelled_is_nobodys():
    shared, work = SingleFlight(), Work(last_words=Upstream("it broke", "Call again"))
    (call,) = waiters(shared, work, 1)
    await ticks()
    call.cancel()
    await asyncio.wait([call])
    await ticks()
    assert work.cancelled == 1


async def test_nothing_is_kept_of_what_has_ended():
    shared, work = SingleFlight(), Work()
    work.may_end.set()
    results = await asyncio.gather(*(shared.do(number, work) for number in range(100)))
    assert len(results) == 100
    assert shared._flights.here() == {}


def test_work_in_the_background_that_fails_unseen_says_nothing(virtually):
    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError("nobody waits for this")

    async def work() -> None:
        look = Background(fail, asyncio.get_running_loop().create_task)
        assert not (await look.run(0.5)).done()
        await asyncio.sleep(1)
        del look
        gc.collect()

    virtually(work)
