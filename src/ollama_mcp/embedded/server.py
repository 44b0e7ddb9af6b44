"""The endpoints of Ollama that the engine has, and an honest error for those that it has not."""

from __future__ import annotations

import time
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ollama_mcp.embedded import catalog
from ollama_mcp.embedded.answering import Activity, Watched, answer
from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.host import Host
from ollama_mcp.embedded.names import parse_name
from ollama_mcp.embedded.requests import Ask, read_ask
from ollama_mcp.embedded.talk import Talk
from ollama_mcp.embedded.vectors import Embedding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ollama_mcp.embedded.answering import Outlet
    from ollama_mcp.embedded.catalog import Model

VERSION = "0.0.0-embedded"

_ABSENT = {
    "/api/pull": "POST",
    "/api/push": "POST",
    "/api/create": "POST",
    "/api/copy": "POST",
    "/api/delete": "DELETE",
    "/api/blobs/{digest}": "POST",
}


class Engine:
    """The models, their slots and what was done with them."""

    def __init__(self, models: Sequence[Model], threads: int) -> None:
        self.hosts: list[Host] = [Host(model, threads) for model in models]
        self.activity: Activity = Activity()

    def find(self, name: str) -> Host | None:
        """Return the host of a model, ``None`` when there is none of that name."""
        key = parse_name(name)
        return next((host for host in self.hosts if host.model.key == key), None)

    def named(self, ask: Ask) -> Host:
        """Return the host of the model that a request names.

        Raises:
            Refused: 400 or 404 in the words of Ollama's endpoint.
        """
        host = self.find(ask.model)
        if host is None:
            raise _missing(ask)
        return host


def _missing(ask: Ask) -> Refused:
    if ask.kind in {"EmbedRequest", "EmbeddingRequest"}:
        return Refused(404, f'model "{ask.model}" not found, try pulling it first')
    if ask.kind != "GenerateRequest" and not ask.model:
        return Refused(400, "model is required")
    if ask.kind != "GenerateRequest" and parse_name(ask.model) is None:
        return Refused(400, "invalid model name")
    return Refused(404, f"model '{ask.model}' not found")


class Endpoints:
    """Ollama's endpoints, over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def root(self, _: Request) -> Response:
        """``GET /``."""
        return PlainTextResponse("Ollama is running")

    async def version(self, _: Request) -> Response:
        """``GET /api/version``."""
        return answer({"version": VERSION})

    async def tags(self, _: Request) -> Response:
        """``GET /api/tags``."""
        return answer({"models": [catalog.in_tags(host.model) for host in self._engine.hosts]})

    async def ps(self, _: Request) -> Response:
        """``GET /api/ps``."""
        loaded = [(host.model, host.loaded) for host in self._engine.hosts]
        return answer({"models": [catalog.in_ps(model, state) for model, state in loaded if state]})

    async def activity(self, _: Request) -> Response:
        """``GET /api/embedded/activity``: ours, for seeing that a cancelled generation stopped."""
        return answer(asdict(self._engine.activity))

    async def show(self, request: Request) -> Response:
        """``POST /api/show``."""
        ask = read_ask(await request.body(), "ShowRequest")
        return answer(catalog.in_show(self._engine.named(ask).model))

    async def chat(self, request: Request) -> Response:
        """``POST /api/chat``."""
        return await self._talk(request, "ChatRequest")

    async def generate(self, request: Request) -> Response:
        """``POST /api/generate``."""
        return await self._talk(request, "GenerateRequest")

    async def embed(self, request: Request) -> Response:
        """``POST /api/embed``."""
        return self._watched("embed", (await self._embedding(request, "EmbedRequest")).embed)

    async def embeddings(self, request: Request) -> Response:
        """``POST /api/embeddings``, the old one."""
        return self._watched("embeddings", (await self._embedding(request, "EmbeddingRequest")).embed_one)

    async def absent(self, request: Request) -> Response:
        """Whatever changes models: there are two, and they stay."""
        what = request.url.path.removeprefix("/api/").partition("/")[0]
        text = f"the embedded engine has fixed models and cannot {what}; install Ollama for that"
        return answer({"error": text}, 501)

    async def _talk(self, request: Request, kind: str) -> Response:
        begin = time.perf_counter_ns()
        ask = read_ask(await request.body(), kind)
        talk = Talk(ask, self._engine.named(ask), begin)
        return self._watched(kind.removesuffix("Request").lower(), talk.run)

    async def _embedding(self, request: Request, kind: str) -> Embedding:
        begin = time.perf_counter_ns()
        ask = read_ask(await request.body(), kind)
        return Embedding(ask, self._engine.named(ask), begin)

    def _watched(self, name: str, job: Callable[[Outlet], Awaitable[None]]) -> Response:
        return Watched(name, job, self._engine.activity)

    def routes(self) -> list[Route]:
        """Return the routes."""
        given = [
            Route("/", self.root),
            Route("/api/version", self.version),
            Route("/api/tags", self.tags),
            Route("/api/ps", self.ps),
            Route("/api/embedded/activity", self.activity),
            Route("/api/show", self.show, methods=["POST"]),
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/api/embed", self.embed, methods=["POST"]),
            Route("/api/embeddings", self.embeddings, methods=["POST"]),
        ]
        return given + [Route(path, self.absent, methods=[method]) for path, method in _ABSENT.items()]


class LocalOnly:
    """Answers 403 to a web page that calls by another name: Ollama's guard against DNS rebinding."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what names this machine, refuse the rest with an empty body."""
        if scope["type"] != "http" or _is_local(scope):
            await self._app(scope, receive, send)
        else:
            await Response(status_code=403)(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    named = [f"//{headers.get(b'host', b'').decode('latin-1')}", *([origin] if origin else [])]
    return all(_names_loopback(urlsplit(url).hostname) for url in named)


def _names_loopback(host: str | None) -> bool:
    if host is None or host == "localhost" or host.endswith(".localhost"):
        return host is not None
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _refused(_: Request, error: Any) -> Response:
    return answer({"error": error.text}, error.status)


async def _left(_: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _not_found(_: Request, _error: HTTPException) -> Response:
    return Response("404 page not found", 404, {"content-type": "text/plain"})


async def _wrong_method(_: Request, error: HTTPException) -> Response:
    headers = {**(error.headers or {}), "content-type": "text/plain"}
    return Response("405 method not allowed", 405, headers)


def build_app(engine: Engine) -> Starlette:
    """Return the ASGI application of an engine."""
    handlers: dict[Any, Any] = {
        Refused: _refused,
        ClientDisconnect: _left,
        404: _not_found,
        405: _wrong_method,
    }
    routes = Endpoints(engine).routes()
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(LocalOnly)])
