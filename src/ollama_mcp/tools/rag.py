"""Toolset rag: answers from other tools, documents and files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult

from ollama_mcp.app import App
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.grounded_answer import GroundedAnswer, GroundedSpec
from ollama_mcp.services.specs import build_chat
from ollama_mcp.settings.limits import check_texts
from ollama_mcp.sources import SourceGroup, ToolSource, ToolUse
from ollama_mcp.tools.attachments import document_of, passages_of_files
from ollama_mcp.tools.caller import CONTEXT_TOOLS
from ollama_mcp.tools.calls import run_job
from ollama_mcp.tools.results import answer_result, render
from ollama_mcp.tools.siblings import Siblings
from ollama_mcp.tools.toolset import TEXTS, ConversationName, Files, OnlyWith, Toolset, WaitS, describe
from ollama_mcp.tools.upstreams.source import Upstreams

rag: Toolset = Toolset("rag")

CONTEXT = "ollama-mcp/context"
REMEMBERED = 1024
"""Tokens of a conversation beside the passages, which need most of the window."""
_NOTHING: dict[str, Any] = {}
_NO_TEXTS: list[str] = []
_NO_ENTRIES: list[Any] = []


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
        TEXTS,
        describe("Tools to ask: names, patterns, or JSON {tool, arguments} with $query. Default []."),
    ] = _NO_ENTRIES,
    documents: Annotated[list[Any], TEXTS, describe("Texts to answer from. Default [].")] = _NO_ENTRIES,
    files: Files = _NO_TEXTS,
    collection: Annotated[
        str,
        describe('Collection to search. Default "": the only one, if nothing else is sent.'),
        OnlyWith("store", "Leave it out; the operator has set no OLLAMA_MCP_STORE."),
    ] = "",
    model: Annotated[str, describe('Name. "" (default): configured, loaded or newest.')] = "",
    top: Annotated[int, describe("Most passages to read. 0 (default): what fits.")] = 0,
    schema: Annotated[dict[str, Any], describe("JSON Schema of the answer. Default {}.")] = _NOTHING,
    options: Annotated[dict[str, Any], describe("Ollama options. Default {}.")] = _NOTHING,
    conversation: ConversationName = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> GroundedAnswer:
    """Answer a question with a local model from other tools, texts and files alone; it cites them as [1].

    From Python: `app`, `ctx` and `wait_s` are as for `ollama_chat`; without `ctx`, `context_tools` are
    those of upstreams alone.

    Returns:
        The text with its sources at the end: a str that has `response`, `context_sources`, `context_count`,
        `passages` and `reports`, and all of an `ollama_chat` answer.

    Raises:
        InvalidArgument: There is nothing to answer from.
        OllamaError: As for `ollama_chat`.
        StillRunning: As for `ollama_chat`.
    """
    passages = [document_of(number, raw, f"document {number}") for number, raw in enumerate(documents, 1)]
    check_texts(app.settings.limits, [passage.text for passage in passages])
    passages += await passages_of_files(app, files)
    chat = build_chat(prompt=query, model=model, schema=schema, options=options, limits=app.settings.limits)
    spec = GroundedSpec(
        chat, query, tuple(passages), tuple(map(ToolUse.parse, context_tools)), top, collection
    )
    sources: list[ToolSource] = [Siblings(ctx)] if ctx is not None else []
    if app.upstreams.servers:
        sources.append(Upstreams(app.upstreams))
    source = SourceGroup(sources) if sources else None
    patterns = CONTEXT_TOOLS.get()
    if not conversation:
        return await run_job(app, partial(app.grounded.run, spec, source, patterns), ctx, wait_s)

    async def go_on(job: Job[GroundedAnswer]) -> GroundedAnswer:
        continued = await app.conversations.begin(chat, conversation, job, most=REMEMBERED)
        answer = await app.grounded.run(replace(spec, chat=continued.spec), source, patterns, job)
        await app.conversations.finish(continued, answer, job)
        return answer

    return await run_job(app, go_on, ctx, wait_s)
