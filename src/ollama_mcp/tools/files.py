"""Toolset files: work of a local model on files of this machine, which the caller need not read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from textwrap import indent
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import BaseModel

from ollama_mcp.app import App
from ollama_mcp.services.files.batch import Mapped, Row, build_batch
from ollama_mcp.tools.attachments import allowed_folders
from ollama_mcp.tools.calls import run_job
from ollama_mcp.tools.client_profiles import PageSize
from ollama_mcp.tools.results import columns, fits, page_head, page_of, pages, render, table_result, with_page
from ollama_mcp.tools.toolset import OnlyWith, Toolset, WaitS, describe

_SHORT = 200
"""Characters of an answer that has room in a line of a table."""


class MapReport(BaseModel):
    """A row for each file, in their order."""

    model: str
    files: list[Row]
    counts: dict[str, int] = {}
    seconds: float = 0


def map_report(found: Mapped, rows: Sequence[Row] | None = None, head: str = "") -> CallToolResult:
    """Return all rows, or some with a line that says which."""
    rows = found.rows if rows is None else rows
    data = {
        "model": found.model,
        "files": [row.as_data() for row in rows],
        "counts": found.counts,
        "seconds": found.seconds,
    }
    return table_result("\n".join(filter(None, [head, _summary(found), _row_table(rows)])), data)


render.register(Mapped, map_report)


@fits.register
def _map_fits(found: Mapped, page: PageSize) -> bool:
    return len(row_pages(found, page)) == 1


@page_of.register
def _page(
    found: Mapped, whole: Callable[[], CallToolResult], number: int, page: PageSize, continue_as: str
) -> CallToolResult:
    """Whole rows, in the text and in the structured data."""
    groups = row_pages(found, page)
    if not found.handle or number == len(groups) == 1:
        return whole()
    head = page_head(f'handle="{found.handle}"', number, len(groups), continue_as)
    return with_page(map_report(found, groups[number - 1], head), found.handle, number, len(groups))


def row_pages(found: Mapped, page: PageSize) -> list[list[Row]]:
    """The rows in groups that fit a page; a longer row is cut into parts, which say so.

    A row counts as text and as data: some clients show their model both.
    """
    full = page.beside(" " * _HEAD)
    widest = max((len(row.file) for row in found.rows), default=0)
    groups: list[list[Row]] = [[]]
    room = full
    for row in (part for whole in found.rows for part in _parts(whole, widest, full)):
        text = _as_shown(row, widest)
        if groups[-1] and not room.holds(text):
            groups.append([])
            room = full
        groups[-1].append(row)
        room = room.beside(text)
    return groups


_HEAD = 400
"""Characters that stand before the rows: which page it is, and the counts."""


_SMALLEST = 200
"""Characters of an answer that are not cut again, where a file's name or an error fills the page."""


def _parts(row: Row, widest: int, page: PageSize) -> list[Row]:
    parts = [row]
    size = page.widest
    # How much longer an answer is as JSON is seen only then, so that its size is halved until it fits.
    while size > _SMALLEST and not all(page.holds(_as_shown(part, widest)) for part in parts):
        size //= 2
        cut = pages(row.answer, PageSize(bytes=size))
        notes = [f"part {place} of {len(cut)}" for place in range(1, len(cut) + 1)]
        parts = [
            replace(row, answer=text, note=", ".join(filter(None, [row.note, note])))
            for text, note in zip(cut, notes, strict=True)
        ]
    return parts if len(parts) > 1 else [row]


def _as_shown(row: Row, widest: int) -> str:
    """A row as text, as wide as its table, and as data."""
    return f"--- {row.file.ljust(widest)} ({row.status})\n{indent(_cell(row), '  ')}\n" + json.dumps(
        row.as_data()
    )


def _summary(found: Mapped) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found.counts.items()))
    many = "1 file" if len(found.rows) == 1 else f"{len(found.rows)} files"
    return f"{many} by {found.model}: {counts}"


def _row_table(rows: Sequence[Row]) -> str:
    cells = [(row.file, row.status, _cell(row)) for row in rows]
    if all(len(cell) <= _SHORT and len(cell.splitlines()) < 2 for _, _, cell in cells):
        return columns([("file", "status", "answer"), *cells])
    # Indented, so that no answer can write what looks like the row of another file.
    return "\n\n".join(f"--- {file} ({status})\n{indent(cell, '  ')}" for file, status, cell in cells)


def _cell(row: Row) -> str:
    return f"{row.text.strip()} ({row.note})" if row.note else row.text.strip()


files: Toolset = Toolset("files")

_WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_NOTHING: dict[str, Any] = {}


@files.tool(
    "Ask the same of many files",
    map_report,
    Annotated[CallToolResult, MapReport],
    hints=_WRITES,
    example={"prompt": "Sum up in one sentence.", "files": ["*.txt"]},
)
async def ollama_map_files(
    app: App,
    prompt: Annotated[str, describe("What to do with each file: summarize, label, extract …")],
    files: Annotated[
        list[str], describe("Paths or patterns under the allowed folders, such as notes/**/*.md.")
    ],
    model: Annotated[str, describe('Model name. "" (default): configured, loaded or newest.')] = "",
    schema: Annotated[
        dict[str, Any], describe("JSON Schema that each answer must fit. Default {}.")
    ] = _NOTHING,
    system: Annotated[str, describe('System prompt. Default "".')] = "",
    options: Annotated[dict[str, Any], describe("Ollama options. Default {}.")] = _NOTHING,
    output: Annotated[
        str,
        describe('Folder for the answers, a new file each. "" (default): they come in the result.'),
        OnlyWith("output", "Leave it out; the operator has allowed no folder (OLLAMA_MCP_OUTPUT)."),
    ] = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Mapped:
    """Give a local model one prompt for each of many files: an answer per file. Called again, it goes on."""
    spec = build_batch(
        app.settings, prompt=prompt, files=files, model=model, schema=schema, system=system, options=options,
        output=output,
    )  # fmt: skip
    work = partial(app.mapper.run, spec, allowed_folders(app))
    return await run_job(app, work, ctx, wait_s, unit="files")
