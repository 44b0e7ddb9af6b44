"""httpx, and nothing else: the shared connection pool, one exchange, httpx's exceptions translated.

Imported at the first call, since httpx is not needed to answer `initialize` or `tools/list`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx

from ollama_mcp.client import failures
from ollama_mcp.errors import BadUpstream, OllamaError
from ollama_mcp.settings import Backend

_ERROR_LIMIT = 64 * 1024


def open_pool(backend: Backend, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """Open the pool that all calls of an event loop share.

    Every connection is kept alive: with httpx's usual 20, 32 calls in flight opened 280. An
    `http://` address gets no TLS context (30 to 60 ms), and loopback no proxy of the environment.
    """
    count = backend.max_connections
    return httpx.AsyncClient(
        transport=transport,
        verify=_trust(backend) if backend.host.scheme == "https" or backend.api_key else False,
        trust_env=not backend.host.is_loopback,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=count, max_keepalive_connections=count, keepalive_expiry=30),
    )


def _trust(backend: Backend) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=backend.ca_file or None)


class Answer:
    """A response whose headers are here and whose body is still coming."""

    def __init__(self, response: httpx.Response, address: str, idle: float) -> None:
        self.status = response.status_code
        self.retry_after = response.headers.get("retry-after")
        self.content_type = response.headers.get("content-type", "").lower()
        self._encoding = response.headers.get("content-encoding", "identity").lower()
        self._response = response
        self._address = address
        self._idle = idle

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, cut anywhere.

        Raises:
            BadUpstream: It is compressed, which we did not ask for: it could be a bomb.
            Timeout: Nothing came for the idle clock.
            StreamBroken: The connection was lost.
        """
        if self._encoding not in {"", "identity"}:
            raise BadUpstream(
                "Ollama's answer is compressed, which was not asked for", "Turn off compression in the proxy."
            )
        body = self._response.aiter_raw()
        while (chunk := await self._next(body)) is not None:
            yield chunk

    async def _next(self, body: AsyncIterator[bytes]) -> bytes | None:
        try:
            with anyio.fail_after(self._idle):
                return await anext(body, None)
        except (TimeoutError, httpx.TimeoutException):
            raise failures.clock_ran_out("idle", self._address) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise failures.stream_broken() from error

    async def error_body(self) -> bytes:
        """The body of a failing answer, as far as it is of use."""
        body = b""
        async for chunk in self.chunks():
            body += chunk
            if len(body) > _ERROR_LIMIT:
                break
        return body[:_ERROR_LIMIT]


@asynccontextmanager
async def exchange(
    pool: httpx.AsyncClient, backend: Backend, request: httpx.Request, address: str
) -> AsyncGenerator[Answer]:
    """Send a request and hand out its answer; leaving closes the connection unless the body was read.

    Raises:
        OllamaError: No answer began (the failures of the backend).
    """
    try:
        response = await pool.send(request, stream=True)
    except httpx.HTTPError as error:
        raise from_transport(error, address) from error
    try:
        yield Answer(response, address, backend.clocks.idle)
    finally:
        await response.aclose()


def timeouts(backend: Backend, first_byte: float) -> httpx.Timeout:
    """The clocks up to the first byte; `Answer` watches the ones after it."""
    connect = backend.clocks.connect
    return httpx.Timeout(connect=connect, read=first_byte, write=first_byte, pool=first_byte)


def from_transport(error: httpx.HTTPError, address: str) -> OllamaError:
    """Translate a failure before the first byte of an answer."""
    match error:
        case httpx.ConnectTimeout():
            return failures.clock_ran_out("connect", address)
        case httpx.TimeoutException():
            return failures.clock_ran_out("first_byte", address)
        case httpx.RemoteProtocolError() if _is_garbage(error):
            return failures.not_ollama(address)
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError() | httpx.CloseError():
            return failures.stream_broken()
        case _:
            return failures.unreachable(address)


def _is_garbage(error: httpx.RemoteProtocolError) -> bool:
    """Whether the peer sent what is no HTTP: then h11 complained; a mere close has no such cause."""
    cause: BaseException | None = error
    while (cause := cause.__cause__ or cause.__context__) is not None:
        if type(cause).__module__.startswith("h11"):
            return True
    return False
