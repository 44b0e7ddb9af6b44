"""What the SDK holds of a large message: it counts for whoever sent it until nothing of it is left.

The SDK goes on with a call of the 2025 era whose client has left. It holds the request's scope with what it
holds of the request, and of each session its last message until the next one comes.
"""

from __future__ import annotations

import anyio
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.guards import Claim
from ollama_mcp.transports.http.principals import Caller

_SESSION_ID = MCP_SESSION_ID_HEADER.encode()
_OF_THE_BODY = (b"content-length", b"transfer-encoding")
_NOTHING = b'{"jsonrpc":"2.0","id":"ollama-mcp/nothing","result":{}}'
"""An answer to nothing that was asked, which the SDK drops."""
_PUSHED_OUT_S = 1.0


async def hand_on(app: ASGIApp, scope: Scope, receive: Receive, send: Send, claim: Claim[Caller]) -> None:
    """Have `app` answer; a message that counts does so whether its client waits for the answer or not."""
    if not claim.size:
        await app(scope, receive, send)
        return
    noted = _Noted(send)
    await app({**scope, "ollama_mcp.held": _Held(claim)}, receive, noted)
    if noted.status < 300:
        await _push_out(app, scope, receive, noted.session_id)


async def _push_out(app: ASGIApp, scope: Scope, receive: Receive, session_id: bytes) -> None:
    """Send the session another message, which takes the place of the last."""
    kept = [pair for pair in scope["headers"] if pair[0] not in _OF_THE_BODY]
    if session_id and _SESSION_ID not in dict(kept):
        kept.append((_SESSION_ID, session_id))
    if scope["method"] == "POST" and (_SESSION_ID in dict(kept) or scope["query_string"]):
        with anyio.move_on_after(_PUSHED_OUT_S):
            await app({**scope, "headers": kept}, again(_NOTHING, receive), _nowhere)


class _Held:
    """Holds a claim for as long as it is there itself."""

    def __init__(self, claim: Claim[Caller]) -> None:
        claim.hold()
        self._claim = claim

    def __del__(self) -> None:
        self._claim.let_go()


class _Noted:
    """A `send` that notes the status, and the session that was opened."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.session_id = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.session_id = dict(message.get("headers", ())).get(_SESSION_ID, b"")
        await self._send(message)


async def _nowhere(_: Message) -> None:
    """Where nobody waits for the answer."""


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body once, and then whatever comes, which is the client's leaving."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay
