"""Your own MCP server, with our tools beside yours. Tested through the SDK's client, on a fake Ollama."""

import asyncio

from mcp.client import Client
from mcp.server.mcpserver import MCPServer

from ollama_mcp import App, register
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script

server = MCPServer("kitchen", log_level="WARNING")


@server.tool()
def oven_temperature(dish: str) -> str:
    """How hot the oven has to be."""
    return f"{dish}: 220 °C"


async def main() -> None:
    async with FakeOllama() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url}))  # in your program: App.create()
        register(server, app, toolsets=["chat"], prefix="local_")
        fake.script(Script(tokens=["Rye ", "and ", "water."]))
        async with Client(server) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            print("tools:", ", ".join(names))
            own = await client.call_tool("oven_temperature", {"dish": "bread"})
            ours = await client.call_tool("local_ollama_chat", {"prompt": "What is in rye bread?"})
        await app.aclose()

    assert names == ["oven_temperature", "local_ollama_chat", "local_ollama_generate"]
    assert own.content[0].text == "bread: 220 °C"
    assert ours.content[0].text == "Rye and water."


asyncio.run(main())
