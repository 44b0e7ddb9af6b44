"""Toolset rag: answers from other tools, documents and files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, cast

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import WithJsonSchema

from ollama_mcp.app import App
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.services.grounded_answer import GroundedAnswer, GroundedSpec
from ollama_mcp.services.specs import build_chat
from ollama_mcp.settings.limits import check_texts
from ollama_mcp.sources import Passage, ToolUse
from ollama_mcp.tools.attachments import passages_of_files
from ollama_mcp.tools.caller import CONTEXT_TOOLS
from ollama_mcp.tools.calls import run_job
from ollama_mcp.tools.results import answer_result, render
from ollama_mcp.tools.siblings import Siblings
from ollama_mcp.tools.toolset import Files, Toolset, WaitS, describe

rag: Toolset = Toolset("rag")

CONTEXT = "ollama-mcp/context"
_NOTHING: dict[str, Any] = {}
_NO_TEXTS: list[str] = []
_NO_ENTRIES: list[Any] = []
_TEXTS = WithJsonSchema({"type": "array", "items": {"type": "string"}})
"""What language models write; programs may send objects, too, which no client's schema can say simply."""


@render.register
def grounded_result(found: GroundedAnswer) -> CallToolResult:
    """Return an answer with its sources in `_meta`, too."""
    result = answer_result(found)
    result.meta = (result.meta or {}) | {CONTEXT: found.as_data()}
    return result


@rag.tool(
    "Answer from sources",
    grounded_result,
    example={"query": "Where do visitors park?", "documents": ["Visitors park behind the house."]},
)
async def ollama_rag_query(
    app: App,
    query: Annotated[str, describe("The question.")],
    context_tools: Annotated[
        list[Any],
        _TEXTS,
        describe(
            "Tools of this server to ask: names, patterns, or JSON {tool, arguments} with $query. Default []."
        ),
    ] = _NO_ENTRIES,
    documents: Annotated[list[Any], _TEXTS, describe("Texts to answer from. Default [].")] = _NO_ENTRIES,
    files: Files = _NO_TEXTS,
    model: Annotated[str, describe('Name. "" (default): configured, loaded or newest.')] = "",
    top: Annotated[int, describe("Most passages to read. 0 (default): what fits.")] = 0,
    schema: Annotated[dict[str, Any], describe("JSON Schema of the answer. Default {}.")] = _NOTHING,
    options: Annotated[dict[str, Any], describe("Ollama options. Default {}.")] = _NOTHING,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> GroundedAnswer:
    """Answer a question with a local model from other tools, texts and files alone; it cites them as [1].

    From Python: `app`, `ctx` and `wait_s` are as for `ollama_chat`; `context_tools` needs `ctx`.

    Returns:
        The text with its sources at the end: a str that has `response`, `context_sources`, `context_count`,
        `passages` and `reports`, and all of an `ollama_chat` answer.

    Raises:
        InvalidArgument: There is nothing to answer from.
        OllamaError: As for `ollama_chat`.
        StillRunning: As for `ollama_chat`.
    """
    passages = [_document(number, raw) for number, raw in enumerate(documents, 1)]
    check_texts(app.settings.limits, [passage.text for passage in passages])
    passages += await passages_of_files(app, files, ctx)
    chat = build_chat(prompt=query, model=model, schema=schema, options=options, limits=app.settings.limits)
    spec = GroundedSpec(chat, query, tuple(passages), tuple(map(ToolUse.parse, context_tools)), top)
    source = Siblings(ctx) if ctx is not None else None
    return await run_job(app, partial(app.grounded.run, spec, source, CONTEXT_TOOLS.get()), ctx, wait_s)


def _document(number: int, raw: Any) -> Passage:
    """Read a document: a text, or an object with text, title and address."""
    if isinstance(raw, str):
        return Passage(raw, "documents", f"document {number}")
    if isinstance(raw, Mapping):
        fields = cast("Mapping[str, Any]", raw)
        text, title, uri = (fields.get(name, "") for name in ("text", "title", "uri"))
        if isinstance(text, str) and text and isinstance(title, str) and isinstance(uri, str):
            return Passage(text, "documents", title or f"document {number}", uri)
    raise InvalidArgument(
        f"documents[{number - 1}] is neither a text nor an object with one",
        'Send "text", or {"text": "…", "title": "…", "uri": "…"}.',
    )
