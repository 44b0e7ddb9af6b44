"""Vectors as a result: shape and similarities; the numbers themselves only where they were asked for."""

from __future__ import annotations

import base64
import struct
from typing import Any

from mcp_types import CallToolResult
from pydantic import BaseModel

from ollama_mcp.jobs.answers import MOST_NUMBERS, Vectors
from ollama_mcp.services.embedding import similarity
from ollama_mcp.tools.rendering import render
from ollama_mcp.tools.results import NOTES, STATS, facts

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
    return facts(_text(found, data), data, {STATS: stats.as_data(), NOTES: found.notes})


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
    """How to get them."""
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
