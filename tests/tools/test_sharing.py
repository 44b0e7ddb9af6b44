"""One App, used by several connections and several times in one request."""

import asyncio

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer

from ollama_mcp import App, create_server, ollama_chat, register
from ollama_mcp.errors import StreamBroken
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script

pytestmark = pytest.mark.anyio


@pytest.fixture
async def fake():
    with anyio.fail_after(20):
        async with FakeOllama() as running:
            yield running


@pytest.fixture
async def app(fake):
    app = App.create(load({"OLLAMA_HOST": fake.url}))
    yield app
    await app.aclose()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_end_of_one_connection_leaves_the_calls_of_another_alone(app, fake, mode):
    server = create_server(app)
    fake.script(Script(tokens=["a", "b"], hold_after_tokens=1))
    async with Client(server, mode=mode) as one:
        call = asyncio.create_task(one.call_tool("ollama_chat", {"prompt": "x"}))
        await fake.wait_for(lambda fake: fake.in_flight)
        async with Client(server, mode=mode):
            pass
        fake.release()
        assert (await call).content[0].text == "ab"
    await fake.wait_for(lambda fake: not fake.open_connections)


async def test_the_last_who_leaves_closes_the_connections(app, fake):
    async with app.lifespan() as same, app:
        assert same is app
        await ollama_chat(app, "hi")
    await fake.wait_for(lambda fake: not fake.open_connections)
    async with app:
        async with app.lifespan():
            await ollama_chat(app, "hi")
        assert fake.open_connections == 1
    await fake.wait_for(lambda fake: not fake.open_connections)


async def test_closing_under_a_call_is_an_error_and_no_bare_cancellation(app, fake):
    fake.script(Script(tokens=["a", "b"], hold_after_tokens=1))
    call = asyncio.create_task(ollama_chat(app, "hi"))
    await fake.wait_for(lambda fake: fake.in_flight)
    await app.aclose()
    with pytest.raises(StreamBroken):
        await call


async def test_progress_of_one_request_increases_over_all_its_replies(app, fake):
    host = MCPServer("host", log_level="ERROR")
    register(host, app)

    @host.tool()
    async def three(ctx: Context) -> str:
        first = await ollama_chat(app, "one", ctx=ctx)
        both = await asyncio.gather(ollama_chat(app, "two", ctx=ctx), ollama_chat(app, "three", ctx=ctx))
        return first + "".join(both)

    seen: list[float] = []

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        assert total is None or total >= progress
        seen.append(progress)

    fake.script(Script(tokens=["a"] * 4, delay=0.12, delay_first=0.12))
    async with Client(host, mode="legacy") as client:
        await client.call_tool("three", {}, progress_callback=watch)
    assert len(seen) >= 6
    assert seen == sorted(set(seen))


def test_another_frameworks_server_is_refused_with_the_way():
    class FastMCP:
        pass

    with pytest.raises(TypeError, match="proxy"):
        register(FastMCP(), App.create(load({})))
