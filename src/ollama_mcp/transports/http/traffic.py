"""The requests in flight: how many a caller has, how they ended, and how all of them are ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FAREWELL_S = 0.05
"""Seconds in which a client that still reads takes the end of its answer."""


def refusal(status: int, why: str, retry_after_s: int = 0) -> PlainTextResponse:
    """An answer that is no MCP: a status and a line for whoever reads the client's log."""
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    return PlainTextResponse(why + "\n", status, headers)


class _Exchange:
    """One request and what has been answered of it."""

    def __init__(self, scope: Scope, send: Send, traffic: Traffic) -> None:
        self.is_call = scope["method"] == "POST"
        self.scope = anyio.CancelScope()
        self._send = send
        self._traffic = traffic
        self._begun = self._ended = False

    async def send(self, message: Message) -> None:
        """Hand on a part of the answer."""
        if message["type"] == "http.response.start":
            self._begun = True
            self._traffic.statuses[message["status"]] += 1
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ended = True
        await self._send(message)

    async def part(self, scope: Scope, receive: Receive) -> None:
        """Say that no more comes: the client is not to wait for it."""
        with anyio.move_on_after(_FAREWELL_S):
            if not self._begun:
                await refusal(503, "the server ends", 1)(scope, receive, self.send)
            elif not self._ended:
                await self.send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass
class Traffic:
    """Counts of one `http_app`.

    Attributes:
        statuses: Answers that began, by HTTP status.
        closing: Whether nothing new is taken any more.
    """

    statuses: Counter[int] = field(default_factory=Counter[int])
    closing: bool = False
    _exchanges: set[_Exchange] = field(default_factory=set[_Exchange])
    _settled: anyio.Event | None = None

    @property
    def in_flight(self) -> int:
        """Requests that are being answered, streams for notifications among them."""
        return len(self._exchanges)

    @property
    def calls(self) -> int:
        """Those of them that are calls."""
        return sum(exchange.is_call for exchange in self._exchanges)

    def begin(self, exchange: _Exchange) -> None:
        """One more."""
        self._exchanges.add(exchange)

    def end(self, exchange: _Exchange) -> None:
        """One less."""
        self._exchanges.discard(exchange)
        if self._settled is not None and not self.calls:
            self._settled.set()

    async def settle(self, grace_s: float) -> None:
        """Take nothing new, and wait for the calls in flight, but not longer than so many seconds."""
        self.closing = True
        self._settled = anyio.Event()
        if self.calls:
            with anyio.move_on_after(grace_s):
                await self._settled.wait()

    def cut(self) -> None:
        """End what is still in flight."""
        for exchange in tuple(self._exchanges):
            exchange.scope.cancel()


class Tracked:
    """ASGI: what goes through is counted, and can be ended."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = _Exchange(scope, send, self._traffic)
        self._traffic.begin(exchange)
        try:
            with exchange.scope:
                await self._app(scope, receive, exchange.send)
            if exchange.scope.cancelled_caught:
                await exchange.part(scope, receive)
        finally:
            self._traffic.end(exchange)
