"""The ModelQueue: how many run, how many wait, and whose turn it is."""

import asyncio
import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import Busy
from ollama_mcp.jobs.model_queue import ModelQueue, QueueEntry

MODEL = "qwen3:8b"


@pytest.fixture
def model_queue():
    """Makes a ModelQueue with the clock of the running loop."""
    return lambda parallel=1, queue=64: ModelQueue(parallel, queue, lambda: asyncio.get_running_loop().time())


@dataclass
class Line:
    """Calls of one model, each of which runs until it is told to end."""

    model_queue: ModelQueue
    order: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    queue_entries: dict[str, QueueEntry] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    ends: dict[str, asyncio.Event] = field(default_factory=dict)

    def join(self, name: str, caller: str = "") -> asyncio.Task[None]:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._call(name, caller or name[0]))
        return self.tasks[name]

    async def _call(self, name: str, caller: str) -> None:
        async with self.model_queue.admit(
            MODEL, caller, lambda queue_entry: self.queue_entries.update({name: queue_entry})
        ):
            self.order.append(name)
            self.running.add(name)
            try:
                await self.ends[name].wait()
            finally:
                self.running.discard(name)

    async def joined(self, *names: str) -> None:
        for name in names:
            self.join(name)
        await ticks()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await ticks()

    async def end_all(self) -> None:
        while self.running:
            await self.end(next(iter(self.running)))

    def positions(self) -> dict[str, int]:
        return {
            name: queue_entry.position
            for name, queue_entry in self.queue_entries.items()
            if queue_entry.position
        }

    def assert_empty(self) -> None:
        (queue,) = self.model_queue.statistics()
        assert (queue.running, queue.waiting) == (0, 0)


async def ticks(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- what it does ------------------------------------------------------------------------------


def test_as_many_run_as_may_and_the_others_wait_in_order(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue(2))
        await queue.joined("a1", "a2", "a3", "a4")
        assert queue.running == {"a1", "a2"}
        assert queue.positions() == {"a3": 1, "a4": 2}
        await queue.end("a2")
        assert queue.order == ["a1", "a2", "a3"]
        assert queue.positions() == {"a4": 1}
        await queue.end_all()
        queue.assert_empty()

    virtually(run)


def test_turns_go_round_among_principals(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("a0", "a1", "a2", "a3", "b1", "b2", "c1")
        assert queue.positions() == {"a1": 1, "b1": 2, "c1": 3, "a2": 4, "b2": 5, "a3": 6}
        await queue.end_all()
        assert queue.order == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]

    virtually(run)


def test_the_next_one_is_busy_at_once_when_the_line_is_full(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue(1, 2))
        await queue.joined("a1", "a2", "a3")
        before = asyncio.get_running_loop().time()
        with pytest.raises(Busy) as told:
            await queue.join("a4")
        assert asyncio.get_running_loop().time() == before
        error = told.value
        assert error.retryable
        assert error.details == {"estimated": True, "running": 1, "waiting": 2}
        assert "an estimate" in str(error)
        assert "OLLAMA_MCP_QUEUE" in str(error)
        await queue.end("a1")
        await queue.joined("b2")
        assert queue.positions() == {"a3": 1, "b2": 2}
        (seen,) = queue.model_queue.statistics()
        assert (seen.admitted, seen.refused) == (2, 1)
        await queue.end_all()

    virtually(run)


def test_without_a_line_what_does_not_run_is_busy(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue(1, 0))
        await queue.joined("a1")
        with pytest.raises(Busy):
            await queue.join("a2")
        await queue.end_all()
        queue.assert_empty()

    virtually(run)


def test_models_do_not_wait_for_one_another_but_spellings_are_one_model(model_queue, virtually):
    async def run() -> None:
        one = model_queue(1, 0)
        async with one.admit("qwen3:8b"), one.admit("llama3.2"):
            for spelling in ("llama3.2:latest", "library/llama3.2"):
                with pytest.raises(Busy):
                    await one.admit(spelling).__aenter__()
        assert [queue.model for queue in one.statistics()] == ["qwen3:8b", "llama3.2"]

    virtually(run)


def test_each_event_loop_has_a_count_of_its_own(model_queue, virtually):
    one = model_queue(1, 0)

    async def run() -> None:
        async with one.admit(MODEL):
            assert len(one.statistics()) == 1

    virtually(run)
    virtually(run)


@pytest.mark.parametrize(
    ("took", "since", "parallel", "told"), [(10.0, 0, 1, 10.0), (10.0, 0, 2, 5.0), (0.01, 0, 1, 1.0)]
)
def test_the_estimate_is_the_mean_time_until_one_has_ended(
    model_queue, virtually, took, since, parallel, told
):
    async def run() -> None:
        one = model_queue(parallel, 0)
        async with one.admit(MODEL):
            await asyncio.sleep(took)
        for _ in range(parallel):
            await one.admit(MODEL).__aenter__()
        with pytest.raises(Busy) as busy:
            await one.admit(MODEL).__aenter__()
        assert busy.value.retry_after_s == told

    virtually(run)


def test_before_anything_has_ended_the_estimate_is_how_long_it_runs_already(model_queue, virtually):
    async def run() -> None:
        one = model_queue(1, 0)
        async with one.admit(MODEL):
            for waited, told in ((0, 1.0), (30, 30.0)):
                await asyncio.sleep(waited)
                with pytest.raises(Busy) as busy:
                    await one.admit(MODEL).__aenter__()
                assert busy.value.retry_after_s == told

    virtually(run)


def test_statistics_cannot_be_changed(model_queue, virtually):
    async def run() -> None:
        one = model_queue()
        async with one.admit(MODEL):
            (queue,) = one.statistics()
            with pytest.raises(dataclasses.FrozenInstanceError):
                queue.running = 0
            assert (queue.model, queue.running, queue.waiting, queue.mean_s) == (MODEL, 1, 0, None)
        assert queue.running == 1

    virtually(run)


def test_the_next_part_of_what_has_begun_waits_however_many_do(model_queue, virtually):
    async def run() -> None:
        one = model_queue(1, 0)
        async with asyncio.TaskGroup() as group, one.admit(MODEL):
            with pytest.raises(Busy):
                await one.admit(MODEL).__aenter__()

            async def go_on() -> None:
                async with one.admit(MODEL, bounded=False):
                    pass

            group.create_task(go_on())
            await asyncio.sleep(1)
            assert (one.statistics()[0].running, one.statistics()[0].waiting) == (1, 1)
        assert one.statistics()[0].admitted == 2

    virtually(run)


# --- who has how many places -------------------------------------------------------------------


def test_one_caller_alone_may_have_the_whole_line_and_loses_nothing_to_itself(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue(1, 3))
        await queue.joined("a0", "a1", "a2", "a3")
        with pytest.raises(Busy):
            await queue.join("a4")
        assert queue.positions() == {"a1": 1, "a2": 2, "a3": 3}
        await queue.end_all()

    virtually(run)


# --- cancelling --------------------------------------------------------------------------------


def test_one_who_leaves_the_line_lets_the_others_move_up(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("a1", "a2", "a3", "a4")
        queue.tasks["a2"].cancel()
        await ticks()
        assert queue.positions() == {"a3": 1, "a4": 2}
        await queue.end_all()
        assert queue.order == ["a1", "a3", "a4"]
        queue.assert_empty()

    virtually(run)


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("apart", range(4))
def test_no_slot_is_lost_when_a_turn_comes_as_its_waiter_leaves(model_queue, virtually, cancel_first, apart):
    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("a1", "a2", "a3")
        steps = [queue.tasks["a2"].cancel, queue.ends["a1"].set]
        for step in steps if cancel_first else reversed(steps):
            step()
            await ticks(apart)
        await ticks()
        assert queue.running == {"a3"}
        await queue.end_all()
        queue.assert_empty()

    virtually(run)


def test_the_slot_of_a_call_that_is_cancelled_or_fails_is_free(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("a1", "a2")
        queue.tasks["a1"].cancel()
        await ticks()
        assert queue.running == {"a2"}
        await queue.end_all()
        with pytest.raises(ZeroDivisionError):
            async with queue.model_queue.admit(MODEL):
                raise ZeroDivisionError
        queue.assert_empty()

    virtually(run)


def test_whoever_cannot_be_told_of_the_wait_does_not_stay_in_line(model_queue, virtually):
    def refuse(_: QueueEntry) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("a1")
        with pytest.raises(ZeroDivisionError):
            await queue.model_queue.admit(MODEL, "b", refuse).__aenter__()
        await queue.joined("a2")
        assert queue.positions() == {"a2": 1}
        await queue.end_all()
        queue.assert_empty()

    virtually(run)


def test_a_principal_whose_first_call_leaves_as_its_turn_comes_keeps_the_turn(model_queue, virtually):
    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("x1", "a1", "a2", "b1")
        queue.ends["x1"].set()  # it ends before a1 has left, which has been told to
        queue.tasks["a1"].cancel()
        await ticks()
        await queue.end_all()
        assert queue.order == ["x1", "a2", "b1"]

    virtually(run)


# --- any schedule ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call of a schedule: who, when, for how long, and when it is given up, in steps of a second."""

    caller: str
    at: int
    takes: int
    given_up: int | None


calls = st.builds(
    Call,
    caller=st.sampled_from("abc"),
    at=st.integers(0, 20),
    takes=st.integers(0, 6),
    given_up=st.none() | st.integers(0, 25),
)


@dataclass
class Watched:
    """What a schedule did to a ModelQueue."""

    model_queue: ModelQueue
    arrived: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    most: int = 0
    running: int = 0
    ahead: dict[int, int] = field(default_factory=dict)
    """Of each call, how many of its principal's waited before it when it came, and itself."""

    async def run(self, number: int, call: Call, waiting: dict[int, Call]) -> None:
        await asyncio.sleep(call.at)
        self.arrived.append(number)
        self.ahead[number] = 1 + sum(other.caller == call.caller for other in waiting.values())
        waiting[number] = call
        try:
            async with self.model_queue.admit(MODEL, call.caller):
                waiting.pop(number)
                self.begun.append(number)
                self.running += 1
                self.most = max(self.most, self.running)
                try:
                    await asyncio.sleep(call.takes)
                finally:
                    self.running -= 1
        except Busy:
            self.refused.add(number)
        finally:
            waiting.pop(number, None)

    def passed(self, number: int) -> int:
        """How many came later than this call and had their turn before."""
        later = set(self.arrived[self.arrived.index(number) + 1 :])
        return sum(other in later for other in self.begun[: self.begun.index(number)])


async def play(schedule: list[Call], watched: Watched) -> None:
    loop, waiting = asyncio.get_running_loop(), {}
    tasks = [asyncio.create_task(watched.run(*call, waiting)) for call in enumerate(schedule)]
    for task, call in zip(tasks, schedule, strict=True):
        if call.given_up is not None:
            loop.call_later(call.given_up, task.cancel)
    if tasks:
        await asyncio.wait(tasks)


@given(st.lists(calls, max_size=40), st.integers(1, 3), st.integers(0, 12))
def test_any_schedule_is_admitted_in_bounds_and_loses_no_slot(
    model_queue, virtually, schedule, parallel, queue
):
    async def run() -> Watched:
        watched = Watched(model_queue(parallel, queue))
        await play(schedule, watched)
        for one in watched.model_queue.statistics():
            assert (one.running, one.waiting) == (0, 0)
            assert one.admitted >= len(watched.begun)
            assert one.refused == len(watched.refused)
        # Every slot is there still.
        async with asyncio.timeout(1):
            for _ in range(parallel):
                await watched.model_queue.admit(MODEL).__aenter__()
        return watched

    watched = virtually(run)
    assert watched.most <= parallel
    unhurt = {n for n, call in enumerate(schedule) if call.given_up is None}
    assert unhurt <= set(watched.begun) | watched.refused
    for number in unhurt & set(watched.begun):
        assert watched.passed(number) <= watched.ahead[number] * 3


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=25), st.data())
def test_positions_are_the_order_of_turns(model_queue, virtually, callers, data):
    names = [f"{caller}{n}" for n, caller in enumerate(callers, 1)]
    leave = data.draw(st.lists(st.sampled_from(names), unique=True))

    async def run() -> None:
        queue = Line(model_queue())
        await queue.joined("x0", *names)
        for name in leave:
            queue.tasks[name].cancel()
        await ticks()
        positions = queue.positions()
        assert sorted(positions.values()) == list(range(1, len(positions) + 1))
        await queue.end_all()
        assert queue.order[1:] == sorted(positions, key=positions.__getitem__)
        queue.assert_empty()

    virtually(run)
