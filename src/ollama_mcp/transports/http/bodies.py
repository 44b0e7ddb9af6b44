"""The bodies of requests, read whole: not too long, and not too slowly."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.transports.http.refusals import refusal
from ollama_mcp.transports.http.traffic import Traffic
from ollama_mcp.transports.mending import TOO_MANY_PARTS, has_too_many_parts, mended

BODY_S = 60.0
"""Seconds in which a body must have come."""


class _Refused(Exception):
    """The body is not taken; raised while it is read, answered at once."""

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.answer = refusal(status, why, retry_after_s, close=True)  # the rest of the body is not read


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and hand on, or refuse with 413, 408 or 503."""
        try:
            self._check_declared(scope)
            body = await self._read(receive)
        except _Refused as refused:
            await refused.answer(scope, receive, send)
        except _Gone:
            return
        else:
            await self._app(scope, _again(body, receive), send)

    def _check_declared(self, scope: Scope) -> None:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self._most:
            raise self._too_large()

    def _too_large(self) -> _Refused:
        return _Refused(413, f"a message may have at most {self._most} bytes, which is OLLAMA_MCP_MAX_LINE")

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        try:
            with anyio.fail_after(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    body += message.get("body", b"")
                    if len(body) > self._most:
                        raise self._too_large()
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


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body once, and then whatever comes, which is the client's leaving."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay
