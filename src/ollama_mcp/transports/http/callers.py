"""Who calls: a token where one is wanted, so many wrong ones, and so many requests at once for each."""

from __future__ import annotations

import logging
import math
import traceback
from collections import Counter

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from starlette.authentication import AuthCredentials, AuthenticationError
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_mcp.errors import RateLimited
from ollama_mcp.guards import Rate, RateLimit
from ollama_mcp.transports.http.principals import Caller, caller_of, counted
from ollama_mcp.transports.http.refusals import refusal
from ollama_mcp.transports.http.sessions import Sessions

_WRONG_TOKENS = {"tokens": Rate(30, 60.0)}
_WRONG_AT_ONCE = 10
_VERIFIER_S = 10.0
"""Seconds in which somebody's own verifier must know whose token it is."""
_log = logging.getLogger(__name__)


def with_callers(
    app: ASGIApp, verifier: TokenVerifier | None, auth: AuthSettings | None, share: int
) -> ASGIApp:
    """Let in only those whose token the verifier knows, and none of them more often than its share.

    Args:
        app: What is behind; the SDK's contextvar says there whose token it is.
        verifier: None: everybody is let in, and all are one caller.
        auth: The verifier's issuer, for the answer to those without a token.
        share: Requests that one caller has at most at once.
    """
    shared = Shares(Sessions(app, share, caller_of), share)
    if verifier is None:
        return shared
    resource = auth.resource_server_url if auth is not None else None
    # As the SDK will have it: the audience is checked unless the verifier says that it does so itself.
    checks_resource = auth is not None and auth.validate_token_resource is not False
    backend = _Bearer(verifier, resource_server_url=resource if checks_resource else None)
    required = RequireAuthMiddleware(
        shared,
        (auth.required_scopes if auth is not None else None) or [],
        build_resource_metadata_url(resource) if resource is not None else None,
    )
    return AuthenticationMiddleware(
        AuthContextMiddleware(Patience(required)), backend=backend, on_error=_cannot_tell
    )


class _Bearer(BearerAuthBackend):
    """Whose the token in the one Authorization header is; a verifier that fails is nobody's word."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        """The caller, or None.

        Raises:
            AuthenticationError: The verifier failed.
        """
        if len(conn.headers.getlist("authorization")) > 1:
            return None
        try:
            with anyio.fail_after(_VERIFIER_S):
                return await super().authenticate(conn)
        except Exception as error:  # noqa: BLE001 - the verifier is somebody else's
            # Without its message, in which the token may stand.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("the verifier failed with %s\n%s", type(error).__name__, frames)
            raise AuthenticationError from None


def _cannot_tell(_: HTTPConnection, __: Exception) -> Response:
    return refusal(503, "whose token it is cannot be told now", 1)


class Shares:
    """ASGI: no caller has more than its share of what is in flight."""

    def __init__(self, app: ASGIApp, share: int) -> None:
        self._app = app
        self._share = share
        self._in_flight: Counter[Caller] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 429."""
        caller = caller_of(scope)
        if self._in_flight[caller] >= self._share:
            why = f"{self._share} requests of one caller are in flight, which is the most"
            await refusal(429, why, 1)(scope, receive, send)
            return
        with counted(self._in_flight, caller):
            await self._app(scope, receive, send)


class Patience:
    """ASGI: so many wrong tokens from one address are answered 401, more of them 429.

    A right one passes all the same: who shares an address with a guesser is not shut out, and to
    guess 256 bits nobody is fast enough.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._limit = RateLimit(_WRONG_TOKENS, _WRONG_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, which answers 401 to those without a user, or answer 429."""
        if _has_wrong_token(scope):
            try:
                self._limit.admit("tokens", (scope.get("client") or ("",))[0])
            except RateLimited as limited:
                wait = math.ceil(limited.retry_after_s or 1)
                await refusal(429, "too many wrong tokens", wait)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _has_wrong_token(scope: Scope) -> bool:
    """None at all is not wrong: it is how a client asks which token is wanted."""
    if isinstance(scope.get("user"), AuthenticatedUser):
        return False
    return any(name == b"authorization" for name, _ in scope["headers"])
