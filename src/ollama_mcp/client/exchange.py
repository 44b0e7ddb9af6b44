"""One exchange over httpx, and httpx's exceptions translated.

Imported at the first call, since httpx is not needed to answer `initialize` or `tools/list`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import httpx

from ollama_mcp.client import failures
from ollama_mcp.client.pool import Between, TimeoutKind
from ollama_mcp.errors import BadUpstream, OllamaError
from ollama_mcp.settings import Backend

_ERROR_LIMIT = 64 * 1024
_PARSERS = ("h11", "aiohttp.http_exceptions")


class IdleTimeout:
    """The idle clock: breaks a wait off with TimeoutError when nothing was said for so many seconds.

    What `asyncio.timeout` does, with one timer for all the waits of an answer: a new one for each
    chunk is a tenth of what a call costs.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._is_over = False
        self.heard()

    def heard(self) -> None:
        """Something was said, not just sent: the clock starts anew."""
        self._heard_at = self._loop.time()

    def __enter__(self) -> None:
        self._waiting = task = cast("asyncio.Task[object]", asyncio.current_task(self._loop))
        self._cancelling = task.cancelling()
        if self._timer is None:
            self._set()

    def _set(self) -> None:
        self._timer = self._loop.call_at(self._heard_at + self._seconds, self._look)

    def _look(self) -> None:
        """Ring, if it is time and somebody waits; where nobody does, the next wait sets the timer again."""
        self._timer = None
        if self._heard_at + self._seconds > self._loop.time():
            self._set()
        elif self._waiting is not None:
            self._is_over = True
            self._waiting.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task, self._waiting = self._waiting, None
        if self._is_over and task is not None:
            self._is_over = False
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


class Answer:
    """A response whose headers are here and whose body is still coming."""

    def __init__(self, response: httpx.Response, address: str, timeout: str, seconds: float) -> None:
        self.status: int = response.status_code
        self.retry_after: str | None = response.headers.get("retry-after")
        self.location: str = response.headers.get("location", "")
        self.content_type: str = response.headers.get("content-type", "").lower()
        self._encoding = response.headers.get("content-encoding", "identity").lower()
        self._response = response
        self._address = address
        self._timeout_of = timeout
        self._silence = IdleTimeout(seconds)
        self.heard: Callable[[], None] = self._silence.heard

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, cut anywhere.

        Raises:
            BadUpstream: It is compressed, which we did not ask for: it could be a bomb.
            Timeout: Nothing was `heard` for the idle clock; blanks that keep a connection up do not count.
            StreamBroken: The connection was lost.
        """
        if self._encoding not in {"", "identity"}:
            raise BadUpstream(
                "Ollama's answer is compressed, which was not asked for", "Turn off compression in the proxy."
            )
        body = self._response.aiter_raw() if not self._response.is_stream_consumed else _whole(self._response)
        while (chunk := await self._next(body)) is not None:
            yield chunk

    async def _next(self, body: AsyncIterator[bytes]) -> bytes | None:
        try:
            with self._silence:
                return await anext(body, None)
        except (TimeoutError, httpx.TimeoutException):
            raise failures.timed_out(self._timeout_of, self._address) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise failures.stream_broken() from error

    def close(self) -> None:
        """Stop the clock."""
        self._silence.close()

    async def error_body(self) -> bytes:
        """The body of a failing answer, as far as it is of use."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > _ERROR_LIMIT:
                break
        return bytes(body[:_ERROR_LIMIT])


async def _whole(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body of a response that a test double made in one piece: httpx calls it read already."""
    yield response.content


def new_request(
    pool: httpx.AsyncClient,
    backend: Backend,
    timeout: TimeoutKind,
    method: str,
    url: str,
    content: AsyncIterable[bytes] | bytes | None,
    headers: dict[str, str],
) -> httpx.Request:
    """A request with its clocks up to the first byte; `Answer` watches the ones after it.

    Raises:
        InvalidArgument: The address or a header has characters that HTTP does not allow.
    """
    seconds = getattr(backend.timeouts, timeout)
    limits = httpx.Timeout(connect=backend.timeouts.connect, read=seconds, write=seconds, pool=seconds)
    try:
        return pool.build_request(method, url, content=content, headers=headers, timeout=limits)
    except (httpx.InvalidURL, ValueError):
        raise failures.not_sendable() from None


@asynccontextmanager
async def exchange(
    pool: httpx.AsyncClient,
    backend: Backend,
    timeout: TimeoutKind,
    request: httpx.Request,
    context: failures.ErrorContext,
    between: Between = "idle",
) -> AsyncGenerator[Answer]:
    """Send a request and hand out its answer; leaving closes the connection unless the body was read.

    `timeout` runs until the first byte, `between` from part to part.

    Raises:
        OllamaError: No answer began (the failures of the backend).
    """
    # httpx's clocks start anew with every byte: a server that trickles headers needs one that does not.
    # Not for an upload, of which nobody knows how long it takes: there each piece has its time.
    patience = (
        None if timeout == "transfer" else getattr(backend.timeouts, timeout) + backend.timeouts.connect
    )
    try:
        with anyio.fail_after(patience):
            response = await pool.send(request, stream=True, follow_redirects=False)
    except TimeoutError:
        raise failures.timed_out(timeout, context.address) from None
    except (httpx.HTTPError, UnicodeError) as error:
        raise _from_transport(error, timeout, context) from error
    request.extensions.get("timeout", {})["read"] = None  # from here on the idle clock runs, not this one
    timeouts = backend.timeouts
    seconds = (
        max(timeouts.first_byte, timeouts.idle) if between == "composing" else getattr(timeouts, between)
    )
    answer = Answer(response, context.address, between, seconds)
    try:
        yield answer
    finally:
        answer.close()
        await response.aclose()


def _from_transport(
    error: httpx.HTTPError | UnicodeError, timeout: TimeoutKind, context: failures.ErrorContext
) -> OllamaError:
    """Translate a failure before the first byte of an answer."""
    match error:
        case httpx.TimeoutException():
            return failures.through_proxy(_too_late(error, timeout, context.address), context)
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol() | UnicodeError():
            return failures.not_sendable()
        case httpx.RemoteProtocolError() if _is_garbage(error):
            return failures.not_ollama(context)
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError() | httpx.CloseError():
            return failures.stream_broken()
        case _:
            return _unconnected(error, context)


def _too_late(error: httpx.TimeoutException, timeout: TimeoutKind, address: str) -> OllamaError:
    if isinstance(error, httpx.PoolTimeout):
        return failures.pool_is_full(address)
    return failures.timed_out("connect" if isinstance(error, httpx.ConnectTimeout) else timeout, address)


def _unconnected(error: httpx.HTTPError, context: failures.ErrorContext) -> OllamaError:
    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return failures.not_trusted(context.address)
    if tls is not None:
        has_none = "WRONG_VERSION_NUMBER" in str(tls) or "RECORD_LAYER_FAILURE" in str(tls)
        return failures.wrong_scheme(context, "http") if has_none else failures.not_ollama(context)
    if any(isinstance(cause, socket.gaierror) for cause in _causes(error)):
        return failures.unknown_name(context)
    return failures.unreachable(context)


def _is_garbage(error: httpx.RemoteProtocolError) -> bool:
    """Whether the peer sent what is no HTTP: then the parser complained; a mere close has no such cause."""
    return any(type(cause).__module__.startswith(_PARSERS) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while (cause := cause.__cause__ or cause.__context__) is not None:
        yield cause
