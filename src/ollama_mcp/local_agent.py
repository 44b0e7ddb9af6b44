"""The pytest fixture `local_agent`: how a local model would use the tools of your MCP server, offline.

A pytest plugin of its own, above the server; everything is imported inside, since every run loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from ollama_mcp.services.agent_task import AgentAnswer
    from ollama_mcp.testing.fake import FakeOllama
    from ollama_mcp.testing.scripts import Scripted


class LocalAgent:
    """A local model whose turns are scripted, and that really calls the tools of a server.

        local_agent.script(tool_call("search_notes", query="parking"), "Behind the museum.")
        answer = await local_agent.run("Where do visitors park?", server)
        assert [call.outcome for call in answer.calls] == ["ok"]

    Attributes:
        fake: The fake Ollama behind it; `fake.last.json` is the last request to the model.
        says_yes: Answer to each question about a tool that does not only read.
        questions: Questions that its user was asked.
    """

    def __init__(self, fake: FakeOllama) -> None:
        self.fake = fake
        self.says_yes = True
        self.questions: list[str] = []

    def script(self, *turns: Scripted) -> None:
        """Script the turns of the model: `tool_call(…)`, any `Script`, and a text as the answer."""
        first, *then = turns
        self.fake.script(first, *then, path="/api/chat")

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Tools as the model was told of them last: name, description and parameters of each."""
        requests: list[Any] = [request.json for request in self.fake.asked("/api/chat")]
        told: list[list[Any]] = [one["tools"] for one in requests if one.get("tools")]
        return [tool["function"] for tool in told[-1]] if told else []

    async def run(
        self,
        task: str,
        server: MCPServer[Any],
        tools: Sequence[str] = ("*",),
        *,
        steps: int = 6,
        system: str = "",
        schema: Mapping[str, Any] | None = None,
    ) -> AgentAnswer:
        """Give it a task.

        Args:
            task: The task.
            server: Your server, in this process.
            tools: Names or patterns of its tools.
            steps: Rounds of calls at most.
            system: System prompt.
            schema: JSON Schema of the answer.

        Raises:
            OllamaError: There is no answer, or no such tool.
        """
        from mcp.client import Client  # noqa: PLC0415  (only when a test asks for it)

        from ollama_mcp.app import App  # noqa: PLC0415
        from ollama_mcp.errors import NotConfirmed  # noqa: PLC0415
        from ollama_mcp.services.agent_task import Permissions, build_agent  # noqa: PLC0415
        from ollama_mcp.settings import load  # noqa: PLC0415
        from ollama_mcp.tools.client_tools import ClientTools  # noqa: PLC0415

        async def ask(question: str) -> None:
            self.questions.append(question)
            if not self.says_yes:
                raise NotConfirmed("the user said no", "Do without it.")

        spec = build_agent(task, tools, steps, system=system, schema=schema)
        async with App.create(load({"OLLAMA_HOST": self.fake.url})) as app, Client(server) as client:
            source = ClientTools(client)
            job = app.jobs.start(lambda job: app.agent.run(spec, source, Permissions(), job, ask))
            return await job.result()


@pytest.fixture
def local_agent(fake_ollama: FakeOllama) -> LocalAgent:
    """A local model with scripted turns that calls the tools of your server.

    async def test_the_note_is_found(local_agent):
        local_agent.script(tool_call("search_notes", query="parking"), "Behind the museum.")
        answer = await local_agent.run("Where do visitors park?", server)
        assert answer.calls[0].result == "Visitors park behind the museum."
    """
    return LocalAgent(fake_ollama)
