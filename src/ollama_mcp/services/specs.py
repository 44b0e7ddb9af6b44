"""Specs of generations: a caller's arguments checked, and made Ollama's request before a model is chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

_MOST_LOGPROBS = 20
"""The most alternatives for a token that Ollama gives, by its own check."""
_MOST_FIELDS = 100
"""Of one message."""
_MOST_NAMED = 20
"""Fields of messages, which Ollama does not have, that are named one by one in notes."""
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class ChatSpec:
    """A checked request for a generation, before a model is chosen.

        spec = build_chat(prompt="Why is the sky blue?", options={"temperature": 0})
        answer = await app.generator.run(spec, job)

    Attributes:
        endpoint: CHAT or GENERATE.
        request: The request to Ollama, without the defaults of the model that will be chosen.
        needs: Capabilities that the model must have.
        schema: JSON Schema that the answer must fit, not checked yet; {} where any JSON does, None where
            any text does.
        notes: Notes for the caller: fields and options that were ignored.
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
    """Check a chat and make its request; the parameters are those of the tool `ollama_chat`, and the limits.

    Raises:
        InvalidArgument: Ollama would refuse, ignore or misread an argument.
        TooLarge: An argument is over a limit.
    """
    for name, text in (("model", model), ("prompt", prompt), ("system", system)):
        check_kind(name, text, str)
    check_kind("messages", messages, Sequence)
    check_kind("tools", tools, Sequence)
    check_text(limits, "prompt", prompt)
    check_text(limits, "system", system)
    check_length(limits, "messages", messages)
    check_tools(limits, tools)
    fields, needs, notes, schema = _common_fields(limits, **common)
    ignored: dict[str, None] = {}
    conversation = [_message(place, raw, ignored, limits) for place, raw in enumerate(messages)]
    check_messages(limits, conversation)
    notes += [f'"{name}" in messages was ignored' for name in list(ignored)[:_MOST_NAMED]]
    if len(ignored) > _MOST_NAMED:
        notes.append(f"{len(ignored) - _MOST_NAMED} more fields in messages were ignored")
    if prompt:
        conversation.append(Message(role="user", content=prompt))
    if not conversation:
        raise InvalidArgument("there is nothing to answer", 'Send "prompt", or "messages", or both.')
    if system:
        conversation.insert(0, Message(role="system", content=system))
    if any(message.images for message in conversation):
        needs.append("vision")
    if tools:
        needs.append("tools")
        fields["tools"] = [_tool(place, raw) for place, raw in enumerate(tools)]
    request = ChatRequest(model=model.strip(), messages=conversation, **fields)
    return ChatSpec(CHAT, request, tuple(needs), schema, tuple(notes))


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
    """Check a completion and make its request; the parameters are those of `ollama_generate`, and the limits.

    Raises:
        InvalidArgument: Ollama would refuse, ignore or misread an argument.
        TooLarge: An argument is over a limit.
    """
    texts = {"prompt": prompt, "model": model, "system": system, "suffix": suffix, "template": template}
    for name, text in texts.items():
        check_kind(name, text, str)
    check_kind("raw", raw, bool)
    check_kind("images", images, Sequence, str)
    for name in ("prompt", "system", "suffix", "template"):
        check_text(limits, name, texts[name])
    fields, needs, notes, schema = _common_fields(limits, **common)
    if not prompt and not suffix:
        raise InvalidArgument("there is nothing to complete", 'Send "prompt".')
    if raw and (system or template):
        raise InvalidArgument(
            "raw takes the prompt as it is", "Leave out system and template, or send raw=false."
        )
    if suffix:
        needs.append("insert")
    if images:
        needs.append("vision")
        check_length(limits, "images", images)
        fields["images"] = [check_image(image) for image in images]
        check_images(limits, fields["images"])
    request = GenerateRequest(
        model=model.strip(),
        prompt=prompt,
        system=system or None,
        suffix=suffix or None,
        template=template or None,
        raw=raw or None,
        **fields,
    )
    return ChatSpec(GENERATE, request, tuple(needs), schema, tuple(notes))


def _common_fields(
    limits: Limits,
    *,
    options: Mapping[str, Any] | Options | None = None,
    format: str = "",  # noqa: A002 - Ollama's name
    schema: Mapping[str, Any] | None = None,
    think: Any = None,
    keep_alive: Any = None,
    truncate: bool = False,
    logprobs: int = 0,
) -> tuple[dict[str, Any], list[str], list[str], Mapping[str, Any] | None]:
    """Check the arguments that chat and generate have in common.

    Returns:
        Fields of the request; capabilities that the model must have; notes; the schema of the answer.
    """
    if isinstance(options, Options):
        options = options.model_dump(exclude_none=True)
    check_kind("options", options or {}, Mapping)
    check_kind("schema", schema or {}, Mapping)
    check_kind("format", format, str)
    check_kind("truncate", truncate, bool)
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
    named_format = format.strip().lower()
    if not schema and named_format not in {"", "json"}:
        raise InvalidArgument(
            f"format {format[:40]!r} is unknown", 'Send format="json", or a JSON Schema object in "schema".'
        )
    fields: dict[str, Any] = {
        "options": typed,
        "format": dict(schema) if schema else named_format or None,
        "think": level,
        "keep_alive": parse_keep_alive("" if keep_alive is None else keep_alive),
        "truncate": truncate,
        "logprobs": True if logprobs else None,
        "top_logprobs": logprobs or None,
    }
    needs = ["completion", "thinking"] if level else ["completion"]
    return fields, needs, notes, schema or ({} if named_format else None)


def _message(place: int, raw: Any, ignored: dict[str, None], limits: Limits) -> Message:
    """Read one message, also in the form of other APIs.

    Args:
        place: Its index, for the texts of errors.
        raw: The caller's.
        ignored: Collects the names of fields that Ollama does not have.
        limits: The operator's.
    """
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
    if "name" in given:  # OpenAI's name for it
        given.setdefault("tool_name", given.pop("name"))
    known = {name: value for name, value in given.items() if name in Message.model_fields}
    ignored.update((name[:60], None) for name in sorted(given.keys() - known))
    check_calls(limits, given.get("tool_calls", ()))
    content, images = _text_and_images(given.get("content", ""), place)
    listed: Any = given.get("images", [])
    listed = [listed] if isinstance(listed, str) else listed
    if not isinstance(listed, list) or not all(isinstance(image, str) for image in cast("list[Any]", listed)):
        raise InvalidArgument(
            f"messages[{place}].images is not a list of texts", 'Send "images" as a list of base64 strings.'
        )
    images += cast("list[str]", listed)
    check_length(limits, "images", images)
    known |= {"content": content, "images": [check_image(image) for image in images] or None}
    if "content" not in given and not images and not given.get("tool_calls"):
        raise InvalidArgument(f"messages[{place}] says nothing", 'Send its text as "content".')
    try:
        return Message.model_validate(known)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in first["loc"])
    raise InvalidArgument(
        f"messages[{place}].{path}: {first['msg'][:120]}",
        'Send role "system", "user", "assistant" or "tool", and text in "content".',
    )


def _text_and_images(content: Any, place: int) -> tuple[str, list[str]]:
    """Return text and images of a content, which OpenAI's and MCP's messages write as a list of parts."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise InvalidArgument(f"messages[{place}].content is not text", 'Send "content" as a string.')
    texts: list[str] = []
    images: list[str] = []
    for part in cast("list[Any]", content):
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image", "data": str(url)}:
                images.append(url)
            case _:
                raise InvalidArgument(
                    "a part of a message's content is neither text nor image",
                    'Send "content" as a string, and images in base64 in "images".',
                )
    return "\n".join(texts), images


def _tool(place: int, raw: Any) -> dict[str, Any]:
    """Return one tool for the model as {"type": "function", "function": {…}}; MCP's form is taken, too."""
    match raw:
        case {"function": {"name": str()} as function}:
            return {"type": "function", "function": function}
        case {"name": str()}:
            tool = cast("Mapping[str, Any]", raw)
            schema = tool.get("parameters") or tool.get("inputSchema") or tool.get("input_schema")
            function = {
                "name": tool["name"],
                "description": tool.get("description", ""),
                "parameters": schema or _NO_PARAMETERS,
            }
            return {"type": "function", "function": function}
        case _:
            raise InvalidArgument(
                f"tools[{place}] is not a tool",
                'Send {"type": "function", "function": {"name", "description", "parameters"}}.',
            )


# --- once the model is known -------------------------------------------------------------------


def with_defaults(
    request: GenerationRequest,
    model: str,
    defaults: ModelDefaults,
    *,
    can_think: bool,
    window: int | None,
) -> GenerationRequest:
    """Fill in the fields that the caller left open.

    Args:
        request: The caller's.
        model: The model that was found or chosen.
        defaults: The operator's, for this model.
        can_think: Whether the model can; one that cannot gets no `think` at all.
        window: The window, in tokens, that the model has grown to here; a num_ctx of the caller's goes
            before it.
    """
    options: dict[str, Any] = dict(defaults.options)
    if window is not None:
        options["num_ctx"] = max(window, options.get("num_ctx", 0))
    if request.options:
        options.update(request.options.model_dump(exclude_none=True))
    think = defaults.think if request.think is None else request.think
    update: dict[str, Any] = {
        "model": model,
        "options": Options(**options) if options else None,
        "think": think if can_think else None,
        "keep_alive": defaults.keep_alive if request.keep_alive is None else request.keep_alive,
    }
    if isinstance(request, GenerateRequest):
        if defaults.system and not request.system and not request.raw:
            update["system"] = defaults.system
    elif defaults.system and not any(message.role == "system" for message in request.messages):
        update["messages"] = [Message(role="system", content=defaults.system), *request.messages]
    return request.model_copy(update=update)


def prompt_bytes(request: GenerationRequest) -> int:
    """Return the length, in bytes of UTF-8, of all the text that the model is to read."""
    if isinstance(request, GenerateRequest):
        texts = [request.prompt, request.system or "", request.suffix or ""]
    else:
        texts = [message.content for message in request.messages]
        texts += [call.model_dump_json() for message in request.messages for call in message.tool_calls or ()]
        texts += map(json.dumps, request.tools or ())
    return sum(map(byte_length, texts))


def byte_length(text: str) -> int:
    """Return the length of a text in bytes of UTF-8, which follows its tokens in every script."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
