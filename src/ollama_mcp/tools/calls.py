"""One call of a tool: its job, its progress, its deadline, and what it returns when that passes."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import anyio
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult

from ollama_mcp.app import App
from ollama_mcp.errors import Cancelled, NotConfirmed, OllamaError
from ollama_mcp.jobs.answers import Unfinished, Vectors
from ollama_mcp.jobs.job import InputRequired, Question, Reply, StillRunning
from ollama_mcp.jobs.progress import Send, Series, reported
from ollama_mcp.ollama.sanitize import clean_text
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.settings import Settings
from ollama_mcp.tools.caller import caller_of, meta_of, principal, wants_progress
from ollama_mcp.tools.elicitation import can_ask, elicit, resumed, take_answer
from ollama_mcp.tools.resource_uris import vectors_uri
from ollama_mcp.tools.results import REPLY, failure, fits, page_of, render, said, text_page


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


@render.register
def unfinished(found: Unfinished) -> CallToolResult:
    """What was written of an answer, with why that is not all."""
    if found.failure is None:
        rest = f"which goes on ({found.summary}). Ask again without partial for all of it"
    else:
        rest = f"and there will be no more of it: {found.failure.code}: {found.failure.cause}"
    text = found.text or "(nothing yet)"
    return said(f"UNFINISHED: the text below is not the whole answer, {rest}.\n{text}")


page_of.register(Unfinished, partial(text_page, more=", partial=true"))


def stopped(found: Any) -> CallToolResult:
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


async def confirmed(
    app: App,
    work: Callable[[Reply[T], Confirmation | None], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    *,
    confirm: str,
    subject: str,
) -> T:
    """As `answered`, of work that may need a yes of the user: its Reply asks, and goes on with the answer.

    A client with elicitation is always asked, and its user answers; there `confirm` does not count, since a
    model fills it. Any other has to send the model's exact name in `confirm`.

    Args:
        app: Whose Reply it is.
        work: Does it with what was confirmed, or says by `NotConfirmed` what has to be.
        ctx: The call; None where a tool was called directly, whose caller confirms by `confirm`.
        wait_s: As of `answered`.
        confirm: The exact name of the model, from a caller that cannot be asked.
        subject: What is to be done to which model: an answer that comes with another call is for that.

    Raises:
        NotConfirmed: Nobody confirmed it, or something else than what is there now.
        InputRequired: The client has to ask its user, and to call again with the answer.
    """

    async def ask_and_go_on(reply: Reply[T]) -> T:
        try:
            return await work(reply, None)
        except NotConfirmed as error:
            await reply.ask(str(error.details["question"]))
            yes = Confirmation.of(error)
            reply.notes.clear()  # they are told anew
        try:
            return await work(reply, yes)
        except NotConfirmed as error:
            error.remedy = "Call again without confirm; the user is asked anew."
            raise

    if not can_ask(ctx):
        given = Confirmation(confirm) if confirm else None
        return await answered(app, lambda reply: work(reply, given), ctx, wait_s, "bytes")
    reply = resumed(app, ctx, subject) or app.replies.start(ask_and_go_on, "bytes", principal())
    reply.may_ask, reply.subject = True, subject
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
            found = await _followed(app, reply, ctx, wait_s if 0 < wait_s < math.inf else None)
    except InputRequired:
        if app.replies.keep(reply):
            raise
        await reply.cancel()
        raise NotConfirmed("the user cannot be asked now: too much goes on", "Call again later.") from None
    except StillRunning:
        if app.replies.keep(reply):
            await _find_out(reply)
            raise
        return await watched(app, reply, ctx, math.inf)  # no room for one more handle: the call has to wait
    except OllamaError as error:
        if wait_s and error.partial_text and not error.is_last and app.replies.keep(reply):
            error.handle = reply.handle
        raise
    if wait_s and hasattr(found, "handle") and not fits(found, caller_of(ctx).page(app.settings)):
        found.handle = reply.handle if app.replies.keep(reply) else ""  # pyright: ignore[reportAttributeAccessIssue]
    if wait_s and isinstance(found, Vectors):
        return cast("T", _addressed(app, reply, found, ctx))
    return found


async def _followed(app: App, reply: Reply[T], ctx: Context[Any, Any] | None, within: float | None) -> T:
    """Wait for the end; a question of the Reply's is asked as the client can be asked.

    Raises:
        InputRequired: The client is asked by the result of the call, and calls again with the answer.
    """
    ends = None if within is None else time.monotonic() + within
    asks = reply.may_ask and can_ask(ctx)
    if asks:
        take_answer(reply, ctx)
    asked: Question | None = None
    while True:
        left = None if ends is None else max(ends - time.monotonic(), 0)
        try:
            return await reply.wait(left, asks=asks)
        except InputRequired:
            if ctx is None or not ctx.session.can_send_request:
                raise
            if reply.question is asked:  # a session that broke: another call may ask
                asks = False
                continue
            asked = reply.question
            reply.asked_by(app.replies.spawn(elicit(ctx, reply)))


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
    send = _sender(ctx, meta)
    return reported(reply, send, _form(meta, app.settings), _series(ctx) if send else None)


def _sender(ctx: Context[Any, Any] | None, meta: dict[str, Any]) -> Send | None:
    if ctx is None or not wants_progress(meta):
        return None

    async def send(value: float, total: float | None, message: str) -> None:
        await ctx.report_progress(value, total, clean_text(message))

    return send


_request: ContextVar[tuple[object, Series] | None] = ContextVar("_request", default=None)
"""The request that is being answered in this context, and its progress."""


def _series(ctx: Context[Any, Any] | None) -> Series | None:
    if ctx is None:
        return None
    request, known = ctx.request_context, _request.get()
    if known is None or known[0] is not request:
        known = request, Series()
        _request.set(known)
    return known[1]


def _form(meta: dict[str, Any], settings: Settings) -> str:
    wanted = meta.get(FORM)
    return wanted if wanted in ("status", "text") else settings.progress
