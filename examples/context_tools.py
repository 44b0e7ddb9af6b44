"""Answers from your own tools: a local model reads what a search of yours finds, and cites it.

Run it: `python examples/context_tools.py`. It needs no Ollama: a fake one answers. With `stdio` and the
address of an Ollama behind it, it is a server for your client.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import TextContent, ToolAnnotations

from ollama_mcp import App, register
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama

NOTES = [
    {"title": "Visitors", "text": "Visitors park their cars behind the museum.", "uri": "note://visitors"},
    {"title": "Café", "text": "The café opens at nine and closes at six.", "uri": "note://cafe"},
]


def make_server(ollama: str) -> MCPServer[Any]:
    """A server with a search of yours, which ollama_rag_query may ask; the tool add_note it may not."""
    app = App.create(load({"OLLAMA_HOST": ollama}))
    server: MCPServer[Any] = MCPServer("museum", lifespan=app.lifespan, log_level="WARNING")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def search_notes(query: str) -> list[dict[str, str]]:
        """Find notes about the museum."""
        words = [word.strip("?.,") for word in query.lower().split() if len(word) > 3]
        return [note for note in NOTES if any(word in note["text"].lower() for word in words)]

    @server.tool()
    def add_note(title: str, text: str) -> str:
        """Add a note."""
        NOTES.append({"title": title, "text": text, "uri": f"note://{title.lower()}"})
        return "added"

    register(server, app, toolsets=["rag"], context_tools=["search_*"])
    return server


async def main() -> None:
    """Ask a question; a fake Ollama answers."""
    async with FakeOllama() as fake:
        fake.script("They park behind the museum [1].", path="/api/chat")
        async with Client(make_server(fake.url)) as client:
            question = {"query": "Where do visitors park their cars?", "context_tools": ["search_notes"]}
            result = await client.call_tool("ollama_rag_query", question)
            (block,) = result.content
            assert isinstance(block, TextContent)
            print(block.text)
            assert block.text.startswith("They park behind the museum [1].")
            assert "[1] Visitors · note://visitors · from search_notes" in block.text
            refused = await client.call_tool("ollama_rag_query", question | {"context_tools": ["add_note"]})
            assert refused.is_error
        assert "Visitors park their cars behind the museum." in str(fake.asked("/api/chat")[0].json)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        make_server(sys.argv[2]).run("stdio")
    else:
        asyncio.run(main())
