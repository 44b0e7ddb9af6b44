"""Waiting for a Reply inside a tool call: its clock, its progress, and what becomes of it afterwards."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar, cast

import anyio
from mcp.server.mcpserver import Context

from ollama_mcp.app import App
from ollama_mcp.errors import OllamaError
from ollama_mcp.files.mapping import Mapped
from ollama_mcp.plain import clean_text
from ollama_mcp.replies import Reply, StillRunning
from ollama_mcp.replies.answer import Answer, Vectors
from ollama_mcp.replies.comparing import Comparison
from ollama_mcp.replies.progress import STEP, Send, reported
from ollama_mcp.settings import Settings
from ollama_mcp.tools.addresses import vectors_uri
from ollama_mcp.tools.caller import caller_of, meta_of, principal, wants_progress
from ollama_mcp.tools.clients import Room
from ollama_mcp.tools.compared import compared_text
from ollama_mcp.tools.mapped import row_pages
from ollama_mcp.tools.results import text_of

T = TypeVar("T")

_LOOK_S = 0.5
FORM = "ollama-mcp/progress"
"""The `_meta` key by which one call chooses its form of progress: status or text."""


async def answered(
    app: App,
    work: Callable[[Reply[T]], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    unit: str = "tok",
) -> T:
    """Begin a Reply and wait for what comes of it; cancelling the call cancels the work.

    Args:
        app: Whose Reply it is.
        work: As for `Replies.start`.
        ctx: The call, for its progress; None where there is none.
        wait_s: Seconds after which the Reply is left to itself. 0 is never, and nothing is kept: a call
            by Python code, which needs no handle. `math.inf` is never, too, for a client that does.
        unit: What the Reply counts.

    Raises:
        OllamaError: The work failed.
        StillRunning: It has not ended in that time; it goes on, and its handle finds it.
    """
    reply = app.replies.start(work, unit, principal())
    try:
        return await watched(app, reply, ctx, wait_s)
    except asyncio.CancelledError:
        await reply.cancel()
        raise


async def watched(app: App, reply: Reply[T], ctx: Context[Any, Any] | None, wait_s: float) -> T:
    """Wait for a Reply that may be somebody else's, too: cancelling the call does not cancel it.

    Args and failures are those of `answered`.
    """
    try:
        async with _reported(app, reply, ctx):
            found = await reply.wait(wait_s if 0 < wait_s < math.inf else None)
    except StillRunning:
        if app.replies.keep(reply):
            await _find_out(reply)
            raise
        return await watched(app, reply, ctx, math.inf)  # no room for one more handle: the call has to wait
    except OllamaError as error:
        if wait_s and error.partial_text and not error.is_last and app.replies.keep(reply):
            error.handle = reply.handle
        raise
    has_pages = isinstance(found, _PAGED) and not _fits(found, caller_of(ctx).page(app.settings))
    if wait_s and isinstance(found, _PAGED) and has_pages:
        found.handle = reply.handle if app.replies.keep(reply) else ""
    if wait_s and isinstance(found, Vectors):
        return cast("T", _addressed(app, reply, found, ctx))
    return found


_PAGED = (Answer, Mapped, Comparison)


def _fits(found: Answer | Mapped | Comparison, page: Room) -> bool:
    if isinstance(found, Mapped):
        return len(row_pages(found, page)) == 1
    return page.holds(text_of(found) if isinstance(found, Answer) else compared_text(found))


async def _find_out(reply: Reply[Any]) -> None:
    """Find out where a Reply is from which nothing has come yet; only progress has looked so far."""
    if reply.first_at is None and reply.look is not None:
        with suppress(OllamaError), anyio.move_on_after(_LOOK_S):
            await reply.look()


def _addressed(app: App, reply: Reply[Any], found: Vectors, ctx: Context[Any, Any] | None) -> Vectors:
    """Vectors of which only the shape is told, with where the numbers are, if the server offers that."""
    uri = vectors_uri(ctx, app, reply.handle) if found.shown == "summary" and found.vectors else ""
    is_kept = uri and app.replies.has_room_for(found.size) and app.replies.keep(reply)
    return replace(found, uri=uri) if is_kept else found


def _reported(app: App, reply: Reply[Any], ctx: Context[Any, Any] | None) -> Any:
    meta = meta_of(ctx)
    return reported(reply, _sender(ctx, meta), _form(meta, app.settings))


def _sender(ctx: Context[Any, Any] | None, meta: dict[str, Any]) -> Send | None:
    if ctx is None or not wants_progress(meta):
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


_request: ContextVar[tuple[object, _Furthest] | None] = ContextVar("_request", default=None)
"""The request that is being answered in this context, and its progress."""


def _furthest(request: object) -> _Furthest:
    known = _request.get()
    if known is not None and known[0] is request:
        return known[1]
    furthest = _Furthest()
    _request.set((request, furthest))
    return furthest


def _form(meta: dict[str, Any], settings: Settings) -> str:
    wanted = meta.get(FORM)
    return wanted if wanted in ("status", "text") else settings.progress
