"""`ollama-mcp index` and `ollama-mcp ask`: from a folder to an answer with its sources."""

from __future__ import annotations

import asyncio
import glob
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ollama_mcp.app import App
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.grounded_answer import GroundedAnswer, GroundedSpec
from ollama_mcp.services.indexing import Indexed, build_index
from ollama_mcp.services.specs import build_chat
from ollama_mcp.settings import Settings

T = TypeVar("T")

_LOOK_S = 0.1
_MOST_FILES = 100_000
"""Files of one folder; the limit of a tool's call does not hold for who owns the machine."""


def index(settings: Settings, paths: list[str], collection: str) -> int:
    """Index folders, files and patterns; returns the exit status."""
    roots: list[Path] = []
    patterns: list[str] = []
    for path in paths:
        whole = Path(path).expanduser().absolute()
        if whole.is_dir():
            roots.append(whole)
            patterns.append(f"{glob.escape(str(whole))}/**/*")
        else:
            fixed = whole
            while glob.has_magic(str(fixed)):
                fixed = fixed.parent
            roots.append(fixed if fixed != whole else whole.parent)
            patterns.append(str(whole))
    limits = replace(settings.limits, files=_MOST_FILES)

    async def run(app: App, job: Job[Indexed]) -> Indexed:
        allowed = roots or await _folders_of(app, collection)
        return await app.indexer.run(build_index(limits, collection, patterns), allowed, job, limits)

    found = run_job(settings, run, shows_text=False)
    if found is None:
        return 1
    counts = {"read": found.read, "unchanged": found.unchanged, "removed": found.removed}
    told = [f"{count} {what}" for what, count in counts.items() if count or what == "read"]
    print(f"{', '.join(told)}, {found.seconds:.0f} s.")
    print(
        f"Collection {found.collection} in {settings.store}: {found.documents} documents, "
        f"{found.passages} passages, by {found.model}."
    )
    for name, why in found.failed.items():
        print(f"- {name}: {why}", file=sys.stderr)
    named = "" if collection == "documents" else f" --collection {collection}"
    print(f'Ask them: ollama-mcp ask{named} "your question"')
    return 1 if found.failed and not (found.read or found.unchanged) else 0


async def _folders_of(app: App, collection: str) -> list[Path]:
    """Return the folders of the files that a collection has."""
    opened = await app.collections.open("", collection)
    documents = await opened.store.documents(opened.collection.key)
    return sorted({Path(one.pattern.partition("*")[0]).parent for one in documents.values() if one.pattern})


def ask(settings: Settings, question: str, collection: str, model: str) -> int:
    """Answer a question from a collection; returns the exit status."""
    spec = GroundedSpec(build_chat(prompt=question, model=model), question, collection=collection)

    async def run(app: App, job: Job[GroundedAnswer]) -> GroundedAnswer:
        return await app.grounded.run(spec, None, (), job)

    return 0 if run_job(settings, run, shows_text=True) is not None else 1


def run_job(
    settings: Settings, work: Callable[[App, Job[T]], Coroutine[Any, Any, T]], *, shows_text: bool
) -> T | None:
    """Run a job with its status on stderr, and its text on stdout as it is written; None if it failed."""

    async def watch() -> T:
        async with App.create(settings) as app:
            job: Job[T] = app.jobs.start(lambda job: work(app, job), "tok", "")
            status = _Status()
            written = ""
            mark = 0
            while not job.finished:
                await asyncio.sleep(_LOOK_S)
                new, mark = job.text_since(mark)
                if shows_text and new:
                    status.clear()
                    print(new, end="", flush=True)
                    written += new
                elif not written:
                    status.show(job.summary())
            status.clear()
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


class _Status:
    """A status line on a terminal, written over itself; nothing elsewhere."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        if self._shows:
            print(f"\r{text[:79]:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text[:79])

    def clear(self) -> None:
        """Remove the line."""
        if self._shows and self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
