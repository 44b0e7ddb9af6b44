"""Documents of files, to be indexed: text, Markdown and code as they are, PDF and HTML as their text."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_mcp.errors import InvalidArgument, TooLarge
from ollama_mcp.ollama.sanitize import sanitize_text, strip_invisible
from ollama_mcp.services.collections import stamp_of
from ollama_mcp.services.file_access import Place, open_place, printable
from ollama_mcp.services.files.read import decode_text, read_bytes
from ollama_mcp.settings.limits import MIB, Limits, shown_size
from ollama_mcp.stores.collection_store import Document

_LARGEST = 64 * MIB
"""Bytes of a PDF or of a page of HTML, most of which is no text."""
_MOST_MARKS = 500_000
"""Marks of a page of HTML, each of which takes a kilobyte of memory: a page of the longest book has fewer."""
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_BLOCKS = {"p", "div", "li", "tr", "td", "th", "pre", "section", "article", "table", "br", *_HEADINGS}
"""Elements of HTML that begin a line."""
_UNSEEN = {"script", "style", "template", "noscript", "head"}


@dataclass(frozen=True)
class FileDocument:
    """A file as a document: what is known of it, its text, and its bytes."""

    document: Document
    text: str
    size: int


def read_document(
    place: Place, pattern: str, known: Document | None, roots: Sequence[Path], limits: Limits
) -> FileDocument | None:
    """Read a file; None if it is as it was. Blocks: call it in a thread.

    Args:
        place: Place of the file.
        pattern: Pattern by which it was found.
        known: Document as it was indexed; None for a new one.
        roots: Allowed folders.
        limits: Limits of its size.

    Raises:
        Forbidden: It is in none of the folders.
        InvalidArgument: It is no text, or needs an extra that is not installed.
        TooLarge: It is too large.
        StorageError: It cannot be read.
    """
    name = " ".join(strip_invisible(place.shown)[0].split())
    if sanitize_text(str(place.path)) != str(place.path):
        raise InvalidArgument(
            f"{printable(place.path.name)} has a path that is not in UTF-8", "Give it another name."
        )
    with open_place(place, roots) as file:
        found = os.fstat(file.fileno())
        stamp = stamp_of(found)
        if known is not None and known.stamp == stamp and known.pattern == pattern:
            return None
        suffix = place.path.suffix.lower()
        extract = {".pdf": _pdf_text, ".html": _html_text, ".htm": _html_text}.get(suffix)
        if not found.st_size:
            data, text = b"", ""
        elif extract is None:
            data = read_bytes(file, printable(place.path.name), limits)
            text = decode_text(data, printable(place.path.name))
        else:
            if found.st_size > _LARGEST:
                raise TooLarge(
                    f"{printable(place.path.name)} has {shown_size(found.st_size)}; the limit is "
                    f"{shown_size(_LARGEST)}",
                    "Name smaller files.",
                )
            data = file.read()
            text = extract(data, printable(place.path.name))
    document = Document(
        id=str(place.path), name=name, hash=hashlib.sha256(data).hexdigest(), pattern=pattern, stamp=stamp
    )
    return FileDocument(document, text, found.st_size)


def _pdf_text(data: bytes, name: str) -> str:
    try:
        from pypdf import PdfReader  # noqa: PLC0415 - the extra `ingest`
    except ImportError:
        raise _needs_extra(name, "PDF") from None
    size = 0
    pages: list[str] = []
    try:
        for page in PdfReader(io.BytesIO(data)).pages:
            pages.append(page.extract_text())
            size += len(pages[-1])
            if size > _LARGEST:
                break
    except Exception:  # noqa: BLE001 - whatever a parser raises of a file that is meant to break it
        raise InvalidArgument(f"{name} cannot be read as PDF", "Name another file.") from None
    if size > _LARGEST:  # any number of pages can name the same content
        raise TooLarge(f"{name} has more than {shown_size(_LARGEST)} of text", "Name smaller files.")
    text = "\n\n".join(pages)
    if not text.strip():
        raise InvalidArgument(
            f"{name} has pictures of pages and no text", "Run text recognition on it first."
        )
    return text


def _html_text(data: bytes, name: str) -> str:
    """Return the text of a page in one walk over it: inserting marks takes minutes where tags nest deeply."""
    try:
        from bs4 import BeautifulSoup, Tag  # noqa: PLC0415 - the extra `ingest`
        from bs4.element import PreformattedString  # noqa: PLC0415
    except ImportError:
        raise _needs_extra(name, "HTML") from None
    if data.count(b"<") > _MOST_MARKS:
        raise TooLarge(f"{name} has more than {_MOST_MARKS} marks of HTML", "Name smaller files.")
    try:
        page = BeautifulSoup(data, "html.parser")
    except Exception:  # noqa: BLE001 - whatever a parser raises of a page that is meant to break it
        raise InvalidArgument(f"{name} cannot be read as HTML", "Name another file.") from None
    pieces: list[str] = []
    blocks: dict[int, object] = {id(page): page}
    last: object = page
    for node in page.descendants:
        block = blocks[id(node.parent)]  # None: unseen
        if isinstance(node, Tag):
            if block is not None and node.name in _UNSEEN:
                block = None
            elif block is not None and node.name in _BLOCKS:
                block = node
                # As in Markdown, so that passages get headings as titles.
                pieces.append("\n" + (f"{'#' * level} " if (level := _HEADINGS.get(node.name)) else ""))
                last = node
            blocks[id(node)] = block
        elif block is not None and not isinstance(node, PreformattedString):  # a comment, a declaration
            if block is not last:
                pieces.append("\n")
                last = block
            pieces.append(str(node))
    return "".join(pieces)


def _needs_extra(name: str, kind: str) -> InvalidArgument:
    return InvalidArgument(
        f"{name} is {kind}, which cannot be read here", 'Have the operator install "ollama-mcp[ingest]".'
    )
