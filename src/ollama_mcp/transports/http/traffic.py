"""The requests in flight: how many a caller has, how they ended, and how all of them are ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.transports.http.refusals import refusal

_LOOK_S = 0.02
_FAREWELL_S = 0.05
"""Seconds in which a client that still reads takes the end of its answer."""


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
        serving: Whether the application's lifespan has been entered.
        closing: Whether no new calls are taken any more.
    """

    statuses: Counter[int] = field(default_factory=Counter[int])
    serving: bool = False
    closing: bool = False
    _exchanges: set[_Exchange] = field(default_factory=set[_Exchange])

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

    async def settle(self, within_s: float, running: Callable[[], int]) -> bool:
        """Take no new calls, and wait for those that go on; returns whether all have ended in time.

        Args:
            within_s: Seconds to wait at most.
            running: How many calls go on whose request has been answered, as over SSE.
        """
        self.closing = True
        with anyio.move_on_after(within_s):
            while self.calls or running():  # noqa: ASYNC110 - once, at the end; nobody has to remember it
                await anyio.sleep(_LOOK_S)
            await anyio.sleep(_LOOK_S)  # the last answer is still to be written
            return True
        return False

    def cut(self) -> None:
        """End what is still in flight."""
        for exchange in tuple(self._exchanges):
            exchange.scope.cancel()


class Tracked:
    """ASGI: what goes through is counted, is not too much at once, and can be ended.

    Args:
        app: What is behind.
        traffic: Counts it.
        most: Requests at once.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic, most: int) -> None:
        self._app = app
        self._traffic = traffic
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse with 503."""
        if self._traffic.in_flight >= self._most:
            why = f"{self._most} requests are open, which is the most (OLLAMA_MCP_HTTP_CONNECTIONS)"
            await refusal(503, why, 1)(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._traffic)
        self._traffic.begin(exchange)
        try:
            with exchange.scope:
                await self._app(scope, receive, exchange.send)
            if exchange.scope.cancelled_caught:
                await exchange.part(scope, receive)
        finally:
            self._traffic.end(exchange)
