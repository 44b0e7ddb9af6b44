"""`http_app(host, app)`: an MCP server over HTTP as a Starlette application, to serve or to mount."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp.server import MCPServer
from mcp.server.auth.routes import create_protected_resource_routes
from mcp.server.streamable_http import LAST_EVENT_ID_HEADER
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_mcp.app import App
from ollama_mcp.errors import Timeout
from ollama_mcp.settings.listening import Origin
from ollama_mcp.transports.http.auth import (
    Access,
    access_of,
    require_auth_for_other_names,
    requiring,
    with_authentication,
)
from ollama_mcp.transports.http.middleware import (
    BodyLimitMiddleware,
    HostOriginMiddleware,
    OpenRequests,
    OpenRequestsMiddleware,
)
from ollama_mcp.transports.http.probes import Probes

Endpoint = Callable[[Request], Awaitable[Response]]

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
_POSTS = "/messages/"
_LAST_EVENT = LAST_EVENT_ID_HEADER.encode()

_LAST_ANSWER_S = 0.25
"""Seconds in which those are told whose call is broken off at the end; progress keeps 0.075 of them."""
_UNCHECKED = TransportSecuritySettings(enable_dns_rebinding_protection=False)
"""For the SDK: `HostOriginMiddleware` has looked, on every address and at the exact port."""


@dataclass
class HttpServer:
    """An MCP server over HTTP.

    Attributes:
        application: The Starlette application. Mounted in another one, its lifespan is not entered by
            itself: give the outer one `lifespan=server.lifespan`.
        app: What the tools work with.
        metadata: Where clients learn which issuer's token they need: always at the root of a host, so that
            an outer application has to have these among its own routes.
        traffic: What is in flight.
    """

    application: Starlette
    app: App
    metadata: Sequence[BaseRoute] = ()
    open_requests: OpenRequests = field(default_factory=OpenRequests)

    async def end(self, grace_s: float) -> None:
        """Take no new calls; give those that go on their time, and then an answer that says so."""

        def running() -> int:
            return self.app.calls.running

        # For a second the SDK tries to tell clients that have gone, and warns of each.
        logging.getLogger("mcp").setLevel(logging.ERROR)
        if not await self.open_requests.settle(grace_s, running):
            await self.app.jobs.stop(_shutdown_timeout)
            await self.open_requests.settle(_LAST_ANSWER_S, running)
        self.open_requests.cut()

    @property
    def lifespan(self) -> Any:
        """The lifespan of the application, for the one in which it is mounted."""
        return self.application.router.lifespan_context


def _shutdown_timeout(written: str) -> Timeout:
    error = Timeout(
        "the server ends, and this call took longer than its grace",
        "Call again in a moment.",
        partial_text=written,
        clock="shutdown",
    )
    error.is_last = True
    return error


def http_app(
    host: MCPServer[Any], app: App, access: Access | None = None, *, sse: bool | None = None
) -> HttpServer:
    """Make the application: Streamable HTTP at /mcp, and /health, /ready, /metrics.

    Args:
        host: The server. One whose own `auth` is set keeps it.
        app: What its tools work with.
        access: Who may call; by default those whom the App's settings let in: without a token or a verifier
            this machine alone, whatever the server is bound to in which it is mounted.
        sse: Whether to serve the SSE transport of 2024 at /sse, too; by default as the settings say.
    """
    access = access or access_of(app.settings)
    if host.settings.auth is None:
        require_auth_for_other_names(access)
    open_requests, metadata = OpenRequests(), _metadata(access)
    probes = Probes(app, open_requests)
    inner = _sdk_application(host, access, sse=app.settings.http.sse if sse is None else sse)
    metrics = _behind_host_auth(host, probes.metrics)
    inner.router.routes.append(Route("/metrics", metrics, methods=["GET"]))
    guarded = HostOriginMiddleware(
        with_authentication(
            BodyLimitMiddleware(inner, access.body, open_requests), access.verifier, access.auth, app.limit
        ),
        access,
        open_requests,
    )
    tracked = OpenRequestsMiddleware(guarded, open_requests, access.connections)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with inner.router.lifespan_context(inner):
            open_requests.serving = True
            try:
                yield
            finally:
                open_requests.serving = False

    application = Starlette(
        routes=[
            Route("/health", probes.health),
            Route("/ready", probes.ready),
            *metadata,
            Route("/.well-known/{path:path}", inner),  # a client without a token asks there who gives one
            Mount("/", app=_with_cors(_normalized(tracked), access.names.origins)),
        ],
        lifespan=lifespan,
    )
    return HttpServer(application, app, metadata, open_requests)


def _sdk_application(host: MCPServer[Any], access: Access, *, sse: bool) -> Starlette:
    """The SDK's own application, which answers what was let in."""
    inner = host.streamable_http_app(
        streamable_http_path=MCP_PATH,
        transport_security=_UNCHECKED,
        max_request_body_size=access.body,
        max_sessions=access.connections,
    )
    if sse:
        old = host.sse_app(
            sse_path=SSE_PATH,
            message_path=_POSTS,
            transport_security=_UNCHECKED,
            max_request_body_size=access.body,
        )
        inner.router.routes.extend(old.routes)
    return inner


def _behind_host_auth(host: MCPServer[Any], endpoint: Endpoint) -> Endpoint | ASGIApp:
    """Behind the host's own `auth`, where it has one, as the SDK puts its endpoint there."""
    auth = host.settings.auth
    return endpoint if auth is None else requiring(request_response(endpoint), auth)


def _metadata(access: Access) -> list[BaseRoute]:
    """Return the routes that tell a client which issuer's token it needs (RFC 9728)."""
    auth = access.auth
    if auth is None or auth.resource_server_url is None:
        return []
    return [
        *create_protected_resource_routes(auth.resource_server_url, [auth.issuer_url], auth.required_scopes)
    ]


def _normalized(app: ASGIApp) -> ASGIApp:
    """/mcp/ is /mcp: many clients do not follow a redirect with a POST; behind TLS it would lead to http.

    And nothing is resumed: no event is kept, and to a Last-Event-ID the SDK would answer nothing at all.
    A WebSocket, which a host may serve beside it, is refused.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] == "http":
            headers = [pair for pair in scope["headers"] if pair[0].lower() != _LAST_EVENT]
            scope = {**scope, "headers": headers}
            if scope["path"].endswith(f"{MCP_PATH}/"):
                scope |= {"path": scope["path"][:-1], "raw_path": scope["raw_path"][:-1]}
        await app(scope, receive, send)

    return call


def _with_cors(app: ASGIApp, origins: Iterable[Origin]) -> ASGIApp:
    """Add the CORS headers that let pages of these origins call."""
    named = [str(origin) for origin in origins]
    if not named:
        return app
    return CORSMiddleware(
        app,
        allow_origins=named,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Mcp-Session-Id", "WWW-Authenticate", "Retry-After"],
    )
