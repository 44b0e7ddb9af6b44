"""Passages of a text: pieces that can be embedded, ranked and cited, cut where a reader would cut.

Markdown is cut at its headings first, and a passage has them as its title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ollama_mcp.sources import Passage
from ollama_mcp.stores.collection_store import NewPassage

PIECE = 1000
"""Characters of a passage at most: about 250 tokens, which every embedding model takes."""
_BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?])\s+"), re.compile(r"\s+"))
"""Places to cut at, the best first: paragraphs, lines, sentences, words."""


def split_text(text: str, size: int = PIECE) -> list[str]:
    """Return a text in pieces of at most `size` characters, cut at paragraphs, else lines, sentences, words.

    >>> split_text("One two. Three four.", 10), split_text("short"), split_text("abcdef", 4)
    (['One two.', 'Three', 'four.'], ['short'], ['abcd', 'ef'])
    """
    return [text[start:end].strip() for start, end in _spans(text, 0, len(text), size)]


def _spans(text: str, start: int, end: int, size: int) -> list[tuple[int, int]]:
    """Return where the pieces of a part of a text begin and end; none is blank."""
    spans: list[tuple[int, int]] = []
    for begin, stop in _pieces(text, start, end, size, 0):
        if spans and stop - spans[-1][0] <= size:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((begin, stop))
    return [span for span in spans if text[span[0] : span[1]].strip()]


def _pieces(text: str, start: int, end: int, size: int, level: int) -> Iterator[tuple[int, int]]:
    if end - start <= size:
        yield start, end
        return
    if level == len(_BREAKS):
        yield from ((at, min(at + size, end)) for at in range(start, end, size))
        return
    at = start
    for found in _BREAKS[level].finditer(text, start, end):
        yield from _pieces(text, at, found.end(), size, level + 1)
        at = found.end()
    if at < end:
        yield from _pieces(text, at, end, size, level + 1)


def split_passages(passages: Sequence[Passage]) -> list[Passage]:
    """Return passages in pieces that can be ranked, each text once."""
    pieces = [replace(passage, text=text) for passage in passages for text in split_text(passage.text)]
    first: dict[str, Passage] = {}
    for piece in pieces:
        first.setdefault(piece.text, piece)
    return list(first.values())


_HEADING = re.compile(r"^(#{1,6})[ \t]+(\S.*)$|^(```|~~~)", re.MULTILINE)
"""A heading of Markdown, or the fence of a block of code, in which a # is none.

It is matched in linear time: a line of a million # would else hold the interpreter for hours.
"""
_TITLE = 200
"""Characters of a passage's title: each passage below a heading has it once more."""
_WITH_HEADINGS = (".md", ".markdown", ".mdx", ".txt", ".html", ".htm")


def split_document(name: str, text: str, size: int = PIECE) -> list[NewPassage]:
    r"""Return the passages of a document, with their headings and lines.

    Args:
        name: Name of the file, or title of the text.
        text: Its text.
        size: Characters of a passage at most.

    >>> split_document("tea.md", "# Tea\n\n## Green\n\nSteep it.")
    [NewPassage(title='Tea › Green', text='## Green\n\nSteep it.', line=3)]
    """
    is_markdown = name.lower().endswith(_WITH_HEADINGS) or "." not in name
    sections = list(_sections(text)) if is_markdown else [((), 0, len(text))]
    passages: list[NewPassage] = []
    line, at = 1, 0
    for headings, start, end in sections:
        for begin, stop in _spans(text, start, end, size):
            piece = text[begin:stop]
            begin += len(piece) - len(piece.lstrip())  # noqa: PLW2901
            line, at = line + text.count("\n", at, begin), begin
            title = " › ".join(headings) or name
            passages.append(NewPassage(title[:_TITLE], piece.strip(), line))
    return passages


def _sections(text: str) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Yield the headings above each part of a Markdown text, and where the part begins and ends.

    A heading with nothing below it but another heading is no part of its own.
    """
    headings: list[tuple[int, str]] = []
    start, in_code = 0, False
    for found in _HEADING.finditer(text):
        if found[3]:
            in_code = not in_code
        if in_code or found[3]:
            continue
        if _HEADING.sub("", text[start : found.start()]).strip():
            yield tuple(title for _, title in headings), start, found.start()
        start = found.start()
        level = len(found[1])
        title = found[2][:_TITLE].rstrip(" \t#") or "#"
        headings = [*(one for one in headings if one[0] < level), (level, title)]
    if _HEADING.sub("", text[start:]).strip() or not headings:
        yield tuple(title for _, title in headings), start, len(text)
