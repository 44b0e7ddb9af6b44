"""An exchange over httpx, and httpx's exceptions as errors of the tree.

Imported at the first call, since httpx is not needed to answer `initialize` or `tools/list`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from ollama_mcp.client import failures
from ollama_mcp.client.pool import Between, TimeoutKind
from ollama_mcp.errors import BadUpstream, OllamaError
from ollama_mcp.settings import Backend

_ERROR_LIMIT = 64 * 1024
"""Bytes of a failing answer that are read."""
_HTTP = b"HTTP/"
_PARSERS = ("h11", "aiohttp.http_exceptions")
"""Modules whose exceptions say that the peer does not speak HTTP."""


class Answer:
    """A response whose headers are here and whose body is still coming.

    Attributes:
        status: The HTTP status.
        retry_after: The header of that name, or None.
        location: The target of a redirect, or "".
        content_type: In lower case, or "".
    """

    def __init__(self, response: httpx.Response, address: str, timeout: str, seconds: float) -> None:
        self.status: int = response.status_code
        self.retry_after: str | None = response.headers.get("retry-after")
        self.location: str = response.headers.get("location", "")
        self.content_type: str = response.headers.get("content-type", "").lower()
        self._encoding = response.headers.get("content-encoding", "identity").lower()
        self._response = response
        self._address = address
        self._timeout_name = timeout
        self._idle_s = seconds
        self.heard()

    def heard(self) -> None:
        """Start the idle timeout anew: the server has said something, and not just sent a byte."""
        self._heard_at = asyncio.get_running_loop().time()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, cut anywhere.

        Raises:
            BadUpstream: It is compressed, which was not asked for: it could be a bomb.
            Timeout: `heard` was not called for the time of the idle timeout; blanks that keep a
                connection up do not count.
            StreamBroken: The connection was lost.
        """
        if self._encoding not in {"", "identity"}:
            raise BadUpstream(
                "Ollama's answer is compressed, which was not asked for", "Turn off compression in the proxy."
            )
        # httpx calls a response read already that a test double made in one piece.
        is_read = self._response.is_stream_consumed
        body = _whole(self._response) if is_read else self._response.aiter_raw()
        while True:
            try:
                async with asyncio.timeout_at(self._heard_at + self._idle_s):
                    chunk = await anext(body, None)
            except (TimeoutError, httpx.TimeoutException):
                raise failures.timed_out(self._timeout_name, self._address) from None
            except (httpx.HTTPError, httpx.StreamError) as error:
                raise failures.stream_broken() from error
            if chunk is None:
                return
            yield chunk

    async def error_body(self) -> bytes:
        """Read the body of a failing answer, at most 64 KiB of it."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > _ERROR_LIMIT:
                break
        return bytes(body[:_ERROR_LIMIT])


async def _whole(response: httpx.Response) -> AsyncIterator[bytes]:
    yield response.content


@asynccontextmanager
async def exchange(
    pool: httpx.AsyncClient,
    backend: Backend,
    method: str,
    url: str,
    content: AsyncIterable[bytes] | bytes | None,
    headers: dict[str, str],
    timeout: TimeoutKind,
    between: Between,
    context: failures.ErrorContext,
) -> AsyncGenerator[Answer]:
    """Send a request and hand out its answer; leaving closes the connection unless the body was read.

    Args:
        pool: Sends it.
        backend: Has the timeouts, in seconds.
        method: The HTTP method.
        url: All of the address.
        content: The body: whole, in pieces, or none.
        headers: By name.
        timeout: The timeout that runs until the first byte.
        between: The timeout that runs from one part of the answer to the next.
        context: Of the texts of failures.

    Raises:
        InvalidArgument: The address or a header has characters that HTTP does not allow.
        OllamaError: No answer began (the failures of the backend).
    """
    timeouts = backend.timeouts
    seconds = getattr(timeouts, timeout)
    limits = httpx.Timeout(connect=timeouts.connect, read=seconds, write=seconds, pool=seconds)
    extensions = {"trace": _refuse_other_protocols(context)}
    try:
        request = pool.build_request(
            method, url, content=content, headers=headers, timeout=limits, extensions=extensions
        )
    except (httpx.InvalidURL, ValueError):
        raise failures.not_sendable() from None
    # httpx's timeouts start anew with every byte: a server that trickles headers needs one that does not.
    # Not for an upload, whose length in time is unknown: there each piece has its time.
    in_all = None if timeout == "transfer" else seconds + timeouts.connect
    try:
        with anyio.fail_after(in_all):
            response = await pool.send(request, stream=True, follow_redirects=False)
    except TimeoutError:
        raise failures.timed_out(timeout, context.address) from None
    except (httpx.HTTPError, UnicodeError) as error:
        raise _from_transport(error, timeout, context) from error
    request.extensions.get("timeout", {})["read"] = None  # from here on the idle timeout runs instead
    if between == "composing":
        seconds = max(timeouts.first_byte, timeouts.idle)
    else:
        seconds = getattr(timeouts, between)
    answer = Answer(response, context.address, between, seconds)
    try:
        yield answer
    finally:
        await response.aclose()


def _refuse_other_protocols(
    context: failures.ErrorContext,
) -> Callable[[str, dict[str, Any]], Awaitable[None]]:
    """Return a trace for httpcore that fails when the first bytes of a new connection are no HTTP.

    SSH, SMTP, Redis or MySQL say a line and hang up, or wait. httpcore keeps such a line back, since it may
    be the beginning of a head, and tells only of a lost connection or of a timeout.
    """

    async def trace(event: str, info: dict[str, Any]) -> None:
        if event != "connection.connect_tcp.complete":
            return
        stream = info["return_value"]
        read = stream.read

        async def first_read(max_bytes: int, timeout: float | None = None) -> bytes:
            said = await read(max_bytes, timeout)
            stream.read = read
            if not said.startswith(_HTTP) and not _HTTP.startswith(said):
                raise failures.not_ollama(context)
            return said

        stream.read = first_read

    return trace


def _from_transport(
    error: httpx.HTTPError | UnicodeError, timeout: TimeoutKind, context: failures.ErrorContext
) -> OllamaError:
    """Translate a failure before the first byte of an answer."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while (cause := cause.__cause__ or cause.__context__) is not None:
        causes.append(cause)
    match error:
        case httpx.PoolTimeout():
            return failures.through_proxy(failures.pool_is_full(context.address), context)
        case httpx.TimeoutException():
            name = "connect" if isinstance(error, httpx.ConnectTimeout) else timeout
            return failures.through_proxy(failures.timed_out(name, context.address), context)
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol() | UnicodeError():
            return failures.not_sendable()
        case httpx.RemoteProtocolError() if any(type(c).__module__.startswith(_PARSERS) for c in causes):
            return failures.not_ollama(context)  # a parser complained; a mere close has no such cause
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError() | httpx.CloseError():
            return failures.stream_broken()
        case _:
            pass
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return failures.not_trusted(context.address)
    if tls is not None:
        has_no_tls = "WRONG_VERSION_NUMBER" in str(tls) or "RECORD_LAYER_FAILURE" in str(tls)
        return failures.wrong_scheme(context, "http") if has_no_tls else failures.not_ollama(context)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return failures.unknown_name(context)
    return failures.unreachable(context)
