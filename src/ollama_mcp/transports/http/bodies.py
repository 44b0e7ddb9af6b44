"""The bodies of requests, read whole: not too long, not too slowly, not too many at once."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter

import anyio
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.guards import Claim
from ollama_mcp.transports.http.principals import Caller, caller_of
from ollama_mcp.transports.http.refusals import refusal
from ollama_mcp.transports.http.traffic import Traffic
from ollama_mcp.transports.mending import TOO_MANY_PARTS, has_too_many_parts, mended

BODY_S = 60.0
"""Seconds in which a body must have come."""
_TOGETHER, _OF_ONE = 16, 8
"""Bodies of the largest size that may be held at once, of all callers and of one."""
_SMALL = 64 * 1024
"""Bytes of a body that always passes, so that large ones do not hold up the usual ones."""
_SESSION_ID = MCP_SESSION_ID_HEADER.encode()
_OF_THE_BODY = (b"content-length", b"transfer-encoding")
_NOTHING = b'{"jsonrpc":"2.0","id":"ollama-mcp/nothing","result":{}}'
"""An answer to nothing that was asked, which the SDK drops."""
_PUSHED_OUT_S = 1.0
_COLLECT_S = 1.0
"""Seconds between two collections, which stop every call for some milliseconds."""


class _Refused(Exception):
    """The body is not taken; raised while it is read, answered at once."""

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.answer = refusal(status, why, retry_after_s)


class _Gone(Exception):
    """The client went away while it wrote."""


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


class Bodies:
    """ASGI: what is behind gets a body as one piece, with lone surrogates mended as on stdio.

    Args:
        app: What is behind.
        most: Bytes of one body.
        traffic: Says whether the server still takes calls.
        seconds: In which it must have come.
    """

    def __init__(self, app: ASGIApp, most: int, traffic: Traffic, seconds: float = BODY_S) -> None:
        self._app = app
        self._traffic = traffic
        self._most = most
        self._seconds = seconds
        self._held: Counter[Caller] = Counter()
        self._collected_at = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and hand on, or refuse with 413, 408, 429 or 503."""
        claim = Claim(self._held, caller_of(scope))
        try:
            with claim.at_hand():
                self._check_declared(scope)
                replay = _again(await self._read(receive, claim), receive)
                await self._hand_on(scope, replay, send, claim)
        except _Refused as refused:
            await refused.answer(scope, receive, send)
        except _Gone:
            return

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send, claim: Claim[Caller]) -> None:
        """Have it answered. A large one counts until nothing of it is left, whether its client waits or not.

        The SDK goes on with a call of the 2025 era whose client has left, and holds the request's scope with
        what it holds of the request.
        """
        if not claim.size:
            await self._app(scope, receive, send)
            return
        noted = _Noted(send)
        await self._app({**scope, "ollama_mcp.held": _Held(claim)}, receive, noted)
        if noted.status < 300:
            await self._push_out(scope, receive, noted.session_id)

    async def _push_out(self, scope: Scope, receive: Receive, session_id: bytes) -> None:
        """Send a session that has had a large message another one: the SDK holds the last until the next."""
        kept = [pair for pair in scope["headers"] if pair[0] not in _OF_THE_BODY]
        if session_id and _SESSION_ID not in dict(kept):
            kept.append((_SESSION_ID, session_id))
        if scope["method"] == "POST" and (_SESSION_ID in dict(kept) or scope["query_string"]):
            with anyio.move_on_after(_PUSHED_OUT_S):
                await self._app({**scope, "headers": kept}, _again(_NOTHING, receive), _nowhere)

    def _check_declared(self, scope: Scope) -> None:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self._most:
            raise self._too_large()

    def _too_large(self) -> _Refused:
        return _Refused(413, f"a message may have at most {self._most} bytes, which is OLLAMA_MCP_MAX_LINE")

    async def _read(self, receive: Receive, claim: Claim[Caller]) -> bytes:
        body = bytearray()
        try:
            with anyio.fail_after(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    body += message.get("body", b"")
                    self._count(len(body), claim)
                    if not message.get("more_body", False):
                        return self._whole(bytes(body))
        except TimeoutError:
            raise _Refused(408, f"the body did not come within {self._seconds:g} s") from None

    def _whole(self, body: bytes) -> bytes:
        if self._traffic.closing and b'"tools/call"' in body:  # what else clients ask is answered at once
            raise _Refused(503, "the server ends", 1)
        if has_too_many_parts(body):
            raise _Refused(413, TOO_MANY_PARTS)
        return mended(body)

    def _count(self, size: int, claim: Claim[Caller]) -> None:
        if size > self._most:
            raise self._too_large()
        if size <= _SMALL:
            return
        claim.grow(size)
        if self._has_too_many(claim.owner):
            self._let_go_of_cancelled()
        if self._held[claim.owner] > self._most * _OF_ONE:
            raise _Refused(429, "too many large messages of one caller at once", 1)
        if self._held.total() > self._most * _TOGETHER:
            raise _Refused(503, "too many large messages at once", 1)

    def _has_too_many(self, caller: Caller) -> bool:
        return self._held[caller] > self._most * _OF_ONE or self._held.total() > self._most * _TOGETHER

    def _let_go_of_cancelled(self) -> None:
        """A call that was cancelled is a cycle of its frames and its failure, which holds what it got."""
        now = time.monotonic()
        if now - self._collected_at >= _COLLECT_S:
            self._collected_at = now
            gc.collect()


async def _nowhere(_: Message) -> None:
    """Where nobody waits for the answer."""


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body once, and then whatever comes, which is the client's leaving."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay
