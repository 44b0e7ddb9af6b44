"""Waiting for a Reply inside a tool call, with progress for callers that asked for it."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

from mcp.server.mcpserver import Context

from ollama_mcp.plain import clean_text
from ollama_mcp.replies.progress import STEP, Send, reported
from ollama_mcp.replies.reply import Reply
from ollama_mcp.settings import Settings

T = TypeVar("T")

FORM = "ollama-mcp/progress"
"""The `_meta` key by which one call chooses its form of progress: status or text."""


async def follow(reply: Reply[T], ctx: Context[Any, Any] | None, settings: Settings) -> T:
    """Wait for the result; cancelling the call cancels the work.

    Raises:
        OllamaError: The work failed.
    """
    meta = _meta(ctx)
    async with reported(reply, _sender(ctx, meta), _form(meta, settings)):
        return await reply.result()


def _meta(ctx: Context[Any, Any] | None) -> dict[str, Any]:
    """The `_meta` of the request; {} where the tool was called directly."""
    if ctx is None:
        return {}
    try:
        return dict(ctx.request_context.meta or {})
    except ValueError:
        return {}


def _sender(ctx: Context[Any, Any] | None, meta: dict[str, Any]) -> Send | None:
    # As mcp spells it in Python, or as the wire does, which other frameworks hand on.
    if ctx is None or (meta.get("progress_token") is None and meta.get("progressToken") is None):
        return None
    furthest = _furthest(ctx.request_context)

    async def send(value: float, total: float | None, message: str) -> None:
        value = furthest.next(value)
        honest = total if total is not None and total >= value else None
        await ctx.report_progress(value, honest, clean_text(message))

    return send


class _Furthest:
    """The progress of one request so far, which may have several Replies after or beside one another."""

    def __init__(self) -> None:
        self._value = 0.0

    def next(self, value: float) -> float:
        """The value to send: `value`, but always more than the last one."""
        self._value = max(self._value + STEP, value)
        return self._value


_requests: dict[int, _Furthest] = {}
"""By the request's identity: it has no hash."""


def _furthest(request: object) -> _Furthest:
    key = id(request)
    if key not in _requests:
        _requests[key] = _Furthest()
        weakref.finalize(request, _requests.pop, key)
    return _requests[key]


def _form(meta: dict[str, Any], settings: Settings) -> str:
    wanted = meta.get(FORM)
    return wanted if wanted in ("status", "text") else settings.progress
