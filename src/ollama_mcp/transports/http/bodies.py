"""The bodies of requests, read whole: not too long, not too slowly, not too many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.transports.http.principals import Caller, caller_of, give_back
from ollama_mcp.transports.http.refusals import refusal
from ollama_mcp.transports.http.traffic import Traffic
from ollama_mcp.transports.mending import TOO_MANY_PARTS, has_too_many_parts, mended

BODY_S = 60.0
"""Seconds in which a body must have come."""
_TOGETHER, _OF_ONE = 16, 8
"""Bodies of the largest size that may be held at once, of all callers and of one."""
_SMALL = 64 * 1024
"""Bytes of a body that always passes, so that large ones do not hold up the usual ones."""


class _Refused(Exception):
    """The body is not taken; raised while it is read, answered at once."""

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.answer = refusal(status, why, retry_after_s)


class _Gone(Exception):
    """The client went away while it wrote."""


@dataclass
class _Size:
    caller: Caller
    bytes: int = 0
    counted: int = 0


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and hand on, or refuse with 413, 408 or 503."""
        with self._hold(caller_of(scope)) as size:
            try:
                self._check_declared(scope)
                body = await self._read(receive, size)
            except _Refused as refused:
                await refused.answer(scope, receive, send)
            except _Gone:
                return
            else:
                await self._app(scope, _again(body, receive), send)

    @contextmanager
    def _hold(self, caller: Caller) -> Generator[_Size]:
        """Count a body's bytes for as long as its request goes on: the SDK holds it so long."""
        size = _Size(caller)
        try:
            yield size
        finally:
            give_back(self._held, caller, size.counted)

    def _check_declared(self, scope: Scope) -> None:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self._most:
            raise self._too_large()

    def _too_large(self) -> _Refused:
        return _Refused(413, f"a message may have at most {self._most} bytes, which is OLLAMA_MCP_MAX_LINE")

    async def _read(self, receive: Receive, size: _Size) -> bytes:
        body = bytearray()
        try:
            with anyio.fail_after(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    self._count(message.get("body", b""), size)
                    body += message.get("body", b"")
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

    def _count(self, part: bytes, size: _Size) -> None:
        size.bytes += len(part)
        if size.bytes > self._most:
            raise self._too_large()
        if size.bytes <= _SMALL:
            return
        self._held[size.caller] += size.bytes - size.counted
        size.counted = size.bytes
        if self._held[size.caller] > self._most * _OF_ONE:
            raise _Refused(429, "too many large messages of one caller at once", 1)
        if self._held.total() > self._most * _TOGETHER:
            raise _Refused(503, "too many large messages at once", 1)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body once, and then whatever comes, which is the client's leaving."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay
