"""Who calls, and what that means for a call: how long it may take, how much it may say, whose Job it is."""

from __future__ import annotations

import json
import math
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.server.mcpserver import Context

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.settings import Settings
from ollama_mcp.tools.client_profiles import DEFAULT_PROFILE, ClientProfile, PageSize, client_profile


@dataclass(frozen=True)
class CallProfile:
    """Who has called a tool.

    Attributes:
        client: What is known of the client.
        wants_progress: Whether the call carries a progressToken.
    """

    client: ClientProfile = DEFAULT_PROFILE
    wants_progress: bool = False

    def patience(self, settings: Settings, asked: float | None) -> float:
        """Seconds after which the call should have returned; `math.inf` for never.

        Args:
            settings: The operator's.
            asked: The caller's own `wait_s`, where there is one; 0 is never.

        Raises:
            InvalidArgument: `asked` is no such number.
        """
        if asked is None:
            asked = settings.soft_deadline
        if asked is None:
            asked = self.client.reported_s if self.wants_progress else self.client.silent_s
        if asked < 0 or math.isnan(asked):
            raise InvalidArgument(f'"wait_s" is {asked:g}', 'Send "wait_s" in seconds, or 0 for no limit.')
        return asked or math.inf

    def page(self, settings: Settings) -> PageSize:
        """How much text of one result reaches the model; the operator counts in characters."""
        return PageSize(chars=settings.page) if settings.page else self.client.page


def call_profile(ctx: Context[Any, Any] | None) -> CallProfile:
    """Who called, as far as that is known; nobody in particular where a tool was called directly."""
    if ctx is None:
        return CallProfile()
    return CallProfile(client_profile(_client_name(ctx)), wants_progress(meta_of(ctx)))


def _client_name(ctx: Context[Any, Any]) -> str:
    try:
        said = ctx.session.client_params
    except ValueError:
        return ""
    return said.client_info.name if said is not None else ""


def meta_of(ctx: Context[Any, Any] | None) -> dict[str, Any]:
    """The `_meta` of the request; {} where the tool was called directly."""
    if ctx is None:
        return {}
    try:
        return dict(ctx.request_context.meta or {})
    except ValueError:
        return {}


def wants_progress(meta: dict[str, Any]) -> bool:
    """Whether a request carries a progressToken."""
    # As mcp spells it in Python, or as the wire does, which other frameworks hand on.
    return meta.get("progress_token") is not None or meta.get("progressToken") is not None


def caller_id() -> str:
    """Who is calling: whose token it is over HTTP with auth, else "" (the process on stdio)."""
    token = get_access_token()
    return json.dumps(principal_components(token)) if token is not None else ""


WITHOUT_TOKEN: ContextVar[bool] = ContextVar("WITHOUT_TOKEN", default=False)
"""Whether the request came over HTTP, where nobody needs a token; set by that transport."""


def is_anybody() -> bool:
    """Whether others call under the same name, and would see what is this caller's."""
    return WITHOUT_TOKEN.get() and not caller_id()
