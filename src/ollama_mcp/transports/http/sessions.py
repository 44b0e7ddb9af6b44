"""The sessions of clients before 2026-07-28: no caller opens more than its share.

The SDK keeps so many for all together, each for half an hour after its last request: one caller that only
opens some would lock out the others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.streamable_http import LAST_EVENT_ID_HEADER, MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import DEFAULT_SESSION_IDLE_TIMEOUT
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.guards import size_at_hand
from ollama_mcp.transports.http.principals import Caller, counted
from ollama_mcp.transports.http.refusals import refusal

_ID = MCP_SESSION_ID_HEADER.encode()
_LAST_EVENT = LAST_EVENT_ID_HEADER.encode()
_VERSION = MCP_PROTOCOL_VERSION_HEADER.encode()
_RETRY_AFTER_S = 60


@dataclass
class _Session:
    """One session: how many requests it has in flight, and since when it has none."""

    in_use: int = 0
    idle_since: float = 0.0


class Sessions:
    """ASGI: counts what is opened by each caller, as the SDK does for all.

    Args:
        app: What is behind.
        share: Sessions that one caller has at most.
        caller_of: Tells whose request it is.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        app: ASGIApp,
        share: int,
        caller_of: Callable[[Scope], Caller],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._share = share
        self._caller_of = caller_of
        self._clock = clock
        self._open: dict[Caller, dict[bytes, _Session]] = {}
        self._opening: Counter[Caller] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 429."""
        if _header(scope["headers"], _LAST_EVENT):  # no event is kept: the SDK would answer nothing at all
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != _LAST_EVENT]}
        caller, session_id = self._caller_of(scope), _header(scope["headers"], _ID)
        if session_id:
            await self._continue(scope, receive, send, caller, session_id)
        elif not _opens(scope):
            await self._app(scope, receive, send)
        elif self._count(caller) + self._opening[caller] >= self._share:
            why = f"{self._share} sessions of one caller are open, which is the most; end some with DELETE"
            await refusal(429, why, _RETRY_AFTER_S)(scope, receive, send)
        else:
            await self._begin(scope, receive, send, caller)

    async def _begin(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                session_id = _header(message.get("headers", ()), _ID)
                if session_id:
                    self._open.setdefault(caller, {})[session_id] = _Session(0, self._clock())
            await send(message)

        with counted(self._opening, caller):
            await self._app(scope, receive, noting)

    async def _continue(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, session_id: bytes
    ) -> None:
        session = self._open.get(caller, {}).get(session_id, _Session())  # else the SDK knows none, too
        session.in_use += 1
        try:
            await self._app(scope, receive, self._forgetting(scope, send, caller, session_id))
        finally:
            session.in_use -= 1
            session.idle_since = self._clock()

    def _forgetting(self, scope: Scope, send: Send, caller: Caller, session_id: bytes) -> Send:
        """A `send` that notices the session's end."""

        async def noticing(message: Message) -> None:
            if message["type"] == "http.response.start":
                ended = scope["method"] == "DELETE" and message["status"] < 400
                if ended or message["status"] == 404:
                    self._forget(caller, session_id)
            await send(message)

        return noticing

    def _forget(self, caller: Caller, session_id: bytes) -> None:
        sessions = self._open.get(caller, {})
        sessions.pop(session_id, None)
        if not sessions:
            self._open.pop(caller, None)

    def _count(self, caller: Caller) -> int:
        """How many a caller has, without those that the SDK has ended meanwhile."""
        sessions = self._open.get(caller, {})
        if len(sessions) >= self._share:
            ended = self._clock() - DEFAULT_SESSION_IDLE_TIMEOUT
            for session_id in [i for i, s in sessions.items() if not s.in_use and s.idle_since < ended]:
                self._forget(caller, session_id)
        return len(sessions)


async def introduced(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """The SDK's middleware: who begins a session does so in few words, which are kept as long as it is.

    Raises:
        MCPError: The message is so large that it counts.
    """
    if ctx.method == "initialize" and size_at_hand():
        raise MCPError(INVALID_REQUEST, "what a client says of itself is too long")
    return await call_next(ctx)


def _opens(scope: Scope) -> bool:
    """Whether the SDK would make a session for it: as it decides itself, by the version's header."""
    version = _header(scope["headers"], _VERSION)
    return scope["method"] == "POST" and (
        not version or version.decode("latin-1") in HANDSHAKE_PROTOCOL_VERSIONS
    )


def _header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")
