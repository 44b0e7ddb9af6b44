"""The caller of a tool: its identity, its deadline, and the size of its pages."""

from __future__ import annotations

import json
import math
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.server.mcpserver import Context

from ollama_mcp.app import App
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.job import Job
from ollama_mcp.settings import Settings
from ollama_mcp.tools.client_profiles import DEFAULT_PROFILE, ClientProfile, PageSize, client_profile


@dataclass(frozen=True)
class CallProfile:
    """Deadline and page size of one call.

    Attributes:
        client: Profile of the client's software.
        wants_progress: True if the call carries a progressToken.
    """

    client: ClientProfile = DEFAULT_PROFILE
    wants_progress: bool = False

    def deadline(self, settings: Settings, wait_s: float | None) -> float:
        """Return the seconds after which the call should have returned; `math.inf` for never.

        Args:
            settings: The operator's; `soft_deadline` wins over the client's profile.
            wait_s: The caller's own deadline, which wins over both; 0 is never, None is none given.

        Raises:
            InvalidArgument: `wait_s` is below 0, or no number.
        """
        if wait_s is None:
            wait_s = settings.soft_deadline
        if wait_s is None:
            wait_s = self.client.reported_s if self.wants_progress else self.client.silent_s
        if wait_s < 0 or math.isnan(wait_s):
            raise InvalidArgument(f'"wait_s" is {wait_s:g}', 'Send "wait_s" in seconds, or 0 for no limit.')
        return wait_s or math.inf

    def page(self, settings: Settings) -> PageSize:
        """Return how much of one result reaches the model; the operator's setting counts characters."""
        return PageSize(chars=settings.page) if settings.page else self.client.page


def call_profile(ctx: Context[Any, Any] | None) -> CallProfile:
    """Return the profile of a call; the default one where a tool was called directly."""
    if ctx is None:
        return CallProfile()
    try:
        parameters = ctx.session.client_params
    except ValueError:  # a Context without a session
        parameters = None
    name = parameters.client_info.name if parameters is not None else ""
    return CallProfile(client_profile(name), wants_progress(meta_of(ctx)))


def meta_of(ctx: Context[Any, Any] | None) -> dict[str, Any]:
    """Return the `_meta` of the request; {} where a tool was called directly."""
    if ctx is None:
        return {}
    try:
        return dict(ctx.request_context.meta or {})
    except ValueError:
        return {}


def wants_progress(meta: dict[str, Any]) -> bool:
    """Return whether a request with that `_meta` carries a progressToken."""
    # As mcp spells it in Python, or as the wire does, which other frameworks hand on.
    return meta.get("progress_token") is not None or meta.get("progressToken") is not None


def caller_id() -> str:
    """Return the identity of the caller: of its token over HTTP, else "" (the process on stdio)."""
    token = get_access_token()
    return json.dumps(principal_components(token)) if token is not None else ""


CONTEXT_TOOLS: ContextVar[tuple[str, ...]] = ContextVar("CONTEXT_TOOLS", default=())
"""Patterns of the tools that may be called for context on the server of this call; set by its binding."""

AGENT_TOOLS: ContextVar[tuple[str, ...] | None] = ContextVar("AGENT_TOOLS", default=None)
"""The same for an agent. None where a tool was called directly: then its own arguments decide."""

TASK_AFTER_S = 5.0
"""Seconds after which a call becomes a task, if its own deadline is no shorter."""


@dataclass
class TaskCall:
    """A call that a task may answer, since its client declares the Tasks extension.

    Attributes:
        app: App whose jobs can be tasks on this server.
        tool: Name of the tool on this server.
        job: The job that outlives the call; None while there is none.
    """

    app: App
    tool: str
    job: Job[Any] | None = None


TASK_CALL: ContextVar[TaskCall | None] = ContextVar("TASK_CALL", default=None)
"""The call that is being answered, if a task may answer it; set by the Tasks extension."""

WITHOUT_TOKEN: ContextVar[bool] = ContextVar("WITHOUT_TOKEN", default=False)
"""True for a request over HTTP to a server that checks no tokens; set by that transport."""


def is_shared_caller() -> bool:
    """Return whether others call under the same identity, and would see this caller's jobs."""
    return WITHOUT_TOKEN.get() and not caller_id()
