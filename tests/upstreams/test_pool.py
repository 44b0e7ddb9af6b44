"""Connections to upstreams: lazy, shared, begun anew after a failure, gone at the end."""

import asyncio
import threading

import anyio
import pytest

from ollama_mcp.services.upstream_pool import BACK_OFF_S, BEGIN_S, UpstreamPool, UpstreamStatus
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError

from .servers import Connections

pytestmark = pytest.mark.anyio
SECRET = "hunter2-secret"
NOTES = UpstreamServer("notes", command="x", secrets=(SECRET,))


@pytest.fixture
def pool():
    return UpstreamPool([NOTES])


async def test_nothing_is_begun_before_it_is_used_and_several_callers_share_one(pool, connections):
    assert pool.statuses() == [UpstreamStatus("notes", "not started")]
    assert not connections.begun
    clients = await asyncio.gather(*(pool.client("notes", connections) for _ in range(5)))
    assert len(set(map(id, clients))) == 1
    assert connections.begun == {"notes": 1}
    pool.note_tools("notes", 3)
    assert pool.statuses() == [UpstreamStatus("notes", "running", tools=3)]
    await pool.aclose()
    assert connections.open == 0
    assert pool.statuses() == [UpstreamStatus("notes", "not started")]


async def test_a_caller_that_leaves_while_it_starts_does_not_hurt_the_next(pool, connections):
    connections.delay_s = 3
    with anyio.move_on_after(1):
        await pool.client("notes", connections)
    assert pool.statuses()[0].state == "starting"
    await pool.client("notes", connections)
    assert connections.begun == {"notes": 1}
    await pool.aclose()


async def test_a_server_that_does_not_start_is_tried_again_after_a_while_and_not_before(pool, connections):
    connections.delay_s = 3600
    begun = asyncio.get_running_loop().time()
    with pytest.raises(SourceError, match=f"did not start within {BEGIN_S:g} s$"):
        await pool.client("notes", connections)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(BEGIN_S, abs=1)
    with pytest.raises(SourceError, match="the next attempt is possible in 30 s"):
        await pool.client("notes", connections)
    assert connections.begun == {"notes": 1}
    assert pool.statuses()[0].state == "failed"
    await anyio.sleep(BACK_OFF_S)
    connections.delay_s = 0
    await pool.client("notes", connections)
    assert pool.statuses() == [UpstreamStatus("notes", "running")]
    await pool.aclose()


async def test_the_reason_of_a_failure_has_no_secret(pool, connections):
    connections.trouble = OSError(f"no {SECRET}")
    with pytest.raises(SourceError, match=r"no \*\*\*"):
        await pool.client("notes", connections)
    assert "hunter2" not in repr(pool.statuses())
    await pool.aclose()


async def test_a_connection_that_has_ended_by_itself_is_begun_anew(pool, connections):
    first = await pool.client("notes", connections)
    connections.end()
    await anyio.sleep(1)
    assert connections.open == 0
    assert await pool.client("notes", connections) is not first
    assert connections.begun == {"notes": 2}
    await pool.aclose()


async def test_only_the_connection_that_failed_is_given_up(pool, connections):
    first = await pool.client("notes", connections)
    pool.discard("notes", first)
    second = await pool.client("notes", connections)
    pool.discard("notes", first)
    assert await pool.client("notes", connections) is second
    assert connections.begun == {"notes": 2}
    await pool.aclose()


async def test_the_end_waits_for_no_server_that_is_starting(pool, connections):
    connections.delay_s = 3600
    asking = asyncio.ensure_future(pool.client("notes", connections))
    await anyio.sleep(1)
    begun = asyncio.get_running_loop().time()
    await pool.aclose()
    assert asyncio.get_running_loop().time() - begun < 1
    with pytest.raises(SourceError):
        await asking


def test_each_event_loop_has_its_own_connection(pool):
    connections = Connections()
    clients = []

    async def use():
        clients.append(await pool.client("notes", connections))
        await pool.aclose()

    thread = threading.Thread(target=anyio.run, args=(use,))
    thread.start()
    thread.join()
    anyio.run(use)
    assert clients[0] is not clients[1]
    assert connections.begun == {"notes": 2}
    assert connections.open == 0
