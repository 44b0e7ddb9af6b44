"""The SDK's own client, as hosts use it."""

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp.settings import Settings
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools import TOOLSETS

pytestmark = pytest.mark.anyio
DEFAULT = Settings().toolsets


def connected(fake: FakeOllama, mode: str, *command: str) -> AbstractAsyncContextManager[Client]:
    server = StdioServerParameters(command=command[0], args=command[1:], env={"OLLAMA_HOST": fake.url})
    return Client(stdio_client(server), mode=mode)


@pytest.mark.gate
@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_it_streams_an_answer_and_stops_the_model_when_it_gives_up(fake: Any, mode: str, version: str):
    heard: list[str] = []

    async def hear(_: float, __: float | None, message: str | None) -> None:
        heard.append(message or "")

    command = [str(Path(sys.executable).with_name("ollama-mcp"))]
    if mode == "auto":
        command = [sys.executable, "-m", "ollama_mcp"]
    with anyio.fail_after(20):
        async with connected(fake, mode, *command) as client:
            assert client.protocol_version == version
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {t.name for name in DEFAULT for t in TOOLSETS[name] if t.is_there(Settings())}
            fake.script(Script(tokens=["word "] * 20, delay=0.02), times=1)
            meta = {"ollama-mcp/progress": "text"}
            result = await client.call_tool("ollama_chat", {"prompt": "x"}, progress_callback=hear, meta=meta)
            joined = "".join(heard)
            assert len(joined) > 10
            assert result.content[0].text.startswith(joined)

            fake.script(Script(tokens=["a"] * 9, hold_after_tokens=3))
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "ollama_chat", {"prompt": "x"})
                await fake.wait_for(lambda fake: len(fake.asked("/api/chat")) == 2)
                group.cancel_scope.cancel()
            await fake.wait_for(lambda fake: fake.disconnects == 1)
            assert not (await client.call_tool("ollama_list_models", {})).is_error
