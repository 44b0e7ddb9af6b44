"""The idle clock: one timer for all the waits of an answer."""

import asyncio

import anyio
import pytest

from ollama_mcp.client.exchange import IdleTimeout

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("in_time")]
SHORT = 0.02


async def test_it_rings_when_nothing_was_said():
    silence = IdleTimeout(SHORT)
    with pytest.raises(TimeoutError), silence:
        await anyio.sleep_forever()
    assert not asyncio.current_task().cancelling()
    await anyio.lowlevel.checkpoint()  # no cancellation is left over


async def test_it_starts_anew_with_what_was_said():
    loop = asyncio.get_running_loop()
    silence = IdleTimeout(10 * SHORT)
    begun = loop.time()
    for _ in range(3):
        with silence:
            await anyio.sleep(5 * SHORT)
        silence.heard()
    with pytest.raises(TimeoutError), silence:
        await anyio.sleep_forever()
    assert loop.time() - begun > 24 * SHORT


async def test_what_comes_without_saying_anything_does_not_stop_it():
    silence = IdleTimeout(5 * SHORT)

    async def blanks() -> None:
        while True:
            with silence:
                await anyio.sleep(SHORT)

    with pytest.raises(TimeoutError):
        await blanks()


async def test_between_two_waits_it_does_not_ring_and_then_it_does():
    silence = IdleTimeout(SHORT)
    with silence:
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(3 * SHORT)
    with silence:
        pass  # what is there already is taken
    await anyio.lowlevel.checkpoint()
    with pytest.raises(TimeoutError), silence:
        await anyio.sleep_forever()


async def test_somebody_elses_cancellation_stays_one():
    silence = IdleTimeout(60)
    with anyio.move_on_after(SHORT) as scope, silence:
        await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_rung_and_cancelled_at_once_is_cancelled():
    silence = IdleTimeout(SHORT)
    task = asyncio.current_task()

    async def wait() -> None:
        with silence:
            try:
                await anyio.sleep_forever()
            finally:
                waiting.cancel()  # while it rings

    waiting = asyncio.create_task(wait())
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert not task.cancelling()


async def test_a_closed_one_leaves_no_timer():
    silence = IdleTimeout(60)
    with silence:
        await anyio.lowlevel.checkpoint()
    silence.close()
    assert silence._timer.cancelled()
