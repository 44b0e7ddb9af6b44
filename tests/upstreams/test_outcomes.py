"""Whatever a tool does, the question is answered: one table for siblings and upstreams, everywhere.

Both protocol versions x in process, stdio, HTTP x our own server and somebody's. `-s` prints the table.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp import App
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]
HERE = Path(__file__).parent
EACH_S = 3.0
QUESTION = "Where do visitors park their cars?"
OUTCOMES = {
    # Tool: passages, and what the error of a sibling and that of an upstream say.
    "rows": (2, "", ""),
    "fails": (0, "no such database", "no such database"),
    "hangs": (0, "no answer within", "no answer within"),
    "asks": (0, "it asks for the user's input", "elicitation"),
    "reports": (1, "", ""),
    "recurses": (0, "a tool that was called for context asks", "there is no context tool up__rows"),
    "refused": (0, "not for you", "not for you"),
    "links": (1, "", ""),
    "images": (1, "", ""),
    "environment": (None, None, ""),
    "destroys": (0, "there is no such tool", "there is no such tool"),
    "web": (0, "there is no such tool", "there is no such tool"),
}
"""Tool, passages, errors; None: only upstreams have it."""


@asynccontextmanager
async def client_of(where: str, kind: str, mode: str, environment: dict[str, str]) -> AsyncIterator[Client]:
    """Connect to `host.py`, or to the same server in this process."""
    command = [str(HERE / "host.py"), kind]
    if where == "in process":
        app = App.create(load(environment))
        sys.path.insert(0, str(HERE))
        try:
            from host import make_host  # noqa: PLC0415
        finally:
            sys.path.remove(str(HERE))
        async with app, Client(make_host(app, kind), mode=mode) as client:
            yield client
    elif where == "stdio":
        server = StdioServerParameters(command=sys.executable, args=[*command, "stdio"], env=environment)
        async with Client(stdio_client(server), mode=mode) as client:
            yield client
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = await anyio.open_process(
            [sys.executable, *command, str(port)],
            env={**os.environ, **environment},
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(600):
                try:
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await anyio.sleep(0.1)
            async with Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
                yield client
        finally:
            process.terminate()
            await process.wait()
            await process.aclose()


@pytest.mark.parametrize("where", ["in process", "stdio", "HTTP"])
@pytest.mark.parametrize("kind", ["own", "foreign"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_outcome_is_the_same_everywhere(where, kind, mode, tmp_path, monkeypatch):
    monkeypatch.setattr("ollama_mcp.sources.gather.__defaults__", (EACH_S,))
    secret, file = "hunter2-secret", tmp_path / "mcp.json"
    async with FakeOllama() as fake:
        environment = {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_UPSTREAM": str(file)}
        entry = {"command": sys.executable, "args": [str(HERE / "child.py"), "normal"]}
        file.write_text(json.dumps({"mcpServers": {"up": entry | {"env": {**environment, "KEY": secret}}}}))
        fake.script("Behind the museum [1].", path="/api/chat")
        asked: list[str] = []
        with anyio.fail_after(120):
            async with client_of(where, kind, mode, environment) as client:
                for prefix, said in (("", 1), ("up__", 2)):
                    tools = [prefix + name for name, row in OUTCOMES.items() if row[said] is not None]
                    arguments = {"query": QUESTION, "context_tools": tools}

                    async def hear(_: float, __: float | None, message: str | None) -> None:
                        asked.append(message or "")

                    result = await client.call_tool("ollama_rag_query", arguments, progress_callback=hear)
                    assert not result.is_error, result.content
                    assert "Behind the museum [1].\n\nSources:\n[1] " in result.content[0].text
                    assert secret not in result.model_dump_json()
                    for row in result.meta["ollama-mcp/context"]["tools"]:
                        expected = OUTCOMES[row["source"].removeprefix(prefix)]
                        place = f"{where:10} {kind:8} {mode:7}"
                        print(f"{place} {row['source']:16} {row['passages']:3} {row['error']}")
                        assert expected[0] in (None, row["passages"]), row
                        assert expected[said] in row["error"], row
                        assert bool(expected[said]) == bool(row["error"]), row
    assert "half" not in asked  # progress of a tool is not the caller's
