"""Who calls: a token where one is wanted. A wrong one costs as much of the rate limit as a call does."""

from __future__ import annotations

import logging
import math
import traceback

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials, AuthenticationError
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_mcp.errors import RateLimited
from ollama_mcp.jobs.rate_limit import RateLimit
from ollama_mcp.tools.caller import WITHOUT_TOKEN
from ollama_mcp.transports.http.refusals import logged, refusal

_VERIFIER_S = 10.0
"""Seconds in which somebody's own verifier must know whose token it is."""
_log = logging.getLogger(__name__)


def with_callers(
    app: ASGIApp, verifier: TokenVerifier | None, auth: AuthSettings | None, limit: RateLimit
) -> ASGIApp:
    """Let in only those whose token the verifier knows.

    Args:
        app: What is behind; the SDK's contextvar says there whose token it is.
        verifier: None: everybody is let in, and all are one caller.
        auth: The verifier's issuer, for the answer to those without a token.
        limit: The operator's; each address has its share of wrong tokens.
    """
    if verifier is None:
        return _of_anybody(app)
    resource = auth.resource_server_url if auth is not None else None
    # As the SDK will have it: the audience is checked unless the verifier says that it does so itself.
    checks_resource = auth is not None and auth.validate_token_resource is not False
    backend = _Bearer(verifier, resource if checks_resource else None, limit)
    required = AuthContextMiddleware(requiring(app, auth))
    return AuthenticationMiddleware(required, backend=backend, on_error=_cannot_tell)


def _of_anybody(app: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        WITHOUT_TOKEN.set(True)
        await app(scope, receive, send)

    return call


def requiring(app: ASGIApp, auth: AuthSettings | None) -> RequireAuthMiddleware:
    """Let in to `app` only who was found out and has the issuer's scopes; others learn how to get it."""
    scopes = auth.required_scopes if auth is not None else None
    resource = auth.resource_server_url if auth is not None else None
    told = build_resource_metadata_url(resource) if resource is not None else None
    return RequireAuthMiddleware(app, scopes or [], told)


class _TooMany(AuthenticationError):
    """Too many wrong tokens came from there; answered 429."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self.retry_after_s = math.ceil(retry_after_s)


class _Bearer(BearerAuthBackend):
    """Whose the token in the one Authorization header is; a verifier that fails is nobody's word."""

    def __init__(self, verifier: TokenVerifier, resource: AnyHttpUrl | None, limit: RateLimit) -> None:
        super().__init__(verifier, resource_server_url=resource)
        self._limit = limit

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        """The caller, or None.

        Raises:
            AuthenticationError: The verifier failed, or too many tokens from there were wrong.
        """
        headers = conn.headers.getlist("authorization")
        if not headers:  # not wrong: it is how a client asks which token is wanted
            return None
        try:
            with anyio.fail_after(_VERIFIER_S):
                found = await super().authenticate(conn) if len(headers) == 1 else None
        except Exception as error:  # noqa: BLE001 - the verifier is somebody else's
            # Without its message, in which the token may stand.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("the verifier failed with %s\n%s", type(error).__name__, frames)
            raise AuthenticationError from None
        if found is None:
            self._count(conn.client.host if conn.client is not None else "")
        return found

    def _count(self, address: str) -> None:
        """Count a wrong token of that address.

        Raises:
            _TooMany: It is one too many.
        """
        logged(f"a wrong token from {address}", "tokens")
        try:
            self._limit.admit("wrong tokens", address)
        except RateLimited as limited:
            raise _TooMany(limited.retry_after_s or 1) from None


def _cannot_tell(_: HTTPConnection, error: Exception) -> Response:
    if isinstance(error, _TooMany):
        return refusal(429, "too many wrong tokens", error.retry_after_s)
    return refusal(503, "whose token it is cannot be told now", 1)
