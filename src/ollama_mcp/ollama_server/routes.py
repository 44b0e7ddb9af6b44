"""The routes: a back end and a request in, an answer out. No sockets.

Every endpoint checks in Ollama's order, so that a request with two faults is refused for the same one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from ollama_mcp.ollama.model_names import is_cloud_name
from ollama_mcp.ollama_server.api_answers import (
    JSON,
    NDJSON,
    Answer,
    Record,
    Records,
    Stream,
    Whole,
    empty,
    one_object,
    plain,
    refused,
    whole,
)
from ollama_mcp.ollama_server.api_calls import (
    Call,
    check_capabilities,
    check_format,
    check_images,
    check_options,
    read_body,
)
from ollama_mcp.ollama_server.go_values import Refusal, as_int, as_list, as_object, timestamp
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.ollama_server.installed_models import (
    Model,
    card,
    is_valid,
    remote,
    running_entry,
    tag_entry,
)

_PAGES_ON_THIS_MACHINE = {"app", "file", "tauri", "vscode-webview", "vscode-file"}
"""Schemes of origins that Ollama lets in."""


class ModelBackend(Protocol):
    """The models behind the API, and what they say."""

    @property
    def version(self) -> str:
        """The version to answer."""
        ...

    def since(self, *version: int) -> bool:
        """Return whether it behaves as this version of Ollama or a younger one."""
        ...

    def installed(self) -> Iterable[Model]:
        """Return the models for tags."""
        ...

    def running(self) -> Iterable[Model]:
        """Return the models for ps."""
        ...

    def find(self, name: str) -> Model | None:
        """Return the installed model of that name, however it is spelt."""
        ...

    def load(self, generation: Generation) -> Records:
        """Load the model or, with a keep_alive of 0, unload it; then yield `generation.loaded()`."""
        ...

    def generate(self, generation: Generation) -> Records:
        """Yield a record for each piece of an answer, and the last one with figures."""
        ...

    def embed(self, embedding: Embedding) -> Records:
        """Yield one record, the answer."""
        ...


@dataclass(frozen=True)
class Generation:
    """A chat or a generation that passed every check which needs no model.

    Attributes:
        call: The request.
        model: The model that it asks.
        options: The options that are set, the model's own parameters among them.
    """

    call: Call
    model: Model
    options: Mapping[str, Any]

    @property
    def is_chat(self) -> bool:
        """Whether its records have a message, and not a response."""
        return self.call.request.path == "/api/chat"

    @property
    def thinks(self) -> bool:
        """Whether the model is to think: if asked to, and by default if it can."""
        think = self.call.body.get("think")
        return self.model.can("thinking") if think is None else bool(think)

    def record(self, content: str, *, done: bool = False, **more: Any) -> Record:
        """Return a record.

        Args:
            content: The piece of text.
            done: Whether it is the last one.
            more: Of the message `thinking` and `tool_calls`; anything else is laid beside it.
        """
        of_message = {name: more.pop(name) for name in ("thinking", "tool_calls") if name in more}
        if self.is_chat:
            said: Record = {"message": {"role": "assistant", "content": content, **of_message}}
        else:
            said = {"response": content, **of_message}
        stamp = {"model": self.call.name, **remote(self.model), "created_at": timestamp()}
        return {**stamp, **said, "done": done, **more}

    def loaded(self) -> Record:
        """Return the record of a call that only loads or unloads the model."""
        return self.record("", done=True, done_reason="load" if self.call.keep_alive else "unload")

    def fold(self, records: Sequence[Record]) -> Record:
        """Return the one object of `stream: false`: the last record with all that was said."""
        pieces = [as_object(record.get("message", record)) for record in records]
        field = "content" if self.is_chat else "response"
        said: Record = {field: "".join(piece.get(field) or "" for piece in pieces)}
        if thinking := "".join(piece.get("thinking") or "" for piece in pieces):
            said["thinking"] = thinking
        if calls := [called for piece in pieces for called in piece.get("tool_calls", ())]:
            said["tool_calls"] = calls
        last = dict(records[-1]) if records else {}
        if logprobs := [one for record in records for one in record.get("logprobs", ())]:
            last["logprobs"] = logprobs
        return last | ({"message": {"role": "assistant", **said}} if self.is_chat else said)


@dataclass(frozen=True)
class Embedding:
    """A request for vectors that passed every check which needs no model.

    Attributes:
        call: The request.
        model: The model that it asks.
        options: The options that are set.
        texts: What is to be embedded; empty for a call that only loads or unloads the model.
    """

    call: Call
    model: Model
    options: Mapping[str, Any]
    texts: Sequence[str]

    def record(
        self, vectors: Sequence[Sequence[float]], *, tokens: int, total_ns: int, load_ns: int
    ) -> Record:
        """Return the answer: unit vectors of as many dimensions as were asked for, and figures."""
        size = as_int(self.call.body.get("dimensions"), 0)
        shown = [normalised(vector[:size] if size > 0 else vector) for vector in vectors]
        told: Record = {"model": self.call.name, "embeddings": shown}
        if self.texts:
            told |= {"total_duration": total_ns, "load_duration": load_ns}
        return told | ({"prompt_eval_count": tokens} if tokens else {})  # Go leaves a zero out


def normalised(numbers: Sequence[float]) -> list[float]:
    """Return the same direction with length 1, in eight digits as Go prints a float32.

    >>> normalised([3, 4])
    [0.6, 0.8]
    """
    length = hypot(*numbers) or 1.0
    return [float(f"{number / length:.8g}") for number in numbers]


# --- the endpoints -------------------------------------------------------------------------------


def _root(_backend: ModelBackend, _call: Call) -> Answer:
    return Whole(b"Ollama is running", 200, {"Content-Type": "text/plain; charset=utf-8"})


def _version(backend: ModelBackend, _call: Call) -> Answer:
    return whole({"version": backend.version})


def _tags(backend: ModelBackend, _call: Call) -> Answer:
    return whole({"models": [tag_entry(m, rich=backend.since(0, 30)) for m in backend.installed()]})


def _ps(backend: ModelBackend, _call: Call) -> Answer:
    return whole({"models": [running_entry(model) for model in backend.running()]})


def _show(backend: ModelBackend, call: Call) -> Answer:
    check_name(call)
    model = backend.find(call.name)
    if model is None:
        raise not_found(call.name)
    return whole(card(model, capabilities=backend.since(0, 6, 4)))


def check_name(call: Call) -> None:
    """Check that a call names a model.

    Raises:
        Refusal: 400, it does not, or what it names cannot be one.
    """
    if not call.name:
        raise Refusal(400, "model is required")
    if not is_valid(call.name):
        raise Refusal(400, "invalid model name")


def not_found(name: str) -> Refusal:
    """Return the usual 404."""
    return Refusal(404, f"model '{name}' not found")


def _chat(backend: ModelBackend, call: Call) -> Answer:
    check_name(call)
    return _talk(backend, call, "chat", is_empty=not call.messages)


def _generate(backend: ModelBackend, call: Call) -> Answer:
    return _talk(backend, call, "generate", is_empty=not (call.text("prompt") or call.text("suffix")))


def _talk(backend: ModelBackend, call: Call, endpoint: str, *, is_empty: bool) -> Answer:
    model = backend.find(call.name)
    if model is None:
        if is_cloud_name(call.name):
            raise Refusal(403, "ollama cloud is disabled: remote model is unavailable")
        raise not_found(call.name)
    if is_empty and call.keep_alive == 0:  # any model can be unloaded so, an embedding model too
        return one_object(backend.load(Generation(call, model, {})))
    if call.body.get("raw") and any(call.body.get(field) for field in ("template", "system", "context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    check_capabilities(call, model, endpoint)
    options = check_options(model, call.options)
    if is_empty:
        return one_object(backend.load(Generation(call, model, options)))
    check_format(call.body.get("format"))
    if backend.since(0, 30):  # before, a text model drops an image in silence
        check_images(model, call.images)
    generation = Generation(call, model, options)
    records = backend.generate(generation)
    if call.streams:
        return Stream(records, None, {"Content-Type": NDJSON})
    return Stream(records, generation.fold, {"Content-Type": JSON})


def _embed(backend: ModelBackend, call: Call) -> Answer:
    given = call.body.get("input")
    # An empty text alone is no text; in a list it is one like the others.
    texts = [given] if isinstance(given, str) and given else as_list(given)
    if not isinstance(given, str | list | None) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return one_object(backend.embed(check_embedding(backend, call, texts)))


def check_embedding(backend: ModelBackend, call: Call, texts: Sequence[str]) -> Embedding:
    """Check a request for vectors, of this endpoint and the old one.

    Raises:
        Refusal: 404, 500 or 501: no such model, a wrong option, a model without vectors.
    """
    model = backend.find(call.name)
    if model is None:
        raise Refusal(404, f'model "{call.name}" not found, try pulling it first')
    options = check_options(model, call.options)
    if not model.can("embedding") and backend.since(0, 30):
        raise Refusal(501, "This server does not support embeddings. Start it with `--embeddings`")
    return Embedding(call, model, options, texts)


Handler: TypeAlias = Callable[[Any, Call], Answer]
"""An endpoint: a back end and a call in, an answer out."""

ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"GET": _root, "HEAD": _root},
    "/api/version": {"GET": _version, "HEAD": _version},
    "/api/tags": {"GET": _tags, "HEAD": _tags},
    "/api/ps": {"GET": _ps},
    "/api/show": {"POST": _show},
    "/api/chat": {"POST": _chat},
    "/api/generate": {"POST": _generate},
    "/api/embed": {"POST": _embed},
}
"""The endpoints that every back end has."""


def answer(
    backend: ModelBackend,
    routes: Mapping[str, Mapping[str, Handler]],
    request: Request,
    *,
    checks_host: bool = True,
) -> Answer:
    """Answer a request: the guards of a server that listens on this machine, the route, the endpoint.

    Args:
        backend: The models.
        routes: Endpoints by path and method; `/api/blobs/` stands for all paths that begin so.
        request: The request.
        checks_host: False for a server that is not bound to loopback: as Ollama, it then lets any name pass.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin", "")
    if (checks_host and not is_local(host)) or not is_local_origin(origin, host):
        return empty(403)
    methods = routes.get("/api/blobs/" if request.path.startswith("/api/blobs/") else request.path)
    if methods is None:
        return plain(404, "404 page not found")
    if request.method not in methods:
        return plain(405, "405 method not allowed", Allow=", ".join(methods))
    try:
        return methods[request.method](backend, Call(request, read_body(request.path, request.body)))
    except Refusal as refusal:
        return refused(refusal)


def is_local(host: str) -> bool:
    """Return whether Ollama's check of the Host header lets it pass: an address, or a local name.

    It is what keeps a web page from reaching the server by a name of its own (DNS rebinding).
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name in {"", "localhost"} or name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_local_origin(origin: str, host: str) -> bool:
    """Return whether a page of that origin may call: one of this machine, as Ollama has it by default.

    >>> [is_local_origin(o, "127.0.0.1:5") for o in ("", "http://localhost:3000", "https://evil.example")]
    [True, True, False]
    """
    if not origin:
        return True
    try:
        scheme, name = urlsplit(origin).scheme, urlsplit(origin).hostname
    except ValueError:
        return False
    if scheme in _PAGES_ON_THIS_MACHINE or origin in {f"http://{host}", f"https://{host}"}:
        return True
    return scheme in {"http", "https"} and name in {"localhost", "127.0.0.1", "0.0.0.0"}  # noqa: S104
