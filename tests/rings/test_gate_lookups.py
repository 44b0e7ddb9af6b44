"""Calls whose model is not known yet: as many may look it up as may run and wait."""

import asyncio
from contextlib import ExitStack

import anyio
import pytest

from ollama_mcp.errors import Busy
from ollama_mcp.guards import Gate

pytestmark = pytest.mark.anyio


async def test_no_more_look_a_model_up_than_may_run_and_wait():
    now = [0.0]
    gate = Gate(parallel=1, queue=2, clock=lambda: now[0])
    with ExitStack() as stack:
        for name in ("llama3.2", "llama3.2:latest", "LLAMA3.2"):
            stack.enter_context(gate.looking_up(name))
        now[0] = 7.0
        with pytest.raises(Busy) as told, gate.looking_up("llama3.2"):
            pass
        with gate.looking_up("another"), gate.looking_up(""):
            pass
    assert told.value.retry_after_s == 7.0
    assert "3 calls wait for Ollama" in str(told.value)
    with gate.looking_up("llama3.2"):
        pass
    assert gate.statistics() == ()


async def test_a_place_is_free_again_when_the_lookup_fails():
    gate = Gate(parallel=1, queue=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.looking_up("m"):
            raise ZeroDivisionError
    assert not gate._lookups.here()


async def test_one_with_fewer_lookups_takes_the_last_place_of_the_one_with_most():
    gate, ended = Gate(parallel=1, queue=2), []

    async def look(name: str, principal: str) -> None:
        try:
            with gate.looking_up("m", principal):
                await anyio.sleep_forever()
        except Busy as error:
            ended.append((name, error.retryable))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
                group.start_soon(look, name, name[0])
                await anyio.wait_all_tasks_blocked()
            assert ended == [("a3", True), ("b2", True), ("a2", True)]
            with pytest.raises(Busy), gate.looking_up("m", "a"):
                pass
            group.cancel_scope.cancel()
    assert not gate._lookups.here()


async def test_one_whose_lookup_ends_in_the_moment_its_place_is_taken_goes_on():
    gate, found = Gate(parallel=1, queue=1), asyncio.Event()

    async def look() -> str:
        with gate.looking_up("m", "a"):
            await found.wait()
        return "on"

    with anyio.fail_after(5):
        looking = [asyncio.create_task(look()) for _ in range(2)]
        await anyio.wait_all_tasks_blocked()
        found.set()
        with gate.looking_up("m", "b"):
            outcomes = await asyncio.gather(*looking, return_exceptions=True)
        assert outcomes[0] == "on"
        assert outcomes[1] == "on" or isinstance(outcomes[1], Busy)
    assert not gate._lookups.here()
