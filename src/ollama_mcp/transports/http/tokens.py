"""Who a bearer token belongs to: tokens that the operator wrote down, or somebody's own verifier."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import cast

from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings


class StaticTokens(TokenVerifier):
    """Knows tokens by heart.

    Args:
        tokens: Names and tokens. Who shares a name shares answers, rate and queue; "" is a name, too.
    """

    def __init__(self, tokens: Iterable[tuple[str, str]]) -> None:
        self._known = [(name, _digest(token)) for name, token in tokens]

    async def verify_token(self, token: str) -> AccessToken | None:
        """The owner of the token; None for a token that nobody has."""
        offered = _digest(token)
        # Every one is compared, and digests are: how long it takes says nothing of what is near.
        owners = [name for name, known in self._known if hmac.compare_digest(known, offered)]
        # Without the token itself, which nothing that comes later needs.
        return AccessToken(token="", client_id=owners[0], scopes=[]) if owners else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def load_verifier(named: str) -> TokenVerifier:
    """Make the verifier that `module:factory` makes.

    Raises:
        ValueError: There is no such module or function, or what it makes is no TokenVerifier.
    """
    module, _, factory = named.partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"OLLAMA_MCP_VERIFIER: {error}; install its package beside ollama-mcp, or put its folder into "
            "PYTHONPATH"
        ) from error
    verifier = _made(named, make)
    if not inspect.iscoroutinefunction(getattr(verifier, "verify_token", None)):
        raise ValueError(
            f"OLLAMA_MCP_VERIFIER: {named} makes no TokenVerifier, which has `async verify_token(token)`"
        )
    return cast("TokenVerifier", verifier)


def _made(named: str, make: Callable[[], object]) -> object:
    try:
        return make()
    except Exception as error:
        raise ValueError(f"OLLAMA_MCP_VERIFIER: {named} failed: {type(error).__name__}: {error}") from error


def auth_settings_of(verifier: TokenVerifier) -> AuthSettings | None:
    """What a verifier says of its issuer, as the SDK's AuthSettings in its attribute `auth_settings`.

    Raises:
        ValueError: The attribute is something else.
    """
    found = getattr(verifier, "auth_settings", None)
    if found is not None and not isinstance(found, AuthSettings):
        raise ValueError(
            "OLLAMA_MCP_VERIFIER: its auth_settings are no mcp.server.auth.settings.AuthSettings"
        )
    return found
