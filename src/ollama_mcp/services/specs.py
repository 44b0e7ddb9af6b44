"""Asks: what a caller wants from a model, checked and put into Ollama's words before a model is chosen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.api_models import ChatRequest, GenerateRequest, Message
from ollama_mcp.ollama.endpoints import CHAT, GENERATE, Stream
from ollama_mcp.ollama.options import Options, parse_options
from ollama_mcp.ollama.parameters import check_image, check_kind, parse_keep_alive, parse_think
from ollama_mcp.settings import ModelDefaults
from ollama_mcp.settings.limits import (
    DEFAULT_LIMITS,
    Limits,
    check_calls,
    check_images,
    check_length,
    check_messages,
    check_options,
    check_schema_size,
    check_text,
    check_tools,
)

GenerationRequest = ChatRequest | GenerateRequest


@dataclass(frozen=True)
class ChatSpec:
    """A generation that is asked for.

    Attributes:
        endpoint: CHAT or GENERATE.
        request: What goes to Ollama, before the defaults of the model that will be chosen.
        needs: Capabilities that the model must have.
        schema: JSON Schema that the answer must fit, not checked yet; {} where any JSON does.
        notes: What was dropped on the way.
    """

    endpoint: Stream[Any, Any]
    request: GenerationRequest
    needs: tuple[str, ...]
    schema: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_raw(self) -> bool:
        """Whether the prompt goes to the model without any template."""
        return isinstance(self.request, GenerateRequest) and bool(self.request.raw)


@dataclass
class _Common:
    """What chat and generate take alike."""

    fields: dict[str, Any]
    needs: list[str] = field(default_factory=lambda: ["completion"])
    notes: list[str] = field(default_factory=list[str])
    schema: Mapping[str, Any] | None = None


def build_chat(
    *,
    model: str = "",
    prompt: str = "",
    messages: Sequence[Mapping[str, Any] | Message] = (),
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    limits: Limits = DEFAULT_LIMITS,
    **common: Any,
) -> ChatSpec:
    """Put a chat into Ollama's words; the parameters are those of the tool `ollama_chat`, and the limits.

    Raises:
        InvalidArgument: Anything that Ollama would refuse, ignore or misread.
        TooLarge: Anything over a limit.
    """
    _check_kinds(str, model=model, prompt=prompt, system=system)
    _check_kinds(Sequence, messages=messages, tools=tools)
    for name, text in (("prompt", prompt), ("system", system)):
        check_text(limits, name, text)
    check_length(limits, "messages", messages)
    check_tools(limits, tools)
    shared = _common(limits, **common)
    strangers: dict[str, None] = {}
    conversation = [_message(place, raw, strangers, limits) for place, raw in enumerate(messages)]
    check_messages(limits, conversation)
    shared.notes += _ignored(list(strangers))
    if prompt:
        conversation.append(Message(role="user", content=prompt))
    if not conversation:
        raise InvalidArgument("there is nothing to answer", 'Send "prompt", or "messages", or both.')
    if system:
        conversation.insert(0, Message(role="system", content=system))
    if any(message.images for message in conversation):
        shared.needs.append("vision")
    if tools:
        shared.needs.append("tools")
        shared.fields["tools"] = [_tool(place, raw) for place, raw in enumerate(tools)]
    request = ChatRequest(model=model.strip(), messages=conversation, **shared.fields)
    return ChatSpec(CHAT, request, tuple(shared.needs), shared.schema, tuple(shared.notes))


def build_generate(
    *,
    prompt: str,
    model: str = "",
    system: str = "",
    suffix: str = "",
    images: Sequence[str] = (),
    raw: bool = False,
    template: str = "",
    limits: Limits = DEFAULT_LIMITS,
    **common: Any,
) -> ChatSpec:
    """Put a completion into Ollama's words; the parameters are those of `ollama_generate`, and the limits.

    Raises:
        InvalidArgument: Anything that Ollama would refuse, ignore or misread.
        TooLarge: Anything over a limit.
    """
    _check_kinds(str, prompt=prompt, model=model, system=system, suffix=suffix, template=template)
    _check_kinds(bool, raw=raw)
    check_kind("images", images, Sequence, str)
    for name, text in (("prompt", prompt), ("system", system), ("suffix", suffix), ("template", template)):
        check_text(limits, name, text)
    shared = _common(limits, **common)
    if not prompt and not suffix:
        raise InvalidArgument("there is nothing to complete", 'Send "prompt".')
    if raw and (system or template):
        raise InvalidArgument(
            "raw takes the prompt as it is", "Leave out system and template, or send raw=false."
        )
    if suffix:
        shared.needs.append("insert")
    if images:
        shared.needs.append("vision")
        shared.fields["images"] = _bare_images(images, limits)
        check_images(limits, shared.fields["images"])
    request = GenerateRequest(
        model=model.strip(),
        prompt=prompt,
        system=system or None,
        suffix=suffix or None,
        template=template or None,
        raw=raw or None,
        **shared.fields,
    )
    return ChatSpec(GENERATE, request, tuple(shared.needs), shared.schema, tuple(shared.notes))


def _common(
    limits: Limits,
    *,
    options: Mapping[str, Any] | Options | None = None,
    format: str = "",  # noqa: A002 - Ollama's name
    schema: Mapping[str, Any] | None = None,
    think: Any = None,
    keep_alive: Any = None,
    truncate: bool = False,
    logprobs: int = 0,
) -> _Common:
    if isinstance(options, Options):
        options = options.model_dump(exclude_none=True)
    _check_kinds(Mapping, options=options or {}, schema=schema or {})
    _check_kinds(str, format=format)
    _check_kinds(bool, truncate=truncate)
    check_kind("logprobs", logprobs, int)
    if not 0 <= logprobs <= _MOST_LOGPROBS:
        raise InvalidArgument(
            f'"logprobs" is {logprobs}', f'Send "logprobs" from 1 to {_MOST_LOGPROBS}, or 0.'
        )
    check_options(limits, options or {})
    typed, notes = parse_options(options or {})
    level = parse_think(think)
    if schema:
        check_schema_size(limits, schema)
    shared = _Common(
        {
            "options": typed,
            "format": dict(schema) if schema else _format(format),
            "think": level,
            "keep_alive": parse_keep_alive("" if keep_alive is None else keep_alive),
            "truncate": truncate,
            "logprobs": True if logprobs else None,
            "top_logprobs": logprobs or None,
        },
        notes=notes,
        schema=schema or ({} if format.strip() else None),
    )
    if level:
        shared.needs.append("thinking")
    return shared


_MOST_LOGPROBS = 20
"""What Ollama gives at most, by its own check."""


def _check_kinds(kind: type[Any], **given: object) -> None:
    for name, value in given.items():
        check_kind(name, value, kind)


def _format(value: str) -> str | None:
    if value.strip().lower() not in {"", "json"}:
        raise InvalidArgument(
            f"format {value[:40]!r} is unknown", 'Send format="json", or a JSON Schema object in "schema".'
        )
    return value.strip().lower() or None


# --- messages and tools ------------------------------------------------------------------------


def _ignored(strangers: Sequence[str]) -> list[str]:
    notes = [f'"{name}" in messages was ignored' for name in strangers[:_MOST_NAMED]]
    more = len(strangers) - len(notes)
    return [*notes, f"{more} more fields in messages were ignored"] if more else notes


_MOST_NAMED = 20
_MOST_FIELDS = 100
"""Of a message; those that Ollama does not have are told one by one."""


def _bare_images(images: Sequence[str], limits: Limits) -> list[str]:
    check_length(limits, "images", images)
    return [check_image(image) for image in images]


def _message(place: int, raw: Any, strangers: dict[str, None], limits: Limits) -> Message:
    """One message; `strangers` collects the names of fields that Ollama does not have."""
    if isinstance(raw, Message):
        raw = raw.model_dump(exclude_none=True)
    if not isinstance(raw, Mapping):
        raise InvalidArgument(
            f"messages[{place}] is not an object", 'Send {"role": "user", "content": "…"} for each message.'
        )
    if len(cast("Mapping[str, Any]", raw)) > _MOST_FIELDS:
        raise InvalidArgument(
            f"messages[{place}] has more than {_MOST_FIELDS} fields",
            f"Send {', '.join(Message.model_fields)}.",
        )
    given = {str(k): v for k, v in cast("Mapping[str, Any]", raw).items() if v is not None}
    if "name" in given:
        given.setdefault("tool_name", given.pop("name"))
    known = {name: value for name, value in given.items() if name in Message.model_fields}
    strangers.update((name[:60], None) for name in sorted(given.keys() - known))
    check_calls(limits, given.get("tool_calls", ()))
    content, images = _content(given.get("content", ""), place)
    images += _images(given.get("images", []), place)
    known |= {"content": content, "images": _bare_images(images, limits) or None}
    if "content" not in given and not images and not given.get("tool_calls"):
        raise InvalidArgument(f"messages[{place}] says nothing", 'Send its text as "content".')
    try:
        return Message.model_validate(known)
    except ValidationError as error:
        raise _bad_message(place, error) from None


def _images(images: Any, place: int) -> list[str]:
    found: list[Any] = [images] if isinstance(images, str) else images
    if not isinstance(images, str | list) or not all(isinstance(image, str) for image in found):
        raise InvalidArgument(
            f"messages[{place}].images is not a list of texts", 'Send "images" as a list of base64 strings.'
        )
    return found


def _content(content: Any, place: int) -> tuple[str, list[str]]:
    """Text and images of a content, which other APIs write as a list of parts."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise InvalidArgument(f"messages[{place}].content is not text", 'Send "content" as a string.')
    texts: list[str] = []
    images: list[str] = []
    for part in cast("list[Any]", content):
        kind, value = _part(part)
        {"text": texts, "image": images}.get(kind, texts).append(value)
    return "\n".join(texts), images


def _part(part: Any) -> tuple[str, str]:
    match part:
        case {"type": "text", "text": str(text)}:
            return "text", text
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image", "data": str(url)}:
            return "image", url
        case _:
            raise InvalidArgument(
                "a part of a message's content is neither text nor image",
                'Send "content" as a string, and images in base64 in "images".',
            )


def _bad_message(place: int, error: ValidationError) -> InvalidArgument:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in first["loc"])
    return InvalidArgument(
        f"messages[{place}].{path}: {first['msg'][:120]}",
        'Send role "system", "user", "assistant" or "tool", and text in "content".',
    )


def _tool(place: int, raw: Any) -> dict[str, Any]:
    """One tool for the model, in the form {"type": "function", "function": {…}}; MCP's form is taken, too."""
    match raw:
        case {"function": {"name": str()} as function}:
            return {"type": "function", "function": function}
        case {"name": str()}:
            return {"type": "function", "function": _function(cast("Mapping[str, Any]", raw))}
        case _:
            raise InvalidArgument(
                f"tools[{place}] is not a tool",
                'Send {"type": "function", "function": {"name", "description", "parameters"}}.',
            )


def _function(raw: Mapping[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"type": "object", "properties": {}}
    return {
        "name": raw["name"],
        "description": raw.get("description", ""),
        "parameters": raw.get("parameters") or raw.get("inputSchema") or raw.get("input_schema") or nothing,
    }


# --- once the model is known -------------------------------------------------------------------


def with_defaults(
    request: GenerationRequest,
    model: str,
    defaults: ModelDefaults,
    *,
    can_think: bool,
    window: int | None,
) -> GenerationRequest:
    """Fill in what the caller left open.

    Args:
        request: What was asked.
        model: The model that was found or chosen.
        defaults: The operator's, for this model.
        can_think: Whether the model can; one that cannot gets no `think` at all.
        window: The window that the model has grown to here; an own num_ctx goes before it.
    """
    base: dict[str, Any] = dict(defaults.options)
    if window is not None:
        base["num_ctx"] = max(window, base.get("num_ctx", 0))
    options = {**base, **_given(request.options)}
    think = defaults.think if request.think is None else request.think
    update: dict[str, Any] = {
        "model": model,
        "options": Options(**options) if options else None,
        "think": think if can_think else None,
        "keep_alive": defaults.keep_alive if request.keep_alive is None else request.keep_alive,
    }
    return request.model_copy(update=update | _system(request, defaults.system))


def _given(options: Options | None) -> dict[str, Any]:
    return options.model_dump(exclude_none=True) if options else {}


def _system(request: GenerationRequest, system: str) -> dict[str, Any]:
    if not system:
        return {}
    if isinstance(request, GenerateRequest):
        return {} if request.system or request.raw else {"system": system}
    if any(message.role == "system" for message in request.messages):
        return {}
    return {"messages": [Message(role="system", content=system), *request.messages]}


def prompt_bytes(request: GenerationRequest) -> int:
    """Length of all the text that the model is to read."""
    if isinstance(request, GenerateRequest):
        return _size([request.prompt, request.system or "", request.suffix or ""])
    told = [message.content for message in request.messages]
    calls = [call.model_dump_json() for message in request.messages for call in message.tool_calls or ()]
    return _size([*told, *calls, *map(json.dumps, request.tools or ())])


def _size(texts: Iterable[str]) -> int:
    return sum(len(text.encode(errors="replace")) for text in texts)
