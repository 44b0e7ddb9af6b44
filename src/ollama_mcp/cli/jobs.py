"""A job of a command: its status on stderr, its text on stdout, its failure in plain words."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ollama_mcp.app import App
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import StatusLine
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.settings import Settings

T = TypeVar("T")

_LOOK_S = 0.1


def complain(error: OllamaError) -> int:
    """Print a failure and its remedy on stderr; returns the exit status 1."""
    remedy = Installation.find().in_its_commands(error.remedy)
    print(f"ollama-mcp: {error.cause}. {remedy}", file=sys.stderr)
    return 1


def run_job(
    settings: Settings,
    work: Callable[[App, Job[T]], Coroutine[Any, Any, T]],
    *,
    shows_text: bool,
    status: StatusLine | None = None,
    look: Callable[[], None] = lambda: None,
) -> T | None:
    """Run a job; return its result, or None if it failed, with the reason on stderr.

    Args:
        settings: Settings.
        work: Coroutine function that does the work.
        shows_text: Whether its text is printed, as it is written.
        status: Line for its state.
        look: Called about ten times a second, and at the end.
    """
    status = status or StatusLine()

    async def watch() -> T:
        written, place = "", 0
        try:
            async with App.create(settings) as app:
                job: Job[T] = app.jobs.start(lambda job: work(app, job), "tok", "")
                while not job.finished:
                    await asyncio.sleep(_LOOK_S)
                    look()
                    new, place = job.text_since(place)
                    if shows_text and new:
                        status.clear()
                        print(new, end="", flush=True)
                        written += new
                    elif not written:
                        status.show(job.summary())
                status.clear()
                look()
                found = await job.wait()
                if shows_text:
                    text = str(found)
                    print(text.removeprefix(written) if text.startswith(written) else f"\n\n{text}")
                return found
        finally:
            status.clear()

    try:
        return asyncio.run(watch())
    except OllamaError as error:
        complain(error)
        return None
