"""Toolset embeddings: vectors, which no language model should have to read by default."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import BaseModel

from ollama_mcp.app import App
from ollama_mcp.jobs.answers import MOST_NUMBERS, Form, Vectors
from ollama_mcp.services.embedding import Ranked, Ranking, build_embed, similarity
from ollama_mcp.tools.calls import run_job
from ollama_mcp.tools.client_profiles import PageSize
from ollama_mcp.tools.results import NOTES, STATS, page_of, render, table_result
from ollama_mcp.tools.toolset import Toolset, WaitS, describe

_MOST_COMPARED = 8


class VectorReport(BaseModel):
    """Loose on purpose where the numbers are: a schema for each costs a client 40 times the time."""

    model: str
    count: int
    dimensions: int
    norms: list[float] = []
    similarity: list[list[float]] = []
    vectors_uri: str = ""
    vectors: list[Any] = []
    failed: list[int] = []
    encoding: str = ""


@render.register
def report(found: Vectors) -> CallToolResult:
    """Shape, lengths and similarities; the numbers themselves only where they were asked for."""
    stats = found.stats
    data: dict[str, Any] = {"model": stats.model, "count": stats.count, "dimensions": stats.dimensions}
    if found.failed:
        data["failed"] = list(found.failed)
    if found.shown == "full":
        data["vectors"] = found.vectors
    elif found.shown == "base64":
        data["vectors"] = [_packed(vector) for vector in found.vectors]
        data["encoding"] = "base64 of little-endian float32"
    else:
        data |= _summary(found.vectors) | ({"vectors_uri": found.uri} if found.uri else {})
    return table_result(_text(found, data), data, {STATS: stats.as_data(), NOTES: found.notes})


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _summary(vectors: list[list[float]]) -> dict[str, Any]:
    few = vectors[:_MOST_COMPARED]
    return {
        "norms": [round(sum(x * x for x in vector) ** 0.5, 4) for vector in few],
        "similarity": [[round(similarity(a, b), 4) for b in few] for a in few] if len(few) > 1 else [],
    }


def _text(found: Vectors, data: dict[str, Any]) -> str:
    stats = found.stats
    many = "1 vector" if stats.count == 1 else f"{stats.count} vectors"
    lines = [f"{many} of {stats.dimensions} dimensions by {stats.model}"]
    lines += [note for note in found.notes if "has no vector" in note]
    if found.shown == "full":
        lines += [f"{place}: {vector}" for place, vector in enumerate(found.vectors)]
    elif found.shown == "base64":
        lines += [f"{place}: {text}" for place, text in enumerate(data["vectors"])]
    else:
        lines += _compared(data["similarity"], stats.count)
        lines += _numbers(found)
    return "\n".join(lines)


def _numbers(found: Vectors) -> list[str]:
    """Say how to get the numbers."""
    if found.uri:
        return [f"The numbers are kept for a while as the resource {found.uri}"]
    if found.count > MOST_NUMBERS:
        return [f"{found.count} numbers are too many for one result: send fewer texts at once."]
    return [] if len(found.vectors) > 1 else ['Send vectors="full" or "base64" for the numbers.']


def _compared(rows: list[list[float]], count: int) -> list[str]:
    if not rows:
        return []
    some = f" of the first {_MOST_COMPARED}" if count > _MOST_COMPARED else ""
    table = [f"{place:>3}  " + " ".join(f"{x:6.3f}" for x in row) for place, row in enumerate(rows)]
    return [f"Cosine similarity{some}:", *table]


_SHOWN = 200


class RankRow(BaseModel):
    """A candidate with its score."""

    index: int
    score: float
    text: str


class RankReport(BaseModel):
    """The best candidates, the best first: `index` is the place in what was sent."""

    model: str
    ranking: list[RankRow]


@render.register
def ranking_report(found: Ranking, page: PageSize = PageSize()) -> CallToolResult:  # noqa: B008 - frozen
    """The order and the scores; no vectors. Of more than a page holds the best, with how many follow."""
    best = _best(found.rows, page.beside(" " * _AROUND))
    rows = [{"index": r.index, "score": round(r.score, 4), "text": r.text[:_SHOWN]} for r in best]
    lines = [f"{row.score:6.3f}  [{row.index}] {_short(row.text)}" for row in best]
    lines += [note for note in found.notes if "has no vector" in note]
    if more := len(found.rows) - len(best):
        lines.append(f"and {more} more, which do not fit here: send top, or fewer candidates at once")
    meta = {STATS: found.stats.as_data(), NOTES: found.notes}
    text = "\n".join([f"by {found.stats.model}, the best first:", *lines])
    return table_result(text, {"model": found.stats.model, "ranking": rows}, meta)


@page_of.register
def _only_page(
    found: Ranking,
    whole: Callable[[], CallToolResult],
    number: int,
    page: PageSize,
    continue_as: str,
) -> CallToolResult:
    return ranking_report(found, page)


_AROUND, _OF_A_ROW = 300, 60
"""Characters that stand around the rows, and around the two texts of one."""


def _best(rows: list[Ranked], page: PageSize) -> list[Ranked]:
    """Return the best rows that a page holds as text and as data, at least one."""
    for kept, row in enumerate(rows):
        text = _short(row.text) + json.dumps(row.text[:_SHOWN], ensure_ascii=False) + " " * _OF_A_ROW
        if kept and not page.holds(text):
            return rows[:kept]
        page = page.beside(text)
    return rows


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


embeddings: Toolset = Toolset("embeddings")

Model = Annotated[str, describe('Embedding model. "" (default): configured, loaded or newest.')]


@embeddings.tool(
    "Embed texts", report, Annotated[CallToolResult, VectorReport], example={"input": ["a cat", "a dog"]}
)
async def ollama_embeddings(
    app: App,
    input: Annotated[list[str], describe("Texts to embed; the order is kept.")],  # noqa: A002 - Ollama's name
    model: Model = "",
    dimensions: Annotated[int, describe("Length of the vectors. 0 (default): the model's own.")] = 0,
    truncate: Annotated[
        bool, describe("true: cut the end of texts that are too long. false (default): refuse them.")
    ] = False,
    vectors: Annotated[
        Form, describe("summary (default): shape and similarities; full or base64: the numbers.")
    ] = "summary",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Vectors:
    """Turn texts into vectors with a local model in Ollama, and compare them by cosine similarity.

    From Python: `app`, `ctx` and `wait_s` are as for `ollama_chat`; the progress counts texts. `vectors`
    says how a result of MCP shows them, and changes nothing of what is returned.

    Returns:
        The vectors, a list of floats for each text in their order; iterable, with `stats` and `notes`. A
        text of which the model fails has an empty one, and its place is in `failed`.

    Raises:
        OllamaError: None of the texts has a vector; else as for `ollama_chat`.
        StillRunning: As for `ollama_chat`.
    """
    spec = build_embed(
        input, model, dimensions or None, truncate=truncate, form=vectors, limits=app.settings.limits
    )
    return await run_job(app, partial(app.embedder.run, spec), ctx, wait_s, unit="texts")


@embeddings.tool(
    "Rank texts",
    ranking_report,
    Annotated[CallToolResult, RankReport],
    example={"query": "pets", "candidates": ["a cat", "a lorry"]},
)
async def ollama_rank(
    app: App,
    query: Annotated[str, describe("What is looked for.")],
    candidates: Annotated[list[str], describe("Texts to put in order.")],
    model: Model = "",
    top: Annotated[int, describe("How many of the best. 0 (default): all.")] = 0,
    prefixes: Annotated[bool, describe("false: without the prefixes of the model. Default true.")] = True,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Ranking:
    """Put texts in the order in which their meaning is near to a query."""
    spec = build_embed([query, *candidates], model, limits=app.settings.limits)
    spec = replace(spec, queries=1 if prefixes else None)
    return await run_job(app, partial(app.ranker.run, spec, top), ctx, wait_s, unit="texts")
