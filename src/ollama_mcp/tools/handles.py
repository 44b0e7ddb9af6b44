"""What a call returns that is not the whole answer: STILL RUNNING, unfinished text, a failure in the middle.

Each begins with a line that says so and how to get the rest: half an answer that looks like a whole
one is passed on as the whole one by the model that reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

from mcp_types import CallToolResult

from ollama_mcp.errors import Cancelled, OllamaError
from ollama_mcp.jobs.answers import Unfinished
from ollama_mcp.jobs.job import Reply, StillRunning
from ollama_mcp.tools.rendering import REPLY, page_of, render, text_page
from ollama_mcp.tools.results import failure, said


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
