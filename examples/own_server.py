"""Your own MCP server with our tools beside yours, and a tool of yours that asks a local model itself.

Run it: `python examples/own_server.py`. It needs no Ollama: a fake one answers.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import TextContent

from ollama_mcp import App, OllamaError, ollama_chat, register
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script


def make_server(app: App) -> MCPServer[Any]:
    @asynccontextmanager
    async def lifespan(server: MCPServer[Any]) -> AsyncGenerator[dict[str, Any]]:
        async with app.lifespan(server):  # closes our connections when your server ends
            yield {"oven": "the big oven"}

    server = MCPServer("kitchen", lifespan=lifespan, log_level="WARNING")
    register(server, app, toolsets=["chat"], prefix="local_")

    @server.tool()
    async def recipe(dish: str, ctx: Context) -> str:
        """Write a recipe for our oven."""
        oven = ctx.request_context.lifespan_context["oven"]
        try:
            return await ollama_chat(app, prompt=f"A recipe for {dish}, in {oven}.", ctx=ctx)
        except OllamaError as error:
            raise ToolError(str(error)) from error

    return server


async def main() -> None:
    seen: list[str | None] = []

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message)

    async with FakeOllama() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url}))  # in your program: App.create()
        async with Client(make_server(app), mode="legacy") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            print("tools:", ", ".join(names))
            ours = ["chat", "generate", "continue", "cancel"]
            assert names == [*(f"local_ollama_{name}" for name in ours), "recipe"]

            answer = await client.call_tool("local_ollama_chat", {"prompt": "Is rye bread sour?"})
            assert answer.content == [TextContent(text="You said: Is rye bread sour?")]

            fake.script(Script(tokens=["Rye, ", "water, ", "time."], delay=0.2))
            yours = await client.call_tool("recipe", {"dish": "rye bread"}, progress_callback=watch)
            print("recipe:", yours.content, "with progress:", seen)
            assert yours.content == [TextContent(text="Rye, water, time.")]
            assert fake.asked("/api/chat")[-1].json["messages"][-1]["content"] == (
                "A recipe for rye bread, in the big oven."
            )
            assert seen, "the progress of the model is that of your tool"

            fake.busy(times=None)
            failed = await client.call_tool("recipe", {"dish": "rye bread"})
            print("recipe:", failed.content)
            assert failed.is_error
            assert "BUSY: Ollama is busy" in str(failed.content)
        await fake.wait_for(lambda fake: fake.open_connections == 0)  # the lifespan has closed them


asyncio.run(main())
