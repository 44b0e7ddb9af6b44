"""Numbers and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ollama_mcp.services.units import told


def columns(rows: Iterable[Sequence[str]]) -> str:
    r"""A table of plain text; the rows are of one length.

    >>> columns([("name", "size"), ("qwen3:8b", "5.2 GB")])
    'name      size\nqwen3:8b  5.2 GB'
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def size_of(count: int) -> str:
    """Bytes as people write them.

    >>> size_of(98362745), size_of(5_200_000_000), size_of(0)
    ('98 MB', '5.2 GB', '-')
    """
    return told(count) if count else "-"
