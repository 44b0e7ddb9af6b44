"""What a call returns that is not the whole answer: STILL RUNNING, a page, unfinished text.

Each begins with a line that says so and how to get the rest: half an answer that looks like a whole
one is passed on as the whole one by the model that reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, assert_never

from mcp_types import CallToolResult, TextContent

from ollama_mcp.errors import Cancelled, InvalidArgument, OllamaError
from ollama_mcp.files.mapping import Mapped
from ollama_mcp.management import Loaded, Transferred
from ollama_mcp.plain import clean_text
from ollama_mcp.replies import Reply, StillRunning
from ollama_mcp.replies.answer import Answer, Unfinished, Vectors
from ollama_mcp.replies.comparing import Comparison
from ollama_mcp.replies.ranking import Ranking
from ollama_mcp.tools.clients import Room
from ollama_mcp.tools.compared import comparison, ranking_report
from ollama_mcp.tools.mapped import map_report, row_pages
from ollama_mcp.tools.results import failure, said, words
from ollama_mcp.tools.stock import done
from ollama_mcp.tools.vectors import report

REPLY = "ollama-mcp/reply"


Outcome = Answer | Vectors | Ranking | Comparison | Mapped | Transferred | Loaded | Unfinished
"""What a Reply ends as, or has so far."""


def outcome(found: Outcome) -> CallToolResult:  # noqa: PLR0911 - one for each kind
    """Whatever a Reply ended as, or has so far."""
    match found:
        case Answer():
            return words(found)
        case Vectors():
            return report(found)
        case Ranking():
            return ranking_report(found)
        case Comparison():
            return comparison(found)
        case Transferred() | Loaded():
            return done(found)
        case Mapped():
            return map_report(found)
        case Unfinished():
            return _unfinished(found)
        case _:
            assert_never(found)


def still_running(
    running: StillRunning, names: Mapping[str, str], required: Mapping[str, Any] | None
) -> CallToolResult:
    """A handle instead of an answer, and how far the answer is.

    Args:
        running: What goes on.
        names: The tools of the server: our names, and theirs there.
        required: What the tool's output schema requires, where it has one.
    """
    reply = running.reply
    way = f'Call {names["ollama_continue"]} with handle="{reply.handle}" to get it'
    if cancel := names.get("ollama_cancel"):
        way += f", or {cancel} to stop it and free the model's place"
    first = f"STILL RUNNING: this is not the answer yet. {way}."
    result = said(f"{first}\n{reply.summary()}", {REPLY: _data(reply)})
    if required is not None:
        result.structured_content = {**required, "status": first, "handle": reply.handle}
    return result


def _data(reply: Reply[Any]) -> dict[str, Any]:
    return {
        "handle": reply.handle,
        "state": reply.state.value,
        "model": reply.model,
        reply.unit: reply.count,
        "position": reply.ticket.position if reply.ticket else None,
    }


def _unfinished(found: Unfinished) -> CallToolResult:
    if found.failure is None:
        rest = f"which goes on ({found.summary}). Ask again without partial for all of it"
    else:
        rest = f"and there will be no more of it: {found.failure.code}: {found.failure.cause}"
    text = found.text or "(nothing yet)"
    return said(f"UNFINISHED: the text below is not the whole answer, {rest}.\n{text}")


def stopped(found: Outcome) -> CallToolResult:
    """That an answer was stopped, or had ended before."""
    if not isinstance(found, Unfinished):
        return said("It had ended already, and its handle still has the whole answer.")
    if found.failure is None:
        return said(f"It is being stopped ({found.summary}).")
    kept = "What was written is kept: its handle and partial=true have it." if found.text else ""
    if not isinstance(found.failure, Cancelled):
        return said(f"It had ended already ({found.summary}): {found.failure.cause}. {kept}".rstrip())
    return said(f"Stopped ({found.summary}). {kept}".rstrip())


def offered(error: OllamaError, continue_as: str) -> CallToolResult:
    """A failure; where something had been written that is kept, it says how to get that."""
    if error.handle and continue_as:
        error = copy.copy(error)  # it may be told again
        way = f'{continue_as} with handle="{error.handle}" and partial=true has what was written.'
        error.remedy = f"{way} {error.remedy}"
    return failure(error)


def paged(
    result: CallToolResult, found: Answer | Unfinished | Comparison, number: int, page: Room, continue_as: str
) -> CallToolResult:
    """One page of a long text instead of all of it.

    Args:
        result: All of it.
        found: What it is made of, with the handle that finds it again.
        number: Which page, from 1.
        page: How much a page may have, its first lines included.
        continue_as: Name of the tool that gives the others.

    Raises:
        InvalidArgument: It has no such page.
    """
    (block,) = result.content
    text = block.text if isinstance(block, TextContent) else ""
    if number == 1 and page.holds(text):
        return result
    head, more = "", ""
    if isinstance(found, Unfinished):  # every page says so
        head, _, text = text.partition("\n")
        head, more = f"{head}\n", ", partial=true"
    which = f'handle="{found.handle}"{more}'
    cut = pages(text, page.beside(f"{head}{_page_head(which, _LONGEST, _LONGEST + 1, continue_as)}\n"))
    head += _page_head(which, number, len(cut), continue_as)
    result.content = [TextContent(type="text", text=clean_text(f"{head}\n{cut[number - 1]}"))]
    return _with_page(result, found.handle, number, len(cut))


_LONGEST = 999_998
"""A page's number that is as long as any."""


def paged_rows(found: Mapped, number: int, page: Room, continue_as: str) -> CallToolResult:
    """As `paged`, with whole rows, in the text and in the structured data."""
    groups = row_pages(found, page)
    if number == len(groups) == 1:
        return map_report(found)
    head = _page_head(f'handle="{found.handle}"', number, len(groups), continue_as)
    return _with_page(map_report(found, groups[number - 1], head), found.handle, number, len(groups))


def _page_head(which: str, number: int, count: int, continue_as: str) -> str:
    if not 1 <= number <= count:
        raise InvalidArgument(f"there is no page {number}", f'Send "page" from 1 to {count}.')
    rest = (
        f"Call {continue_as} with {which} and page={number + 1} for the next one."
        if number < count
        else "This is the last one."
    )
    return f"page {number} of {count}. {rest}"


def _with_page(result: CallToolResult, handle: str, number: int, count: int) -> CallToolResult:
    result.meta = (result.meta or {}) | {REPLY: {"handle": handle, "page": number, "pages": count}}
    return result


def pages(text: str, page: Room) -> list[str]:
    r"""Cut a text, behind a line's end where there is one in the second half of a page, else behind a space.

    >>> pages("one\ntwo three four", Room(10)), pages("abcdef", Room(4)), pages("", Room(4))
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
