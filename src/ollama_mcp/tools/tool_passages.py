"""Results of other tools as passages: text, JSON rows, embedded resources, links."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from mcp_types import CallToolResult, EmbeddedResource, ResourceLink, TextContent, TextResourceContents

from ollama_mcp.sources import Passage, SourceError

_ROWS = (
    "results", "documents", "passages", "items", "hits", "chunks", "matches", "result", "data", "content",
)  # fmt: skip
_TEXTS = (
    "text", "content", "passage", "snippet", "page_content", "body", "chunk", "summary", "description",
    "value",
)  # fmt: skip
_TITLES = ("title", "name", "heading", "file", "path", "source")
_ADDRESSES = ("uri", "url", "link", "href", "source", "path", "id")
"""Keys under which servers put rows, and what a row has, by their habits; the likelier first."""
_MOST = 200
"""Passages of one result."""
_LONGEST = 1_000_000
"""Characters of one result, about 250,000 tokens; what follows is left out."""


def passages_of(result: CallToolResult, source: str, name: str = "") -> list[Passage]:
    """Return what a tool gave.

    Rows of structured content that have titles or addresses win over the text, which mostly says the same.
    Images are left out, and links are not followed: their description is the passage.

    Args:
        result: Result of the call.
        source: Name of the tool.
        name: Name on its server, where that is another one.

    Raises:
        SourceError: The call failed; the text is the tool's own.
    """
    blocks = [passage for block in result.content for passage in _of_block(block, source)]
    if result.is_error:
        crashed = f"Error executing tool {name or source}"  # the SDK's words; behind a colon the tool's own
        said = " ".join(passage.text for passage in blocks).removeprefix(crashed).removeprefix(": ")
        raise SourceError(said[:400] or "it does not say why")
    rows = list(_of_value(result.structured_content, source)) if result.structured_content else []
    chosen = rows if _say_more(rows) or not blocks else blocks
    texts = [passage for passage in chosen if passage.text.strip()]
    passages: list[Passage] = []
    room = _LONGEST
    for passage in texts[:_MOST]:
        if room > 0:
            passages.append(replace(passage, text=passage.text[:room]))
            room -= len(passage.text)
    return passages


def _say_more(rows: Sequence[Passage]) -> bool:
    """Return whether rows say more than the result's text: they are several, or have titles or addresses."""
    return len(rows) > 1 or any(row.title or row.uri for row in rows)


def _of_block(block: Any, source: str) -> Iterator[Passage]:
    if isinstance(block, TextContent):
        rows: list[Passage] = []
        if block.text.lstrip()[:1] in ("[", "{") and len(block.text) <= _LONGEST:
            try:
                rows = list(_of_value(json.loads(block.text), source))
            except (ValueError, RecursionError):
                rows = []
        yield from rows if _say_more(rows) else [Passage(block.text, source)]
    elif isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
        yield Passage(block.resource.text, source, uri=str(block.resource.uri))
    elif isinstance(block, ResourceLink):
        title = block.title or block.name
        yield Passage(": ".join(filter(None, [title, block.description])), source, title, str(block.uri))


def _of_value(value: Any, source: str) -> Iterator[Passage]:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        rows = next((table[name] for name in _ROWS if isinstance(table.get(name), list)), None)
        if rows is None and set(table) == {"result"}:
            rows = [table["result"]]
        value = [table] if rows is None else rows
    for row in cast("list[Any]", value) if isinstance(value, list) else [value]:
        if isinstance(row, str):
            yield Passage(row, source)
        elif isinstance(row, Mapping):
            cells = cast("Mapping[str, Any]", row)
            text = _first(cells, _TEXTS)
            written = json.dumps(dict(cells), ensure_ascii=False, default=str) if text is None else text
            yield Passage(written, source, _first(cells, _TITLES) or "", _first(cells, _ADDRESSES) or "")
        elif row is not None:
            yield Passage(json.dumps(row, ensure_ascii=False, default=str), source)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)
