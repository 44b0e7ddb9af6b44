# /// script
# dependencies = ["fastmcp>=4"]
# ///
"""Our tools on a server of the `fastmcp` package, without ours beside it: our command is its child process.

Run it in an environment of its own: `pipx run examples/foreign/fastmcp_child.py /path/to/ollama-mcp`.
The command's environment brings a fake Ollama too. In fastmcp 3 the proxy passes on neither progress
nor cancelling; there mcp1_child.py's way is the better one.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

from fastmcp import Client, FastMCP
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy
from mcp_types import TextContent

COMMAND = Path(sys.argv[1])


def make_server(ollama_host: str) -> FastMCP:
    server = FastMCP("kitchen")
    child = StdioTransport(str(COMMAND), args=[], env={"OLLAMA_HOST": ollama_host})
    # With a mode of its own the one child serves clients of old and new protocols side by side.
    server.mount(create_proxy(child, mode="auto"), namespace="local")

    @server.tool
    def oven_temperature(dish: str) -> str:
        """How hot the oven has to be."""
        return f"{dish}: 220 °C"

    return server


async def main(ollama_host: str) -> None:
    seen: list[str] = []
    writing = asyncio.Event()

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message or "")
        writing.set()

    async with asyncio.timeout(60), Client(make_server(ollama_host)) as client:
        names = {tool.name for tool in await client.list_tools()}
        print("tools:", ", ".join(sorted(names)))
        assert {"oven_temperature", "local_ollama_chat", "local_ollama_list_models"} <= names

        question = {"prompt": "Is rye bread sour, and for how long does it keep?"}
        answer = await client.call_tool("local_ollama_chat", question, progress_handler=watch)
        print("answer:", answer.content, "with progress:", seen)
        assert answer.content == [TextContent(text=f"You said: {question['prompt']}")]
        assert seen, "fastmcp passes progress on"

        unknown = {"prompt": "Is rye bread sour?", "model": "bread:7b"}
        failed = await client.call_tool("local_ollama_chat", unknown, raise_on_error=False)
        print("failed:", failed.content)
        assert failed.is_error
        assert "MODEL_NOT_FOUND: " in str(failed.content)

        # Cancelling stops the model: this Ollama runs one call at a time, so that the next would wait.
        writing.clear()
        long = {"prompt": "Say it again. " * 1000}
        call = asyncio.create_task(client.call_tool("local_ollama_chat", long, progress_handler=watch))
        await writing.wait()
        call.cancel()
        answer = await client.call_tool("local_ollama_chat", {"prompt": "Ready?"})
        assert answer.content == [TextContent(text="You said: Ready?")]


fake = [
    COMMAND.with_name("python"),
    "-m",
    "ollama_mcp.testing",
    "--rate",
    "20",
    "--parallel",
    "1",
    "--until-eof",
]
with subprocess.Popen(fake, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ollama:
    assert ollama.stdout
    asyncio.run(main(ollama.stdout.readline().strip()))
