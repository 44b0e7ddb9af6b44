"""A local model that works with your own tools: it searches by itself, and asks before it writes.

Run it: `python examples/agent_tools.py`. It needs no Ollama: a fake one answers. With `stdio` and the
address of an Ollama behind it, it is a server for your client.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import ElicitResult, TextContent, ToolAnnotations

from ollama_mcp import App, register
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, tool_call


def make_server(ollama: str) -> MCPServer[Any]:
    """A server whose notes a local model may search, and, if its user says yes, write."""
    notes = {"Visitors": "Visitors park their cars behind the museum."}
    app = App.create(load({"OLLAMA_HOST": ollama}))
    server: MCPServer[Any] = MCPServer("museum", lifespan=app.lifespan, log_level="WARNING")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def search_notes(query: str) -> list[dict[str, str]]:
        """Find notes about the museum."""
        found = [title for title, text in notes.items() if query.lower() in text.lower()]
        return [{"title": title, "text": notes[title]} for title in found]

    @server.tool()
    def add_note(title: str, text: str) -> str:
        """Add a note."""
        notes[title] = text
        return f"{len(notes)} notes"

    register(server, app, toolsets=["agent"], agent_tools=["*_note*"])
    return server


async def main() -> None:
    """Give a task; a fake Ollama plays the model, and the user says yes."""
    questions: list[str] = []

    async def say_yes(context: Any, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"confirm": True})

    async with FakeOllama() as fake:
        search, add = (
            tool_call("search_notes", query="cars"),
            tool_call("add_note", title="Cars", text="Behind."),
        )
        fake.script(search, add, "They park behind the museum; I added a note.", path="/api/chat")
        async with Client(make_server(fake.url), elicitation_callback=say_yes) as client:
            task = {"task": "Where do visitors park? Add a note.", "tools": ["*_note*"]}
            result = await client.call_tool("ollama_agent", task)
        (block,) = result.content
        assert isinstance(block, TextContent)
        print(block.text)
        print("The user was asked:", *questions)
        assert block.text.startswith("They park behind the museum")
        assert len(questions) == 1


if __name__ == "__main__":
    if len(sys.argv) == 3:
        make_server(sys.argv[2]).run("stdio")
    else:
        asyncio.run(main())
