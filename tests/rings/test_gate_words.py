"""What the Gate says: to who finds no room, to who waits, and of its lines."""

import asyncio

import pytest

from ollama_mcp.errors import Busy
from ollama_mcp.jobs.model_queue import TRANSFERS, Gate, LineStatistics, Ticket


def made(parallel: int = 1, queue: int = 64) -> Gate:
    """A Gate with the clock of the running loop."""
    return Gate(parallel, queue, lambda: asyncio.get_running_loop().time())


async def takes(gate: Gate, seconds: float, model: str = "m") -> None:
    async with gate.admit(model):
        await asyncio.sleep(seconds)


async def refused(gate: Gate, model: str = "m") -> Busy:
    with pytest.raises(Busy) as error:
        await takes(gate, 0, model)
    return error.value


@pytest.mark.parametrize("model", ["m", TRANSFERS], ids=["a model", "transfers"])
def test_who_finds_no_room_is_told_who_has_it_when_to_come_again_and_what_else_to_do(
    virtually, snapshot, model
):
    async def run() -> Busy:
        await asyncio.sleep(1000)
        gate = made(queue=0)
        async with gate.admit(model):
            await asyncio.sleep(2.26)
            return await refused(gate, model)

    error = virtually(run)
    assert str(error) == snapshot
    assert error.retry_after_s == 2.3
    assert error.details == {"estimated": True, "running": 1, "waiting": 0}


async def _waits(gate: Gate, principal: str) -> None:
    async with gate.admit("m", principal):
        pass


def test_the_newest_call_counts_for_three_tenths_of_the_mean(virtually):
    async def run() -> list[tuple[LineStatistics, ...]]:
        await asyncio.sleep(1000)
        gate = made(queue=0)
        found = []
        for seconds in (10, 20, 3):
            await takes(gate, seconds)
            found.append(gate.statistics())
        async with gate.admit("m"):
            await refused(gate)
            found.append(gate.statistics())
        return found

    first, second, third, fourth = virtually(run)
    assert first == (LineStatistics("m", 0, 0, 10.0, 1, 0),)
    assert second == (LineStatistics("m", 0, 0, 13.0, 2, 0),)
    assert third[0].mean_s == pytest.approx(10.0)
    assert (fourth[0].running, fourth[0].admitted, fourth[0].refused) == (1, 4, 1)


def test_before_the_first_call_has_ended_there_is_no_mean(virtually):
    async def run() -> tuple[LineStatistics, ...]:
        gate = made()
        async with gate.admit("m"):
            return gate.statistics()

    assert virtually(run) == (LineStatistics("m", 1, 0, None, 1, 0),)


def test_who_waits_gets_a_ticket_with_the_model_and_the_caller(virtually):
    async def run() -> Ticket:
        gate, tickets = made(), []

        async def waits() -> None:
            async with gate.admit("m", "me", tickets.append):
                pass

        async with gate.admit("m"):
            wait = asyncio.create_task(waits())
            await asyncio.sleep(1)
            assert tickets[0].position == 1
        await wait
        return tickets[0]

    ticket = virtually(run)
    assert (ticket.model, ticket.principal, ticket.position) == ("m", "me", 0)
