"""ollama_rag_query on somebody's server, over stdio and HTTP, in both protocol versions: real processes."""

import sys
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp.testing import FakeOllama

pytestmark = [pytest.mark.anyio, pytest.mark.gate, pytest.mark.real_time]
EXAMPLE = Path(__file__).parents[2] / "examples" / "context_tools.py"
QUESTION = {"query": "Where do visitors park their cars?", "context_tools": ["search_notes"]}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_sibling_is_asked_over_stdio_with_progress(mode):
    seen: list[str] = []

    async def hear(value: float, total: float | None, message: str | None) -> None:
        seen.append(message or "")

    async with FakeOllama() as fake:
        fake.script("They park behind the museum [1].", path="/api/chat")
        server = StdioServerParameters(command=sys.executable, args=[str(EXAMPLE), "stdio", fake.url])
        with anyio.fail_after(60):
            async with Client(stdio_client(server), mode=mode) as client:
                result = await client.call_tool("ollama_rag_query", QUESTION, progress_callback=hear)
    assert "[1] Visitors · note://visitors · from search_notes" in result.content[0].text
    assert result.meta["ollama-mcp/context"]["context_count"] == 1
