"""Calls of tools: the job of a call, its progress, its deadline, and the result when that passes."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, suppress
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
from ollama_mcp.jobs.job import InputRequired, Job, StillRunning
from ollama_mcp.jobs.progress import Series, report_progress
from ollama_mcp.ollama.sanitize import sanitize_text
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.tools.caller import call_profile, caller_id, meta_of, wants_progress
from ollama_mcp.tools.elicitation import can_ask, elicit, resumed, take_answers
from ollama_mcp.tools.resource_uris import vectors_uri
from ollama_mcp.tools.results import REPLY, error_result, fits, page_of, render, text_page, text_result


def still_running_result(
    running: StillRunning, names: Mapping[str, str], required: Mapping[str, Any] | None
) -> CallToolResult:
    """Return a handle instead of an answer, with the state of the job.

    Args:
        running: The job that goes on.
        names: The tools of the server: our names, and theirs there.
        required: Values that the tool's output schema requires, where it has one.
    """
    job = running.job
    way = f'Call {names["ollama_continue"]} with handle="{job.handle}" to get it'
    if cancel := names.get("ollama_cancel"):
        way += f", or {cancel} to stop it and free the model's place"
    first = f"STILL RUNNING: this is not the answer yet. {way}."
    data = {
        "handle": job.handle,
        "state": job.state.value,
        "model": job.model,
        job.unit: job.count,
        "position": job.queue_entry.position if job.queue_entry else None,
    }
    result = text_result(f"{first}\n{job.summary()}", {REPLY: data})
    if required is not None:
        result.structured_content = {**required, "status": first, "handle": job.handle}
    return result


@render.register
def partial_result(found: Unfinished) -> CallToolResult:
    """Return the unfinished text of an answer, with the reason why it is not all."""
    if found.failure is None:
        rest = f"which goes on ({found.summary}). Ask again without partial for all of it"
    else:
        rest = f"and there will be no more of it: {found.failure.code}: {found.failure.cause}"
    text = found.text or "(nothing yet)"
    return text_result(f"UNFINISHED: the text below is not the whole answer, {rest}.\n{text}")


page_of.register(Unfinished, partial(text_page, more=", partial=true"))


def cancel_result(found: Any) -> CallToolResult:
    """Say that an answer was stopped, or had ended before."""
    if not isinstance(found, Unfinished):
        return text_result("It had ended already, and its handle still has the whole answer.")
    if found.failure is None:
        return text_result(f"It is being stopped ({found.summary}).")
    kept = "What was written is kept: its handle and partial=true have it." if found.text else ""
    if not isinstance(found.failure, Cancelled):
        return text_result(f"It had ended already ({found.summary}): {found.failure.cause}. {kept}".rstrip())
    return text_result(f"Stopped ({found.summary}). {kept}".rstrip())


def resumable_error(error: OllamaError, continue_as: str) -> CallToolResult:
    """Return a failure; its remedy names the call that fetches a text that is kept."""
    if error.handle and continue_as:
        error = copy.copy(error)  # the failure itself may be reported to another call, too
        way = f'{continue_as} with handle="{error.handle}" and partial=true has what was written.'
        error.remedy = f"{way} {error.remedy}"
    return error_result(error)


T = TypeVar("T")

_LOOK_S = 0.5
FORM = "ollama-mcp/progress"
"""The `_meta` key by which one call chooses its form of progress: status or text."""


async def run_job(
    app: App,
    work: Callable[[Job[T]], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    unit: str = "tok",
) -> T:
    """Start a job and return its result; cancelling the call cancels the job.

    Args:
        app: App whose job it is.
        work: Coroutine function that does the work, as for `JobStore.start`.
        ctx: Context of the call, for its progress; None where there is none.
        wait_s: Deadline in seconds, after which the job goes on by itself. 0 is never, and nothing is kept:
            a call by Python code, which needs no handle. `math.inf` is never, too, for a client that does.
        unit: Unit of the job's progress.

    Raises:
        OllamaError: The work failed.
        StillRunning: The deadline has passed; the job's handle finds it.
    """
    job = app.jobs.start(work, unit, caller_id())
    try:
        return await wait_for_job(app, job, ctx, wait_s)
    except asyncio.CancelledError:
        await job.cancel()
        raise


async def run_with_confirmation(
    app: App,
    work: Callable[[Job[T], Confirmation | None], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    *,
    confirm: str,
    subject: str,
) -> T:
    """As `run_job`, of work that may need a yes of the user: its Job asks, and goes on with the answer.

    A client with elicitation is always asked, and its user answers; there `confirm` does not count, since a
    model fills it. Any other has to send the model's exact name in `confirm`.

    Args:
        app: Whose Job it is.
        work: Does it with what was confirmed, or says by `NotConfirmed` what has to be.
        ctx: The call; None where a tool was called directly, whose caller confirms by `confirm`.
        wait_s: As of `run_job`.
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
        return await run_job(app, lambda job: work(job, given), ctx, wait_s, "bytes")
    return await run_asking_job(app, ask_and_go_on, ctx, wait_s, "bytes", subject=subject)


async def run_asking_job(
    app: App,
    work: Callable[[Job[T]], Coroutine[Any, Any, T]],
    ctx: Context[Any, Any] | None,
    wait_s: float,
    unit: str = "tok",
    *,
    subject: str,
) -> T:
    """As `run_job`, of work that may ask the user of a client that `can_ask`, by `Job.ask`.

    Args:
        app: App whose job it is.
        work: As of `run_job`.
        ctx: The call.
        wait_s: As of `run_job`.
        unit: As of `run_job`.
        subject: What the call asks for: an answer that comes with another call is for the same.

    Raises:
        InputRequired: The client has to ask its user, and to call again with the answer.
    """
    job = resumed(app, ctx, subject) or app.jobs.start(work, unit, caller_id())
    job.may_ask, job.subject = True, subject
    try:
        return await wait_for_job(app, job, ctx, wait_s)
    except asyncio.CancelledError:
        await job.cancel()
        raise


async def wait_for_job(app: App, job: Job[T], ctx: Context[Any, Any] | None, wait_s: float) -> T:
    """Return the result of a job that other calls may wait for, too; cancelling this call does not cancel it.

    Args and failures are those of `run_job`.

    Raises:
        InputRequired: The client has to ask its user, and to call again with the answer.
    """
    try:
        async with _progress(app, job, ctx):
            found = await _wait_and_ask(app, job, ctx, wait_s if 0 < wait_s < math.inf else None)
    except InputRequired:
        if app.jobs.keep(job):
            raise
        await job.cancel()
        raise NotConfirmed("the user cannot be asked now: too much goes on", "Call again later.") from None
    except StillRunning:
        if not app.jobs.keep(job):
            return await wait_for_job(app, job, ctx, math.inf)  # no room for a handle: the call has to wait
        if job.first_at is None and job.look is not None:  # so far only progress has looked for the reason
            with suppress(OllamaError), anyio.move_on_after(_LOOK_S):
                await job.look()
        raise
    except OllamaError as error:
        if wait_s and error.partial_text and not error.is_last and app.jobs.keep(job):
            error.handle = job.handle
        raise
    if wait_s and hasattr(found, "handle") and not fits(found, call_profile(ctx).page(app.settings)):
        # More than a page: its other pages are fetched by the handle.
        found.handle = job.handle if app.jobs.keep(job) else ""  # pyright: ignore[reportAttributeAccessIssue]
    if wait_s and isinstance(found, Vectors) and found.shown == "summary" and found.vectors:
        uri = vectors_uri(ctx, app, job.handle)
        if uri and app.jobs.has_room_for(found.size) and app.jobs.keep(job):
            return cast("T", replace(found, uri=uri))
    return found


async def _wait_and_ask(app: App, job: Job[T], ctx: Context[Any, Any] | None, within: float | None) -> T:
    """Wait for the end of a job; ask the user what it asks, in the way that the client's protocol has.

    Raises:
        InputRequired: The client is asked by the result of the call, and calls again with the answer.
    """
    deadline = None if within is None else time.monotonic() + within
    may_ask = job.may_ask and can_ask(ctx)
    if may_ask:
        take_answers(job, (ctx.input_responses if ctx else None) or {})
    asked: set[str] = set()
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        try:
            return await job.wait(left, asks=may_ask)
        except InputRequired:
            if ctx is None or not ctx.session.can_send_request:
                raise
            question = job.unasked
            if question is None or question.key in asked:  # a session that broke: another call may ask
                may_ask = False
                continue
            asked.add(question.key)
            job.asked_by(question, app.jobs.spawn(elicit(ctx, job, question)))


_request: ContextVar[tuple[object, Series] | None] = ContextVar("_request", default=None)
"""The request that is being answered in this context, and the series of its progress."""


def _progress(app: App, job: Job[Any], ctx: Context[Any, Any] | None) -> AbstractAsyncContextManager[None]:
    """Report the progress of a job to its caller, if it wants progress.

    Several jobs of one request, as of a host's own tool, share one series, which only increases.
    """
    meta = meta_of(ctx)
    if ctx is None or not wants_progress(meta):
        return report_progress(job, None, "status")

    async def send(value: float, total: float | None, message: str) -> None:
        await ctx.report_progress(value, total, sanitize_text(message))

    request, known = ctx.request_context, _request.get()
    if known is None or known[0] is not request:
        known = request, Series()
        _request.set(known)
    wanted = meta.get(FORM)
    form = wanted if wanted in ("status", "text") else app.settings.progress
    return report_progress(job, send, form, known[1])
