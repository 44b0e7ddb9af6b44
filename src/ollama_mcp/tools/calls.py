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
from ollama_mcp.jobs.job import InputRequired, Job, Question, StillRunning
from ollama_mcp.jobs.progress import Send, Series, reported
from ollama_mcp.ollama.sanitize import sanitize_text
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.settings import Settings
from ollama_mcp.tools.caller import call_profile, caller_id, meta_of, wants_progress
from ollama_mcp.tools.elicitation import can_ask, elicit, resumed, take_answer
from ollama_mcp.tools.resource_uris import vectors_uri
from ollama_mcp.tools.results import REPLY, error_result, fits, page_of, render, text_page, text_result


def still_running_result(
    running: StillRunning, names: Mapping[str, str], required: Mapping[str, Any] | None
) -> CallToolResult:
    """A handle instead of an answer, and how far the answer is.

    Args:
        running: What goes on.
        names: The tools of the server: our names, and theirs there.
        required: What the tool's output schema requires, where it has one.
    """
    job = running.job
    way = f'Call {names["ollama_continue"]} with handle="{job.handle}" to get it'
    if cancel := names.get("ollama_cancel"):
        way += f", or {cancel} to stop it and free the model's place"
    first = f"STILL RUNNING: this is not the answer yet. {way}."
    result = text_result(f"{first}\n{job.summary()}", {REPLY: _data(job)})
    if required is not None:
        result.structured_content = {**required, "status": first, "handle": job.handle}
    return result


def _data(job: Job[Any]) -> dict[str, Any]:
    return {
        "handle": job.handle,
        "state": job.state.value,
        "model": job.model,
        job.unit: job.count,
        "position": job.queue_entry.position if job.queue_entry else None,
    }


@render.register
def partial_result(found: Unfinished) -> CallToolResult:
    """What was written of an answer, with why that is not all."""
    if found.failure is None:
        rest = f"which goes on ({found.summary}). Ask again without partial for all of it"
    else:
        rest = f"and there will be no more of it: {found.failure.code}: {found.failure.cause}"
    text = found.text or "(nothing yet)"
    return text_result(f"UNFINISHED: the text below is not the whole answer, {rest}.\n{text}")


page_of.register(Unfinished, partial(text_page, more=", partial=true"))


def cancel_result(found: Any) -> CallToolResult:
    """That an answer was stopped, or had ended before."""
    if not isinstance(found, Unfinished):
        return text_result("It had ended already, and its handle still has the whole answer.")
    if found.failure is None:
        return text_result(f"It is being stopped ({found.summary}).")
    kept = "What was written is kept: its handle and partial=true have it." if found.text else ""
    if not isinstance(found.failure, Cancelled):
        return text_result(f"It had ended already ({found.summary}): {found.failure.cause}. {kept}".rstrip())
    return text_result(f"Stopped ({found.summary}). {kept}".rstrip())


def resumable_error(error: OllamaError, continue_as: str) -> CallToolResult:
    """A failure; where something had been written that is kept, it says how to get that."""
    if error.handle and continue_as:
        error = copy.copy(error)  # it may be told again
        way = f'{continue_as} with handle="{error.handle}" and partial=true has what was written.'
        error.remedy = f"{way} {error.remedy}"
    return error_result(error)


T = TypeVar("T")

_LOOK_S = 0.5
FORM = "ollama-mcp/progress"
"""The `_meta` key by which one call chooses its form of progress: status or text."""


async def answered(
    app: App,
    work: Callable[[Job[T]], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    unit: str = "tok",
) -> T:
    """Begin a Job and wait for what comes of it; cancelling the call cancels the work.

    Args:
        app: Whose Job it is.
        work: As for `Jobs.start`.
        ctx: The call, for its progress; None where there is none.
        wait_s: Seconds after which the Job is left to itself. 0 is never, and nothing is kept: a call
            by Python code, which needs no handle. `math.inf` is never, too, for a client that does.
        unit: What the Job counts.

    Raises:
        OllamaError: The work failed.
        StillRunning: It has not ended in that time; it goes on, and its handle finds it.
    """
    job = app.jobs.start(work, unit, caller_id())
    try:
        return await watched(app, job, ctx, wait_s)
    except asyncio.CancelledError:
        await job.cancel()
        raise


async def confirmed(
    app: App,
    work: Callable[[Job[T], Confirmation | None], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    *,
    confirm: str,
    subject: str,
) -> T:
    """As `answered`, of work that may need a yes of the user: its Job asks, and goes on with the answer.

    A client with elicitation is always asked, and its user answers; there `confirm` does not count, since a
    model fills it. Any other has to send the model's exact name in `confirm`.

    Args:
        app: Whose Job it is.
        work: Does it with what was confirmed, or says by `NotConfirmed` what has to be.
        ctx: The call; None where a tool was called directly, whose caller confirms by `confirm`.
        wait_s: As of `answered`.
        confirm: The exact name of the model, from a caller that cannot be asked.
        subject: What is to be done to which model: an answer that comes with another call is for that.

    Raises:
        NotConfirmed: Nobody confirmed it, or something else than what is there now.
        InputRequired: The client has to ask its user, and to call again with the answer.
    """

    async def ask_and_go_on(job: Job[T]) -> T:
        try:
            return await work(job, None)
        except NotConfirmed as error:
            await job.ask(str(error.details["question"]))
            yes = Confirmation.of(error)
            job.notes.clear()  # they are told anew
        try:
            return await work(job, yes)
        except NotConfirmed as error:
            error.remedy = "Call again without confirm; the user is asked anew."
            raise

    if not can_ask(ctx):
        given = Confirmation(confirm) if confirm else None
        return await answered(app, lambda job: work(job, given), ctx, wait_s, "bytes")
    job = resumed(app, ctx, subject) or app.jobs.start(ask_and_go_on, "bytes", caller_id())
    job.may_ask, job.subject = True, subject
    try:
        return await watched(app, job, ctx, wait_s)
    except asyncio.CancelledError:
        await job.cancel()
        raise


async def watched(app: App, job: Job[T], ctx: Context[Any, Any] | None, wait_s: float) -> T:
    """Wait for a Job that may be somebody else's, too: cancelling the call does not cancel it.

    Args and failures are those of `answered`.
    """
    try:
        async with _reported(app, job, ctx):
            found = await _followed(app, job, ctx, wait_s if 0 < wait_s < math.inf else None)
    except InputRequired:
        if app.jobs.keep(job):
            raise
        await job.cancel()
        raise NotConfirmed("the user cannot be asked now: too much goes on", "Call again later.") from None
    except StillRunning:
        if app.jobs.keep(job):
            await _find_out(job)
            raise
        return await watched(app, job, ctx, math.inf)  # no room for one more handle: the call has to wait
    except OllamaError as error:
        if wait_s and error.partial_text and not error.is_last and app.jobs.keep(job):
            error.handle = job.handle
        raise
    if wait_s and hasattr(found, "handle") and not fits(found, call_profile(ctx).page(app.settings)):
        found.handle = job.handle if app.jobs.keep(job) else ""  # pyright: ignore[reportAttributeAccessIssue]
    if wait_s and isinstance(found, Vectors):
        return cast("T", _addressed(app, job, found, ctx))
    return found


async def _followed(app: App, job: Job[T], ctx: Context[Any, Any] | None, within: float | None) -> T:
    """Wait for the end; a question of the Job's is asked as the client can be asked.

    Raises:
        InputRequired: The client is asked by the result of the call, and calls again with the answer.
    """
    ends = None if within is None else time.monotonic() + within
    asks = job.may_ask and can_ask(ctx)
    if asks:
        take_answer(job, ctx)
    asked: Question | None = None
    while True:
        left = None if ends is None else max(ends - time.monotonic(), 0)
        try:
            return await job.wait(left, asks=asks)
        except InputRequired:
            if ctx is None or not ctx.session.can_send_request:
                raise
            if job.question is asked:  # a session that broke: another call may ask
                asks = False
                continue
            asked = job.question
            job.asked_by(app.jobs.spawn(elicit(ctx, job)))


async def _find_out(job: Job[Any]) -> None:
    """Find out where a Job is from which nothing has come yet; only progress has looked so far."""
    if job.first_at is None and job.look is not None:
        with suppress(OllamaError), anyio.move_on_after(_LOOK_S):
            await job.look()


def _addressed(app: App, job: Job[Any], found: Vectors, ctx: Context[Any, Any] | None) -> Vectors:
    """Vectors of which only the shape is told, with where the numbers are, if the server offers that."""
    uri = vectors_uri(ctx, app, job.handle) if found.shown == "summary" and found.vectors else ""
    is_kept = uri and app.jobs.has_room_for(found.size) and app.jobs.keep(job)
    return replace(found, uri=uri) if is_kept else found


def _reported(app: App, job: Job[Any], ctx: Context[Any, Any] | None) -> Any:
    meta = meta_of(ctx)
    send = _sender(ctx, meta)
    return reported(job, send, _form(meta, app.settings), _series(ctx) if send else None)


def _sender(ctx: Context[Any, Any] | None, meta: dict[str, Any]) -> Send | None:
    if ctx is None or not wants_progress(meta):
        return None

    async def send(value: float, total: float | None, message: str) -> None:
        await ctx.report_progress(value, total, sanitize_text(message))

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
