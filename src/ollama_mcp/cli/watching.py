"""Watching a job from a shell: its status on stderr, its text on stdout as it is written."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ollama_mcp.app import App
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.settings import Settings

T = TypeVar("T")

_LOOK_S = 0.1


class StatusLine:
    """A status line on a terminal, written over itself; nothing elsewhere.

    Attributes:
        is_paused: True while something else is written there.
    """

    def __init__(self) -> None:
        self.is_paused = False
        self._shows = sys.stderr.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        if self._shows and not self.is_paused:
            print(f"\r{text[:79]:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text[:79])

    def clear(self) -> None:
        """Remove the line."""
        if self._shows and self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0

    def print(self, text: str) -> None:
        """Print a line above."""
        self.clear()
        print(text, file=sys.stderr, flush=True)


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
        async with App.create(settings) as app:
            job: Job[T] = app.jobs.start(lambda job: work(app, job), "tok", "")
            written = ""
            mark = 0
            while not job.finished:
                await asyncio.sleep(_LOOK_S)
                look()
                new, mark = job.text_since(mark)
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

    try:
        return asyncio.run(watch())
    except OllamaError as error:
        print(f"ollama-mcp: {error.cause}. {error.remedy}", file=sys.stderr)
        return None
