"""`ollama-mcp ask --tools`: a local model works on a task with tools, step by step, before your eyes."""

from __future__ import annotations

import asyncio
import shlex
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ollama_mcp.app import App
from ollama_mcp.cli.jobs import run_job
from ollama_mcp.cli.output import StatusLine
from ollama_mcp.errors import NotConfirmed
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.agent_task import AgentAnswer, Permissions, Trace, build_agent
from ollama_mcp.settings import Settings
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.tools.upstreams.source import Upstreams


def ask_agent(
    settings: Settings, task: str, tools: Sequence[str], servers: Sequence[str], model: str, *, yes: bool
) -> int:
    """Give a task to an agent; returns the exit status.

    Args:
        settings: Settings.
        task: The task.
        tools: Names or patterns of tools; none: all of `servers`.
        servers: Commands, or addresses, of MCP servers beside those of the settings.
        model: Chat model; "": as for a tool.
        yes: Whether every call is made without a question.
    """
    status, trace = StatusLine(), Trace()
    try:
        added = servers_of(servers, {server.name for server in settings.upstreams})
    except ValueError as error:
        print(f"ollama-mcp: {error}", file=sys.stderr)
        return 2
    patterns = tools or [f"{server.prefix}*" for server in added]
    unasked = ("*",) if yes else settings.agent_allow
    told = 0

    def tell_calls() -> None:
        nonlocal told
        while told < len(trace.calls) and trace.calls[told].outcome:
            call = trace.calls[told]
            status.print(f"step {call.step} · {call}")
            told += 1

    async def ask_user(question: str) -> None:
        tell_calls()
        status.clear()
        status.is_paused = True
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            answer = await _read_line()
        finally:
            status.is_paused = False
            if not sys.stdin.isatty():  # no line was ended by a person
                print(file=sys.stderr)
        if answer.strip().lower() not in {"y", "yes"}:
            raise NotConfirmed("the user said no", "Do without it.")

    async def run(app: App, job: Job[AgentAnswer]) -> AgentAnswer:
        # Who names a tool at a shell is its operator: what does not only read is asked about.
        source = Upstreams(app.upstreams, listed=(*tools, *settings.agent_allow))
        spec = build_agent(task, patterns, model=model, limits=settings.limits)
        return await app.agent.run(spec, source, Permissions(unasked=unasked), job, ask_user, trace)

    settings = replace(settings, upstreams=(*settings.upstreams, *added))
    found = run_job(settings, run, shows_text=False, status=status, look=tell_calls)
    if found is None:
        return 1
    if trace.ended:
        print(f"Ended early: {trace.ended}.", file=sys.stderr)
    print("\n".join(filter(None, [found.response, found.cut, found.prompt_cut])))
    return 0


def servers_of(commands: Sequence[str], taken: set[str]) -> list[UpstreamServer]:
    """Return the servers of commands and addresses; each has the name of its script, or of its program.

    >>> [server.prefix for server in servers_of(["my-notes --all", "https://example.com/mcp"], set())]
    ['my-notes__', 'example_com__']

    Raises:
        ValueError: A command cannot be read.
    """
    servers: list[UpstreamServer] = []
    for command in commands:
        if command.startswith(("http://", "https://")):
            server = UpstreamServer("", url=command, tools=("*",))
            name = server.remote_host
        else:
            # On Windows a backslash is part of a path.
            words = [word.strip('"') for word in shlex.split(command, posix=sys.platform != "win32")]
            if not words:
                raise ValueError("--mcp has no command")
            server = UpstreamServer("", command=words[0], args=tuple(words[1:]), tools=("*",))
            name = Path(next((word for word in words[1:] if Path(word).is_file()), words[0])).stem
        name, number = name[:30], 1
        unique = name
        while unique in taken:
            number += 1
            unique = f"{name}{number}"
        taken.add(unique)
        servers.append(replace(server, name=unique))
    return servers


async def _read_line() -> str:
    """Read a line of stdin, in a thread that nobody waits for at the end: Ctrl-C has to work meanwhile."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        line = sys.stdin.readline()
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: found.done() or found.set_result(line))

    threading.Thread(target=read, daemon=True).start()
    return await found
