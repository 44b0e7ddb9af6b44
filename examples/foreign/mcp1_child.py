# /// script
# dependencies = ["mcp<2"]
# ///
"""A tool on a server of mcp 1, which cannot share an environment with ours: our command is its child.

Run it in an environment of its own: `pipx run examples/foreign/mcp1_child.py /path/to/ollama-mcp`. The
command's environment brings a fake Ollama too. Each call has a child of its own, which takes 0.6 s to
start: the client of mcp 1 does not say that a call is cancelled, but the end of the child does.
"""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.shared.memory import create_connected_server_and_client_session as connect
from mcp.shared.session import ProgressFnT
from mcp.types import CallToolResult, TextContent

COMMAND = Path(sys.argv[1])


async def ask_ollama(host: str, arguments: dict[str, Any], progress: ProgressFnT) -> CallToolResult:
    child = StdioServerParameters(command=str(COMMAND), env={"OLLAMA_HOST": host})
    async with stdio_client(child) as streams, ClientSession(*streams) as session:
        await session.initialize()
        return await session.call_tool("ollama_chat", arguments, progress_callback=progress)


def make_server(host: str) -> FastMCP:
    server = FastMCP("kitchen", log_level="WARNING")

    @server.tool()
    async def recipe(dish: str, ctx: Context[Any, Any, Any], model: str = "") -> str:
        """Write a recipe."""
        result = await ask_ollama(
            host, {"prompt": f"A recipe for {dish}.", "model": model}, ctx.report_progress
        )
        text = "".join(block.text for block in result.content if isinstance(block, TextContent))
        if result.isError:
            raise ToolError(text)
        return text

    return server


async def main(host: str) -> None:
    seen: list[str] = []
    writing = asyncio.Event()

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message or "")
        writing.set()

    async with asyncio.timeout(60), connect(make_server(host)) as client:
        dish = "rye bread that keeps for a week or two"
        answer = await client.call_tool("recipe", {"dish": dish}, progress_callback=watch)
        print("answer:", answer.content, "with progress:", seen)
        assert answer.content == [TextContent(type="text", text=f"You said: A recipe for {dish}.")]
        assert seen

        failed = await client.call_tool("recipe", {"dish": "rye bread", "model": "bread:7b"})
        print("failed:", failed.content)
        assert failed.isError
        assert "MODEL_NOT_FOUND: " in str(failed.content)

    # Cancelling stops the model: this Ollama runs one call at a time, so that the next would wait.
    async with asyncio.timeout(60):
        writing.clear()
        long = asyncio.create_task(ask_ollama(host, {"prompt": "Say it again. " * 1000}, watch))
        await writing.wait()
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)  # mcp 1 may add a failure of its own
        result = await ask_ollama(host, {"prompt": "Ready?"}, watch)
        assert result.content == [TextContent(type="text", text="You said: Ready?")]


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
