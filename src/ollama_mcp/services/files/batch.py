"""A prompt over many files: find them by patterns, ask about each, keep the answers.

A pattern has `*`, `?` and `[…]` in a name, and `**` for any folders; hidden files have to be named.
"""

from __future__ import annotations

import glob
import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread

from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.file_access import Place, place_of, printable, readings
from ollama_mcp.services.files.batch_answers import Memory, Output, Store, output_folders
from ollama_mcp.services.files.read import Content, attached, read_file
from ollama_mcp.services.generation import Generator
from ollama_mcp.services.specs import ChatSpec, build_chat
from ollama_mcp.settings import Settings
from ollama_mcp.settings.limits import Limits, check_length

MOST_LOOKED_AT = 200_000
"""Names that one call looks through, each as often as a pattern of it does."""
_ANY = "**"


class NoFileFits(InvalidArgument):
    """No file fits the patterns."""


def has_folder(pattern: str, roots: Sequence[Path]) -> bool:
    """Return whether the folder is there in which a pattern begins to look."""
    for root, parts in readings(pattern, roots):
        fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
        if root.joinpath(*fixed).is_dir():
            return True
    return False


def find_files(
    patterns: Sequence[str], roots: Sequence[Path], limits: Limits, without: Path | None = None
) -> list[Place | str]:
    """Find files by patterns or paths, each once, in the order of the patterns and then of their names.

    Args:
        patterns: Absolute, or from one of the folders on.
        roots: The folders.
        limits: The most files.
        without: A folder whose files no pattern means.

    Returns:
        Places; a path that leads to none stays as it is, to fail when it is read.

    Raises:
        Forbidden: A pattern begins outside the folders.
        InvalidArgument: No file fits, or a pattern would look through too much.
        TooLarge: More files fit than one call may have.
    """
    check_length(limits, "files", patterns)
    found: dict[Place | str, None] = {}
    skipped = without.resolve() if without else None
    looked_at = 0
    for pattern in patterns:
        place = _place(pattern, roots)
        if not glob.has_magic(pattern) or (place and place.path.is_file()):  # "[draft] a.md" can be a name
            found[place or pattern] = None
            check_length(limits, "files", found)
            continue
        for root, parts in readings(pattern, roots):
            if ".." in parts:
                raise InvalidArgument('a pattern has ".." in it', "Send it without.")
            # A `**` behind another one means nothing more, and would cost time with every name.
            parts = [part for n, part in enumerate(parts) if not n or not part == parts[n - 1] == _ANY]  # noqa: PLW2901
            # From descriptor to descriptor where the system can; no link to a folder is followed.
            walk: Any = getattr(os, "fwalk", os.walk)
            for folder, folders, names, *_ in walk(root):
                below = Path(folder).relative_to(root).parts
                looked_at += len(folders) + len(names)
                if looked_at > MOST_LOOKED_AT:
                    raise InvalidArgument(
                        f"the patterns look through more than {MOST_LOOKED_AT} files",
                        "Send fewer, narrower ones.",
                    )
                # In place: `walk` goes into these folders only.
                folders[:] = sorted(
                    name
                    for name in folders
                    if min(_used(parts, (*below, name)), default=len(parts)) < len(parts)
                )
                for name in sorted(names):
                    place = Place(root, (*below, name))
                    if len(parts) not in _used(parts, place.names):
                        continue
                    if skipped is not None and place.path.is_relative_to(skipped):
                        continue
                    # A link that leads nowhere is the place where it was found, and will not be opened.
                    found[_place(str(place.path), roots) or place] = None
                    check_length(limits, "files", found)
    if not found:
        raise NoFileFits(
            "no file fits", 'Send "files" as paths or patterns under an allowed folder, such as "notes/*.md".'
        )
    return list(found)


def _place(path: str, roots: Sequence[Path]) -> Place | None:
    try:
        return place_of(path, roots)
    except OllamaError:
        return None


def _used(parts: Sequence[str], names: Sequence[str]) -> set[int]:
    """Return how many parts of a pattern the names can use up: every way at once, so that none costs more."""

    def with_no_folders(counts: set[int]) -> set[int]:
        for count in range(len(parts)):
            if count in counts and parts[count] == _ANY:
                counts.add(count + 1)
        return counts

    counts = with_no_folders({0})
    for name in names:
        further: set[int] = set()
        for count in counts:
            part = parts[count] if count < len(parts) else None
            if part is None or (name.startswith(".") and not part.startswith(".")):
                continue
            if part == _ANY:
                further.add(count)
            elif fnmatchcase(name, part):
                further.add(count + 1)
        counts = with_no_folders(further)
    return counts


Status = Literal["answered", "kept", "cut", "failed"]
"""Answered now; answered before, by the same call; cut off at the token limit; no answer."""


@dataclass(frozen=True)
class Row:
    """The result for one file.

    Attributes:
        file: The path from the allowed folder on.
        status: See `Status`.
        answer: The text, or the part that was written before a failure; "" where it is in a file.
        written: The file that has it, from the output folder on.
        error: The reason why there is no answer: `CODE: cause. Remedy.`
        note: A note for the caller.
    """

    file: str
    status: Status
    answer: str = ""
    written: str = ""
    error: str = ""
    note: str = ""

    def as_data(self) -> dict[str, str]:
        """Return the fields that are not empty."""
        return {name: value for name, value in vars(self).items() if value}

    @property
    def text(self) -> str:
        """The answer, the error, or both; else the name of the file that has the answer."""
        if self.error and self.answer:
            return f"{self.error} What was written:\n{self.answer}"
        return self.error or self.answer or self.written


@dataclass
class Mapped:
    """The results for all files, in their order.

    Attributes:
        rows: A row for each file.
        model: The model that answered.
        seconds: The time that it took.
        handle: The handle to read it in pages; "" where it is not kept.
    """

    rows: list[Row]
    model: str
    seconds: float
    handle: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """The number of files by status, without zeros."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, about."""
        return sum(500 + 4 * (len(row.text) + len(row.file) + len(row.note)) for row in self.rows)


@dataclass(frozen=True)
class BatchSpec:
    """A checked request: one prompt over many files.

        spec = build_batch(settings, prompt="Summarize this.", files=["notes/*.md"])
        mapped = await app.mapper.run(spec, roots, job)

    Attributes:
        spec: The prompt, without a file.
        files: Paths and patterns.
        output: The folder for the answers; None where they are in the result.
    """

    spec: ChatSpec
    files: tuple[str, ...]
    output: Output | None


def build_batch(
    settings: Settings,
    *,
    prompt: str,
    files: Sequence[str],
    output: str = "",
    schema: Mapping[str, Any] | None = None,
    **more: Any,
) -> BatchSpec:
    """Check a request and make its spec; the parameters are those of the tool `ollama_map_files`.

    Raises:
        InvalidArgument: Ollama would refuse, ignore or misread an argument.
        TooLarge: An argument is over a limit.
        Forbidden: Answers are to be written where the operator has not allowed that.
    """
    spec = build_chat(prompt=prompt, schema=schema, limits=settings.limits, **more)
    folder: Output | None = None
    if output.strip():
        if settings.output is None:
            raise Forbidden(
                "no files are written here",
                "Leave out output, or have the operator name a folder in OLLAMA_MCP_OUTPUT.",
            )
        folder = Output(settings.output, output_folders(output), ".json" if schema else ".txt")
    return BatchSpec(spec, tuple(files), folder)


@dataclass
class _Run:
    """The run of a BatchSpec: its files, and their rows so far."""

    spec: ChatSpec
    roots: tuple[Path, ...]
    targets: list[Place | str]
    store: Store
    job: Job[Mapped]
    origin: bytes
    """The request, on which each answer depends besides its file."""
    rows: dict[int, Row] = field(default_factory=dict[int, Row])
    """Results so far, by the place of the file."""

    def describe(self) -> list[str]:
        """Return the parts of the status line."""
        failed = sum(row.status == "failed" for row in self.rows.values())
        return [
            f"{len(self.rows)} of {len(self.targets)} files",
            *([f"{failed} failed"] if failed else []),
        ]

    def key(self, content: Content) -> str:
        """Return the key of the answer about a file: SHA-256 over the request, and name and content."""
        parts = (
            self.origin,
            content.name.encode(errors="replace"),
            content.text.encode(),
            content.image.encode(),
        )
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class Mapper:
    """Asks the same of many files, and remembers the answers.

    mapper = Mapper(generator, catalog, settings)
    mapped = await mapper.run(spec, (Path("/srv/notes"),), job)
    mapped.counts  # {"answered": 12}
    """

    def __init__(self, generator: Generator, catalog: Catalog, settings: Settings) -> None:
        self._generator = generator
        self._catalog = catalog
        self._settings = settings
        self._memory = Memory()

    async def run(self, batch: BatchSpec, roots: tuple[Path, ...], job: Job[Mapped]) -> Mapped:
        """Answer for every file.

        Args:
            batch: The request.
            roots: Folders that the files may be in.
            job: Counts the files.

        Raises:
            OllamaError: No file could be begun: the folders, the patterns, the model.
        """
        settings = self._settings
        await self._generator.check(batch.spec)
        find = partial(find_files, batch.files, roots, settings.limits, settings.output)
        targets = await anyio.to_thread.run_sync(find, abandon_on_cancel=True)
        request = batch.spec.request
        choice = await self._catalog.resolve(request.model, batch.spec.needs, default=settings.chat_model)
        # One model for all files, also where it was chosen; the key of an answer has the caller's request.
        spec = replace(batch.spec, request=request.model_copy(update={"model": choice.model.name}))
        store = batch.output or self._memory.of(job.caller)
        run = _Run(spec, roots, targets, store, job, request.to_json())
        job.model, job.total, job.tell = choice.model.name, len(targets), run.describe
        waiting = iter(enumerate(targets))

        async def work() -> None:
            for place, target in waiting:
                row = run.rows[place] = await self._row(run, target)
                job.advance(JobState.WORKING)
                job.write(f"{row.file}: {row.text}\n")

        async with anyio.create_task_group() as group:
            for _ in range(min(settings.parallel, len(targets))):
                group.start_soon(work)
        rows = [run.rows[place] for place in range(len(targets))]
        return Mapped(rows, job.model, round(time.monotonic() - job.started_at, 3))

    async def _row(self, run: _Run, target: Place | str) -> Row:
        name = target.shown if isinstance(target, Place) else printable(target)
        try:
            content = await read_file(target, run.roots, self._settings.limits)
            key = run.key(content)
            kept = await run.store.find(content.name, key)
            if kept is not None:
                return Row(content.name, "kept", answer=kept.text, written=kept.file)
            spec = attached(run.spec, [content], self._settings.limits)
            part = run.job.part(content.name, "tok")
            answer = await self._generator.answer(spec, part, bounded=False)  # as the call's, it has begun
            note = "; ".join(answer.notes)
            if answer.cut:  # not kept: the same call may have a larger limit
                note = "; ".join(filter(None, [answer.cut[1:-1], note]))
                return Row(content.name, "cut", answer=str(answer), note=note)
            kept = await run.store.keep(content.name, key, str(answer))
            return Row(content.name, "answered", answer=kept.text, written=kept.file, note=note)
        except OllamaError as error:
            return Row(printable(name), "failed", answer=error.partial_text, error=str(error))
