"""A tool of your own that asks a local model, tested against a fake Ollama by the fixture `fake_ollama`.

Run it: `pytest examples/test_with_fake.py`. The fixture is there wherever ollama-mcp and pytest are.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import TextContent

from ollama_mcp import App, OllamaError, ollama_chat
from ollama_mcp.errors import StreamBroken
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script

pytestmark = pytest.mark.anyio  # or pytest-asyncio: the fixture does not mind


# --- what is tested: yours --------------------------------------------------------------------------


async def headline(app: App, article: str, ctx: Context | None = None) -> str:
    return await ollama_chat(app, prompt=article, system="Answer with a headline.", ctx=ctx)


def make_server(app: App) -> MCPServer:
    server = MCPServer("newsroom", log_level="WARNING")

    @server.tool()
    async def write_headline(article: str, ctx: Context) -> str:
        try:
            return await headline(app, article, ctx)
        except OllamaError as error:
            raise ToolError(str(error)) from error

    return server


# --- the tests -----------------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(fake_ollama: FakeOllama) -> AsyncIterator[App]:
    app = App.create(load({"OLLAMA_HOST": fake_ollama.url}))
    async with app.lifespan():
        yield app


async def test_the_model_is_asked_once_for_a_headline(app: App, fake_ollama: FakeOllama) -> None:
    fake_ollama.script(Script(tokens=["Bread ", "rises"]))
    assert await headline(app, "The price of bread …") == "Bread rises"
    (request,) = fake_ollama.asked("/api/chat")
    assert request.json["messages"][0] == {"role": "system", "content": "Answer with a headline."}


async def test_a_busy_ollama_is_an_error_that_the_caller_can_read(app: App, fake_ollama: FakeOllama) -> None:
    fake_ollama.busy(times=None)
    async with Client(make_server(app)) as client:
        result = await client.call_tool("write_headline", {"article": "…"})
    assert result.is_error
    assert "BUSY: Ollama is busy" in str(result.content)


async def test_what_was_written_before_the_connection_broke_is_kept(
    app: App, fake_ollama: FakeOllama
) -> None:
    fake_ollama.script(Script(tokens=["Bread ", "rises"], cut_after_tokens=1, how="reset"))
    with pytest.raises(StreamBroken) as broken:
        await headline(app, "The price of bread …")
    assert broken.value.partial_text == "Bread "


async def test_progress_is_that_of_the_model(app: App, fake_ollama: FakeOllama) -> None:
    seen: list[str] = []

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message or "")
        if "Bread" in seen[-1]:
            fake_ollama.release()

    fake_ollama.script(Script(tokens=["Bread ", "rises"], hold_after_tokens=1))
    async with Client(make_server(app), mode="legacy") as client:  # the other mode asks for no progress
        result = await client.call_tool("write_headline", {"article": "…"}, progress_callback=watch)
    assert result.content == [TextContent(text="Bread rises")]
    assert "1 tok · Bread" in seen


async def test_a_call_that_is_cancelled_stops_the_model(app: App, fake_ollama: FakeOllama) -> None:
    fake_ollama.script(Script(tokens=["Bread "] * 1000, hold_after_tokens=3))
    call = asyncio.create_task(headline(app, "The price of bread …"))
    await fake_ollama.wait_for(lambda fake: fake.asked("/api/chat"))
    call.cancel()
    await fake_ollama.wait_for(lambda fake: fake.disconnects == 1)
