"""Which files patterns mean: `*`, `?`, `[…]` in a name, `**` for any folders; hidden ones by name only."""

from __future__ import annotations

import glob
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread

from ollama_mcp.errors import Busy, Forbidden, InvalidArgument, OllamaError
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.file_access import Place, place_of, readings, told
from ollama_mcp.services.files.batch_answers import KeptJobs, Memory, Output, Store, output_folders
from ollama_mcp.services.files.read import Content, attached, read_file
from ollama_mcp.services.generation import Generator
from ollama_mcp.services.specs import ChatSpec, build_chat
from ollama_mcp.settings import Settings
from ollama_mcp.settings.limits import Limits, check_length

MOST_LOOKED_AT = 200_000
"""Names that one call looks through, each as often as a pattern of it does."""
_ANY = "**"


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
    skipped, effort = without.resolve() if without else None, _Effort(MOST_LOOKED_AT)
    for pattern in patterns:
        for place in _meant(pattern, roots, skipped, effort):
            found[place] = None
            check_length(limits, "files", found)
    if not found:
        raise InvalidArgument(
            "no file fits", 'Send "files" as paths or patterns under an allowed folder, such as "notes/*.md".'
        )
    return list(found)


@dataclass
class _Effort:
    """How many names a call may still look at, over all its patterns."""

    left: int

    def spend(self, count: int) -> None:
        """Look at so many.

        Raises:
            InvalidArgument: They are too many.
        """
        self.left -= count
        if self.left < 0:
            raise InvalidArgument(
                f"the patterns look through more than {MOST_LOOKED_AT} files", "Send fewer, narrower ones."
            )


def _meant(
    pattern: str, roots: Sequence[Path], skipped: Path | None, effort: _Effort
) -> Iterator[Place | str]:
    if not glob.has_magic(pattern):
        yield _placed(pattern, roots)
        return
    for root, parts in readings(pattern, roots):
        if ".." in parts:
            raise InvalidArgument('a pattern has ".." in it', "Send it without.")
        for place in _walked(root, _short(parts), effort):
            if skipped is None or not place.path.is_relative_to(skipped):
                yield _placed(str(place.path), roots, place)


def _placed(path: str, roots: Sequence[Path], otherwise: Place | None = None) -> Place | str:
    """Where it is; a link that leads nowhere is where it was found, and will not be opened."""
    try:
        return place_of(path, roots)
    except OllamaError:
        return otherwise or path


def _short(parts: Sequence[str]) -> list[str]:
    """Without each `**` behind another one, which means nothing more and would cost time with every name."""
    return [part for place, part in enumerate(parts) if not place or not part == parts[place - 1] == _ANY]


def _walked(root: Path, parts: Sequence[str], effort: _Effort) -> Iterator[Place]:
    """The files of a folder that fit; no link to a folder is followed, and nothing is looked at in vain."""
    for folder, folders, names in _folders(root):
        below = Path(folder).relative_to(root).parts
        effort.spend(len(folders) + len(names))
        folders[:] = sorted(name for name in folders if _leads_on(parts, (*below, name)))
        yield from (Place(root, (*below, name)) for name in sorted(names) if _fits(parts, (*below, name)))


def _folders(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, and from descriptor to descriptor where the system can."""
    walk: Any = getattr(os, "fwalk", os.walk)
    for folder, folders, names, *_ in walk(root):
        yield folder, folders, names


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    return len(parts) in _reached(parts, names)


def _leads_on(parts: Sequence[str], names: Sequence[str]) -> bool:
    return any(place < len(parts) for place in _reached(parts, names))


def _reached(parts: Sequence[str], names: Sequence[str]) -> set[int]:
    """How many parts of a pattern the names can use up: every way at once, so that none costs more."""
    places = _past_any(parts, {0})
    for name in names:
        places = _past_any(parts, {step for place in places for step in _step(parts, place, name)})
    return places


def _step(parts: Sequence[str], place: int, name: str) -> Iterable[int]:
    if place == len(parts):
        return ()
    part = parts[place]
    if name.startswith(".") and not part.startswith("."):
        return ()
    if part == _ANY:
        return (place,)
    return (place + 1,) if fnmatchcase(name, part) else ()


def _past_any(parts: Sequence[str], places: set[int]) -> set[int]:
    """Any number of folders can be none."""
    for place in range(len(parts)):
        if place in places and parts[place] == _ANY:
            places.add(place + 1)
    return places


_TRIES = 10
_LONGEST_WAIT_S = 5.0

Status = Literal["answered", "kept", "cut", "failed"]
"""Answered now; answered before, by the same call; cut off at the token limit; without an answer."""


@dataclass(frozen=True)
class Row:
    """What came of one file.

    Attributes:
        file: From the allowed folder on.
        status: See `Status`.
        answer: The text, or what was written before a failure; "" where it is in a file.
        written: The file that has it, from the output folder on.
        error: Why there is no answer: `CODE: cause. Remedy.`
        note: What the caller should know.
    """

    file: str
    status: Status
    answer: str = ""
    written: str = ""
    error: str = ""
    note: str = ""

    def as_data(self) -> dict[str, str]:
        """What is not empty."""
        return {name: value for name, value in vars(self).items() if value}

    @property
    def told(self) -> str:
        """What came of it, as text."""
        if self.error and self.answer:
            return f"{self.error} What was written:\n{self.answer}"
        return self.error or self.answer or self.written


@dataclass
class Mapped:
    """What came of all files, in their order.

    Attributes:
        rows: One for each.
        model: The model that answered.
        seconds: How long it took.
        handle: What finds it again, where it is read in pages; "" where it is not kept.
    """

    rows: list[Row]
    model: str
    seconds: float
    handle: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many files there are of each status that there is."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def size(self) -> int:
        """Bytes, about, that it takes."""
        return sum(500 + 4 * (len(row.told) + len(row.file) + len(row.note)) for row in self.rows)


@dataclass(frozen=True)
class BatchSpec:
    """What is asked of every file.

    Attributes:
        spec: The question, without a file.
        files: Paths and patterns.
        output: Where answers are written; None: they are in the result.
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
    """Check what is asked; the parameters are those of the tool `ollama_map_files`.

    Raises:
        InvalidArgument: Anything that Ollama would refuse, ignore or misread.
        TooLarge: Anything over a limit.
        Forbidden: Answers are to be written where the operator has not allowed that.
    """
    spec = build_chat(prompt=prompt, schema=schema, limits=settings.limits, **more)
    return BatchSpec(spec, tuple(files), _output(settings.output, output, ".json" if schema else ".txt"))


def _output(root: Path | None, output: str, ending: str) -> Output | None:
    if not output.strip():
        return None
    if root is None:
        raise Forbidden(
            "no files are written here",
            "Leave out output, or have the operator name a folder in OLLAMA_MCP_OUTPUT.",
        )
    return Output(root, output_folders(output), ending)


@dataclass
class _Run:
    """One BatchSpec on its way."""

    spec: ChatSpec
    roots: tuple[Path, ...]
    targets: list[Place | str]
    store: Store
    job: Job[Mapped]
    origin: bytes
    """All that an answer comes from but its file."""
    rows: dict[int, Row] = field(default_factory=dict[int, Row])

    def add(self, place: int, row: Row) -> None:
        """One file is done, however."""
        self.rows[place] = row
        self.job.advance(JobState.WORKING)
        self.job.write(f"{row.file}: {row.told}\n")

    def tell(self) -> list[str]:
        """For the status line."""
        failed = sum(row.status == "failed" for row in self.rows.values())
        return [
            f"{len(self.rows)} of {len(self.targets)} files",
            *([f"{failed} failed"] if failed else []),
        ]

    def key(self, content: Content) -> str:
        """Of the answer about a file."""
        parts = (
            self.origin,
            content.name.encode(errors="replace"),
            content.text.encode(),
            content.image.encode(),
        )
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class Mapper:
    """Asks the same of many files; remembers what was answered."""

    def __init__(self, generator: Generator, catalog: Catalog, settings: Settings) -> None:
        self._generator = generator
        self._catalog = catalog
        self._settings = settings
        self._memory = Memory()

    async def run(self, wanted: BatchSpec, roots: tuple[Path, ...], job: Job[Mapped]) -> Mapped:
        """Answer for every file; `job` counts them.

        Raises:
            OllamaError: None could be begun: the folders, the patterns, the model.
        """
        run = await self._begin(wanted, roots, job)
        waiting = iter(enumerate(run.targets))
        async with anyio.create_task_group() as group:
            for _ in range(min(self._settings.parallel, len(run.targets))):
                group.start_soon(self._work, run, waiting)
        rows = [run.rows[place] for place in range(len(run.targets))]
        return Mapped(rows, job.model, round(time.monotonic() - job.started_at, 3))

    async def _begin(self, wanted: BatchSpec, roots: tuple[Path, ...], job: Job[Mapped]) -> _Run:
        await self._generator.check(wanted.spec)
        find = partial(find_files, wanted.files, roots, self._settings.limits, self._settings.output)
        targets = await anyio.to_thread.run_sync(find, abandon_on_cancel=True)
        request = wanted.spec.request
        choice = await self._catalog.resolve(
            request.model, wanted.spec.needs, default=self._settings.chat_model
        )
        named = request.model_copy(update={"model": choice.model.name})
        store = wanted.output or self._memory.of(job.caller)
        run = _Run(replace(wanted.spec, request=named), roots, targets, store, job, request.to_json())
        job.model, job.total, job.tell = choice.model.name, len(targets), run.tell
        return run

    async def _work(self, run: _Run, waiting: Iterator[tuple[int, Place | str]]) -> None:
        for place, target in waiting:
            run.add(place, await self._row(run, target))

    async def _row(self, run: _Run, target: Place | str) -> Row:
        name = target.shown if isinstance(target, Place) else told(target)
        try:
            content = await read_file(target, run.roots, self._settings.limits)
            return await self._asked(run, content)
        except OllamaError as error:
            return Row(told(name), "failed", answer=error.partial_text, error=str(error))

    async def _asked(self, run: _Run, content: Content) -> Row:
        key = run.key(content)
        kept = await run.store.find(content.name, key)
        if kept is not None:
            return _row(content, "kept", kept)
        answer = await self._answer(run, content)
        note = "; ".join(answer.notes)
        if answer.cut:
            note = "; ".join(filter(None, [answer.cut[1:-1], note]))
            return _row(content, "cut", KeptJobs(str(answer)), note)
        return _row(content, "answered", await run.store.keep(content.name, key, str(answer)), note)

    async def _answer(self, run: _Run, content: Content) -> Answer:
        """Through the ModelQueue, where others may have taken all places."""
        spec = attached(run.spec, [content], self._settings.limits)
        for _ in range(_TRIES - 1):
            try:
                return await self._generator.answer(spec, run.job.part(content.name, "tok"))
            except Busy as error:
                await anyio.sleep(min(error.retry_after_s or 1.0, _LONGEST_WAIT_S))
        return await self._generator.answer(spec, run.job.part(content.name, "tok"))


def _row(content: Content, status: Status, kept: KeptJobs, note: str = "") -> Row:
    return Row(content.name, status, answer=kept.text, written=kept.file, note=note)
