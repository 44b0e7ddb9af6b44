"""The connections of one event loop: each a pool of its own, kept while used, in a line that is bounded."""

import ssl
import time
from types import SimpleNamespace

import anyio
import pytest

from ollama_mcp.client import pool as pool_module
from ollama_mcp.client.pool import ConnectionPool
from ollama_mcp.errors import Upstream
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings import Backend

GPU = parse_host("gpu")
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("in_time")]


@pytest.fixture
async def lane():
    made = ConnectionPool(Backend(host=parse_host("gpu"), max_connections=2))
    yield made
    await made.aclose()


async def taken(lane: ConnectionPool, raising: type[BaseException] | None = None):
    async with lane.pool("first_byte", GPU) as pool:
        if raising:
            raise raising
        return pool


async def test_one_after_another_gets_the_same_pool(lane):
    assert await taken(lane) is await taken(lane)


@pytest.mark.parametrize(
    ("host", "is_swift"),
    [("", True), ("[::1]", True), ("localhost/ollama", True), ("gpu", False), ("https://localhost", False)],
)
def test_the_extra_speed_is_for_plain_http_on_this_machine(host, is_swift):
    assert bool(pool_module._aiohttp_mount(Backend(host=parse_host(host), swift=True))) is is_swift


def test_a_library_takes_httpx_unless_it_is_told_otherwise():
    assert pool_module._aiohttp_mount(Backend()) is None


async def test_two_at_once_never_share_one(lane):
    async with lane.pool("first_byte", GPU) as one, lane.pool("first_byte", GPU) as other:
        assert one is not other


async def test_an_answer_that_is_a_failure_keeps_its_pool(lane):
    pool = await taken(lane)
    with pytest.raises(Upstream):
        async with lane.pool("first_byte", GPU):
            raise Upstream("HTTP 500", "Try again.")
    assert await taken(lane) is pool
    assert not pool.is_closed


async def test_what_was_broken_off_leaves_no_pool_behind(lane):
    pool = await taken(lane)
    with pytest.raises(ZeroDivisionError):
        await taken(lane, ZeroDivisionError)
    assert pool.is_closed
    assert await taken(lane) is not pool


async def test_a_cancelled_exchange_leaves_no_pool_behind(lane):
    with anyio.CancelScope() as scope:
        async with lane.pool("first_byte", GPU) as pool:
            scope.cancel()
            await anyio.sleep_forever()
    assert pool.is_closed


async def test_pools_of_a_burst_are_closed_when_they_were_not_used_for_long(lane, monkeypatch):
    async with lane.pool("first_byte", GPU) as one, lane.pool("first_byte", GPU):
        pass
    later = time.monotonic() + 31
    monkeypatch.setattr(pool_module, "time", SimpleNamespace(monotonic=lambda: later))
    kept = await taken(lane)
    assert kept is one  # the last that was given back
    pools = list(lane._pools)
    assert pools == [kept]


async def test_the_line_is_as_long_as_said_and_lookups_pass_it(lane):
    async with lane.pool("first_byte", GPU), lane.pool("first_byte", GPU):
        with anyio.move_on_after(0.01) as waited:
            await taken(lane)
        assert waited.cancelled_caught
        with anyio.fail_after(1):
            async with lane.pool("idle", GPU):
                pass
    with anyio.fail_after(1):
        await taken(lane)


async def test_the_web_service_is_never_called_without_checking_its_certificate():
    lane = ConnectionPool(Backend(host=parse_host("https://gpu"), api_key="sk-1", insecure_tls=True))
    for host, is_checked in (("https://gpu", False), ("https://ollama.com", True)):
        context = lane._open(parse_host(host))._transport._pool._ssl_context
        assert (context.verify_mode is ssl.CERT_REQUIRED) is is_checked
    await lane.aclose()
