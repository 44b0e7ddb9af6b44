# /// script
# dependencies = ["fastmcp>=4", "ollama-mcp"]
# ///
"""Our tools mounted on a server of the `fastmcp` package, whose version 4 can share an environment with us.

Run it where both are installed: `python examples/foreign/fastmcp_mount.py`. It needs no Ollama: a fake
one answers.
"""

import asyncio

from fastmcp import Client, FastMCP
from fastmcp.server import create_proxy
from mcp.server.mcpserver import MCPServer
from mcp_types import TextContent

from ollama_mcp import App, register
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script


def make_server(app: App) -> FastMCP:
    ollama = MCPServer("ollama", log_level="WARNING")
    register(ollama, app)
    server = FastMCP("kitchen")
    server.mount(create_proxy(ollama), namespace="local")
    return server


async def main() -> None:
    seen: list[str] = []

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message or "")

    async with asyncio.timeout(60), FakeOllama() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url}))  # in your program: App.create()
        async with app.lifespan(), Client(make_server(app)) as client:
            names = {tool.name for tool in await client.list_tools()}
            print("tools:", ", ".join(sorted(names)))
            assert {"local_ollama_chat", "local_ollama_list_models"} <= names

            fake.script(Script(tokens=["Rye, ", "water, ", "time."], delay=0.2))
            question = {"prompt": "What is in rye bread?"}
            answer = await client.call_tool("local_ollama_chat", question, progress_handler=watch)
            print("answer:", answer.content, "with progress:", seen)
            assert answer.content == [TextContent(text="Rye, water, time.")]
            assert seen

            fake.busy(times=None)
            failed = await client.call_tool("local_ollama_chat", question, raise_on_error=False)
            print("failed:", failed.content)
            assert failed.is_error
            assert "BUSY: Ollama is busy" in str(failed.content)

            fake.script(Script(tokens=["Rye "] * 1000, hold_after_tokens=3))
            call = asyncio.create_task(client.call_tool("local_ollama_chat", question))
            await fake.wait_for(lambda fake: fake.in_flight and fake.asked("/api/chat"))
            await client.call_tool("local_ollama_list_models")  # other calls go on meanwhile
            assert fake.disconnects == 0
            call.cancel()
            await fake.wait_for(lambda fake: fake.disconnects == 1)


asyncio.run(main())
