"""What is checked before a model runs: option types, capabilities, the context window."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_mcp.testing import go
from ollama_mcp.testing.answers import Refusal
from ollama_mcp.testing.models import Model, full_name, is_cloud
from ollama_mcp.testing.world import Call, World, not_found

_KINDS = {
    "float32": "temperature top_p min_p typical_p repeat_penalty presence_penalty frequency_penalty",
    "integer": "num_keep seed num_predict top_k repeat_last_n num_ctx num_batch num_gpu main_gpu num_thread",
    "boolean": "use_mmap",
    "array": "stop",
}
_OPTION_TYPES = {name: kind for kind, names in _KINDS.items() for name in names.split()}
_GO_KINDS = {"float32": "number", "integer": "number", "boolean": "bool", "array": "array"}
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/")
_NO_IMAGES = {
    "code": 400,
    "message": "Multimodal data provided, but model does not support multimodal requests.",
    "type": "invalid_request_error",
}


def words(text: str) -> int:
    """Tokens of a text. The fake's tokenizer is `str.split`, so that a test can count along."""
    return len(text.split())


def installed(world: World, name: str) -> Model:
    """The model that a generation is asked of.

    Raises:
        Refusal: it is not installed; a cloud model is refused as by a server whose cloud is off.
    """
    model = world.find(name)
    if model is None and is_cloud(name):
        raise Refusal(403, "ollama cloud is disabled: remote model is unavailable")
    if model is None:
        raise not_found(name)
    return model


def check_options(model: Model, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the model's own parameters below them. Unknown ones are let through, as ever.

    Raises:
        Refusal: HTTP 500, a value is of a wrong type.
    """
    merged = {**model.parameters, **options}
    for name, value in merged.items():
        kind = _OPTION_TYPES.get(name)
        if kind and value is not None and go.kind_of(value) != _GO_KINDS[kind]:
            raise Refusal(500, f'option "{name}" must be of type {kind}')
    return merged


def check_format(wanted: Any) -> None:
    """Let "json", a schema, and nothing pass.

    Raises:
        Refusal: HTTP 500, anything else.
    """
    if wanted not in (None, "", "json") and not isinstance(wanted, dict):
        shown = go.quote(json.dumps(wanted))
        raise Refusal(
            500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object', runner=True
        )


def check_images(world: World, model: Model, images: Iterable[str]) -> None:
    """Check pictures.

    Raises:
        Refusal: one is not bare base64, or the model cannot see and the server is young enough to say so.
    """
    found = False
    for image in images:
        found = True
        _check_base64(image)
    if found and world.refuses_images and not model.can("vision"):
        raise Refusal(400, go.dump({"error": _NO_IMAGES}).decode(), runner=True)


def _check_base64(image: str) -> None:
    text = image.replace("\r", "").replace("\n", "")
    bare = text.rstrip("=")
    at = next((place for place, letter in enumerate(bare) if letter not in _BASE64), None)
    if at is None and (len(text) % 4 or len(text) - len(bare) > 2):
        at = len(text)
    if at is not None:
        raise Refusal(400, f"illegal base64 data at input byte {at}")


def require(call: Call, model: Model, capability: str) -> None:
    """Check a capability that the endpoint can do without.

    Raises:
        Refusal: the model has not got it; thinking under its short name, the others under the full one.
    """
    if not model.can(capability):
        shown = f'"{call.name}"' if capability == "thinking" else full_name(model.name)
        raise Refusal(400, f"{shown} does not support {capability}")


def wants_thinking(call: Call, model: Model) -> bool:
    """Whether the model is to think: if asked to, and by default if it can.

    Raises:
        GoError: `think` is neither a boolean nor a level.
        Refusal: the model cannot think.
    """
    asked = go.think(call.body.get("think"))
    if asked:
        require(call, model, "thinking")
    return model.can("thinking") if asked is None else asked


@dataclass(frozen=True)
class Fit:
    """How a prompt goes into a window: the tokens that the model sees, in a window of so many."""

    seen: int
    window: int


def window_of(world: World, model: Model, options: Mapping[str, Any]) -> int:
    """The window that a call loads the model with: its num_ctx or the server's, within the model's own."""
    asked = go.as_int(options.get("num_ctx"), 0)
    return min(asked if asked > 0 else world.window, model.context_length)


def fit(world: World, call: Call, window: int, parts: list[int], kept: int = 0) -> Fit:
    """Fit a prompt into a window: the tokens of its messages, the question last, and `kept` for the system.

    What is too long loses its oldest messages without a trace in the answer; a question that is too
    long alone is cut, to half of the window and a little (to the whole window before 0.30).

    Raises:
        Refusal: it is too long and `truncate` is false, with both numbers since 0.30.
    """
    seen = kept + sum(parts)
    if seen > window and call.body.get("truncate") is False and world.knows_truncate:
        raise _overflow(world, seen, window)
    while len(parts) > 1 and seen > window:
        seen -= parts[0]
        parts = parts[1:]
    return Fit(seen if seen <= window else _cut(world, window), window)


def _cut(world: World, window: int) -> int:
    return window - (window - 4) // 2 if world.since(0, 30) else window


def _overflow(world: World, tokens: int, window: int) -> Refusal:
    if not world.since(0, 30):
        return Refusal(400, "the input length exceeds the context length", runner=True)
    told = {
        "code": 400,
        "message": f"request ({tokens} tokens) exceeds the available context size ({window} tokens), "
        "try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": tokens,
        "n_ctx": window,
    }
    return Refusal(400, go.dump({"error": told}).decode(), runner=True)
