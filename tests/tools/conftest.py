"""A fake Ollama, our server in front of it, and the SDK's in-memory client in both of its modes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp_types import CallToolResult

from ollama_mcp import App, create_server
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama

PATIENCE = 10
"""Seconds after which something that should happen has not."""

Call = Callable[..., Awaitable[CallToolResult]]
Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def fake(anyio_backend: str) -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
async def app(fake: FakeOllama) -> AsyncIterator[App]:
    app = App.create(load({"OLLAMA_HOST": fake.url}))
    yield app
    await app.aclose()


@pytest.fixture
async def client(app: App, mode: str) -> AsyncIterator[Client]:
    async with Client(create_server(app), mode=mode) as client:
        yield client


@pytest.fixture
def connect(fake: FakeOllama, mode: str) -> Connect:
    """A client of a server with settings of its own."""

    @asynccontextmanager
    async def connect(**environment: str) -> AsyncIterator[Client]:
        app = App.create(load({"OLLAMA_HOST": fake.url, **environment}))
        async with Client(create_server(app), mode=mode) as client:
            yield client

    return connect


@pytest.fixture
def call(client: Client) -> Call:
    """Call a tool; the arguments are those of the tool."""

    async def call(tool: str, arguments: dict[str, Any] | None = None, /, **more: Any) -> CallToolResult:
        with anyio.fail_after(PATIENCE):
            return await client.call_tool(tool, {**(arguments or {}), **more})

    return call


@pytest.fixture
def chat(call: Call) -> Callable[..., Awaitable[str]]:
    """Chat and return the text of an answer that must be no error."""

    async def chat(**arguments: Any) -> str:
        result = await call("ollama_chat", **arguments)
        assert not result.is_error, result.content
        return result.content[0].text

    return chat
