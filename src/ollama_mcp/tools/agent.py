"""Toolset agent: a local model that works on a task with tools."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations

from ollama_mcp.app import App
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.agent_task import STEPS, AgentAnswer, Permissions, build_agent
from ollama_mcp.sources import READ_ONLY, SourceGroup, ToolSource
from ollama_mcp.tools.caller import AGENT_TOOLS
from ollama_mcp.tools.calls import run_asking_job, run_job
from ollama_mcp.tools.elicitation import can_ask
from ollama_mcp.tools.results import answer_result, render
from ollama_mcp.tools.siblings import Siblings
from ollama_mcp.tools.toolset import Toolset, WaitS, describe
from ollama_mcp.tools.upstreams.source import Upstreams

agent: Toolset = Toolset("agent")

AGENT = "ollama-mcp/agent"
_NOTHING: dict[str, Any] = {}
_NO_TEXTS: list[str] = []


@render.register
def agent_result(found: AgentAnswer) -> CallToolResult:
    """Return an answer with its whole trace in `_meta`, too."""
    result = answer_result(found)
    result.meta = (result.meta or {}) | {AGENT: found.trace.as_data()}
    return result


@agent.tool(
    "Let a local model work with tools",
    agent_result,
    hints=ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True),
    example={"task": "Which of my notes mention parking?"},
)
async def ollama_agent(
    app: App,
    task: Annotated[str, describe("What to find out or do.")],
    tools: Annotated[
        list[str], describe("Names or patterns (fs__*). Default []: those that only read.")
    ] = _NO_TEXTS,
    model: Annotated[str, describe('Name. Default "".')] = "",
    system: Annotated[str, describe('Default "".')] = "",
    steps: Annotated[int, describe("Most rounds. Default 6.")] = STEPS,
    options: Annotated[dict[str, Any], describe("Default {}.")] = _NOTHING,
    schema: Annotated[dict[str, Any], describe("JSON Schema of the answer. Default {}.")] = _NOTHING,
    conversation: Annotated[str, describe('Name under which it is remembered. Default "".')] = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> AgentAnswer:
    """Have a local model do a task with tools here; the user is asked before one changes anything.

    From Python: `app`, `ctx` and `wait_s` are as for `ollama_chat`. With `ctx`, the tools beside yours may
    be called that only read, and those that `tools` names; without it those of upstreams alone.

    Returns:
        The text with its calls at the end: a str that has `response`, `calls` and `trace`, and all of an
        `ollama_chat` answer.

    Raises:
        InvalidArgument: There is no such tool, or none at all.
        OllamaError: As for `ollama_chat`.
        StillRunning: As for `ollama_chat`.
    """
    spec = build_agent(
        task,
        tools,
        steps,
        conversation,
        app.settings.limits,
        model=model,
        system=system,
        options=options,
        schema=schema,
    )
    unasked = app.settings.agent_allow
    sources: list[ToolSource] = [Siblings(ctx)] if ctx is not None else []
    if app.upstreams.servers:
        sources.append(Upstreams(app.upstreams, listed=unasked))
    listed = AGENT_TOOLS.get()
    permissions = Permissions((READ_ONLY, *tools) if listed is None else listed, unasked)
    source = SourceGroup(sources) if sources else None
    if not can_ask(ctx):
        return await run_job(app, partial(app.agent.run, spec, source, permissions), ctx, wait_s)

    async def work(job: Job[AgentAnswer]) -> AgentAnswer:
        return await app.agent.run(spec, source, permissions, job, job.ask)

    subject = f"agent {hashlib.sha256(repr(spec).encode()).hexdigest()}"
    return await run_asking_job(app, work, ctx, wait_s, subject=subject)
