"""Toolset embeddings: vectors, which no language model should have to read by default."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult

from ollama_mcp.app import App
from ollama_mcp.jobs.answers import Form, Vectors
from ollama_mcp.services.embedding import Ranking, embedding_ask
from ollama_mcp.tools.compared import RankReport, ranking_report
from ollama_mcp.tools.following import answered
from ollama_mcp.tools.toolset import Toolset, WaitS, says
from ollama_mcp.tools.vectors import VectorReport, report

embeddings: Toolset = Toolset("embeddings")

Model = Annotated[str, says('Embedding model. "" (default): configured, loaded or newest.')]


@embeddings.tool(
    "Embed texts",
    report,
    Annotated[CallToolResult, VectorReport],
)
async def ollama_embeddings(
    app: App,
    input: Annotated[list[str], says("Texts to embed; the order is kept.")],  # noqa: A002 - Ollama's name
    model: Model = "",
    dimensions: Annotated[int, says("Length of the vectors. 0 (default): the model's own.")] = 0,
    truncate: Annotated[
        bool, says("true: cut the end of texts that are too long. false (default): refuse them.")
    ] = False,
    vectors: Annotated[
        Form, says("summary (default): shape and similarities; full or base64: the numbers.")
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
    ask = embedding_ask(
        input, model, dimensions or None, truncate=truncate, form=vectors, limits=app.settings.limits
    )
    return await answered(app, partial(app.embedder.run, ask), ctx, wait_s, unit="texts")


@embeddings.tool(
    "Rank texts",
    ranking_report,
    Annotated[CallToolResult, RankReport],
)
async def ollama_rank(
    app: App,
    query: Annotated[str, says("What is looked for.")],
    candidates: Annotated[list[str], says("Texts to put in order.")],
    model: Model = "",
    top: Annotated[int, says("How many of the best. 0 (default): all.")] = 0,
    prefixes: Annotated[bool, says("false: without the prefixes of the model. Default true.")] = True,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Ranking:
    """Put texts in the order in which their meaning is near to a query."""
    ask = embedding_ask([query, *candidates], model, limits=app.settings.limits)
    ask = replace(ask, queries=1 if prefixes else None)
    return await answered(app, partial(app.ranker.run, ask, top), ctx, wait_s, unit="texts")
