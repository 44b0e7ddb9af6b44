"""Who calls: a token where one is wanted, so many wrong ones, and so many requests at once for each."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import traceback
from collections import Counter, OrderedDict
from weakref import WeakValueDictionary

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
from ollama_mcp.guards import Rate, RateLimit
from ollama_mcp.transports.http.principals import Caller, caller_of, counted
from ollama_mcp.transports.http.refusals import logged, refusal
from ollama_mcp.transports.http.sessions import Sessions
from ollama_mcp.transports.http.tokens import StaticTokens

_WRONG_TOKENS = {"tokens": Rate(30, 60.0)}
_WRONG_AT_ONCE = 10
_REMEMBERED = 4096
"""Tokens that a verifier has known, the last ones; as digests."""
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
    patience = Patience()
    backend = _Bearer(verifier, resource if checks_resource else None, patience)
    required = AuthContextMiddleware(requiring(shared, auth))
    return AuthenticationMiddleware(required, backend=backend, on_error=_cannot_tell)


def requiring(app: ASGIApp, auth: AuthSettings | None) -> RequireAuthMiddleware:
    """Let in to `app` only who was found out and has the issuer's scopes; others learn how to get it."""
    scopes = auth.required_scopes if auth is not None else None
    resource = auth.resource_server_url if auth is not None else None
    told = build_resource_metadata_url(resource) if resource is not None else None
    return RequireAuthMiddleware(app, scopes or [], told)


class _TooMany(AuthenticationError):
    """Too many wrong tokens came from there; raised by `Patience`, answered 429."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self.retry_after_s = math.ceil(retry_after_s)


class Patience:
    """So many wrong tokens from one address are answered 401, more of them 429.

    A right one passes all the same, where that can be told: who shares an address with a guesser is not shut
    out, and to guess 256 bits nobody is fast enough. Somebody's own verifier may ask the network, and is
    asked no more for an address that has brought too many, but for those tokens that it knew before.
    """

    def __init__(self) -> None:
        self._limit = RateLimit(_WRONG_TOKENS, _WRONG_AT_ONCE)
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def was_right(self, token: bytes) -> bool:
        """Whether the verifier has known it, as far as that is remembered."""
        return token in self._right

    def remember(self, token: bytes, *, is_right: bool) -> None:
        """What the verifier said of it."""
        self._right.pop(token, None)
        if is_right:
            self._right[token] = None
            if len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)

    def count(self, conn: HTTPConnection) -> None:
        """One more that is wrong, or will be.

        Raises:
            _TooMany: It is one too many.
        """
        try:
            self._limit.admit("tokens", _address(conn))
        except RateLimited as limited:
            logged(f"too many wrong tokens from {_address(conn)}", "tokens")
            raise _TooMany(limited.retry_after_s or 1) from None

    def forgive(self, conn: HTTPConnection) -> None:
        """It was right."""
        self._limit.give_back("tokens", _address(conn))


def _address(conn: HTTPConnection) -> str:
    return network(conn.client.host) if conn.client is not None else ""


def network(address: str) -> str:
    """Whose address it is: of version 6 everybody has 2^64.

    >>> network("192.0.2.7"), network("2001:db8:1:2:3:4:5:6"), network("::ffff:192.0.2.7"), network("")
    ('192.0.2.7', '2001:db8:1:2::/64', '::ffff:192.0.2.7', '')
    """
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return address if found.ipv4_mapped else str(ipaddress.ip_network((found, 64), strict=False))


class _Bearer(BearerAuthBackend):
    """Whose the token in the one Authorization header is; a verifier that fails is nobody's word."""

    def __init__(self, verifier: TokenVerifier, resource: AnyHttpUrl | None, patience: Patience) -> None:
        super().__init__(verifier, resource_server_url=resource)
        self._patience = patience
        self._asks_nobody = isinstance(verifier, StaticTokens)
        self._turns: WeakValueDictionary[bytes, anyio.Lock] = WeakValueDictionary()

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        """The caller, or None.

        Raises:
            AuthenticationError: The verifier failed, or too many tokens from there were wrong.
        """
        headers = conn.headers.getlist("authorization")
        if not headers:  # not wrong: it is how a client asks which token is wanted
            return None
        if len(headers) > 1:
            self._patience.count(conn)
            return None
        try:
            with anyio.fail_after(_VERIFIER_S):
                found = await self._known(conn, hashlib.sha256(headers[0].encode()).digest())
        except _TooMany:
            raise
        except Exception as error:  # noqa: BLE001 - the verifier is somebody else's
            # Without its message, in which the token may stand.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("the verifier failed with %s\n%s", type(error).__name__, frames)
            raise AuthenticationError from None
        if found is None:
            logged(f"a wrong token from {_address(conn)}", "tokens")
        return found

    async def _known(
        self, conn: HTTPConnection, token: bytes
    ) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        """Ask the verifier; where it may ask the network, not before there is patience left."""
        if self._asks_nobody:
            found = await super().authenticate(conn)
            if found is None:
                self._patience.count(conn)
            return found
        if self._patience.was_right(token):
            found = await super().authenticate(conn)
            self._patience.remember(token, is_right=found is not None)
            return found
        async with self._turns.setdefault(token, anyio.Lock()):  # its first requests may come together
            if self._patience.was_right(token):
                return await super().authenticate(conn)
            self._patience.count(conn)
            found = await super().authenticate(conn)
            if found is not None:
                self._patience.remember(token, is_right=True)
                self._patience.forgive(conn)
            return found


def _cannot_tell(_: HTTPConnection, error: Exception) -> Response:
    if isinstance(error, _TooMany):
        return refusal(429, "too many wrong tokens", error.retry_after_s)
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
