"""Whose request it is, for what is counted by caller."""

from __future__ import annotations

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components
from starlette.types import Scope

Caller = tuple[str, str | None, str | None] | None


def caller_of(scope: Scope) -> Caller:
    """Whose token it is; None where none is wanted."""
    user = scope.get("user")
    return principal_components(user.access_token) if isinstance(user, AuthenticatedUser) else None
