"""Tasks over stdio and HTTP: the installed command and the SDK's own client."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp.testing import FakeOllama, Model, Script

from .client import TASKS, Declared, ask, begin

pytestmark = [pytest.mark.anyio, pytest.mark.gate]

COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
SETTINGS = {"OLLAMA_MCP_TOOLSETS": "all", "OLLAMA_MCP_SOFT_DEADLINE": "0.3"}


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama.in_thread([Model("m"), Model("n")]) as fake:
        yield fake


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    """The address of the command, served over HTTP."""
    command = [COMMAND, "serve", "--http", "127.0.0.1:0"]
    environment = {"OLLAMA_HOST": fake.url, **SETTINGS}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield re.search(r"http://\S+", process.stderr.readline())[0]
        finally:
            process.terminate()


async def asked_for_nothing(*_: Any) -> Any:
    raise AssertionError("the client asks by tasks/get")


async def use_tasks(fake: FakeOllama, target: Any) -> None:
    """Create, poll, answer, cancel, and get results."""
    declared = Declared()
    with anyio.fail_after(30):
        async with Client(target, extensions=[declared], elicitation_callback=asked_for_nothing) as client:
            assert client.server_capabilities.extensions == {TASKS: {}}
            fake.script(Script(tokens=["word "] * 20, delay=0.05), times=1)
            result = await client.call_tool("ollama_chat", {"prompt": "x", "model": "m"})
            assert result.content[0].text == "word " * 20
            statuses = [task["status"] for task in declared.seen]
            assert statuses[0] == "working"
            assert statuses[-1] == "completed"

            declared.seen.clear()
            result = await client.call_tool("ollama_delete_model", {"model": "n"})
            assert result.content[0].text.startswith("n:latest is deleted")
            assert [task["status"] for task in declared.seen][:2] == ["input_required", "input_required"]

            fake.script(Script(tokens=["word "] * 20, hold_after_tokens=3))
            task = await begin(client, "ollama_generate", prompt="x", model="m")
            await ask(client, "tasks/cancel", taskId=task["taskId"])
            await fake.wait_for(lambda fake: fake.disconnects == 1)
            assert (await ask(client, "tasks/get", taskId=task["taskId"]))["status"] == "cancelled"


async def test_tasks_over_stdio(fake: FakeOllama):
    environment = {"OLLAMA_HOST": fake.url, **SETTINGS}
    await use_tasks(fake, stdio_client(StdioServerParameters(command=COMMAND, env=environment)))


async def test_tasks_over_http_where_a_header_names_no_other_task(fake: FakeOllama, url: str):
    await use_tasks(fake, url)
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
    }
    message = {
        "jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": "one", "_meta": meta}
    }  # fmt: skip
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tasks/get",
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        for name, status, code in (("one", 400, -32602), ("another", 400, -32020), (None, 400, -32602)):
            named = headers | ({"mcp-name": name} if name else {})
            answer = await client.post(url, json=message, headers=named)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
