"""aiohttp under httpx: the transport of the extra `speed`, which takes a third from a call's CPU.

It serves an Ollama server on this machine over plain HTTP only. Proxies, certificates and Ollama's cloud
stay with httpx's own transport. Failures are raised as httpx's exceptions, by which the client tells
refused and late connections, broken streams and peers that speak no HTTP apart.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Any, cast

import aiohttp
import httpx
from yarl import URL

_CHUNK = 64 * 1024
"""Bytes that are read at once."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """An httpx transport with one connection of aiohttp's, kept alive.

    Of a request's timeouts, the one for connecting runs, and the one for reading until the headers are
    here; the client has a timeout of its own for the body.

        http = httpx.AsyncClient(mounts={"http://127.0.0.1:11434": AiohttpTransport(30.0)})

    Args:
        kept_s: Seconds for which the connection is kept when it is idle.
    """

    def __init__(self, kept_s: float) -> None:
        self._kept_s = kept_s
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return when the headers of its answer are here.

        Raises:
            httpx.TransportError: No answer began.
        """
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        with _translated():
            int(request.headers.get("content-length", 0))  # aiohttp sends whatever the caller calls a length
            async with asyncio.timeout(timeouts.get("read")):
                answer = await self._send(request, timeouts.get("connect"))
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def _send(self, request: httpx.Request, connect_s: float | None) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = _open(self._kept_s)
        return await self._session.request(
            request.method,
            URL(str(request.url), encoded=True),
            headers=request.headers.multi_items(),
            data=_body(request),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
        )

    async def aclose(self) -> None:
        """Close the connection, also under a task that reads."""
        if self._session is not None:
            await self._session.close()

    def __del__(self) -> None:
        if self._session is not None:  # of a client that was not closed: no warning, as with httpx
            self._session.detach()


class _Connector(aiohttp.TCPConnector):
    """A connector that hands out a kept connection only if no byte, and no end, has come on it since."""

    _last: asyncio.Transport | None = None

    async def connect(self, *context: Any, **how: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*context, **how)
        if connection.transport is self._last and _is_readable(self._last):
            connection.close()
            connection = await super().connect(*context, **how)
        lost = _lost(connection)
        if connection.transport is not self._last and lost is not None:
            lost.add_done_callback(_heard)
        self._last = connection.transport
        return connection

    def __del__(self, *_: object) -> None:
        """Leave the socket to asyncio, as httpx does; aiohttp writes to the log first."""


def _lost(connection: aiohttp.connector.Connection | None) -> asyncio.Future[None] | None:
    """Return a future of the loss of a connection; None where it is lost, or given back, already."""
    protocol = connection.protocol if connection is not None else None
    return protocol.closed if protocol is not None else None


def _heard(lost: asyncio.Future[None]) -> None:
    """Take the exception of a lost connection, which asyncio would log; the reader gets it anyway."""
    if not lost.cancelled():
        lost.exception()


def _is_readable(transport: asyncio.Transport | None) -> bool:
    """Return whether the socket has bytes, or an end, that the event loop has not seen yet."""
    if transport is None:
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(transport.get_extra_info("socket"), selectors.EVENT_READ)
        return bool(selector.select(0))


def _open(kept_s: float) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=_Connector(limit=1, keepalive_timeout=kept_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    # aiohttp sends DELETE again when a kept connection is closed; the client decides what is sent again.
    session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return session


def _body(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    """Return the body: in one piece, or, of an upload, in the pieces in which it comes from the disk."""
    try:
        return request.content or None
    except httpx.RequestNotRead:
        return _pieces(request)


async def _pieces(request: httpx.Request) -> AsyncIterator[bytes]:
    async for piece in cast("httpx.AsyncByteStream", request.stream):
        yield piece


class _Body(httpx.AsyncByteStream):
    """The body of an answer, which gives its connection back when it is closed."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._lost = _lost(answer.connection)
        if self._lost is not None:
            self._lost.add_done_callback(self._fail)

    def _fail(self, lost: asyncio.Future[None]) -> None:
        """End the wait of a reader on a lost connection: after its parser gave up, aiohttp does not."""
        content = self._answer.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the framing of the answer is broken"))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            while chunk := self._left() or await self._answer.content.read(_CHUNK):
                yield chunk

    def _left(self) -> bytes:
        """Return the bytes that came before a failure; aiohttp raises the failure first, and drops them."""
        content = self._answer.content
        if content.exception() is None:
            return b""
        return content._read_nowait(-1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def aclose(self) -> None:
        """Give the connection back, or close it if something of the answer is still to come."""
        if self._lost is not None:
            self._lost.remove_done_callback(self._fail)
        self._answer.release()
        await self._answer.wait_for_close()


@contextmanager
def _translated() -> Generator[None]:
    """Raise aiohttp's exceptions as httpx's."""
    try:
        yield
    except aiohttp.ClientError as error:
        raise _as_httpx(error) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: closed by ourselves, while somebody reads
        raise httpx.ReadError(str(error)) from error
    except ValueError as error:  # a header that HTTP does not allow
        raise httpx.LocalProtocolError(str(error)) from error


def _as_httpx(error: aiohttp.ClientError) -> httpx.TransportError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout(str(error))
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(str(error))
        case aiohttp.InvalidURL():
            return httpx.UnsupportedProtocol(str(error))
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return httpx.RemoteProtocolError(str(error))
        case _:
            return httpx.ReadError(str(error))
