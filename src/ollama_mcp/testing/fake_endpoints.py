"""The endpoints that only the fake has: what changes models, the old embeddings, web search; all routes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ollama_mcp.ollama_server import routes
from ollama_mcp.ollama_server.api_answers import (
    RUNNER_JSON,
    Answer,
    Stream,
    Whole,
    empty,
    one_object,
    whole,
)
from ollama_mcp.ollama_server.api_calls import Call
from ollama_mcp.ollama_server.go_values import Refusal, as_int, as_list, as_object, quote, timestamp
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.ollama_server.installed_models import Model, full_name, is_valid, short_name
from ollama_mcp.ollama_server.routes import Handler, check_embedding, not_found
from ollama_mcp.testing import faults
from ollama_mcp.testing.faults import Element
from ollama_mcp.testing.scripted_backend import ScriptedBackend, World
from ollama_mcp.testing.scripts import Step

_QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
_SMALL_LAYERS = (1429, 487)  # template and parameters; the first layer is the weights
_STEPS = 8
_SUCCESS = {"status": "success"}
_NO_NAME = "dial tcp: lookup registry.ollama.ai on 198.51.100.53:53: no such host"


def _progress(call: Call, records: Iterator[Element]) -> Answer:
    if call.streams:
        return Stream(records)
    return Stream(records, lambda lines: dict(lines[-1]) if lines else {}, {"Content-Type": RUNNER_JSON})


def _valid(name: str) -> str:
    if not is_valid(name):
        raise Refusal(400, "invalid model name")
    return name


def _pull(backend: ScriptedBackend, call: Call) -> Answer:
    """POST /api/pull: the lines of `pull_script` or some made up; then the model is there."""
    return _progress(call, _pulling(backend.world, short_name(_valid(call.name))))


def _pulling(world: World, name: str) -> Iterator[Element]:
    installed = world.find(name)
    model = installed or world.registry.get(name) or _made_up(name)
    fresh = installed is None
    last: Mapping[str, Any] = {}
    for record in _pull_lines(model, fresh=fresh) if world.pull_script is None else world.pull_script:
        if record.get("status") == "success":
            world.add_model(model)
        last = record
        yield dict(last)


def _made_up(name: str) -> Model:
    embeds = any(part in name for part in ("embed", "minilm", "bge"))
    return Model(name, capabilities=("embedding",) if embeds else ("completion", "tools"))


def _pull_lines(model: Model, *, fresh: bool) -> Iterator[dict[str, Any]]:
    yield {"status": "pulling manifest"}
    for digest, total in _layers(model):
        yield from _layer_lines("pulling", digest, total, _STEPS if fresh and total > 1e6 else 1)
    yield from ({"status": status} for status in ("verifying sha256 digest", "writing manifest", "success"))


def _layers(model: Model) -> list[tuple[str, int]]:
    sizes = [model.size - sum(_SMALL_LAYERS), *_SMALL_LAYERS]
    digests = [hashlib.sha256(f"{model.digest}/{place}".encode()).hexdigest() for place in range(len(sizes))]
    return list(zip(digests, sizes, strict=True))


def _layer_lines(verb: str, digest: str, total: int, count: int) -> Iterator[dict[str, Any]]:
    for step in range(1, count + 1):
        done = total * step // count
        told = {"digest": f"sha256:{digest}", "total": total, "completed": done}
        yield {"status": f"{verb} {digest[:12]}", **told}


def _push(backend: ScriptedBackend, call: Call) -> Answer:
    """POST /api/push: a model that is not there fails in the stream, with the server's own path."""
    if not call.name:
        raise Refusal(400, "model is required")
    return _progress(call, _pushing(backend.world, call.name))


def _pushing(world: World, name: str) -> Iterator[Element]:
    yield {"status": "retrieving manifest"}
    model = world.find(name)
    if model is None:
        yield {"status": "couldn't retrieve manifest"}
        place = full_name(name).replace(":", "/")
        yield {"error": f"open /var/lib/ollama/manifests/{place}: no such file or directory"}
        return
    for digest, total in _layers(model):
        yield from _layer_lines("pushing", digest, total, _STEPS if total > 1e6 else 1)
    yield from ({"status": status} for status in ("pushing manifest", "success"))


def _create(backend: ScriptedBackend, call: Call) -> Answer:
    """POST /api/create, from an installed model or from uploaded files."""
    name = _valid(call.name)
    if not call.text("from") and not call.body.get("files"):
        raise Refusal(400, "neither 'from' or 'files' was specified", runner=True)
    _check_quantization(call.text("quantize").upper())
    return _progress(call, _creating(backend.world, call, name))


def _check_quantization(wanted: str) -> None:
    if wanted and wanted not in _QUANTIZATIONS:
        known = ", ".join(_QUANTIZATIONS)
        raise Refusal(
            500, f"unsupported quantization type {wanted} - supported types are {known}", runner=True
        )


def _creating(world: World, call: Call, name: str) -> Iterator[Element]:
    source = world.find(call.text("from"))
    if call.text("from") and source is None:
        yield {"status": "pulling manifest"}
        yield {"error": f"pull model manifest: Get {_manifest_url(call.text('from'))}: {_NO_NAME}"}
        return
    if source is None and not _is_gguf(world, call):
        yield {"status": "parsing GGUF"}
        yield {"error": "supplied file was not in GGUF format"}
        return
    model = _derived(source or Model(name), call, name)
    yield {"status": f"using existing layer sha256:{(source or model).digest}"}
    yield {"status": f"creating new layer sha256:{model.digest}"}
    yield {"status": "writing manifest"}
    world.add_model(model)
    yield _SUCCESS


def _manifest_url(name: str) -> str:
    host, *path, last = full_name(name).split("/")
    model, _, tag = last.partition(":")
    return quote(f"https://{host}/v2/{'/'.join([*path, model])}/manifests/{tag}")


def _is_gguf(world: World, call: Call) -> bool:
    digests = [str(digest) for digest in as_object(call.body.get("files")).values()]
    return bool(digests) and all(world.blobs.get(digest, b"").startswith(b"GGUF") for digest in digests)


def _derived(source: Model, call: Call, name: str) -> Model:
    # A parameter of a wrong type is taken and said to be a success; the first chat then fails.
    template = call.text("template")
    return replace(
        source,
        name=name,
        modified_at=timestamp(),
        template=template or source.template,
        capabilities=_capabilities(template) if template else source.capabilities,
        system=call.text("system") or source.system,
        parameters={**source.parameters, **as_object(call.body.get("parameters"))},
        messages=as_list(call.body.get("messages")) or source.messages,
        license=_license(call.body.get("license")) or source.license,
        parent_model=source.name if source.name != name else "",
        quantization_level=call.text("quantize").upper() or source.quantization_level,
        digest=hashlib.sha256(call.request.body).hexdigest(),
        loaded=False,
        window=0,
        loads=0,
    )


def _license(given: Any) -> str:
    return "\n".join(str(text) for text in as_list(given) or [given or ""])


def _capabilities(template: str) -> Sequence[str]:
    marks = {"tools": ".Tools", "insert": ".Suffix", "thinking": "<think>"}
    return ("completion", *(name for name, mark in marks.items() if mark in template))


def _copy(backend: ScriptedBackend, call: Call) -> Answer:
    """POST /api/copy: an empty 200."""
    source, destination = call.text("source"), call.text("destination")
    for field, name in (("source", source), ("destination", destination)):
        if not is_valid(name):
            raise Refusal(400, f"{field} {quote(name)} is invalid")
    model = backend.find(source)
    if model is None:
        raise Refusal(404, f"model {quote(source)} not found")
    backend.world.add_model(replace(model, name=destination, loaded=False, window=0, loads=0))
    return empty()


def _delete(backend: ScriptedBackend, call: Call) -> Answer:
    """DELETE /api/delete: an empty 200."""
    if not is_valid(call.name):
        raise Refusal(400, f"name {quote(call.name)} is invalid")
    model = backend.find(call.name)
    if model is None:
        raise not_found(call.name)
    del backend.world.models[model.name]
    return empty()


def _has_blob(backend: ScriptedBackend, call: Call) -> Answer:
    """HEAD /api/blobs/:digest."""
    digest = call.request.path.rpartition("/")[2]
    if digest not in backend.world.blobs:
        raise Refusal(404, f"blob {quote(digest)} not found")
    return empty()


def _add_blob(backend: ScriptedBackend, call: Call) -> Answer:
    """POST /api/blobs/:digest: 201, or 200 if it is there already."""
    digest = call.request.path.rpartition("/")[2]
    if digest in backend.world.blobs:
        return empty()
    found = f"sha256:{hashlib.sha256(call.request.body).hexdigest()}"
    if found != digest:
        raise Refusal(400, f"digest mismatch, expected {quote(digest)}, got {quote(found)}")
    backend.world.blobs[digest] = call.request.body
    return Whole(b"", 201, {})


def _embeddings(backend: ScriptedBackend, call: Call) -> Answer:
    """POST /api/embeddings, the endpoint of old."""
    prompt = call.text("prompt")
    return one_object(backend.embed_one(check_embedding(backend, call, [prompt] if prompt else [])))


def _web_search(_backend: ScriptedBackend, call: Call) -> Answer:
    _check_key(call)
    result = {"title": "A fake page", "url": "https://example.com/fake", "content": call.text("query")}
    return whole({"results": [result] * min(as_int(call.body.get("max_results"), 1), 10)})


def _web_fetch(_backend: ScriptedBackend, call: Call) -> Answer:
    _check_key(call)
    return whole({"title": "A fake page", "content": f"Fetched {call.text('url')}", "links": []})


def _check_key(call: Call) -> None:
    if not call.request.headers.get("authorization", "").startswith("Bearer "):
        raise Refusal(401, "unauthorized")


def _local_search(_backend: ScriptedBackend, _call: Call) -> Answer:
    raise Refusal(403, "ollama cloud is disabled: web search is unavailable")


ROUTES: dict[str, dict[str, Handler]] = {
    **routes.ROUTES,
    "/api/embeddings": {"POST": _embeddings},
    "/api/pull": {"POST": _pull},
    "/api/push": {"POST": _push},
    "/api/create": {"POST": _create},
    "/api/copy": {"POST": _copy},
    "/api/delete": {"DELETE": _delete},
    "/api/blobs/": {"HEAD": _has_blob, "POST": _add_blob},
    # Of the cloud service, for a client that is pointed here instead of https://ollama.com.
    "/api/web_search": {"POST": _web_search},
    "/api/web_fetch": {"POST": _web_fetch},
    "/api/experimental/web_search": {"POST": _local_search},
}
_BEFORE_EMBED = {path: methods for path, methods in ROUTES.items() if path != "/api/embed"}
"""The endpoints of a server before 0.3."""


def respond(world: World, request: Request, *, close: bool, checks_host: bool = True) -> Iterator[Step]:
    """Return the steps of the answer to a request: the scripts come first, then the endpoint."""
    script = world.scripts.take(request)
    known = ROUTES if world.since(0, 3) else _BEFORE_EMBED
    backend = ScriptedBackend(world, script)
    given = faults.content(script) or routes.answer(backend, known, request, checks_host=checks_host)
    edited = faults.edit(script, given)
    played = faults.steps(edited, close=close, bodyless=request.method == "HEAD")
    return faults.timed(script, edited, played)
