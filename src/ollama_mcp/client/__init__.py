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
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload
from urllib.parse import quote

import anyio

from ollama_mcp.client import failures
from ollama_mcp.client.retry import Health, wait_before_next
from ollama_mcp.errors import BadUpstream, Forbidden, OllamaError, Truncated
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.ollama import api_models as api
from ollama_mcp.ollama import endpoints
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
_DRAIN_S = 0.1
_GREETING_LIMIT = 200


class OllamaClient:
    """Calls one Ollama server through connections that are shared per event loop.

    Opens nothing until the first call. Runs on asyncio.

    Args:
        backend: The server: settings of a `Backend`, or an address as in OLLAMA_HOST. Without it the
            settings are those of the environment, OLLAMA_HOST first.
        transport: An httpx transport instead of the network (a test double, another HTTP stack).
        http: A pool of the caller's own; it is used as it is, and not closed here.

    Raises:
        InvalidArgument: The address is none.
        SettingsError: The environment, where it is asked, has a bad setting.
        TypeError: `backend` is of another kind.
    """

    def __init__(
        self,
        backend: Backend | str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.backend: Backend = _backend(backend)
        self._transport = transport
        self._http = http
        self._pools: PerLoop[ConnectionPool] = PerLoop(self._new_lane)

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
            endpoint: A row of `endpoints`. Of one that answers in a stream the chunks are put together:
                `(await client.call(CHAT, request)).message.content` is all of the text.
            body: Its request.
            path: What the endpoint's path leaves open (`digest`).

        Raises:
            OllamaError: One of the tree in `errors`; nothing else.
            TypeError: Its request is another one.
        """
        if isinstance(endpoint, Stream):
            async with self.stream(endpoint, body) as chunks:
                lines: list[Any] = [line async for line in chunks]
            return api.whole(lines) if issubclass(endpoint.response, api.Chunk) else lines[-1]
        _check_row(endpoint, Call, body)
        timeout = _timeout_of(endpoint, body)
        async with self._exchange(endpoint, body, path, timeout) as answer:
            data = await _read(answer)
        return self._parse(endpoint.response, data, answer, self._error_context(body, endpoint))

    @asynccontextmanager
    async def stream(
        self, endpoint: Stream[RequestT, LineT], body: RequestT
    ) -> AsyncGenerator[AsyncIterator[LineT]]:
        """Make one request and yield the lines of its answer as they come.

        Leaving the context before the end closes the connection, which stops the model.

        Raises:
            OllamaError: One of the tree in `errors`; nothing else. An answer that ends without
                `done` is `Truncated`.
            TypeError: The endpoint does not answer in a stream, or its request is another one.
        """
        _check_row(endpoint, Stream, body)
        async with self._exchange(endpoint, body, {}, "first_byte") as answer:
            yield self._lines(endpoint, answer, self._error_context(body, endpoint))

    async def aclose(self) -> None:
        """Close the connections of this event loop; a later call opens new ones."""
        pools = self._pools.pop()
        if pools is not None:
            await pools.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- one exchange ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _exchange(
        self,
        endpoint: Call[Any, Any] | Stream[Any, Any],
        body: Request | Upload | bytes | None,
        path: Mapping[str, str],
        timeout: TimeoutKind,
    ) -> AsyncGenerator[Answer]:
        from ollama_mcp.client.exchange import exchange, new_request  # noqa: PLC0415 - it imports httpx

        context = self._error_context(body, endpoint)
        host = _CLOUD if context.in_cloud else self.backend.host
        url = host.url + endpoint.path.format(
            **{name: quote(value, safe=":") for name, value in path.items()}
        )
        content = _content(body)
        headers = self._headers(host, body)
        pools = self._pools.here()
        between = _between(endpoint, body)

        @asynccontextmanager
        async def attempt() -> AsyncGenerator[Answer]:
            async with pools.pool(timeout, host) as pool:
                request = new_request(pool, self.backend, timeout, endpoint.method, url, content, headers)
                async with exchange(pool, self.backend, timeout, request, context, between) as answer:
                    await self._check_status(answer, context)
                    yield answer

        async with AsyncExitStack() as stack:
            most = 1 if endpoint.once else 1 + self.backend.retries
            yield await _reached(stack, attempt, pools.health[host.url], most)

    async def _check_status(self, answer: Answer, context: failures.ErrorContext) -> None:
        if not 200 <= answer.status < 300:
            body = self._without_secrets(await answer.error_body())
            raise failures.from_status(answer.status, body, answer.retry_after, context, answer.location)

    def _without_secrets(self, body: bytes) -> bytes:
        """A failing answer without them; in JSON they may be written with escapes."""
        try:
            return json.dumps(self._hidden(parse_object(body)), ensure_ascii=False).encode(errors="replace")
        except BadUpstream:
            said: str = self._hidden(body.decode("utf-8", "surrogateescape"))
            return said.encode("utf-8", "surrogateescape")

    def _new_lane(self) -> ConnectionPool:
        from ollama_mcp.client.pool import ConnectionPool  # noqa: PLC0415 - imports httpx, at the first call

        return ConnectionPool(self.backend, self._transport, self._http)

    def _headers(self, host: Host, body: object) -> dict[str, str]:
        backend = self.backend
        headers: dict[str, str] = {}
        if host is backend.host:
            headers.update(_basic(host))
            headers.update({name.lower(): value for name, value in backend.headers.items()})
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
        return headers | {"accept": "application/x-ndjson, application/json", "accept-encoding": "identity"}

    def _error_context(
        self, body: object, endpoint: Call[Any, Any] | Stream[Any, Any]
    ) -> failures.ErrorContext:
        model = getattr(body, "model", "") or getattr(body, "source", "")
        in_cloud = isinstance(endpoint, Call) and endpoint.cloud
        if in_cloud:
            return failures.ErrorContext(_CLOUD.url, str(model), in_cloud=True)
        backend = self.backend
        is_ours = self._transport is None and self._http is None  # else the proxies are somebody else's
        proxy = proxy_for(backend.host) if is_ours else None
        return failures.ErrorContext(
            self.address,
            str(model),
            setting=backend.setting,
            proxy=proxy.variable if proxy else "",
            keeps_key=bool(backend.api_key) and not backend.takes_key(backend.host),
            beside=backend.beside,
            inside=backend.inside,
        )

    def _hidden(self, said: Any) -> Any:
        """What a server says, without the secrets that it was sent."""
        if isinstance(said, dict):
            return {name: self._hidden(value) for name, value in cast("dict[str, Any]", said).items()}
        if isinstance(said, list):
            return [self._hidden(value) for value in cast("list[Any]", said)]
        if isinstance(said, str):
            for secret in self.backend.secrets:
                said = said.replace(secret, "***")
        return said

    # --- reading --------------------------------------------------------------------------------

    def _parse(
        self, model: type[ResponseT], data: bytearray, answer: Answer, context: failures.ErrorContext
    ) -> ResponseT:
        if model is api.Greeting:
            return cast("ResponseT", self._greeting(data, answer))
        _check_kind(answer, context)
        if model is api.Done:
            return model()
        raw = self._object(data)
        if (said := _error_in(raw)) is not None:
            raise failures.from_line(self._hidden(said), context, tells_in_stream=True)
        _check_fields(model, raw, context)
        return _parsed(model, raw)

    def _object(self, data: bytes | bytearray) -> dict[str, Any]:
        try:
            return parse_object(data)
        except NotJson:  # the whole line: a cut could leave half a secret
            said = self._hidden(bytes(data).decode("utf-8", "surrogateescape"))
            raise failures.not_json(said.encode("utf-8", "surrogateescape")) from None

    def _greeting(self, data: bytearray, answer: Answer) -> api.Greeting:
        text = data[:_GREETING_LIMIT].decode(errors="replace").strip()
        if "ollama" not in text.lower():
            raise failures.not_ollama(self._error_context(None, endpoints.ROOT), answer.status)
        return api.Greeting(text=text)

    async def _lines(
        self, endpoint: Stream[RequestT, LineT], answer: Answer, context: failures.ErrorContext
    ) -> AsyncIterator[LineT]:
        _check_kind(answer, context)
        objects = read_objects(answer.chunks(), parse=self._object)
        is_first = True
        async for raw in objects:
            if (said := _error_in(raw)) is not None:
                raise failures.from_line(
                    self._hidden(said), context, tells_in_stream=endpoint.tells_in_stream
                )
            if is_first:
                _check_fields(endpoint.response, raw, context)
                is_first = False
            answer.heard()
            line = _parsed(endpoint.response, raw)
            if line.is_last:
                await _drain(objects)
                yield line
                return
            yield line
        raise Truncated(
            "Ollama ended the answer before it was complete",
            "Try again; if it stays so, the Ollama server's log says why the model stopped.",
        )


def _check_row(endpoint: object, kind: type[Call[Any, Any] | Stream[Any, Any]], body: object) -> None:
    if not isinstance(endpoint, Call | Stream):
        raise TypeError(
            f"an endpoint is a row of ollama_mcp.ollama.endpoints, not a {type(endpoint).__name__}"
        )
    row = cast("Call[Any, Any] | Stream[Any, Any]", endpoint)
    if not isinstance(row, kind):
        verb, other = ("stream", "call") if kind is Call else ("call", "stream")
        raise TypeError(f"{row.path} is asked with {verb}(), not with {other}()")
    takes: Any = (bytes, Upload) if row.request is bytes else row.request
    if not isinstance(body, Request if issubclass(row.request, Request) else takes):  # or one's own
        raise TypeError(f"{row.path} takes a {row.request.__name__}, not a {type(body).__name__}")


def _backend(given: object) -> Backend:
    if given is None:
        return load_from_environment().backend
    if isinstance(given, str):
        return Backend(host=parse_host(given))
    if isinstance(given, Backend):
        return given
    raise TypeError(f"OllamaClient takes an address or a Backend, not a {type(given).__name__}")


async def _reached(
    stack: AsyncExitStack,
    attempt: Callable[[], AbstractAsyncContextManager[Answer]],
    health: Health,
    most: int,
) -> Answer:
    """The answer of the first of at most so many attempts that gets one; `stack` leaves it."""
    most = 1 if health.is_down else most
    tries = 1
    while True:
        try:
            with health.trying():
                return await stack.enter_async_context(attempt())
        except OllamaError as error:
            wait = wait_before_next(error, tries) if tries < most else None
            if wait is None:
                raise
        await anyio.sleep(wait)
        tries += 1


def _timeout_of(endpoint: Call[Any, Any], body: object) -> TimeoutKind:
    if isinstance(body, Upload):
        return "transfer"
    return "first_byte" if endpoint.loads_model else "idle"


def _between(endpoint: Call[Any, Any] | Stream[Any, Any], body: object) -> Between:
    """Which clock runs between two lines of an answer.

    Ollama is silent while a model composes a tool call or what has to fit a format: that may take as long
    as the first byte.
    """
    if not isinstance(endpoint, Stream):
        return "idle"
    composes = getattr(body, "tools", None) or getattr(body, "format", None)
    return "composing" if composes and endpoint.timeout == "idle" else endpoint.timeout


def _content(body: Request | Upload | bytes | None) -> AsyncIterable[bytes] | bytes | None:
    if isinstance(body, Request):
        return body.to_json()
    return body.chunks if isinstance(body, Upload) else body


def _error_in(raw: dict[str, Any]) -> Any:
    """What a record says that went wrong; Ollama 0.11 has that in a key of its own once."""
    if raw.get("error") is not None:
        return raw["error"]
    return next((f"{key}: {value}" for key, value in raw.items() if key.startswith("error ")), None)


def _check_kind(answer: Answer, context: failures.ErrorContext) -> None:
    """A page or a plain text with status 200 is another service's."""
    if answer.content_type.startswith("text/"):
        raise failures.not_ollama(context, answer.status)


def _check_fields(model: type[Response], raw: dict[str, Any], context: failures.ErrorContext) -> None:
    """So is an object that has something to say, but nothing that Ollama says."""
    if raw and not raw.keys() & model.model_fields.keys():
        raise failures.not_ollama(context)


def _basic(host: Host) -> dict[str, str]:
    if not host.username and not host.password:
        return {}
    token = base64.b64encode(f"{host.username}:{host.password}".encode()).decode()
    return {"authorization": f"Basic {token}"}


def _parsed(model: type[ResponseT], raw: dict[str, Any]) -> ResponseT:
    try:
        return model.parse(raw)
    except ValueError as error:
        raise BadUpstream(
            f"in Ollama's answer {error}", "Check that no proxy changes its answers, or update Ollama."
        ) from None


async def _read(answer: Answer) -> bytearray:
    body = bytearray()
    async for chunk in answer.chunks():
        if len(body) + len(chunk) > STREAM_LIMIT:
            raise BadUpstream(f"Ollama's answer is longer than {STREAM_LIMIT} bytes", "Ask for less at once.")
        body += chunk
    return body


async def _drain(objects: AsyncIterator[dict[str, Any]]) -> None:
    """Read what is left of a complete answer (the end mark), so that the connection can be used again.

    A server that keeps the stream open must not hold the answer back; nor can what it still says
    unmake an answer that is complete.
    """
    with anyio.move_on_after(_DRAIN_S), suppress(OllamaError):
        async for _ in objects:
            pass
