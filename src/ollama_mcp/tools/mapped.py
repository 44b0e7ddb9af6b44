"""What came of many files, as a result: a table for people, and the same as data."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent
from typing import Any, ClassVar

from mcp_types import CallToolResult
from pydantic import BaseModel, ConfigDict

from ollama_mcp.files.mapping import Mapped, Row
from ollama_mcp.tools.results import facts
from ollama_mcp.tools.tables import columns

_SHORT = 200
"""Characters of an answer that has room in a line of a table."""


class MapReport(BaseModel):
    """A row for each file: file, status (answered, kept, cut, failed), answer or written or error, note."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    model: str
    files: list[dict[str, Any]]


def map_report(found: Mapped, rows: Sequence[Row] | None = None, head: str = "") -> CallToolResult:
    """All rows, or some with a line that says which."""
    rows = found.rows if rows is None else rows
    data = {
        "model": found.model,
        "files": [row.as_data() for row in rows],
        "counts": found.counts,
        "seconds": found.seconds,
    }
    return facts("\n".join(filter(None, [head, _summary(found), _table(rows)])), data)


def length_of(found: Mapped) -> int:
    """Characters, about, that all rows are as text."""
    return sum(map(_length, found.rows))


def row_pages(found: Mapped, size: int) -> list[list[Row]]:
    """The rows in groups of so many characters; a longer row is a group of its own."""
    groups: list[list[Row]] = [[]]
    room = size
    for row in found.rows:
        room -= _length(row)
        if room < 0 and groups[-1]:
            groups.append([])
            room = size - _length(row)
        groups[-1].append(row)
    return groups


def _length(row: Row) -> int:
    return len(row.file) + len(row.told) + len(row.note) + 20


def _summary(found: Mapped) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found.counts.items()))
    many = "1 file" if len(found.rows) == 1 else f"{len(found.rows)} files"
    return f"{many} by {found.model}: {counts}"


def _table(rows: Sequence[Row]) -> str:
    cells = [(row.file, row.status, _cell(row)) for row in rows]
    if all(len(cell) <= _SHORT and len(cell.splitlines()) < 2 for _, _, cell in cells):
        return columns([("file", "status", "answer"), *cells])
    # Indented, so that no answer can write what looks like the row of another file.
    return "\n\n".join(f"--- {file} ({status})\n{indent(cell, '  ')}" for file, status, cell in cells)


def _cell(row: Row) -> str:
    return f"{row.told.strip()} ({row.note})" if row.note else row.told.strip()
