"""Asking the user of a client, in the way that its protocol has.

In the protocol of 2025 the server asks in the middle of the call. In that of 2026 the question is the
call's result, and the call comes a second time with the answer; the handle of the Job that waits comes
back with it, sealed by the SDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequests, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ollama_mcp.app import App
from ollama_mcp.errors import NotConfirmed, OllamaError, UnknownHandle
from ollama_mcp.jobs.job import Job, Question
from ollama_mcp.tools.caller import caller_id


class _Consent(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(title="Confirmation")

    confirm: bool = Field(title="Yes, do it", description="Nothing is done unless this is true.")


def can_ask(ctx: Context[Any, Any] | None) -> bool:
    """Return whether the client can show a form (`elicitation: {}` is the older way to say so)."""
    if ctx is None:
        return False
    try:
        capabilities = ctx.client_capabilities
    except ValueError:
        return False
    asking = capabilities.elicitation if capabilities is not None else None
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and not ctx.session.can_send_request:
        return False  # a connection on which the server can ask nothing
    return asking is not None and (asking.form is not None or asking.url is None)


async def elicit(ctx: Context[Any, Any], job: Job[Any], question: Question) -> None:
    """Ask in the middle of a call. The call may return before: the answer reaches the Job all the same."""
    form = render_elicitation_schema(_Consent)
    try:
        answer = await ctx.session.elicit_form(question.text, form, ctx.request_id)
    except (MCPError, ValidationError):  # it says that it can ask, and cannot
        refusal: OllamaError | None = NotConfirmed(
            "the client did not ask its user, as it says that it can: " + question.text,
            "Have the user do it.",
        )
    else:
        refusal = _refusal(answer)
    job.answer(question, refusal)


def input_required(job: Job[Any]) -> InputRequiredResult:
    """The questions as the result of a call, which comes again with the answers."""
    return InputRequiredResult(input_requests=input_requests(job), request_state=json.dumps([job.handle]))


def input_requests(job: Job[Any]) -> InputRequests:
    """Return the open questions of a job, by their keys."""
    form = render_elicitation_schema(_Consent)
    return {
        question.key: ElicitRequest(
            params=ElicitRequestFormParams(message=question.text, requested_schema=form)
        )
        for question in job.open_questions
    }


def resumed(app: App, ctx: Context[Any, Any] | None, subject: str) -> Job[Any] | None:
    """The Job to which a call brings an answer; None for a call that begins something.

    Raises:
        NotConfirmed: There is none any more.
    """
    try:
        job = _job_of(app, ctx)
    except (UnknownHandle, ValueError, LookupError, TypeError):  # also a state that is not ours
        raise NotConfirmed(
            "that question was answered before, or is too old",
            "Call again without the answer; the user is asked anew.",
        ) from None
    return job if job is not None and job.subject == subject else None


def brings_answer(app: App, ctx: Context[Any, Any] | None) -> bool:
    """Return whether a call comes again with the answer to a question of its caller's job."""
    try:
        job = _job_of(app, ctx)
    except (UnknownHandle, ValueError, LookupError, TypeError):
        return False
    return job is not None and bool(job.open_questions)


def _job_of(app: App, ctx: Context[Any, Any] | None) -> Job[Any] | None:
    """Return the job that a call names which comes again; None for a first call."""
    state = ctx.request_state if ctx is not None else None
    return None if state is None else app.jobs.find(str(json.loads(state)[0]), caller_id())


def take_answers(job: Job[Any], answers: Mapping[str, Any]) -> None:
    """Hand answers to the job that asked; one to another question does not count.

    Args:
        job: The job.
        answers: By the keys of the questions; what is no `ElicitResult` does not count.
    """
    for question in job.open_questions:
        answer = answers.get(question.key)
        if isinstance(answer, ElicitResult):
            job.answer(question, _refusal(answer))


def _refusal(answer: ElicitResult) -> OllamaError | None:
    """Why that is no yes. Some clients decline without asking anybody: nobody can tell that from a no."""
    if answer.action == "accept" and (answer.content or {}).get("confirm") is True:
        return None
    if answer.action == "accept":
        return NotConfirmed("the user did not say yes", "Do not try it again unless the user asks for it.")
    return NotConfirmed(
        f"the client answered {answer.action!r}: the user declined, or the client did not ask its user",
        "If the user was not asked, have them run `ollama` themselves, or use a client that can ask; "
        "else do not try it again.",
    )
