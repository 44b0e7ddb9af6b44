"""Rendering: what a Reply ended as becomes an MCP result, whole or in pages, by its type.

A new kind of result registers its own functions beside its renderer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

from mcp_types import CallToolResult, TextContent

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.sanitize import clean_text
from ollama_mcp.tools.clients import Room

REPLY = "ollama-mcp/reply"


@singledispatch
def render(found: Any) -> CallToolResult:
    """All of a result."""
    raise TypeError(f"no renderer is registered for a {type(found).__name__}")


@singledispatch
def fits(found: Any, page: Room) -> bool:
    """Whether a page holds all of a result; one that has no pages is always whole."""
    return True


@singledispatch
def page_of(
    found: Any,
    whole: Callable[[], CallToolResult],
    number: int,
    page: Room,
    continue_as: str,
) -> CallToolResult:
    """The page of a result that a call asked for; the arguments are those of `text_page`."""
    return whole()


def text_page(
    found: Any,
    whole: Callable[[], CallToolResult],
    number: int,
    page: Room,
    continue_as: str,
    *,
    more: str = "",
    repeats: bool = False,
) -> CallToolResult:
    """One page of a long text instead of all of it, where a handle finds it again.

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
    result.content = [TextContent(type="text", text=clean_text(f"{head}\n{cut[number - 1]}"))]
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
