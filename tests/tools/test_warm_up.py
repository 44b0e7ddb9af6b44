"""Warm-up of a server: begun by a client's first message, and by a host that wants it."""

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer

from ollama_mcp import App, create_server, register
from ollama_mcp.settings import load
from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio

GENERATE = "/api/generate"


async def test_a_client_that_comes_has_the_models_loaded(connect, fake):
    with anyio.fail_after(5):
        async with connect(OLLAMA_MCP_WARM="llama3.2:3b,nomic-embed-text") as client:
            await client.list_tools()
            await fake.wait_for(lambda fake: fake.models["nomic-embed-text:latest"].running)
            assert fake.models["llama3.2:3b"].running


async def test_a_cancelled_call_does_not_stop_it(connect, fake):
    fake.script(Script(hold_after_tokens=0), path=GENERATE, times=1)
    fake.script(Script(tokens=["a"] * 9, hold_after_tokens=3), path="/api/chat", times=1)
    with anyio.fail_after(5):
        async with connect(OLLAMA_MCP_WARM="llama3.2:3b") as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "ollama_chat", {"prompt": "x"})
                await fake.wait_for(lambda fake: fake.asked(GENERATE) and fake.asked("/api/chat"))
                group.cancel_scope.cancel()
            await fake.wait_for(lambda fake: fake.disconnects == 1)
            assert len(fake.asked(GENERATE)) == 1
            fake.release()
            assert not (await client.call_tool("ollama_status", {})).is_error
        assert fake.disconnects == 1


async def test_a_host_begins_it_when_it_likes(fake, mode):
    app = App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_WARM": "llama3.2:3b"}))
    host = MCPServer("theirs", lifespan=app.lifespan)
    register(host, app)
    with anyio.fail_after(5):
        async with Client(host, mode=mode) as client:
            await client.list_tools()
            assert not fake.requests
            app.warm_up()
            await fake.wait_for(lambda fake: fake.models["llama3.2:3b"].running)


def test_without_models_to_warm_up_nothing_stands_before_the_calls():
    plain = create_server(App.create(load({"OLLAMA_HOST": "127.0.0.1:1"})))
    warming = create_server(App.create(load({"OLLAMA_HOST": "127.0.0.1:1", "OLLAMA_MCP_WARM": "m"})))
    assert len(warming.middleware) == len(plain.middleware) + 1
