"""Rankings and comparisons as results."""

from __future__ import annotations

import json
from collections.abc import Callable

from mcp_types import CallToolResult
from pydantic import BaseModel

from ollama_mcp.services.compare import Compared, Comparison
from ollama_mcp.services.embedding import Ranked, Ranking
from ollama_mcp.tools.clients import Room
from ollama_mcp.tools.rendering import fits, page_of, render, text_page
from ollama_mcp.tools.results import NOTES, STATS, facts, said, text_of

_SHOWN = 200


class RankRow(BaseModel):
    """One candidate."""

    index: int
    score: float
    text: str


class RankReport(BaseModel):
    """The best candidates, the best first: `index` is the place in what was sent."""

    model: str
    ranking: list[RankRow]


@render.register
def ranking_report(found: Ranking, page: Room = Room()) -> CallToolResult:  # noqa: B008 - frozen
    """The order and the scores; no vectors. Of more than a page holds the best, with how many follow."""
    best = _best(found.rows, page.beside(" " * _AROUND))
    rows = [{"index": r.index, "score": round(r.score, 4), "text": r.text[:_SHOWN]} for r in best]
    lines = [f"{row.score:6.3f}  [{row.index}] {_short(row.text)}" for row in best]
    lines += [note for note in found.notes if "has no vector" in note]
    if more := len(found.rows) - len(best):
        lines.append(f"and {more} more, which do not fit here: send top, or fewer candidates at once")
    meta = {STATS: found.stats.as_data(), NOTES: found.notes}
    text = "\n".join([f"by {found.stats.model}, the best first:", *lines])
    return facts(text, {"model": found.stats.model, "ranking": rows}, meta)


@page_of.register
def _only_page(
    found: Ranking,
    whole: Callable[[], CallToolResult],
    number: int,
    page: Room,
    continue_as: str,
) -> CallToolResult:
    return ranking_report(found, page)


_AROUND, _OF_A_ROW = 300, 60
"""Characters that stand around the rows, and around the two texts of one."""


def _best(rows: list[Ranked], page: Room) -> list[Ranked]:
    """Those that a page holds as text and as data, at least one."""
    for kept, row in enumerate(rows):
        text = _short(row.text) + json.dumps(row.text[:_SHOWN], ensure_ascii=False) + " " * _OF_A_ROW
        if kept and not page.holds(text):
            return rows[:kept]
        page = page.beside(text)
    return rows


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


@render.register
def comparison(found: Comparison) -> CallToolResult:
    """Every answer under its model's name, with the numbers side by side at the end."""
    stats = {row.model: row.answer.stats.as_data() for row in found.rows if row.answer is not None}
    result = said(compared_text(found), {STATS: stats})
    result.is_error = not stats  # nobody answered
    return result


def compared_text(found: Comparison) -> str:
    """All of it as one text; that a model failed is its first line."""
    failed = [row.model for row in found.rows if row.answer is None]
    parts = [f"FAILED: no answer from {', '.join(failed)}."] if failed else []
    parts += [f"## {row.model}\n\n{_said(row)}" for row in found.rows]
    numbers = "\n".join(["## numbers", "", *map(_numbers, found.rows)])
    return "\n\n".join([*parts, numbers])


@fits.register
def _fits(found: Comparison, page: Room) -> bool:
    return page.holds(compared_text(found))


page_of.register(Comparison, text_page)


def _said(row: Compared) -> str:
    return str(row.failure) if row.answer is None else text_of(row.answer)


def _numbers(row: Compared) -> str:
    if row.answer is None:
        return f"{row.model}: failed"
    stats = row.answer.stats
    told = [
        f"{stats.output_tokens} tok" if stats.output_tokens else "",
        f"{stats.tokens_per_s:.0f} tok/s" if stats.tokens_per_s else "",
        f"{stats.total_s:.1f} s" if stats.total_s is not None else "",
        stats.done_reason,
    ]
    return f"{row.model}: {' · '.join(filter(None, told))}"
