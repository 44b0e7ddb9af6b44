"""An upstream in this process: what a server may do to us, and how often it was connected."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.client import Client
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, CallToolResult, ResourceLink, TextContent, ToolAnnotations
from pydantic import BaseModel

from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.tools.upstreams.connection import UpstreamClient

READS = ToolAnnotations(read_only_hint=True)
PARKING = "Visitors park their cars behind the museum."


class Consent(BaseModel):
    yes: bool


def make_server(*, secret: str = "") -> MCPServer[Any]:
    """A server whose tools do what tools do."""
    server: MCPServer[Any] = MCPServer("upstream", log_level="CRITICAL")
    add_tools(server, secret=secret)
    return server


def add_tools(server: MCPServer[Any], *, secret: str = "") -> None:
    """Add a tool for each outcome, and a middleware that refuses one."""

    @server.tool(annotations=READS)
    def rows(query: str) -> list[dict[str, str]]:
        return [
            {"title": "Parking", "text": PARKING, "uri": f"note://{secret or 1}"},
            {"text": "Soup at noon."},
        ]

    @server.tool(annotations=READS)
    def fails(query: str) -> str:
        raise ToolError(f"no such database {secret}".strip())

    @server.tool(annotations=READS)
    async def hangs(query: str) -> str:
        await anyio.sleep(3600)
        return "too late"

    @server.tool(annotations=READS)
    async def asks(query: str, ctx: Context[Any, Any]) -> str:
        return str(await ctx.elicit("your password?", Consent))

    @server.tool(annotations=READS)
    async def reports(query: str, ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(50, 100, "half")
        return PARKING

    @server.tool(annotations=READS)
    def links(query: str) -> CallToolResult:
        link = ResourceLink(type="resource_link", name="p", title="Visitors park here", uri="file:///parking")
        return CallToolResult(content=[link])

    @server.tool(annotations=READS)
    def images(query: str) -> CallToolResult:
        text = TextContent(type="text", text=PARKING)
        return CallToolResult(content=[Image(data=b"png", format="png").to_image_content(), text])

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=True))
    def web(query: str) -> str:
        return PARKING

    @server.tool()
    def writes(query: str) -> str:
        return PARKING

    @server.tool(annotations=ToolAnnotations(destructive_hint=True))
    def destroys(query: str) -> str:
        return "gone"

    @server.tool(annotations=READS)
    def refused(query: str) -> str:
        return "the secret"

    async def refuse(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call" and (ctx.params or {}).get("name") == "refused":
            raise MCPError(code=-32600, message="not for you")
        return await call_next(ctx)

    server.middleware.append(refuse)


class Connections:
    """Connects to servers in this process.

    Attributes:
        begun: How often each server was connected.
        open: How many connections there are.
        trouble: Raised instead of a connection.
        delay_s: Seconds that a connection takes.
    """

    def __init__(self, server: MCPServer[Any] | None = None, mode: str = "auto") -> None:
        self.server = server or make_server()
        self.mode = mode
        self.begun: dict[str, int] = {}
        self.open = 0
        self.trouble: Exception | None = None
        self.delay_s = 0.0
        self.end: Callable[[], None] = lambda: None
        """Ends the newest connection, as the death of a process does."""

    @asynccontextmanager
    async def __call__(self, server: UpstreamServer, ended: asyncio.Event) -> AsyncGenerator[Any]:
        self.begun[server.name] = self.begun.get(server.name, 0) + 1
        await anyio.sleep(self.delay_s)
        if self.trouble is not None:
            raise self.trouble
        async with Client(self.server, mode=self.mode) as client:
            self.open += 1
            self.end = ended.set
            try:
                yield UpstreamClient(client)
            finally:
                self.open -= 1


class Mortal:
    """A client whose first calls find that its server died."""

    def __init__(self, client: Client, deaths: list[None]) -> None:
        self._client = client
        self._deaths = deaths
        self.list_tools = client.list_tools

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        if self._deaths:
            self._deaths.pop()
            raise MCPError(code=CONNECTION_CLOSED, message="Connection closed")
        return await self._client.call_tool(name, arguments)


class MortalConnections(Connections):
    """Connections of which the first `deaths` calls find a server that has died."""

    def __init__(self, deaths: int) -> None:
        super().__init__()
        self.deaths: list[None] = [None] * deaths

    @asynccontextmanager
    async def __call__(self, server: UpstreamServer, ended: asyncio.Event) -> AsyncGenerator[Any]:
        async with super().__call__(server, ended) as opened:
            yield UpstreamClient(Mortal(opened.client, self.deaths))  # pyright: ignore[reportArgumentType]
