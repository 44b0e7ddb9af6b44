"""`OllamaClient`: the Ollama REST API for Python, with two verbs that take a row of `endpoints`.

Usable without MCP, which it does not import:

    async with OllamaClient() as client:
        models = await client.call(TAGS)
        async with client.stream(CHAT, ChatRequest(model="qwen3:8b", messages=[…])) as chunks:
            async for chunk in chunks:
                print(chunk.text, end="")
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload
from urllib.parse import quote

import anyio

from ollama_mcp.client import error_answers, failures
from ollama_mcp.client.retry import wait_before_next
from ollama_mcp.errors import BadUpstream, Forbidden, OllamaError, Truncated
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.ollama import api_models as api
from ollama_mcp.ollama.base_models import Line, Request, Response, Upload
from ollama_mcp.ollama.endpoints import Call, Stream
from ollama_mcp.ollama.hosts import Host, parse_host
from ollama_mcp.ollama.ndjson import STREAM_LIMIT, NotJson, parse_object, read_objects
from ollama_mcp.settings import Backend, load_from_environment
from ollama_mcp.settings.proxies import proxy_for

if TYPE_CHECKING:
    import httpx

    from ollama_mcp.client.exchange import Answer
    from ollama_mcp.client.pool import Between, ConnectionPool, TimeoutKind

__all__ = ["OllamaClient"]

RequestT = TypeVar("RequestT", bound="Request | Upload | bytes | None")
ResponseT = TypeVar("ResponseT", bound=Response)
LineT = TypeVar("LineT", bound=Line)

_CLOUD = parse_host("https://ollama.com")
"""Ollama's web service, which answers the endpoints with `cloud=True`."""
_DRAIN_S = 0.1
"""Seconds to read on behind a complete answer, so that its connection can be used again."""
_GREETING_LIMIT = 200
"""Bytes of the greeting at `/` that are read: Ollama's own has 17."""


class OllamaClient:
    """A client of one Ollama server; its connections are shared by the tasks of an event loop.

    It opens nothing until the first call, and runs on asyncio.

        client = OllamaClient("http://gpu-box:11434")
        version = (await client.call(VERSION)).version
        await client.aclose()

    Args:
        backend: The server: a `Backend` of the settings, or an address as in OLLAMA_HOST. Without it the
            environment is read, OLLAMA_HOST first.
        transport: An httpx transport instead of the network (a test double, another HTTP stack).
        http: An httpx client of the caller's, used as it is and never closed here.

    Raises:
        InvalidArgument: The address cannot be parsed.
        SettingsError: The environment, where it is read, has a bad setting.
        TypeError: `backend` is neither an address nor a `Backend`.
    """

    def __init__(
        self,
        backend: Backend | str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        if backend is None:
            backend = load_from_environment().backend
        elif isinstance(backend, str):
            backend = Backend(host=parse_host(backend))
        elif not isinstance(backend, cast("type[object]", Backend)):
            raise TypeError(f"OllamaClient takes an address or a Backend, not a {type(backend).__name__}")
        self.backend: Backend = backend
        self._transport = transport
        self._http = http
        self._pools: PerLoop[ConnectionPool] = PerLoop(self._new_pool)

    @property
    def address(self) -> str:
        """The server's address, without any secret."""
        return self.backend.host.url

    @overload
    async def call(
        self, endpoint: Call[RequestT, ResponseT], body: RequestT = None, **path: str
    ) -> ResponseT: ...
    @overload
    async def call(self, endpoint: Stream[RequestT, LineT], body: RequestT) -> LineT: ...
    async def call(
        self,
        endpoint: Call[RequestT, ResponseT] | Stream[RequestT, LineT],
        body: RequestT = None,
        **path: str,
    ) -> ResponseT | LineT:
        """Make one request and read its whole answer.

        Args:
            endpoint: A row of `endpoints`. The chunks of one that answers in a stream are put together:
                `(await client.call(CHAT, request)).message.content` is all of the text.
            body: The request.
            path: Values for the fields of the endpoint's path (`digest`).

        Returns:
            The answer, parsed.

        Raises:
            OllamaError: Any failure of the call, and no other exception.
            TypeError: The body is not the request of this endpoint.
        """
        if isinstance(endpoint, Stream):
            async with self.stream(endpoint, body) as chunks:
                lines: list[Any] = [line async for line in chunks]
            return api.whole(lines) if issubclass(endpoint.response, api.Chunk) else lines[-1]
        _check_row(endpoint, Call, body)
        context = self._error_context(endpoint, body)
        data = bytearray()
        async with self._exchange(endpoint, body, path, context) as answer:
            async for chunk in answer.chunks():
                if len(data) + len(chunk) > STREAM_LIMIT:
                    raise BadUpstream(
                        f"Ollama's answer is longer than {STREAM_LIMIT} bytes", "Ask for less at once."
                    )
                data += chunk
        response: type[Response] = endpoint.response
        if response is api.Greeting:
            text = data[:_GREETING_LIMIT].decode(errors="replace").strip()
            if "ollama" not in text.lower():
                raise failures.not_ollama(context, answer.status)
            return cast("ResponseT", api.Greeting(text=text))
        _refuse_page(answer, context)
        if response is api.Done:
            return endpoint.response()
        return self._record(
            endpoint.response, self._object(data), context, is_first=True, tells_in_stream=True
        )

    @asynccontextmanager
    async def stream(
        self, endpoint: Stream[RequestT, LineT], body: RequestT
    ) -> AsyncGenerator[AsyncIterator[LineT]]:
        """Make one request and yield the lines of its answer as they come.

        Leaving the context before the end closes the connection, which stops the model.

        Args:
            endpoint: A row of `endpoints` that answers in a stream.
            body: The request.

        Raises:
            OllamaError: Any failure of the call, and no other exception. An answer that ends without
                `done` is `Truncated`.
            TypeError: The endpoint does not answer in a stream, or the body is not its request.
        """
        _check_row(endpoint, Stream, body)
        context = self._error_context(endpoint, body)
        async with self._exchange(endpoint, body, {}, context) as answer:
            yield self._lines(endpoint, answer, context)

    async def aclose(self) -> None:
        """Close the connections of this event loop; a later call opens new ones."""
        pools = self._pools.pop()
        if pools is not None:
            await pools.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _new_pool(self) -> ConnectionPool:
        from ollama_mcp.client.pool import ConnectionPool  # noqa: PLC0415 - imports httpx, at the first call

        return ConnectionPool(self.backend, self._transport, self._http)

    def _error_context(
        self, endpoint: Call[Any, Any] | Stream[Any, Any], body: object
    ) -> failures.ErrorContext:
        """Gather what the text of a failure can name; once for each exchange, as it reads the environment."""
        model = str(getattr(body, "model", "") or getattr(body, "source", ""))
        if isinstance(endpoint, Call) and endpoint.cloud:
            return failures.ErrorContext(_CLOUD.url, model, in_cloud=True)
        backend = self.backend
        # With a transport or a pool of the caller's, the proxies are the caller's, too.
        is_ours = self._transport is None and self._http is None
        proxy = proxy_for(backend.host) if is_ours else None
        return failures.ErrorContext(
            self.address,
            model,
            setting=backend.setting,
            proxy=proxy.variable if proxy else "",
            keeps_key=bool(backend.api_key) and not backend.takes_key(backend.host),
            beside=backend.beside,
            inside=backend.inside,
        )

    @asynccontextmanager
    async def _exchange(
        self,
        endpoint: Call[Any, Any] | Stream[Any, Any],
        body: Request | Upload | bytes | None,
        path: Mapping[str, str],
        context: failures.ErrorContext,
    ) -> AsyncGenerator[Answer]:
        """Send a request, again where that can help, and hand out the answer that began."""
        from ollama_mcp.client.exchange import exchange  # noqa: PLC0415 - it imports httpx

        host = _CLOUD if context.in_cloud else self.backend.host
        fields = {name: quote(value, safe=":") for name, value in path.items()} if path else {}
        url = host.url + endpoint.path.format(**fields)
        headers = self._headers(host, body)
        content = body.to_json() if isinstance(body, Request) else body
        content = content.chunks if isinstance(content, Upload) else content
        timeout: TimeoutKind
        between: Between = "idle"
        if isinstance(endpoint, Stream):
            timeout, between = "first_byte", endpoint.timeout
            # Ollama is silent while a model composes a tool call, or JSON that has to fit a format: that
            # may take as long as the first byte.
            if between == "idle" and (getattr(body, "tools", None) or getattr(body, "format", None)):
                between = "composing"
        elif isinstance(body, Upload):
            timeout = "transfer"
        else:
            timeout = "first_byte" if endpoint.loads_model else "idle"
        pools = self._pools.here()

        @asynccontextmanager
        async def attempt() -> AsyncGenerator[Answer]:
            async with (
                pools.pool(timeout, host) as pool,
                exchange(
                    pool, self.backend, endpoint.method, url, content, headers, timeout, between, context
                ) as answer,
            ):
                if not 200 <= answer.status < 300:
                    said = self._without_secrets(await answer.error_body())
                    raise error_answers.from_status(
                        answer.status, said, answer.retry_after, context, answer.location
                    )
                yield answer

        health = pools.health[host.url]
        most_tries = 1 if endpoint.once or health.is_down else 1 + self.backend.retries
        tries = 1
        async with AsyncExitStack() as stack:
            while True:
                try:
                    with health.trying():
                        answer = await stack.enter_async_context(attempt())
                    break
                except OllamaError as error:
                    wait = wait_before_next(error, tries) if tries < most_tries else None
                    if wait is None:
                        raise
                await anyio.sleep(wait)
                tries += 1
            yield answer

    def _headers(self, host: Host, body: object) -> dict[str, str]:
        backend = self.backend
        headers: dict[str, str] = {}
        if host is backend.host:
            if host.username or host.password:
                basic = base64.b64encode(f"{host.username}:{host.password}".encode()).decode()
                headers["authorization"] = f"Basic {basic}"
            for name, value in backend.headers.items():
                headers[name.lower()] = value
        if backend.takes_key(host):
            headers["authorization"] = f"Bearer {backend.api_key}"
        elif host is _CLOUD:
            raise Forbidden(
                "Ollama's web service needs an API key", "Set OLLAMA_API_KEY to a key of https://ollama.com."
            )
        if isinstance(body, Request):
            headers["content-type"] = "application/json"
        if isinstance(body, Upload):
            headers["content-length"] = str(body.size)
        headers["accept"] = "application/x-ndjson, application/json"
        headers["accept-encoding"] = "identity"  # a compressed answer could be a bomb
        return headers

    async def _lines(
        self, endpoint: Stream[RequestT, LineT], answer: Answer, context: failures.ErrorContext
    ) -> AsyncIterator[LineT]:
        """Yield the lines of an answer, up to and with the one that says that it is complete."""
        _refuse_page(answer, context)
        objects = read_objects(answer.chunks(), parse=self._object)
        is_first = True
        async for raw in objects:
            line = self._record(
                endpoint.response, raw, context, is_first=is_first, tells_in_stream=endpoint.tells_in_stream
            )
            is_first = False
            if line.is_last:
                # Read the end mark, so that the connection can be used again. A server that keeps the
                # stream open does not hold the answer back, and no later line unmakes it.
                with anyio.move_on_after(_DRAIN_S), suppress(OllamaError):
                    async for _ in objects:
                        pass
                yield line
                return
            yield line
            answer.heard()  # behind it: the time of whoever reads the lines is none of Ollama's silence
        raise Truncated(
            "Ollama ended the answer before it was complete",
            "Try again; if it stays so, the Ollama server's log says why the model stopped.",
        )

    def _record(
        self,
        response: type[ResponseT],
        raw: dict[str, Any],
        context: failures.ErrorContext,
        *,
        is_first: bool,
        tells_in_stream: bool,
    ) -> ResponseT:
        """Parse an object of an answer, or raise the error that it tells."""
        told = raw.get("error")
        if told is None:  # Ollama 0.11 writes one of its errors into the key: {"error …": "…"}
            told = next((f"{key}: {value}" for key, value in raw.items() if key.startswith("error ")), None)
        if told is not None:
            raise error_answers.from_line(self._hidden(told), context, tells_in_stream=tells_in_stream)
        # An object that says something, and nothing that Ollama says, comes from another service.
        if is_first and raw and not raw.keys() & response.model_fields.keys():
            raise failures.not_ollama(context)
        try:
            return response.parse(raw)
        except ValueError as error:
            raise BadUpstream(
                f"in Ollama's answer {error}", "Check that no proxy changes its answers, or update Ollama."
            ) from None

    def _object(self, data: bytes | bytearray) -> dict[str, Any]:
        try:
            return parse_object(data)
        except NotJson:  # secrets are hidden in the whole line: a cut could leave half of one
            said = self._hidden(bytes(data).decode("utf-8", "surrogateescape"))
            raise error_answers.not_json(said.encode("utf-8", "surrogateescape")) from None

    def _without_secrets(self, body: bytes) -> bytes:
        """Hide the secrets in the body of a failing answer, where JSON may have written them with escapes."""
        try:
            return json.dumps(self._hidden(parse_object(body)), ensure_ascii=False).encode(errors="replace")
        except BadUpstream:
            said: str = self._hidden(body.decode("utf-8", "surrogateescape"))
            return said.encode("utf-8", "surrogateescape")

    def _hidden(self, said: Any) -> Any:
        """Copy a value that the server sent, with `***` for each secret that was sent to it."""
        if isinstance(said, dict):
            return {name: self._hidden(value) for name, value in cast("dict[str, Any]", said).items()}
        if isinstance(said, list):
            return [self._hidden(value) for value in cast("list[Any]", said)]
        if isinstance(said, str):
            for secret in self.backend.secrets:
                said = said.replace(secret, "***")
        return said


def _check_row(endpoint: object, kind: type[Call[Any, Any] | Stream[Any, Any]], body: object) -> None:
    """Refuse an endpoint of another kind, or a body that is not its request (`TypeError`)."""
    if not isinstance(endpoint, Call | Stream):
        raise TypeError(
            f"an endpoint is a row of ollama_mcp.ollama.endpoints, not a {type(endpoint).__name__}"
        )
    row = cast("Call[Any, Any] | Stream[Any, Any]", endpoint)
    if not isinstance(row, kind):
        verb, other = ("stream", "call") if kind is Call else ("call", "stream")
        raise TypeError(f"{row.path} is asked with {verb}(), not with {other}()")
    takes: Any = (bytes, Upload) if row.request is bytes else row.request
    # Any Request passes: a caller may have a subclass of its own for a field that we do not know.
    if not isinstance(body, Request if issubclass(row.request, Request) else takes):
        raise TypeError(f"{row.path} takes a {row.request.__name__}, not a {type(body).__name__}")


def _refuse_page(answer: Answer, context: failures.ErrorContext) -> None:
    """Raise for a page or a plain text with status 200: another service answers at the address."""
    if answer.content_type.startswith("text/"):
        raise failures.not_ollama(context, answer.status)
