"""The fixture `local_agent`, as the author of a server has it."""

from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from ollama_mcp.local_agent import LocalAgent
from ollama_mcp.testing import tool_call

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.fixture
def server() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("notes", log_level="CRITICAL")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def search_notes(query: str) -> str:
        """Find notes."""
        if query == "broken":
            raise ToolError("no such index")
        return "Visitors park behind the museum."

    @server.tool()
    def add_note(text: str) -> str:
        return f"added {text}"

    return server


async def test_the_tools_of_a_server_are_called_as_scripted(local_agent: LocalAgent, server: Any):
    local_agent.script(
        tool_call("search_notes", query="parking"), tool_call("search_notes", query="broken"), "Behind it."
    )
    answer = await local_agent.run("Where do visitors park?", server)
    assert answer.response == "Behind it."
    assert [call.outcome for call in answer.calls] == ["ok", "failed"]
    assert answer.calls[0].result == "Visitors park behind the museum."
    assert "no such index" in answer.calls[1].result
    assert [tool["name"] for tool in local_agent.tools] == ["search_notes", "add_note"]
    assert local_agent.tools[0]["description"] == "Find notes."


@pytest.mark.parametrize("says_yes", [True, False])
async def test_its_user_answers_as_told(local_agent: LocalAgent, server: Any, says_yes: bool):
    local_agent.says_yes = says_yes
    local_agent.script(tool_call("add_note", text="tea"), "Done.")
    answer = await local_agent.run("Write.", server, ["add_*"])
    assert [call.outcome for call in answer.calls] == ["ok" if says_yes else "refused"]
    assert len(local_agent.questions) == 1
