"""Files and documents as arguments of a call: from which folders, and how they come before its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ollama_mcp.app import App
from ollama_mcp.errors import Forbidden, InvalidArgument
from ollama_mcp.services.files.read import attached, read_files
from ollama_mcp.services.specs import ChatSpec
from ollama_mcp.sources import Passage


async def with_files(app: App, spec: ChatSpec, files: Sequence[str]) -> ChatSpec:
    """The same ChatSpec with files before its prompt.

    Raises:
        OllamaError: As of `allowed_folders`, `read_files` and `attached`.
    """
    if not files:
        return spec
    limits = app.settings.limits
    return attached(spec, await read_files(files, allowed_folders(app), limits), limits)


async def passages_of_files(app: App, files: Sequence[str]) -> list[Passage]:
    """Return the texts of files as passages.

    Raises:
        InvalidArgument: A file is an image.
        OllamaError: As of `allowed_folders` and `read_files`.
    """
    if not files:
        return []
    contents = await read_files(files, allowed_folders(app), app.settings.limits)
    if images := [content.name for content in contents if content.image]:
        raise InvalidArgument(f"{images[0]} is an image", "Name files of text.")
    return [Passage(content.text, "files", content.name) for content in contents]


def allowed_folders(app: App) -> tuple[Path, ...]:
    """Return the folders whose files callers may have read.

    Raises:
        Forbidden: There is none.
    """
    if not app.settings.roots:
        raise Forbidden(
            "files of this machine are not read here",
            "Send their content, or have the operator name folders in OLLAMA_MCP_ROOTS.",
        )
    return app.settings.roots


def document_of(number: int, raw: Any, title: str = "") -> Passage:
    """Read a document: a text, or an object with text, title and address.

    Args:
        number: Place among the documents, from 1.
        raw: Document as the caller sent it.
        title: Title where it has none.

    Raises:
        InvalidArgument: It is neither.
    """
    if isinstance(raw, str):
        return Passage(raw, "documents", title)
    if isinstance(raw, Mapping):
        fields = cast("Mapping[str, Any]", raw)
        text, own, uri = (fields.get(name, "") for name in ("text", "title", "uri"))
        if isinstance(text, str) and text and isinstance(own, str) and isinstance(uri, str):
            return Passage(text, "documents", own or title, uri)
    raise InvalidArgument(
        f"documents[{number - 1}] is neither a text nor an object with one",
        'Send "text", or {"text": "…", "title": "…", "uri": "…"}.',
    )
