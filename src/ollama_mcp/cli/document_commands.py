"""`ollama-mcp index` and `ollama-mcp ask`: from a folder to an answer with its sources."""

from __future__ import annotations

import glob
import sys
from dataclasses import replace
from pathlib import Path

from ollama_mcp.app import App
from ollama_mcp.cli.jobs import run_job
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.grounded_answer import GroundedAnswer, GroundedSpec
from ollama_mcp.services.indexing import Indexed, build_index
from ollama_mcp.services.specs import build_chat
from ollama_mcp.settings import Settings

_ALL_OF = "/**/*"
"""Pattern of all files of a folder, behind its path."""
_MOST_FILES = 100_000
"""Files of one folder; the limit of a tool's call does not hold for who owns the machine."""


def index(settings: Settings, paths: list[str], collection: str) -> int:
    """Index folders, files and patterns; returns the exit status."""
    roots: list[Path] = []
    patterns: list[str] = []
    for path in paths:
        try:
            whole = Path(path).expanduser().absolute()
        except RuntimeError:  # ~somebody, who has no home here
            whole = Path(path).absolute()
        if whole.is_dir():
            roots.append(whole)
            patterns.append(f"{whole}{_ALL_OF}")
        else:
            roots.append(root_of(str(whole)))
            patterns.append(str(whole))
    if paths and not any(glob.has_magic(one) or Path(one).exists() for one in patterns):
        print(f"ollama-mcp: there is no file or folder {paths[0]}", file=sys.stderr)
        return 1  # before a store is made for it
    limits = replace(settings.limits, files=_MOST_FILES)
    is_first = isinstance(settings.store, str) and not Path(settings.store).is_dir()

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
    if is_first:
        print("Clients that run already see the new tools after a restart.")
    return 1 if found.failed and not (found.read or found.unchanged) else 0


async def _folders_of(app: App, collection: str) -> list[Path]:
    """Return the folders of the files that a collection has."""
    opened = await app.collections.open("", collection)
    documents = await opened.store.documents(opened.collection.key)
    return sorted({root_of(one.pattern) for one in documents.values() if one.pattern})


def root_of(pattern: str) -> Path:
    """Return the folder from which on the files of a pattern are named, each time the same.

    >>> [root_of(one).as_posix() for one in ("/a/b/**/*", "/a/[b]/**/*", "/a/b/*.md", "/a/b/c.md")]
    ['/a/b', '/a/[b]', '/a/b', '/a/b']
    """
    if pattern.endswith(_ALL_OF):
        return Path(pattern.removesuffix(_ALL_OF))
    fixed = Path(pattern).parent
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed


def ask(settings: Settings, question: str, collection: str, model: str) -> int:
    """Answer a question from a collection; returns the exit status."""

    async def run(app: App, job: Job[GroundedAnswer]) -> GroundedAnswer:
        spec = GroundedSpec(build_chat(prompt=question, model=model), question, collection=collection)
        return await app.grounded.run(spec, None, (), job)

    return 0 if run_job(settings, run, shows_text=True) is not None else 1
