"""ollama_agent over stdio, in both protocol versions: real processes, the model's side scripted."""

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import ElicitResult

from ollama_mcp.testing import FakeOllama, tool_call

pytestmark = [pytest.mark.anyio, pytest.mark.gate, pytest.mark.real_time]
EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_tools.py"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_tool_of_the_host_is_called_and_one_that_writes_is_asked_about(mode: str):
    heard: list[str] = []
    asked: list[str] = []

    async def hear(_value: float, _total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async def answer(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"confirm": True})

    async with FakeOllama() as fake:
        fake.script(
            tool_call("search_notes", query="cars"),
            tool_call("add_note", title="Cars", text="Behind it."),
            "They park behind the museum.",
            path="/api/chat",
        )
        server = StdioServerParameters(
            command=sys.executable, args=[str(EXAMPLE), "stdio", fake.url], env=dict(os.environ)
        )
        with anyio.fail_after(60):
            async with Client(stdio_client(server), mode=mode, elicitation_callback=answer) as client:
                result = await client.call_tool(
                    "ollama_agent",
                    {"task": "Where do visitors park? Add a note.", "tools": ["*_note*"]},
                    progress_callback=hear,
                )
    (block,) = result.content
    assert block.text.startswith("They park behind the museum.\n\nCalls:\n1. search_notes")
    assert [call["outcome"] for call in result.meta["ollama-mcp/agent"]["calls"]] == ["ok", "ok"]
    assert len(asked) == 1
    assert asked[0].startswith("May the local model call add_note with ")
    assert heard
