"""What the ModelQueue says: to who finds no room, to who waits, and of its lines."""

import asyncio

import pytest

from ollama_mcp.errors import Busy
from ollama_mcp.jobs.model_queue import TRANSFERS, ModelQueue, QueueEntry, QueueStatistics


def made(parallel: int = 1, queue: int = 64) -> ModelQueue:
    """A ModelQueue with the clock of the running loop."""
    return ModelQueue(parallel, queue, lambda: asyncio.get_running_loop().time())


async def takes(model_queue: ModelQueue, seconds: float, model: str = "m") -> None:
    async with model_queue.admit(model):
        await asyncio.sleep(seconds)


async def refused(model_queue: ModelQueue, model: str = "m") -> Busy:
    with pytest.raises(Busy) as error:
        await takes(model_queue, 0, model)
    return error.value


@pytest.mark.parametrize("model", ["m", TRANSFERS], ids=["a model", "transfers"])
def test_who_finds_no_room_is_told_who_has_it_when_to_come_again_and_what_else_to_do(
    virtually, snapshot, model
):
    async def run() -> Busy:
        await asyncio.sleep(1000)
        model_queue = made(queue=0)
        async with model_queue.admit(model):
            await asyncio.sleep(2.26)
            return await refused(model_queue, model)

    error = virtually(run)
    assert str(error) == snapshot
    assert error.retry_after_s == 2.3
    assert error.details == {"estimated": True, "running": 1, "waiting": 0}


async def _waits(model_queue: ModelQueue, caller: str) -> None:
    async with model_queue.admit("m", caller):
        pass


def test_the_newest_call_counts_for_three_tenths_of_the_mean(virtually):
    async def run() -> list[tuple[QueueStatistics, ...]]:
        await asyncio.sleep(1000)
        model_queue = made(queue=0)
        found = []
        for seconds in (10, 20, 3):
            await takes(model_queue, seconds)
            found.append(model_queue.statistics())
        async with model_queue.admit("m"):
            await refused(model_queue)
            found.append(model_queue.statistics())
        return found

    first, second, third, fourth = virtually(run)
    assert first == (QueueStatistics("m", 0, 0, 10.0, 1, 0),)
    assert second == (QueueStatistics("m", 0, 0, 13.0, 2, 0),)
    assert third[0].mean_s == pytest.approx(10.0)
    assert (fourth[0].running, fourth[0].admitted, fourth[0].refused) == (1, 4, 1)


def test_before_the_first_call_has_ended_there_is_no_mean(virtually):
    async def run() -> tuple[QueueStatistics, ...]:
        model_queue = made()
        async with model_queue.admit("m"):
            return model_queue.statistics()

    assert virtually(run) == (QueueStatistics("m", 1, 0, None, 1, 0),)


def test_who_waits_gets_a_ticket_with_the_model_and_the_caller(virtually):
    async def run() -> QueueEntry:
        model_queue, queue_entries = made(), []

        async def waits() -> None:
            async with model_queue.admit("m", "me", queue_entries.append):
                pass

        async with model_queue.admit("m"):
            wait = asyncio.create_task(waits())
            await asyncio.sleep(1)
            assert queue_entries[0].position == 1
        await wait
        return queue_entries[0]

    queue_entry = virtually(run)
    assert (queue_entry.model, queue_entry.caller, queue_entry.position) == ("m", "me", 0)
