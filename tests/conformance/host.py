"""A host with the fixture tools of the official suite's tasks-* scenarios, as jobs of ours: `host.py PORT`.

It has our own tools beside them, in front of no Ollama. The suite wants tasks of calls that take a second,
so that the deadline is shorter.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, require_client_extension
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from ollama_mcp import App, Tasks, register
from ollama_mcp.errors import NotConfirmed, StorageError
from ollama_mcp.jobs.answers import Answer, Stats
from ollama_mcp.jobs.job import Job
from ollama_mcp.settings import load
from ollama_mcp.tools.binding import publish
from ollama_mcp.tools.calls import run_job
from ollama_mcp.tools.offering import tools_of
from ollama_mcp.tools.results import answer_result
from ollama_mcp.tools.toolset import Toolset, WaitS

Ctx = Context[Any, Any] | None

fixtures = Toolset("fixtures")
NEEDS_TASKS = "failing_job"


def fixture(render: Callable[[Any], Any] = answer_result) -> Callable[[Any], Any]:
    return fixtures.tool("Fixture", render, example={})


def said(text: str) -> Answer:
    return Answer(text, stats=Stats("none"))


@fixture()
async def greet(app: App, name: str = "") -> Answer:
    """Greet at once."""
    return said(f"Hello, {name}!")


@fixture()
async def slow_compute(
    app: App, seconds: float = 0, label: str = "", wait_s: WaitS = 0.0, ctx: Ctx = None
) -> Answer:
    """Compute for so many seconds."""

    async def compute(job: Job[Answer]) -> Answer:
        await asyncio.sleep(seconds)
        return said(f"{label}: {seconds:g} s")

    return await run_job(app, compute, ctx, wait_s)


@fixture()
async def failing_job(app: App, wait_s: WaitS = 0.0, ctx: Ctx = None) -> Answer:
    """Fail as a tool does."""

    async def fail(job: Job[Answer]) -> Answer:
        await asyncio.sleep(1)
        raise StorageError("it always fails", "Do not call it.")

    return await run_job(app, fail, ctx, wait_s)


@fixture()
async def protocol_error_job(app: App, wait_s: WaitS = 0.0, ctx: Ctx = None) -> Answer:
    """Break."""

    async def panic(job: Job[Answer]) -> Answer:
        await asyncio.sleep(1)
        raise RuntimeError("panic")

    return await run_job(app, panic, ctx, wait_s)


@fixture()
async def confirm_delete(app: App, filename: str = "", wait_s: WaitS = 0.0, ctx: Ctx = None) -> Answer:
    """Delete after a yes of the user."""

    async def delete(job: Job[Answer]) -> Answer:
        job.may_ask = True
        try:
            await job.ask(f"Delete {filename}?")
        except NotConfirmed:
            return said(f"{filename} is kept")
        return said(f"{filename} is deleted")

    return await run_job(app, delete, ctx, wait_s)


@fixture()
async def multi_input(app: App, wait_s: WaitS = 0.0, ctx: Ctx = None) -> Answer:
    """Ask two questions at once."""

    async def ask(job: Job[Answer]) -> Answer:
        job.may_ask = True
        await asyncio.gather(job.ask("The first one?"), job.ask("The second one?"))
        return said("both are answered")

    return await run_job(app, ask, ctx, wait_s)


@fixture(lambda found: found if isinstance(found, InputRequiredResult) else answer_result(found))
async def test_tool_with_task(app: App, wait_s: WaitS = 0.0, ctx: Ctx = None) -> Any:  # noqa: PT028 - its name is the suite's
    """Ask for a name by the call's result, and greet in a task."""
    answer = (ctx.input_responses or {}).get("user_name") if ctx is not None else None
    if not isinstance(answer, ElicitResult):
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        form = ElicitRequestFormParams(message="Your name?", requested_schema=schema)
        return InputRequiredResult(input_requests={"user_name": ElicitRequest(params=form)})
    return await slow_compute(app, 1, str((answer.content or {})["name"]), wait_s, ctx)


async def require_tasks(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Refuse a call of a tool that this host only offers as a task."""
    if ctx.method == "tools/call" and (ctx.params or {}).get("name") == NEEDS_TASKS:
        require_client_extension(ctx, Tasks.identifier)
    return await call_next(ctx)


def make_host() -> MCPServer[Any]:
    app = App.create(load({"OLLAMA_MCP_SOFT_DEADLINE": "0.3"}))
    host: MCPServer[Any] = MCPServer(
        "conformance", log_level="CRITICAL", lifespan=app.lifespan, extensions=[Tasks(app)]
    )
    register(host, app)
    names = tools_of(host, app) | {tool.name: tool.name for tool in fixtures}
    for tool in fixtures:
        host._tool_manager._tools[tool.name] = publish(tool, app, tool.name, names)
    host.middleware.append(require_tasks)
    return host


if __name__ == "__main__":
    make_host().run("streamable-http", port=int(sys.argv[1]))
