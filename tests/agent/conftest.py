"""A local model whose turns are scripted, and tools that do what tools do."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from ollama_mcp.app import App
from ollama_mcp.errors import NotConfirmed
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.agent_task import AgentAnswer, Permissions, Trace, build_agent
from ollama_mcp.settings import load
from ollama_mcp.sources import Passage, SourceError, ToolList, ToolSpec
from ollama_mcp.testing import FakeOllama, Model, Script

QUERY = {
    "type": "object",
    "properties": {"query": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["query"],
}


def spec(name: str, reads: bool | None = True, **hints: Any) -> ToolSpec:
    return ToolSpec(name, f"{name} of notes", QUERY, is_read_only=reads, **hints)


TOOLS = [
    spec("search"),
    spec("slow"),
    spec("fails"),
    spec("big"),
    spec("delete", reads=False, is_destructive=True),
    spec("web", is_open_world=True),
    spec("wiki", remote_host="wiki.example"),
]


class Tools:
    """A source; remembers what was called, and how many calls ran at once."""

    def __init__(self, tools: Sequence[ToolSpec] = TOOLS) -> None:
        self.specs = list(tools)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.running = 0
        self.most = 0
        self.broken_off = 0

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        return ToolList(self.specs)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        self.calls.append((name, dict(arguments)))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(100 if name == "slow" else 0.5)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        finally:
            self.running -= 1
        if name == "fails":
            raise SourceError("the disk is on fire")
        return [Passage("x" * 100_000 if name == "big" else f"{name} found {arguments['query']}", name)]


class User:
    """A user who is asked, and says yes or no."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, question: str) -> None:
        self.asked.append(question)
        if not self.answers.pop(0):
            raise NotConfirmed("the user declined", "Do not try again.")


class Office:
    """A fake Ollama, an App and tools."""

    def __init__(self, fake: FakeOllama, app: App) -> None:
        self.fake = fake
        self.app = app
        self.tools = Tools()

    def script(self, *turns: Script | str | list[dict[str, Any]] | dict[str, Any]) -> None:
        """Script the model's turns: a call, calls, or a text."""
        scripts = [
            turn
            if isinstance(turn, str | Script)
            else Script(tool_calls=[turn] if isinstance(turn, dict) else turn)
            for turn in turns
        ]
        self.fake.script(*scripts, path="/api/chat")

    def begin(
        self,
        task: str = "Where do visitors park?",
        tools: Sequence[str] = ("*",),
        user: User | None = None,
        unasked: Sequence[str] = (),
        trace: Trace | None = None,
        **arguments: Any,
    ) -> Job[AgentAnswer]:
        made = build_agent(task, tools, **arguments)
        permissions = Permissions(("*",), tuple(unasked))
        return self.app.jobs.start(
            lambda job: self.app.agent.run(made, self.tools, permissions, job, user, trace)
        )

    async def run(self, *given: Any, **arguments: Any) -> AgentAnswer:
        return await self.begin(*given, **arguments).result()

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Requests to the model."""
        return [request.json for request in self.fake.asked("/api/chat")]

    @property
    def results(self) -> list[str]:
        """Contents of the messages of tools, in the last request."""
        return [m["content"] for m in self.turns[-1]["messages"] if m["role"] == "tool"]


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.fixture
async def office(anyio_backend: str) -> AsyncIterator[Office]:
    models = [
        Model("m:1", capabilities=("completion", "tools", "thinking")),
        Model("plain:1", capabilities=("completion",)),
    ]
    async with FakeOllama(models) as fake, App.create(load({"OLLAMA_HOST": fake.url})) as app:
        yield Office(fake, app)
