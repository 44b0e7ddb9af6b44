"""Results: what a tool's caller gets, built in one place.

`render` makes a result of what a service returned, `page_of` one page of it, and `fits` says whether pages
are needed; a toolset registers its own kinds. Words are one block of text; facts are a table and the same
as data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch
from typing import Any, cast

from mcp_types import CallToolResult, TextContent

from ollama_mcp.errors import InvalidArgument, OllamaError
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.call_stats import OK
from ollama_mcp.ollama.sanitize import sanitize, sanitize_text
from ollama_mcp.services.units import format_bytes
from ollama_mcp.tools.client_profiles import PageSize


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
    return format_bytes(count) if count else "-"


REPLY = "ollama-mcp/reply"


@singledispatch
def render(found: Any) -> CallToolResult:
    """Return all of a result."""
    raise TypeError(f"no renderer is registered for a {type(found).__name__}")


@singledispatch
def fits(found: Any, page: PageSize) -> bool:
    """Return whether a page holds all of a result; one that has no pages is always whole."""
    return True


@singledispatch
def page_of(
    found: Any,
    whole: Callable[[], CallToolResult],
    number: int,
    page: PageSize,
    continue_as: str,
) -> CallToolResult:
    """The page of a result that a call asked for; the arguments are those of `text_page`."""
    return whole()


def text_page(
    found: Any,
    whole: Callable[[], CallToolResult],
    number: int,
    page: PageSize,
    continue_as: str,
    *,
    more: str = "",
    repeats: bool = False,
) -> CallToolResult:
    """Return one page of a long text, where a handle finds the others.

    Args:
        found: What the text is made of.
        whole: Renders all of it.
        number: Which page, from 1.
        page: How much a page may have, its first lines included.
        continue_as: Name of the tool that gives the others.
        more: Arguments of that tool beside the handle; then the text's first line is on every page.
        repeats: Whether that is so also without such arguments.

    Raises:
        InvalidArgument: It has no such page.
    """
    result = whole()
    (block,) = result.content
    text = block.text if isinstance(block, TextContent) else ""
    if not found.handle or (number == 1 and page.holds(text)):
        return result
    head = ""
    if more or repeats:
        head, _, text = text.partition("\n")
        head = f"{head}\n"
    which = f'handle="{found.handle}"{more}'
    cut = pages(text, page.beside(f"{head}{page_head(which, _LONGEST, _LONGEST + 1, continue_as)}\n"))
    head += page_head(which, number, len(cut), continue_as)
    result.content = [TextContent(type="text", text=sanitize_text(f"{head}\n{cut[number - 1]}"))]
    return with_page(result, found.handle, number, len(cut))


_LONGEST = 999_998
"""A page's number that is as long as any."""


def page_head(which: str, number: int, count: int, continue_as: str) -> str:
    """The line that says which page it is, and how to get the next one.

    Raises:
        InvalidArgument: There is no such page.
    """
    if not 1 <= number <= count:
        raise InvalidArgument(f"there is no page {number}", f'Send "page" from 1 to {count}.')
    rest = (
        f"Call {continue_as} with {which} and page={number + 1} for the next one."
        if number < count
        else "This is the last one."
    )
    return f"page {number} of {count}. {rest}"


def with_page(result: CallToolResult, handle: str, number: int, count: int) -> CallToolResult:
    """The same result with what says as data which page it is."""
    result.meta = (result.meta or {}) | {REPLY: {"handle": handle, "page": number, "pages": count}}
    return result


def pages(text: str, page: PageSize) -> list[str]:
    r"""Cut a text, behind a line's end where there is one in the second half of a page, else behind a space.

    >>> pages("one\ntwo three four", PageSize(10)), pages("abcdef", PageSize(4)), pages("", PageSize(4))
    (['one\ntwo ', 'three four'], ['abcd', 'ef'], [''])
    """
    found: list[str] = []
    at = 0
    while (room := page.fitting(text[at : at + page.widest])) < len(text) - at:
        end = _cut(text, at, at + max(room, 1))
        found.append(text[at:end])
        at = end
    return [*found, text[at:]]


def _cut(text: str, start: int, end: int) -> int:
    for mark in ("\n", " "):
        at = text.rfind(mark, (start + end) // 2, end)
        if at >= 0:
            return at + 1
    return end - 1 if end - start > 1 and text[end - 1 : end + 1] == "\r\n" else end


STATS = "ollama-mcp/stats"
NOTES = "ollama-mcp/notes"
ERROR = "ollama-mcp/error"
THINKING = "ollama-mcp/thinking"
TOOL_CALLS = "ollama-mcp/tool_calls"
LOGPROBS = "ollama-mcp/logprobs"


@render.register
def answer_result(answer: Answer) -> CallToolResult:
    """An answer: exactly one text block, and the statistics beside it.

    Calls of the caller's tools are the text, as a JSON array, behind what the model said first.
    """
    return text_result(
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
    """Return the text of an answer; that something was cut are its last lines."""
    calls = _calls(answer)
    if calls:  # nothing behind them: the text ends with JSON
        return "\n\n".join(filter(None, [str(answer), json.dumps(calls, ensure_ascii=False)]))
    return "\n".join(filter(None, [str(answer), answer.cut, answer.prompt_cut]))


@fits.register
def _answer_fits(answer: Answer, page: PageSize) -> bool:
    return page.holds(text_of(answer))


page_of.register(Answer, text_page)


def _calls(answer: Answer) -> list[Any]:
    return sanitize([call.model_dump(exclude_none=True) for call in answer.tool_calls])


def table_result(text: str, data: dict[str, Any], meta: dict[str, Any] | None = None) -> CallToolResult:
    """Facts: a readable table, and the same as structured data, without what is not known."""
    result = text_result(text, meta or {})
    result.structured_content = _known(sanitize(data))
    return result


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _known(v) for k, v in cast("dict[str, Any]", value).items() if v is not None}
    return [_known(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def error_result(error: OllamaError) -> CallToolResult:
    """A failure: `CODE: cause. Remedy.`, and the same as data in `_meta`.

    Not in the structured content: clients check that against the output schema even on errors. What was
    written and cannot be asked for later is a second text.
    """
    result = text_result(str(error), {ERROR: error.as_data()})
    if error.is_last and error.partial_text:
        result.content.append(TextContent(type="text", text=sanitize_text(error.partial_text)))
    result.is_error = True
    return result


def code_of(result: object) -> str:
    """Return how a call ended: `OK`, the code of its error, or `ASKS` where the client is asked something."""
    if not isinstance(result, CallToolResult):
        return "ASKS"
    if not result.is_error:
        return OK
    return str((result.meta or {}).get(ERROR, {}).get("code", "ERROR"))


def with_notes(result: CallToolResult, notes: list[str]) -> CallToolResult:
    """The same result with more notes."""
    if notes:
        meta = result.meta or {}
        result.meta = {**meta, NOTES: [*meta.get(NOTES, []), *sanitize(notes)]}
    return result


def text_result(text: str, meta: dict[str, Any] | None = None) -> CallToolResult:
    """Return one text block, with `_meta`."""
    meta = meta or {}
    kept = {key: sanitize(value) for key, value in meta.items() if value}
    return CallToolResult(content=[TextContent(type="text", text=sanitize_text(text))], _meta=kept or None)
