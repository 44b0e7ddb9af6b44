"""A fake Ollama, our server in front of it, and the SDK's in-memory client in both of its modes."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, Implementation

from ollama_mcp import App, create_server
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama

PATIENCE = 10
"""Seconds after which something that should happen has not."""

Call = Callable[..., Awaitable[CallToolResult]]
Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(params=["auto", pytest.param("legacy", marks=pytest.mark.long)])
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


# --- calls that take long, in virtual time -----------------------------------------------------


@dataclass
class Desk:
    """A fake, an App and a client of a server that has its tools."""

    fake: FakeOllama
    app: App
    client: Client

    async def call(self, tool: str = "ollama_chat", **arguments: Any) -> CallToolResult:
        """Call a tool; progress is asked for if there is a `hear`."""
        hear = arguments.pop("hear", None)
        if tool == "ollama_chat":
            arguments.setdefault("prompt", "x")
        return await self.client.call_tool(tool, arguments, progress_callback=hear)

    async def begun(self, tool: str = "ollama_chat", **arguments: Any) -> str:
        """Call and get the handle."""
        return self.handle(await self.call(tool, **{"wait_s": 1.5, **arguments}))

    async def cont(self, handle: str, **arguments: Any) -> CallToolResult:
        """Wait on."""
        return await self.call("ollama_continue", handle=handle, **arguments)

    async def closed(self, count: int = 1) -> None:
        """Until so many connections were closed before their answer's end."""
        await self.fake.wait_for(lambda fake: fake.disconnects == count)

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def text(result: CallToolResult) -> str:
        (block,) = result.content
        return block.text

    @staticmethod
    def handle(result: CallToolResult) -> str:
        """The handle of a result that must be STILL RUNNING."""
        assert not result.is_error, result.content
        said = (
            r'STILL RUNNING: this is not the answer yet\. Call ollama_continue with handle="([0-9a-f]{32})" '
            r"to get it(?:, or ollama_cancel to stop it and free the model's place)?\.\n.*"
        )
        return re.fullmatch(said, Desk.text(result), re.DOTALL).group(1)


@pytest.fixture
def desk(mode: str) -> Callable[..., AbstractAsyncContextManager[Desk]]:
    """A desk whose client has a name, on our server or on one that `build` makes of a host and an App."""

    @asynccontextmanager
    async def desk(client: str = "", build: Any = None, **environment: str) -> AsyncIterator[Desk]:
        info = Implementation(name=client, version="1") if client else None
        async with FakeOllama() as fake:
            app = App.create(load({"OLLAMA_HOST": fake.url, **environment}))
            server = create_server(app) if build is None else MCPServer("host", log_level="ERROR")
            if build is not None:
                build(server, app)
            async with Client(server, mode=mode, client_info=info) as opened:
                yield Desk(fake, app, opened)
            await app.aclose()

    return desk


@pytest.fixture
def at(virtually: Any, desk: Any) -> Callable[..., Any]:
    """Runs a test at a desk, in virtual time."""

    def at(work: Callable[[Desk], Awaitable[Any]], *client: str, **more: Any) -> Any:
        async def run() -> Any:
            async with desk(*client, **more) as opened:
                return await work(opened)

        return virtually(run)

    return at
