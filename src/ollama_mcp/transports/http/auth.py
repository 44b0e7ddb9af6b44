"""Authentication over HTTP: tokens, who may call, and which caller a request is of."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import inspect
import ipaddress
import logging
import math
import socket
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken, TokenVerifier
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
from ollama_mcp.settings import Http, Settings
from ollama_mcp.settings.limits import DEFAULT_LIMITS
from ollama_mcp.settings.listening import AllowedHost, AllowedNames, Authority, is_loopback, parse_authority
from ollama_mcp.tools.caller import WITHOUT_TOKEN
from ollama_mcp.transports.http.refusals import logged, refusal


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
    """Return the verifier's `auth_settings`, the SDK's AuthSettings of its issuer; None without.

    Raises:
        ValueError: The attribute is something else.
    """
    found = getattr(verifier, "auth_settings", None)
    if found is not None and not isinstance(found, AuthSettings):
        raise ValueError(
            "OLLAMA_MCP_VERIFIER: its auth_settings are no mcp.server.auth.settings.AuthSettings"
        )
    return found


@dataclass(frozen=True)
class Access:
    """Access rules: names, origins, authentication, and bounds.

    Attributes:
        names: By which names the server may be called, and from which pages.
        verifier: Tells whose token it is; None: nobody needs one.
        auth: What the verifier's issuer is, for clients that ask it for a token; None without one.
        connections: Open requests, connections, and sessions, at most.
        body: Bytes of the largest request.
        insecure: Whether others than this machine may call without a token.
    """

    names: AllowedNames = field(default_factory=AllowedNames)
    verifier: TokenVerifier | None = None
    auth: AuthSettings | None = None
    connections: int = Http.connections
    body: int = DEFAULT_LIMITS.line
    insecure: bool = False

    def describe(self, http: Http) -> str:
        """Describe for people who may call."""
        if http.verifier:
            return f"those whom {http.verifier} knows"
        owners = list(dict.fromkeys(name or "one without a name" for name, _ in http.tokens))
        if http.tokens:
            return "those with a token" + (f" ({', '.join(owners)})" if any(dict(http.tokens)) else "")
        return "EVERYBODY who reaches it" if self.insecure else "this machine"


def access_of(settings: Settings) -> Access:
    """Return the access rules of an operator's settings.

    Raises:
        ValueError: They are contrary to one another, or the verifier cannot be made.
    """
    http = settings.http
    verifier = _verifier(http)
    auth = auth_settings_of(verifier) if verifier is not None else None
    if http.insecure_no_auth and verifier is not None:
        raise ValueError("OLLAMA_MCP_INSECURE_NO_AUTH is contrary to tokens: leave one of them out")
    return Access(
        names=AllowedNames(
            _bound(http), (*http.allow_hosts, *_names_of_this_machine(auth)), http.allow_origins
        ),
        verifier=verifier,
        auth=auth,
        connections=http.connections,
        body=settings.limits.line,
        insecure=http.insecure_no_auth,
    )


def require_auth_for_other_names(access: Access) -> None:
    """See that no other machine is let in by its name, through a proxy or a page of its own, without a token.

    Raises:
        ValueError: One is, and nothing is said of tokens.
    """
    if access.verifier is not None or access.insecure:
        return
    own = {host.name for host in _names_of_this_machine(access.auth)}
    for allowed in (*access.names.hosts, *access.names.origins):
        if allowed.name not in own and not Authority(allowed.name).is_this_machine:
            raise ValueError(
                f"{allowed} is allowed to call, which is not this machine (OLLAMA_MCP_ALLOW_HOSTS, "
                f"OLLAMA_MCP_ALLOW_ORIGINS): {_LET_IN}"
            )


_LET_IN = (
    "set OLLAMA_MCP_TOKEN or --token-file (`openssl rand -hex 32` writes a token), or --verifier; "
    "--insecure-no-auth lets everybody who reaches it use your models, and what else you switched on"
)


def _verifier(http: Http) -> TokenVerifier | None:
    if http.verifier and http.tokens:
        raise ValueError("a verifier (OLLAMA_MCP_VERIFIER, --verifier) is contrary to tokens: leave one out")
    if http.verifier:
        return load_verifier(http.verifier)
    return StaticTokens(http.tokens) if http.tokens else None


def _names_of_this_machine(auth: AuthSettings | None) -> list[AllowedHost]:
    """Names that need not be allowed: this machine's, and that of the resource whose tokens are taken.

    A stranger's page cannot have the machine's name, unless the stranger rules its network's names.
    """
    own = parse_authority(socket.gethostname())
    found = [AllowedHost(own.name)] if own is not None and own.port is None else []
    if auth is not None and auth.resource_server_url is not None and auth.resource_server_url.host:
        found.append(AllowedHost(auth.resource_server_url.host.lower()))
    return found


def _bound(http: Http) -> str:
    """The name that was bound; "" for all addresses, which is no name to be called by."""
    name = http.bind[0] if http.bind else AllowedNames.bound
    try:
        return "" if ipaddress.ip_address(name).is_unspecified else name
    except ValueError:
        return name


def require_auth_for_other_machines(access: Access, addresses: Iterable[str]) -> None:
    """See that nobody but this machine calls without a token, unless the operator wants that.

    Raises:
        ValueError: An address can be reached by others, and nothing is said of tokens.
    """
    require_auth_for_other_names(access)
    open_to_others = [address for address in addresses if not is_loopback(address)]
    if open_to_others and access.verifier is None and not access.insecure:
        raise ValueError(
            f"others than this machine can reach {open_to_others[0]}: listen on 127.0.0.1, or {_LET_IN}"
        )


_VERIFIER_S = 10.0
"""Seconds in which somebody's own verifier must know whose token it is."""
_log = logging.getLogger(__name__)


def with_authentication(
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
        return _without_token(app)
    resource = auth.resource_server_url if auth is not None else None
    # As the SDK will have it: the audience is checked unless the verifier says that it does so itself.
    checks_resource = auth is not None and auth.validate_token_resource is not False
    backend = _Bearer(verifier, resource if checks_resource else None, limit)
    required = AuthContextMiddleware(requiring(app, auth))
    return AuthenticationMiddleware(required, backend=backend, on_error=_verifier_failed)


def _without_token(app: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        WITHOUT_TOKEN.set(True)
        await app(scope, receive, send)

    return call


def requiring(app: ASGIApp, auth: AuthSettings | None) -> RequireAuthMiddleware:
    """Let in to `app` only who was found out and has the issuer's scopes; others learn how to get it."""
    scopes = auth.required_scopes if auth is not None else None
    resource = auth.resource_server_url if auth is not None else None
    describe = build_resource_metadata_url(resource) if resource is not None else None
    return RequireAuthMiddleware(app, scopes or [], describe)


class _TooMany(AuthenticationError):
    """Too many wrong tokens came from there; answered 429."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self.retry_after_s = math.ceil(retry_after_s)


class _Bearer(BearerAuthBackend):
    """Authentication by the token in the one Authorization header; a verifier that fails lets nobody in."""

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


def _verifier_failed(_: HTTPConnection, error: Exception) -> Response:
    if isinstance(error, _TooMany):
        return refusal(429, "too many wrong tokens", error.retry_after_s)
    return refusal(503, "whose token it is cannot be told now", 1)
