"""The bodies of requests, read whole: not too long, not too slowly, not too many at once."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_mcp.guards import Claim
from ollama_mcp.transports.http.holding import again, hand_on
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
_COLLECT_S = 1.0
"""Seconds between two collections, which stop every call for some milliseconds."""


class _Refused(Exception):
    """The body is not taken; raised while it is read, answered at once."""

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.answer = refusal(status, why, retry_after_s)


class _Gone(Exception):
    """The client went away while it wrote."""


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
                body = await self._read(receive, claim)
                await hand_on(self._app, scope, again(body, receive), send, claim)
        except _Refused as refused:
            await refused.answer(scope, receive, send)
        except _Gone:
            return

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
        if self._too_many(claim.owner) is not None:
            self._let_go_of_cancelled()
        if (refused := self._too_many(claim.owner)) is not None:
            raise refused

    def _too_many(self, caller: Caller) -> _Refused | None:
        if self._held[caller] > self._most * _OF_ONE:
            return _Refused(429, "too many large messages of one caller at once", 1)
        if self._held.total() > self._most * _TOGETHER:
            return _Refused(503, "too many large messages at once", 1)
        return None

    def _let_go_of_cancelled(self) -> None:
        """A call that was cancelled is a cycle of its frames and its failure, which holds what it got."""
        now = time.monotonic()
        if now - self._collected_at >= _COLLECT_S:
            self._collected_at = now
            gc.collect()
