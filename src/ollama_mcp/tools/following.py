"""Waiting for a Reply inside a tool call, with progress for callers that asked for it."""

from __future__ import annotations

from typing import Any, TypeVar

from mcp.server.mcpserver import Context

from ollama_mcp.plain import clean_text
from ollama_mcp.replies.progress import Send, reported
from ollama_mcp.replies.reply import Reply
from ollama_mcp.settings import Settings

T = TypeVar("T")

FORM = "ollama-mcp/progress"
"""The `_meta` key by which one call chooses its form of progress: status or text."""


async def follow(reply: Reply[T], ctx: Context | None, settings: Settings) -> T:
    """Wait for the result; cancelling the call cancels the work.

    Raises:
        OllamaError: The work failed.
    """
    meta = _meta(ctx)
    async with reported(reply, _sender(ctx, meta), _form(meta, settings)):
        return await reply.result()


def _meta(ctx: Context | None) -> dict[str, Any]:
    """The `_meta` of the request; {} where the tool was called directly."""
    if ctx is None:
        return {}
    try:
        return dict(ctx.request_context.meta or {})
    except ValueError:
        return {}


def _sender(ctx: Context | None, meta: dict[str, Any]) -> Send | None:
    if ctx is None or meta.get("progress_token") is None:
        return None

    async def send(value: float, total: float | None, message: str) -> None:
        await ctx.report_progress(value, total, clean_text(message))

    return send


def _form(meta: dict[str, Any], settings: Settings) -> str:
    wanted = meta.get(FORM)
    return wanted if wanted in ("status", "text") else settings.progress
