"""Requests as Ollama reads them: each field's Go type, option types, and what every endpoint checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_mcp.ollama_server.go_values import (
    Refusal,
    as_list,
    as_object,
    check_base64,
    dump,
    keep_alive,
    kind_of,
    load,
    quote,
)
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.ollama_server.installed_models import Model, full_name

_OPTION_KINDS = {
    "float32": "temperature top_p min_p typical_p repeat_penalty presence_penalty frequency_penalty",
    "integer": "num_keep seed num_predict top_k repeat_last_n num_ctx num_batch num_gpu main_gpu num_thread",
    "boolean": "use_mmap",
    "array": "stop",
}
OPTION_TYPES = {name: kind for kind, names in _OPTION_KINDS.items() for name in names.split()}
_JSON_KINDS = {"float32": "number", "integer": "number", "boolean": "bool", "array": "array"}
_THINK_LEVELS = ("high", "medium", "low", "max")
_NO_IMAGES = {
    "code": 400,
    "message": "Multimodal data provided, but model does not support multimodal requests.",
    "type": "invalid_request_error",
}
TOO_LONG = "the input length exceeds the context length"

# --- the fields of requests ----------------------------------------------------------------------

_MODEL = {"model": "string", "name": "string", "stream": "bool", "insecure": "bool"}
_RUN = {
    "model": "string",
    "options": "map[string]interface {}",
    "keep_alive": "api.Duration",
    "truncate": "bool",
}
_TEXT = _RUN | {
    "stream": "bool",
    "shift": "bool",
    "think": "api.ThinkValue",
    "logprobs": "bool",
    "top_logprobs": "int",
}
_GENERATE = _TEXT | {
    "prompt": "string",
    "suffix": "string",
    "system": "string",
    "template": "string",
    "raw": "bool",
    "context": "[]int",
    "images": "[]api.ImageData",
}
_CREATE = _MODEL | {
    "from": "string",
    "template": "string",
    "system": "string",
    "quantize": "string",
    "files": "map[string]string",
    "parameters": "map[string]interface {}",
    "messages": "[]api.Message",
}
_BODIES: dict[str, tuple[str, dict[str, str]]] = {
    "/api/chat": ("ChatRequest", _TEXT | {"messages": "[]api.Message", "tools": "api.Tools"}),
    "/api/generate": ("GenerateRequest", _GENERATE),
    "/api/embed": ("EmbedRequest", _RUN | {"dimensions": "int"}),
    "/api/embeddings": ("EmbeddingRequest", _RUN | {"prompt": "string"}),
    "/api/show": ("ShowRequest", _MODEL | {"verbose": "bool"}),
    "/api/pull": ("PullRequest", _MODEL),
    "/api/push": ("PushRequest", _MODEL),
    "/api/create": ("CreateRequest", _CREATE),
    "/api/copy": ("CopyRequest", {"source": "string", "destination": "string"}),
    "/api/delete": ("DeleteRequest", _MODEL),
    "/api/web_search": ("WebSearchRequest", {"query": "string", "max_results": "int"}),
    "/api/web_fetch": ("WebFetchRequest", {"url": "string"}),
}
_STRUCTS: dict[str, dict[str, str]] = {
    "api.Message": {
        "role": "string",
        "content": "string",
        "thinking": "string",
        "images": "[]api.ImageData",
        "tool_calls": "[]api.ToolCall",
        "tool_name": "string",
        "tool_call_id": "string",
    },
    "api.ToolCall": {"function": "api.ToolCallFunction"},
    "api.ToolCallFunction": {"name": "string", "arguments": "api.ToolCallFunctionArguments"},
}
_KINDS = {
    "string": "string",
    "bool": "bool",
    "int": "number",
    "api.ImageData": "string",
    "api.Tools": "array",
}
"""The JSON kind of a Go type; `[]…` is an array, and what is not here an object."""


def read_body(path: str, body: bytes) -> dict[str, Any]:
    """Decode a request's body into the struct that Go has for its path; empty where it has none.

    Raises:
        Refusal: 400, in the words of Go's decoder.
    """
    if path not in _BODIES:
        return {}
    struct, fields = _BODIES[path]
    value = load(body)
    if kind_of(value) != "object":
        raise Refusal(400, f"json: cannot unmarshal {kind_of(value)} into Go value of type api.{struct}")
    for name, go_type in fields.items():
        _check_field(value.get(name), go_type, f"{struct}.{name}")
    return value


def _check_field(value: Any, go_type: str, place: str) -> None:
    if value is None:  # null fits everywhere
        return
    if go_type in _DECODERS:
        _DECODERS[go_type](value)
        return
    wanted = "array" if go_type.startswith("[]") else _KINDS.get(go_type, "object")
    if kind_of(value) != wanted or (go_type == "int" and isinstance(value, float)):
        raise Refusal(
            400, f"json: cannot unmarshal {kind_of(value)} into Go struct field {place} of type {go_type}"
        )
    if go_type.startswith("[]"):
        for item in value:
            _check_field(item, go_type[2:], place)
    elif go_type == "api.ImageData":
        check_base64(value)
    for name, inner in _STRUCTS.get(go_type, {}).items():
        _check_field(value.get(name), inner, f"{place}.{name}")


def _check_think(value: object) -> None:
    if isinstance(value, bool) or value in _THINK_LEVELS:
        return
    levels = ", ".join(f'"{level}"' for level in _THINK_LEVELS)
    if isinstance(value, str):
        raise Refusal(400, f"invalid think value: {quote(value)} (must be {levels}, true, or false)")
    raise Refusal(400, f"think must be a boolean or string ({levels}, true, or false)")


def _check_arguments(value: object) -> None:
    if isinstance(value, str):
        raise Refusal(400, "Value looks like object, but can't find closing '}' symbol")


_DECODERS: dict[str, Callable[[Any], object]] = {
    "api.Duration": keep_alive,
    "api.ThinkValue": _check_think,
    "api.ToolCallFunctionArguments": _check_arguments,
}
"""Go types that read themselves, in words of their own."""


@dataclass(frozen=True)
class Call:
    """A request to an endpoint, its body decoded; absent fields read as Go's zero values.

    Attributes:
        request: The request as it came.
        body: The fields that were sent, their types checked.
    """

    request: Request
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name as the client wrote it; `name` is the field of old clients."""
        return self.text("model") or self.text("name")

    def text(self, field: str) -> str:
        """Return a field of text, empty if it is missing."""
        value = self.body.get(field)
        return value if isinstance(value, str) else ""

    @property
    def streams(self) -> bool:
        """Whether the answer is to come in records, which is the default."""
        return self.body.get("stream") is not False

    @property
    def truncates(self) -> bool:
        """Whether what is too long may be cut, which is the default."""
        return self.body.get("truncate") is not False

    @property
    def keep_alive(self) -> float:
        """Seconds that the model stays loaded afterwards, infinity for ever."""
        return keep_alive(self.body.get("keep_alive"))

    @property
    def options(self) -> dict[str, Any]:
        """The model options, unchecked."""
        return as_object(self.body.get("options"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of a chat."""
        return [as_object(message) for message in as_list(self.body.get("messages"))]

    @property
    def images(self) -> list[str]:
        """All images, of the prompt and of the messages."""
        holders: list[Mapping[str, Any]] = [self.body, *self.messages]
        return [image for holder in holders for image in as_list(holder.get("images"))]


# --- what is checked before a model runs ---------------------------------------------------------


def check_options(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set, with the model's own parameters below them.

    Unknown options are let through, as by Ollama.

    Raises:
        Refusal: 500, a value is of a wrong type.
    """
    given = {name: value for name, value in options.items() if value is not None}
    merged = {name: value for name, value in (dict(model.parameters) | given).items() if value is not None}
    for name, value in merged.items():
        kind = OPTION_TYPES.get(name)
        if kind and kind_of(value) != _JSON_KINDS[kind]:
            raise Refusal(500, f'option "{name}" must be of type {kind}')
    if not all(isinstance(text, str) for text in as_list(merged.get("stop"))):
        raise Refusal(500, 'option "stop" must be of an array of strings')
    return merged


def check_format(wanted: Any) -> None:
    """Let "json", a schema, and nothing pass.

    Raises:
        Refusal: 500, anything else.
    """
    if wanted not in (None, "", "json") and not isinstance(wanted, dict):
        shown = quote(json.dumps(wanted, ensure_ascii=False))
        raise Refusal(
            500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object', runner=True
        )


def check_capabilities(call: Call, model: Model, endpoint: str) -> None:
    """Check that a model can do what a call asks of it; `endpoint` is "chat" or "generate".

    Raises:
        Refusal: 400, it cannot; the model is told by its short name or, as by Ollama, by the full one.
    """
    if not model.can("completion"):
        raise Refusal(400, f'"{call.name}" does not support {endpoint}')
    for field, capability in (("tools", "tools"), ("suffix", "insert"), ("think", "thinking")):
        if call.body.get(field) and not model.can(capability):
            shown = f'"{call.name}"' if capability == "thinking" else full_name(model.name)
            raise Refusal(400, f"{shown} does not support {capability}")


def check_images(model: Model, images: Iterable[str]) -> None:
    """Check that a model that is to see can.

    Raises:
        Refusal: 400, there are images and it cannot, with the runner's own JSON in the text.
    """
    if any(True for _ in images) and not model.can("vision"):
        raise Refusal(400, runner_error(_NO_IMAGES), runner=True)


def runner_error(error: Mapping[str, Any]) -> str:
    """Return an error object of the model runner as Ollama passes it on: JSON as a string."""
    return dump({"error": error}).decode()
