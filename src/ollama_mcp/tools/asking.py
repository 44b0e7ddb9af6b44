"""Asking for a confirmation, in the way that the client can.

A client with elicitation is always asked, and its user answers; there a `confirm` argument does not
count, since a model fills it. Any other has to send the model's exact name in `confirm`. In the
protocol of 2026 the question is a result, and the call comes a second time with the answer; what was
asked comes back sealed by the SDK, and counts once, for the same caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import anyio
from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ollama_mcp.errors import NotConfirmed
from ollama_mcp.management import ASKED_S, Asked, Confirmation
from ollama_mcp.tools.caller import principal

T = TypeVar("T")

_KEY = "confirm"


class Asking(Exception):
    """The client is to ask its user, and to call again with the answer. Raised here, seen by `binding`."""

    def __init__(self, request: InputRequiredResult) -> None:
        super().__init__("a confirmation is asked for")
        self.request = request


class _Consent(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(title="Confirmation")

    confirm: bool = Field(title="Yes, do it", description="Nothing is done unless this is true.")


async def confirmed(
    asked: Asked,
    ctx: Context[Any, Any] | None,
    confirm: str,
    work: Callable[[Confirmation | None], Awaitable[T]],
) -> T:
    """Do what may need a confirmation, and ask for it where it does.

    Args:
        asked: What the App has asked, where the answer comes with another call.
        ctx: The call; None where a tool was called directly, whose caller confirms by `confirm`.
        confirm: The exact name of the model, from a caller that cannot ask.
        work: Does it with what was confirmed, or says by `NotConfirmed` what has to be.

    Raises:
        NotConfirmed: Nobody confirmed it, or something else than what is there now.
    """
    if ctx is None or not _can_ask(ctx):
        return await work(Confirmation(confirm) if confirm else None)
    before = _answered(asked, ctx)
    try:
        return await work(before)
    except NotConfirmed as error:
        if before is not None:
            raise _asked_anew(error) from None
        before = await _ask(asked, ctx, error)
    try:
        return await work(before)
    except NotConfirmed as error:
        raise _asked_anew(error) from None


def _asked_anew(error: NotConfirmed) -> NotConfirmed:
    """The same failure for a client that is asked, where a `confirm` argument would not count."""
    error.remedy = "Call again without confirm; the user is asked anew."
    return error


def _can_ask(ctx: Context[Any, Any]) -> bool:
    """Whether the client has said that it can show a form (`elicitation: {}` is the older way to say so)."""
    try:
        capabilities = ctx.client_capabilities
    except ValueError:
        return False
    asking = capabilities.elicitation if capabilities is not None else None
    return asking is not None and (asking.form is not None or asking.url is None)


async def _ask(asked: Asked, ctx: Context[Any, Any], error: NotConfirmed) -> Confirmation:
    question = str(error.details["question"])
    if not ctx.session.can_send_request:
        raise Asking(_request(question, asked.ask(Confirmation.of(error), principal())))
    try:
        with anyio.fail_after(ASKED_S):
            answer = await ctx.session.elicit_form(
                question, render_elicitation_schema(_Consent), ctx.request_id
            )
    except TimeoutError:
        raise NotConfirmed("the user did not answer in time", "Ask the user, and call again.") from None
    except (MCPError, ValidationError):  # it says that it can ask, and cannot
        error.remedy = "The client did not ask its user, as it says that it can: have the user do it."
        raise error from None
    _require_yes(answer)
    return Confirmation.of(error)


def _request(question: str, state: str) -> InputRequiredResult:
    form = ElicitRequestFormParams(message=question, requested_schema=render_elicitation_schema(_Consent))
    return InputRequiredResult(
        input_requests={_KEY: ElicitRequest(params=form)},
        request_state=state,
    )


def _answered(asked: Asked, ctx: Context[Any, Any]) -> Confirmation | None:
    """What this call brings the answer to; None where nothing has been asked yet."""
    response = (ctx.input_responses or {}).get(_KEY)
    if ctx.request_state is None or not isinstance(response, ElicitResult):
        return None
    wanted = asked.answered(ctx.request_state, principal())
    _require_yes(response)
    return wanted


def _require_yes(answer: ElicitResult) -> None:
    """Some clients decline by themselves, without asking anybody: nobody can tell that from a no."""
    if answer.action == "accept" and (answer.content or {}).get("confirm") is True:
        return
    if answer.action == "accept":
        raise NotConfirmed("the user did not say yes", "Do not try it again unless the user asks for it.")
    raise NotConfirmed(
        f"the client answered {answer.action!r}: the user declined, or the client did not ask its user",
        "If the user was not asked, have them run `ollama` themselves, or use a client that can ask; "
        "else do not try it again.",
    )
