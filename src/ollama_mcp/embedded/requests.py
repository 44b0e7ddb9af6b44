"""Requests as Ollama reads them: every field's type, in Go's words when it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.gowords import check_base64, json_type, keep_alive, parse_object
from ollama_mcp.embedded.host import DEFAULT_KEEP_ALIVE

Json = dict[str, Any]

_COMMON = {"model": "string", "options": "map[string]interface {}", "keep_alive": "", "truncate": "bool"}
_TALK = _COMMON | {"stream": "bool", "shift": "bool", "logprobs": "bool", "top_logprobs": "int"}
FIELDS = {
    "ChatRequest": _TALK | {"messages": "[]api.Message", "tools": "api.Tools"},
    "GenerateRequest": _TALK
    | {"prompt": "string", "suffix": "string", "system": "string", "template": "string"}
    | {"raw": "bool", "context": "[]int", "images": "[]api.ImageData"},
    "EmbedRequest": _COMMON | {"dimensions": "int"},
    "EmbeddingRequest": _COMMON | {"prompt": "string"},
    "ShowRequest": {"model": "string", "name": "string", "verbose": "bool"},
}
_MESSAGE = {"role": "string", "content": "string", "thinking": "string", "images": "[]api.ImageData"} | {
    "tool_calls": "[]api.ToolCall",
    "tool_name": "string",
    "tool_call_id": "string",
}
_THINK_LEVELS = ("high", "medium", "low", "max")


@dataclass(frozen=True)
class Ask:
    """A request whose fields have the right types; absent fields read as Go's zero values.

    Attributes:
        kind: Go's name of the request.
        fields: What was sent.
    """

    kind: str
    fields: Json

    @property
    def model(self) -> str:
        """Return the model's name as it was sent, which is how the answer names it."""
        return self.fields.get("model") or self.fields.get("name") or ""

    @property
    def keep_alive(self) -> int:
        """Return how long the model stays loaded afterwards, in nanoseconds."""
        value = self.fields.get("keep_alive")
        return DEFAULT_KEEP_ALIVE if value is None else keep_alive(value)

    @property
    def stream(self) -> bool:
        """Return whether chunks are wanted, which is the default."""
        return self.fields.get("stream") is not False

    @property
    def truncate(self) -> bool:
        """Return whether what is too long may be cut, which is the default."""
        return self.fields.get("truncate") is not False

    @property
    def thinks(self) -> bool:
        """Return whether thinking is asked for."""
        return bool(self.fields.get("think"))

    @property
    def images(self) -> list[Any]:
        """Return all images, of the prompt and of the messages."""
        own: list[Any] = self.fields.get("images") or []
        return sum((message.get("images") or [] for message in self.messages), own)

    @property
    def messages(self) -> list[Json]:
        """Return the messages of a chat."""
        return self.fields.get("messages") or []

    @property
    def options(self) -> Json:
        """Return the options, unchecked."""
        return self.fields.get("options") or {}

    def text(self, name: str) -> str:
        """Return a field of text, empty when it is absent."""
        return self.fields.get(name) or ""


def read_ask(body: bytes, kind: str) -> Ask:
    """Read a request.

    Raises:
        Refused: 400 in Go's words.
    """
    fields = parse_object(body, kind)
    _check_fields(fields, FIELDS[kind], kind)
    ask = Ask(kind, fields)
    for message in cast("list[Any]", ask.messages):
        _check_message(message)
    _check_rest(ask)
    return ask


def _check_message(message: Any) -> None:
    if not isinstance(message, dict):
        raise _mismatch(message, "ChatRequest.messages", "api.Message")
    _check_fields(cast("Json", message), _MESSAGE, "ChatRequest.messages")


def _check_rest(ask: Ask) -> None:
    _ = ask.keep_alive
    for image in ask.images:
        if not isinstance(image, str):
            raise _mismatch(image, f"{ask.kind}.images", "api.ImageData")
        check_base64(image)
    _check_think(ask.fields.get("think"))


def _check_think(value: Any) -> None:
    if isinstance(value, str) and value not in _THINK_LEVELS:
        allowed = ", ".join(f'"{level}"' for level in _THINK_LEVELS)
        raise Refused(400, f'invalid think value: "{value}" (must be {allowed}, true, or false)')


def _check_fields(fields: Json, types: dict[str, str], place: str) -> None:
    for name, wanted in types.items():
        value = fields.get(name)
        if value is not None and not _fits(value, wanted):
            raise _mismatch(value, f"{place}.{name}", wanted)


def _fits(value: Any, wanted: str) -> bool:
    if not wanted:
        return True
    kinds = {"string": "string", "bool": "bool", "int": "number", "map[string]interface {}": "object"}
    return json_type(value) == kinds.get(wanted, "array") and not (
        wanted == "int" and isinstance(value, float)
    )


def _mismatch(value: Any, field: str, wanted: str) -> Refused:
    return Refused(
        400, f"json: cannot unmarshal {json_type(value)} into Go struct field {field} of type {wanted}"
    )
