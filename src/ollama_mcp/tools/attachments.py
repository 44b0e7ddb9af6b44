"""Files and documents as arguments of a call: from which folders, and how they come before its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp_types import ListRootsRequest, ListRootsResult
from pydantic import ValidationError

from ollama_mcp.app import App
from ollama_mcp.errors import Forbidden, InvalidArgument
from ollama_mcp.services.files.read import attached, read_files
from ollama_mcp.services.specs import ChatSpec
from ollama_mcp.sources import Passage

_PATIENCE_S = 2.0
_MOST = 20
"""Folders of a client."""


async def with_files(
    app: App, spec: ChatSpec, files: Sequence[str], ctx: Context[Any, Any] | None
) -> ChatSpec:
    """The same ChatSpec with files before its prompt.

    Raises:
        OllamaError: As of `allowed_folders`, `read_files` and `attached`.
    """
    if not files:
        return spec
    limits = app.settings.limits
    return attached(spec, await read_files(files, await allowed_folders(app, ctx), limits), limits)


async def passages_of_files(app: App, files: Sequence[str], ctx: Context[Any, Any] | None) -> list[Passage]:
    """Return the texts of files as passages.

    Raises:
        InvalidArgument: A file is an image.
        OllamaError: As of `allowed_folders` and `read_files`.
    """
    if not files:
        return []
    contents = await read_files(files, await allowed_folders(app, ctx), app.settings.limits)
    if images := [content.name for content in contents if content.image]:
        raise InvalidArgument(f"{images[0]} is an image", "Name files of text.")
    return [Passage(content.text, "files", content.name) for content in contents]


async def allowed_folders(app: App, ctx: Context[Any, Any] | None) -> tuple[Path, ...]:
    """The folders whose files this caller may have read: the operator's, and those of a client on stdio.

    Raises:
        Forbidden: There is none.
    """
    settings = app.settings
    folders = (*settings.roots, *(await client_folders(ctx) if settings.client_roots else ()))
    if not folders:
        raise Forbidden(
            "files of this machine are not read here",
            "Send their content, or have the operator name folders in OLLAMA_MCP_ROOTS.",
        )
    return folders


async def client_folders(ctx: Context[Any, Any] | None) -> list[Path]:
    """The folders that a client names as its roots, where it is on this machine and can be asked.

    Not over HTTP, where they would be another machine's; not in the protocol of 2026, which asks no more.
    """
    if ctx is None or not _can_ask(ctx):
        return []
    with anyio.move_on_after(_PATIENCE_S):
        try:
            answer = await ctx.session.send_request(ListRootsRequest(), ListRootsResult)
        except (MCPError, ValidationError):
            return []
        return [folder for root in answer.roots[:_MOST] if (folder := _folder(str(root.uri))) is not None]
    return []


def _can_ask(ctx: Context[Any, Any]) -> bool:
    try:
        is_http = ctx.request_context.request is not None
        capabilities = ctx.client_capabilities
    except ValueError:
        return False
    has_roots = capabilities is not None and capabilities.roots is not None
    return has_roots and not is_http and ctx.session.can_send_request


def _folder(uri: str) -> Path | None:
    """The folder of a file URI of this machine.

    >>> _folder("https://example.com/x"), _folder("file://other/x"), _folder("file:x")
    (None, None, None)
    """
    found = urlsplit(uri)
    if found.scheme != "file" or found.netloc not in {"", "localhost"}:
        return None
    path = Path(url2pathname(found.path))
    return path if path.is_absolute() and "\0" not in str(path) else None


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
