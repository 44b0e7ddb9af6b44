"""ollama_agent on somebody's server: which tools it may call, and how its user is asked in the middle."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitResult, ToolAnnotations

from ollama_mcp import App, ollama_agent, register
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model, Script

from .conftest import call

READS = ToolAnnotations(read_only_hint=True)
PARKING = "Visitors park behind the museum."
WRITES = [Script(tool_calls=[call("write", text=text)]) for text in ("one", "two")]


class Museum:
    """A server of somebody with a read-only tool, one that writes, and one that is not for agents."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.server: MCPServer[Any] = MCPServer("museum", log_level="CRITICAL")

        @self.server.tool(annotations=READS)
        async def look(query: str, ctx: Context[Any, Any]) -> str:
            await ctx.report_progress(50, 100, "half")
            return PARKING

        @self.server.tool()
        def write(text: str) -> str:
            self.written.append(text)
            return f"written: {text}"

        @self.server.tool(annotations=READS)
        async def secret() -> str:
            return "42"

        @self.server.tool(annotations=READS)
        async def slow() -> str:
            await asyncio.sleep(30)
            return "at last"


At = Callable[..., Any]


@pytest.fixture
def at(virtually: Any) -> At:
    """Runs a test at a museum that has our agent, in virtual time."""

    def run(
        work: Callable[[FakeOllama, Museum, Client], Awaitable[Any]],
        mode: str = "auto",
        agent_tools: tuple[str, ...] = ("look", "write", "slow"),
        user: Any = None,
        **environment: str,
    ) -> Any:
        @asynccontextmanager
        async def opened() -> Any:
            async with FakeOllama([Model("m")]) as fake:
                settings = {"OLLAMA_HOST": fake.url, **environment}
                async with App.create(load(settings)) as app:
                    museum = Museum()
                    register(museum.server, app, agent_tools=agent_tools)
                    async with Client(museum.server, mode=mode, elicitation_callback=user) as client:
                        yield fake, museum, client

        async def whole() -> Any:
            async with opened() as (fake, museum, client):
                return await work(fake, museum, client)

        return virtually(whole)

    return run


class Person:
    """A person who reads each question, and answers."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, _context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        if self.answers.pop(0):
            return ElicitResult(action="accept", content={"confirm": True})
        return ElicitResult(action="decline")


def text(result: Any) -> str:
    (block,) = result.content
    return block.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_user_is_asked_in_the_middle_as_often_as_it_takes(at: At, mode: str):
    person = Person(True, False)

    async def work(fake, museum, client):
        fake.script(*WRITES, "Done.", path="/api/chat")
        result = await client.call_tool("ollama_agent", {"task": "Write.", "tools": ["write"]})
        assert museum.written == ["one"]
        assert person.asked[0].startswith('May the local model call write with {"text": "one"}?')
        assert len(person.asked) == 2
        assert text(result).startswith("Done.\n\nCalls:\n1. write")
        outcomes = [call["outcome"] for call in result.meta["ollama-mcp/agent"]["calls"]]
        assert outcomes == ["ok", "refused"]
        assert len(fake.asked("/api/chat")) == 3  # no step twice

    at(work, mode, user=person)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_that_cannot_ask_gets_an_answer_without_the_call(at: At, mode: str):
    async def work(fake, museum, client):
        fake.script(WRITES[0], "I did not.", path="/api/chat")
        result = await client.call_tool("ollama_agent", {"task": "Write.", "tools": ["write"]})
        assert museum.written == []
        assert "refused" in text(result)

    at(work, mode)


def test_what_the_operator_allows_is_not_asked(at: At):
    async def work(fake, museum, client):
        fake.script(WRITES[0], "Done.", path="/api/chat")
        await client.call_tool("ollama_agent", {"task": "Write.", "tools": ["write"]})
        assert museum.written == ["one"]

    at(work, user=Person(), OLLAMA_MCP_AGENT_ALLOW="wri*")


def test_by_default_it_gets_what_only_reads_and_nothing_that_is_not_listed(at: At):
    async def work(fake, museum, client):
        fake.script(
            Script(tool_calls=[call("secret")]),
            Script(tool_calls=[call("look", query="a")]),
            "Yes.",
            path="/api/chat",
        )
        result = await client.call_tool("ollama_agent", {"task": "Look."})
        (first, *_) = fake.asked("/api/chat")
        assert [tool["function"]["name"] for tool in first.json["tools"]] == ["look", "slow"]
        assert "unknown" in text(result)
        named = await client.call_tool("ollama_agent", {"task": "Look.", "tools": ["secret", "ollama_*"]})
        assert text(named).startswith("INVALID_ARGUMENT: there is no tool of secret, ollama_* here")
        assert "the operator has not listed secret (agent_tools)" in text(named)
        fake.add_model(Model("no-tools", capabilities=["completion"]))
        none = await client.call_tool("ollama_agent", {"task": "Look.", "model": "no-tools"})
        assert "leave out tools" not in text(none)
        assert text(none).startswith("CAPABILITY: no-tools")

    at(work)


def test_a_host_that_lists_nothing_has_no_tools_for_it(at: At):
    async def work(fake, museum, client):
        result = await client.call_tool("ollama_agent", {"task": "Look."})
        assert "there is no tool that only reads here" in text(result)
        assert "OLLAMA_MCP_UPSTREAM" in text(result)

    at(work, agent_tools=())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_steps_are_told_as_they_happen_and_a_handle_waits_on(at: At, mode: str):
    heard: list[tuple[float, str]] = []

    async def hear(value: float, _total: float | None, message: str | None) -> None:
        heard.append((value, message or ""))

    async def work(fake, museum, client):
        steps = [Script(tool_calls=[call("look", query="a")]), Script(tool_calls=[call("slow")])]
        fake.script(*steps, "Behind it.", path="/api/chat")
        arguments = {"task": "Wait.", "wait_s": 10}
        result = await client.call_tool("ollama_agent", arguments, progress_callback=hear)
        assert text(result).startswith("STILL RUNNING")
        assert "step 2 of 6 · slow · " in text(result)
        handle = result.meta["ollama-mcp/reply"]["handle"]
        found = await client.call_tool("ollama_continue", {"handle": handle})
        assert text(found).startswith("Behind it.\n\nCalls:\n1. look")
        assert len(found.meta["ollama-mcp/agent"]["calls"]) == 2
        if mode == "auto":  # in memory, no token is sent
            return
        values = [value for value, _ in heard]
        assert values == sorted(set(values))
        assert any(message.startswith("step 2 of 6 · slow") for _, message in heard), heard
        assert not any("half" in message for _, message in heard)

    at(work, mode)


def test_a_tool_of_the_host_gives_a_task_by_python(at: At):
    async def work(fake, museum, client):
        fake.script(Script(tool_calls=[call("look", query="a")]), "Behind it.", path="/api/chat")

        async with App.create(load({"OLLAMA_HOST": fake.url})) as app:

            @museum.server.tool()
            async def find(ctx: Context[Any, Any]) -> str:
                answer = await ollama_agent(app, "Where?", tools=["look"], ctx=ctx)
                return f"{answer.response} {[call.tool for call in answer.calls]}"

            result = await client.call_tool("find", {})
        assert text(result) == "Behind it. ['look']"

    at(work)
