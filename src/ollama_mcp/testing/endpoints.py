"""The routes, on one screen: a request and a world in, an answer out. No sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from ollama_mcp.testing import go, scripts
from ollama_mcp.testing.answers import Answer, Refusal, Step, Whole, empty, plain, steps, whole
from ollama_mcp.testing.embedding import embed, embeddings
from ollama_mcp.testing.framing import Request
from ollama_mcp.testing.generation import chat, generate
from ollama_mcp.testing.models import card, is_valid, running_entry, tag_entry
from ollama_mcp.testing.registry import add_blob, copy, create, delete, has_blob, pull, push
from ollama_mcp.testing.world import Call, World, not_found

Handler: TypeAlias = Callable[[World, Call], Answer]

_NOT_THERE = plain(404, "404 page not found")


def _root(_world: World, _call: Call) -> Answer:
    return Whole(b"Ollama is running", 200, {"Content-Type": "text/plain; charset=utf-8"})


def _version(world: World, _call: Call) -> Answer:
    return whole({"version": world.version})


def _tags(world: World, _call: Call) -> Answer:
    models = sorted(world.models.values(), key=lambda model: model.modified_at, reverse=True)
    return whole({"models": [tag_entry(model, rich=world.since(0, 30)) for model in models]})


def _ps(world: World, _call: Call) -> Answer:
    return whole({"models": [running_entry(model) for model in list(world.models.values()) if model.running]})


def _show(world: World, call: Call) -> Answer:
    if not call.name:
        raise Refusal(400, "model is required")
    if not is_valid(call.name):
        raise Refusal(400, "invalid model name")
    model = world.find(call.name)
    if model is None:
        raise not_found(call.name)
    return whole(card(model, capabilities=world.since(0, 6, 4)))


def _web_search(_world: World, call: Call) -> Answer:
    _check_key(call)
    result = {"title": "A fake page", "url": "https://example.com/fake", "content": call.text("query")}
    return whole({"results": [result] * min(go.as_int(call.body.get("max_results"), 1), 10)})


def _web_fetch(_world: World, call: Call) -> Answer:
    _check_key(call)
    return whole({"title": "A fake page", "content": f"Fetched {call.text('url')}", "links": []})


def _check_key(call: Call) -> None:
    if not call.request.headers.get("authorization", "").startswith("Bearer "):
        raise Refusal(401, "unauthorized")


def _local_search(_world: World, _call: Call) -> Answer:
    raise Refusal(403, "ollama cloud is disabled: web search is unavailable")


ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"GET": _root, "HEAD": _root},
    "/api/version": {"GET": _version, "HEAD": _version},
    "/api/tags": {"GET": _tags, "HEAD": _tags},
    "/api/ps": {"GET": _ps},
    "/api/show": {"POST": _show},
    "/api/chat": {"POST": chat},
    "/api/generate": {"POST": generate},
    "/api/embed": {"POST": embed},
    "/api/embeddings": {"POST": embeddings},
    "/api/pull": {"POST": pull},
    "/api/push": {"POST": push},
    "/api/create": {"POST": create},
    "/api/copy": {"POST": copy},
    "/api/delete": {"DELETE": delete},
    "/api/blobs/": {"HEAD": has_blob, "POST": add_blob},
    # Of the cloud service, for a client that is pointed here instead of https://ollama.com.
    "/api/web_search": {"POST": _web_search},
    "/api/web_fetch": {"POST": _web_fetch},
    "/api/experimental/web_search": {"POST": _local_search},
}

_RUN: dict[str, go.Shape] = {
    "model": "string",
    "name": "string",
    "stream": "bool",
    "options": "object",
    "prompt": "string",
    "suffix": "string",
    "system": "string",
    "template": "string",
    "raw": "bool",
    "truncate": "bool",
    "logprobs": "bool",
    "top_logprobs": "number",
    "images": ["string"],
    "tools": ["object"],
    "messages": [
        {"role": "string", "content": "string", "images": ["string"], "tool_calls": ["object"]},
    ],
    "dimensions": "number",
}
_MODEL: dict[str, go.Shape] = {"model": "string", "name": "string", "stream": "bool", "insecure": "bool"}
_CREATE: dict[str, go.Shape] = {
    **_MODEL,
    "from": "string",
    "template": "string",
    "system": "string",
    "quantize": "string",
    "files": "object",
    "parameters": "object",
    "messages": ["object"],
}
_BODIES: dict[str, tuple[str, go.Shape]] = {
    "/api/chat": ("ChatRequest", _RUN),
    "/api/generate": ("GenerateRequest", _RUN),
    "/api/embed": ("EmbedRequest", _RUN),
    "/api/embeddings": ("EmbeddingRequest", _RUN),
    "/api/show": ("ShowRequest", _MODEL),
    "/api/pull": ("PullRequest", _MODEL),
    "/api/push": ("PushRequest", _MODEL),
    "/api/create": ("CreateRequest", _CREATE),
    "/api/copy": ("CopyRequest", {"source": "string", "destination": "string"}),
    "/api/delete": ("DeleteRequest", _MODEL),
    "/api/web_search": ("WebSearchRequest", {"query": "string", "max_results": "number"}),
    "/api/web_fetch": ("WebFetchRequest", {"url": "string"}),
}


def respond(world: World, request: Request, *, close: bool) -> Iterator[Step]:
    """What to do for a request, step by step: the scripts come first, then the endpoint."""
    script = world.scripts.take(request)
    given = scripts.content(script) or _default(world, request, script)
    answer = scripts.edit(script, given)
    played = steps(answer, close=close, bodyless=request.method == "HEAD")
    return scripts.timed(script, answer, played)


def _default(world: World, request: Request, script: scripts.Script) -> Answer:
    try:
        return _handled(world, request, script)
    except Refusal as refusal:
        return refusal.answer
    except go.GoError as error:
        return whole({"error": str(error)}, 400)


def _handled(world: World, request: Request, script: scripts.Script) -> Answer:
    if not is_local(request.headers.get("host", "")):
        return empty(403)
    path = "/api/blobs/" if request.path.startswith("/api/blobs/") else request.path
    methods = ROUTES.get(path)
    if methods is None:
        return _NOT_THERE
    if request.method not in methods:
        return plain(405, "405 method not allowed", Allow=", ".join(methods))
    return methods[request.method](world, Call(request, script, _body(request)))


def _body(request: Request) -> dict[str, Any]:
    if request.path not in _BODIES:
        return {}
    type_name, shape = _BODIES[request.path]
    body = go.load(request.body)
    go.conform(body, shape, type_name)
    return go.as_object(body)


def is_local(host: str) -> bool:
    """Whether Ollama's check of the Host header lets it pass: an address, or a name that is local."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name in {"", "localhost"} or name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
