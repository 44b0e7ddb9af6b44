"""ASGI middleware: open requests, Host and Origin checks, and the bodies of requests.

The SDK has a check of Host and Origin, too: of exact strings or of `name:*`, which takes anything behind the
colon. A mounted application does not know its port, and /metrics and /sse are not the SDK's alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_mcp.settings.listening import is_loopback
from ollama_mcp.transports.http.auth import Access
from ollama_mcp.transports.http.refusals import logged, refusal
from ollama_mcp.transports.messages import TOO_MANY_PARTS, has_too_many_parts, repair_surrogates

_LOOK_S = 0.02
_FAREWELL_S = 0.05
"""Seconds in which a client that still reads takes the end of its answer."""


class _Exchange:
    """A request and what has been answered of it."""

    def __init__(self, scope: Scope, send: Send, open_requests: OpenRequests) -> None:
        self.is_call = scope["method"] == "POST"
        self.scope = anyio.CancelScope()
        self._send = send
        self._traffic = open_requests
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
class OpenRequests:
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
        """Number of open requests that are calls."""
        return sum(exchange.is_call for exchange in self._exchanges)

    def begin(self, exchange: _Exchange) -> None:
        """Count a request."""
        self._exchanges.add(exchange)

    def end(self, exchange: _Exchange) -> None:
        """Stop counting a request."""
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


class OpenRequestsMiddleware:
    """ASGI: what goes through is counted, is not too much at once, and can be ended.

    Args:
        app: What is behind.
        traffic: Counts it.
        most: Requests at once.
    """

    def __init__(self, app: ASGIApp, open_requests: OpenRequests, most: int) -> None:
        self._app = app
        self._traffic = open_requests
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


class HostOriginMiddleware:
    """ASGI: looks at Host and Origin, whichever address the server is bound to.

    Args:
        app: What is behind.
        access: Who may pass, and under which names.
        traffic: Says whether the server still takes something.
    """

    def __init__(self, app: ASGIApp, access: Access, open_requests: OpenRequests) -> None:
        self._app = app
        self._access = access
        self._names = access.names
        self._traffic = open_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn away, or hand on."""
        answer = self._refused(scope) or self._app
        await answer(scope, receive, send)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        if not self._traffic.serving:
            return refusal(
                503, logged("the lifespan of http_app was not entered: give it to your application")
            )
        if _all(scope, b"content-length") and _all(scope, b"transfer-encoding"):
            # RFC 9112, 6.1: a proxy before us may have read another body than we would.
            return refusal(400, "a request has one length", close=True)
        if not self._is_open_to(scope):
            return refusal(403, logged("who does not come through loopback needs a token, and none is set"))
        if not self._is_called_by_name(scope):
            return refusal(421, logged(_unknown_name("Host", "hosts", _all(scope, b"host"))))
        if not self._is_from_a_known_page(scope):
            return refusal(403, logged(_unknown_name("Origin", "origins", _all(scope, b"origin"))))
        return None

    def _is_open_to(self, scope: Scope) -> bool:
        """Return whether the caller is this machine, tokens are checked, or the operator wants it open."""
        access = self._access
        return access.verifier is not None or access.insecure or is_loopback(_server_address(scope)[0])

    def _is_called_by_name(self, scope: Scope) -> bool:
        hosts = _all(scope, b"host")
        return len(hosts) == 1 and self._names.has_host(hosts[0], _server_address(scope), _scheme(scope))

    def _is_from_a_known_page(self, scope: Scope) -> bool:
        """Programs send no Origin, nor does an image of a strange page, which says so elsewhere."""
        if not _all(scope, b"origin") and _all(scope, b"sec-fetch-site") == ["cross-site"]:
            return False
        origins, local, scheme = _all(scope, b"origin"), _server_address(scope), _scheme(scope)
        return len(origins) <= 1 and all(self._names.has_origin(o, local, scheme) for o in origins)


def _unknown_name(header: str, flag: str, values: list[str]) -> str:
    """Say what to do about a name that is not known, where there is one name."""
    if len(values) != 1:
        return f"there has to be one {header} header"
    shown = values[0][:100]
    return f"the {header} {shown!r} is none of this server's; --allow-{flag} {shown} lets it in"


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _scheme(scope: Scope) -> str:
    return scope.get("scheme", "http")


def _server_address(scope: Scope) -> tuple[str, int]:
    """Return the address and port of the connection; port 0 where the ASGI server does not say."""
    address, port = scope.get("server") or ("", None)
    return address, port or 0


BODY_S = 60.0
"""Seconds in which a body must have come."""


class _Refused(Exception):
    """The body is not taken; raised while it is read, answered at once."""

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.answer = refusal(status, why, retry_after_s, close=True)  # the rest of the body is not read


class _Gone(Exception):
    """The client went away while it wrote."""


class BodyLimitMiddleware:
    """ASGI: what is behind gets a body as one piece, with lone surrogates mended as on stdio.

    Args:
        app: What is behind.
        most: Bytes of one body.
        traffic: Says whether the server still takes calls.
        seconds: In which it must have come.
    """

    def __init__(self, app: ASGIApp, most: int, open_requests: OpenRequests, seconds: float = BODY_S) -> None:
        self._app = app
        self._traffic = open_requests
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
            await self._app(scope, _replay(body, receive), send)

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
        return repair_surrogates(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body once, and then whatever comes, which is the client's leaving."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay
