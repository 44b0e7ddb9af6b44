"""What a tool returns: the one place where answers, facts and failures become MCP results.

Everything that leaves is cleaned here: a lone surrogate or a NaN would end the process in the
serialiser.
"""

from __future__ import annotations

import json
from typing import Any, cast

from mcp_types import CallToolResult, TextContent

from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.call_stats import OK
from ollama_mcp.ollama.sanitize import clean, clean_text
from ollama_mcp.tools.clients import Room
from ollama_mcp.tools.rendering import fits, page_of, render, text_page

STATS = "ollama-mcp/stats"
NOTES = "ollama-mcp/notes"
ERROR = "ollama-mcp/error"
THINKING = "ollama-mcp/thinking"
TOOL_CALLS = "ollama-mcp/tool_calls"
LOGPROBS = "ollama-mcp/logprobs"


@render.register
def words(answer: Answer) -> CallToolResult:
    """An answer: exactly one text block, and the statistics beside it.

    Calls of the caller's tools are the text, as a JSON array, behind what the model said first.
    """
    return said(
        text_of(answer),
        {
            STATS: answer.stats.as_data(),
            NOTES: answer.notes,
            THINKING: answer.thinking,
            TOOL_CALLS: _calls(answer),
            LOGPROBS: answer.logprobs,
        },
    )


def text_of(answer: Answer) -> str:
    """All that an answer says, as one text; that something was cut are its last lines."""
    calls = _calls(answer)
    if calls:  # nothing behind them: the text ends with JSON
        return "\n\n".join(filter(None, [str(answer), json.dumps(calls, ensure_ascii=False)]))
    return "\n".join(filter(None, [str(answer), answer.cut, answer.prompt_cut]))


@fits.register
def _fits(answer: Answer, page: Room) -> bool:
    return page.holds(text_of(answer))


page_of.register(Answer, text_page)


def _calls(answer: Answer) -> list[Any]:
    return clean([call.model_dump(exclude_none=True) for call in answer.tool_calls])


def facts(text: str, data: dict[str, Any], meta: dict[str, Any] | None = None) -> CallToolResult:
    """Facts: a readable table, and the same as structured data, without what is not known."""
    result = said(text, meta or {})
    result.structured_content = _known(clean(data))
    return result


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _known(v) for k, v in cast("dict[str, Any]", value).items() if v is not None}
    return [_known(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def failure(error: OllamaError) -> CallToolResult:
    """A failure: `CODE: cause. Remedy.`, and the same as data in `_meta`.

    Not in the structured content: clients check that against the output schema even on errors. What was
    written and cannot be asked for later is a second text.
    """
    result = said(str(error), {ERROR: error.as_data()})
    if error.is_last and error.partial_text:
        result.content.append(TextContent(type="text", text=clean_text(error.partial_text)))
    result.is_error = True
    return result


def code_of(result: object) -> str:
    """How a call ended: `OK`, the code of its error, or `ASKS` where the client is asked something."""
    if not isinstance(result, CallToolResult):
        return "ASKS"
    if not result.is_error:
        return OK
    return str((result.meta or {}).get(ERROR, {}).get("code", "ERROR"))


def noted(result: CallToolResult, notes: list[str]) -> CallToolResult:
    """The same result with more notes."""
    if notes:
        meta = result.meta or {}
        result.meta = {**meta, NOTES: [*meta.get(NOTES, []), *clean(notes)]}
    return result


def said(text: str, meta: dict[str, Any] | None = None) -> CallToolResult:
    """One text, and what belongs to it."""
    meta = meta or {}
    kept = {key: clean(value) for key, value in meta.items() if value}
    return CallToolResult(content=[TextContent(type="text", text=clean_text(text))], _meta=kept or None)
