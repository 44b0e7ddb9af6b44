"""Whose request it is, for what is counted by caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components
from starlette.types import Scope

from ollama_mcp.guards import give_back

Caller = tuple[str, str | None, str | None] | None


def caller_of(scope: Scope) -> Caller:
    """Whose token it is; None where none is wanted."""
    user = scope.get("user")
    return principal_components(user.access_token) if isinstance(user, AuthenticatedUser) else None


@contextmanager
def counted(counts: Counter[Caller], caller: Caller) -> Generator[None]:
    """Count one more of a caller, for as long as the context lasts; who has none is forgotten."""
    counts[caller] += 1
    try:
        yield
    finally:
        give_back(counts, caller, 1)
