"""The client of fastmcp with fastmcp-tasks: `fastmcp_client.py BIN`, in an environment that has both.

BIN is the folder of the command. Over stdio and HTTP, in front of a fake Ollama in a process of its own:
create, poll, answer, cancel, and the result that comes as if there was no task.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp_tasks.client import call_tool_task

SETTINGS = {"OLLAMA_MCP_TOOLSETS": "all", "OLLAMA_MCP_SOFT_DEADLINE": "0.3"}

OVERWRITE = {"source": "llama3.2:3b", "destination": "nomic-embed-text"}


@contextmanager
def serving(*command: str, on: str, **environment: str) -> Iterator[str]:
    """A process that says its address on stdout or stderr; gives the address."""
    with subprocess.Popen(command, env=environment, text=True, **{on: subprocess.PIPE}) as process:
        try:
            lines = iter(getattr(process, on).readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
        finally:
            process.terminate()


async def use(transport: Any) -> None:
    questions: list[str] = []

    async def answer(message: str, _kind: Any, _params: Any, _context: Any) -> dict[str, bool]:
        questions.append(message)
        return {"confirm": True}

    async with Client(transport, elicitation_handler=answer) as client:
        plain = await client.call_tool("ollama_chat", {"prompt": "x"})
        assert plain.content[0].text.startswith("word"), plain

        task = await call_tool_task(client, "ollama_chat", {"prompt": "x"})
        assert (await task.status()).status == "working"
        assert re.match(r"\d+ tok", (await task.status()).status_message)
        assert (await task.result()).content == plain.content

        vectors = await client.call_tool("ollama_embeddings", {"input": ["a", "b"]})
        assert vectors.structured_content["count"] == 2, vectors

        copied = await client.call_tool("ollama_copy_model", OVERWRITE)
        assert copied.structured_content, copied  # it fits the tool's own output schema
        assert len(questions) == 1

        failed = await client.call_tool("ollama_chat", {"prompt": "x", "model": "no"}, raise_on_error=False)
        assert failed.is_error

        task = await call_tool_task(client, "ollama_chat", {"prompt": "x"})
        await task.cancel()
        assert (await task.status()).status == "cancelled"


async def main(folder: Path) -> None:
    python, command = str(folder / "python"), str(folder / "ollama-mcp")
    fake = (python, "-m", "ollama_mcp.testing", "--tokens", "30", "--rate", "15")
    with serving(*fake, on="stdout") as ollama:
        await use(StdioTransport(command, [], env={"OLLAMA_HOST": ollama, **SETTINGS}))
        print("fastmcp over stdio: create, poll, input, cancel, result")
    with (
        serving(*fake, on="stdout") as ollama,
        serving(
            command, "serve", "--http", "127.0.0.1:0", on="stderr", OLLAMA_HOST=ollama, **SETTINGS
        ) as url,
    ):
        await use(StreamableHttpTransport(url))
        print("fastmcp over HTTP: create, poll, input, cancel, result")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
