"""Toolset embeddings: vectors, which no language model should have to read by default."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import BaseModel, ConfigDict

from ollama_mcp.app import App
from ollama_mcp.replies.answer import Vectors
from ollama_mcp.replies.embedding import EmbeddingAsk, similarity
from ollama_mcp.tools.following import follow
from ollama_mcp.tools.results import NOTES, STATS, facts
from ollama_mcp.tools.toolset import Toolset, says

embeddings: Toolset = Toolset("embeddings")

_MOST_COMPARED = 8
Form = Literal["summary", "full", "base64"]


@dataclass(frozen=True)
class Embedded(Vectors):
    """Vectors, and the form in which the caller wants to see them."""

    form: Form = "summary"


class VectorReport(BaseModel):
    """Loose on purpose: a schema for every number costs a client 40 times the time."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    model: str
    count: int
    dimensions: int


def report(embedded: Embedded) -> CallToolResult:
    """Shape, lengths and similarities; the numbers themselves only where they were asked for."""
    stats = embedded.stats
    data: dict[str, Any] = {"model": stats.model, "count": stats.count, "dimensions": stats.dimensions}
    if embedded.form == "full":
        data["vectors"] = embedded.vectors
    elif embedded.form == "base64":
        data["vectors"] = [_packed(vector) for vector in embedded.vectors]
        data["encoding"] = "base64 of little-endian float32"
    else:
        data |= _summary(embedded.vectors)
    return facts(_text(embedded, data), data, {STATS: stats.as_data(), NOTES: embedded.notes})


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _summary(vectors: list[list[float]]) -> dict[str, Any]:
    lengths = [round(sum(x * x for x in vector) ** 0.5, 4) for vector in vectors]
    few = vectors[:_MOST_COMPARED]
    return {
        "norms": lengths[:_MOST_COMPARED],
        "similarity": [[round(similarity(a, b), 4) for b in few] for a in few] if len(few) > 1 else [],
    }


def _text(embedded: Embedded, data: dict[str, Any]) -> str:
    stats = embedded.stats
    many = "1 vector" if stats.count == 1 else f"{stats.count} vectors"
    lines = [f"{many} of {stats.dimensions} dimensions by {stats.model}"]
    if embedded.form == "full":
        lines += [f"{place}: {vector}" for place, vector in enumerate(embedded.vectors)]
    elif embedded.form == "base64":
        lines += [f"{place}: {text}" for place, text in enumerate(data["vectors"])]
    else:
        lines += _compared(data["similarity"], stats.count)
    return "\n".join(lines)


def _compared(rows: list[list[float]], count: int) -> list[str]:
    if not rows:
        return ['Send vectors="full" or "base64" for the numbers.']
    some = f" of the first {_MOST_COMPARED}" if count > _MOST_COMPARED else ""
    table = [f"{place:>3}  " + " ".join(f"{x:6.3f}" for x in row) for place, row in enumerate(rows)]
    return [f"Cosine similarity{some}:", *table]


@embeddings.tool("Embed texts", report, Annotated[CallToolResult, VectorReport])
async def ollama_embeddings(
    app: App,
    input: Annotated[list[str], says("Texts to embed; the order is kept.")],  # noqa: A002 - Ollama's name
    model: Annotated[
        str, says('Embedding model. "" (default): the configured, a loaded or the newest one.')
    ] = "",
    dimensions: Annotated[int, says("Length of the vectors. 0 (default): the model's own.")] = 0,
    truncate: Annotated[
        bool, says("true: cut texts that are too long. false (default): refuse them.")
    ] = False,
    vectors: Annotated[
        Form, says("summary (default): shape and similarities; full or base64: the numbers.")
    ] = "summary",
    ctx: Context[Any, Any] | None = None,
) -> Embedded:
    """Turn texts into vectors with a model that runs on this machine, in Ollama."""
    ask = EmbeddingAsk(input, model, dimensions or None, truncate)
    reply = app.replies.start(partial(app.embedder.run, ask), unit="texts")
    found = await follow(reply, ctx, app.settings)
    return Embedded(found.vectors, found.stats, found.notes, vectors)
