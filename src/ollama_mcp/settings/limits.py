"""Limits: the most that one call may bring, each with the setting that changes it.

Over a limit is TOO_LARGE, before anything is done with the input. What a caller asks for and may
not have in full (a window, a time) is lowered with a note instead: `services.clamp` does that.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from ollama_mcp.errors import InvalidArgument, TooLarge
from ollama_mcp.ollama.api_models import KeepAlive, Message
from ollama_mcp.ollama.images import Picture, look
from ollama_mcp.settings.declaration import SIZES, declared, setting
from ollama_mcp.settings.readers import read_count, read_size, read_time

KIB = 1024
MIB = 1024 * KIB
_MEGAPIXEL = 1_000_000


def _bytes(most: int, description: str = "") -> Any:
    return _most(most, "bytes", read_size, shown_size(most), description)


def _number(most: int, description: str = "") -> Any:
    return _most(most, "number", read_count(1), str(most), description)


def _most(most: int, unit: str, read: Callable[[Any], Any], shown: str, description: str) -> Any:
    """Return a limit's field; one without a description is no setting."""
    metadata = declared(read, shown, description, SIZES) if description else {}
    return field(default=most, metadata=metadata | {"unit": unit})


def shown_size(size: int) -> str:
    """Return a number of bytes for people.

    >>> shown_size(20 * MIB), shown_size(1536), shown_size(1000)
    ('20 MiB', '1536 bytes', '1000 bytes')
    """
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size and not size % unit:
            return f"{size // unit} {name}"
    return f"{size} bytes"


@dataclass(frozen=True)
class Limits:
    """The most of everything that comes in.

    A limit that an operator may want to raise has a description, and so a setting. The others are larger than
    anything that a model can use, and keep one call from filling the memory.
    """

    KEY: ClassVar[str] = "max_{}"

    keep_alive: KeepAlive = setting(
        read_time, "1h",
        "Longest keep_alive that a call gets: 10m, 2h, forever. Longer ones are lowered to it.",
        SIZES,
    )  # fmt: skip
    line: int = _bytes(
        16 * MIB, "Largest message that is read: a line of stdin, or the body of a request over HTTP."
    )
    prompt: int = _bytes(MIB, "Largest prompt; also of system, suffix, template, and of all options.")
    messages: int = _number(1000)  # in one call
    messages_size: int = _bytes(4 * MIB)  # together, without images: a million tokens
    images: int = _number(8)
    images_size: int = _bytes(20 * MIB, "Largest images of one call together, decoded from base64.")
    megapixels: int = _number(50)  # of one image, as its header says: a bomb has more
    texts: int = _number(4096, "Most texts to embed in one call.")
    texts_size: int = _bytes(4 * MIB)  # to embed, together
    tools: int = _number(128)  # functions that a model may use
    tools_size: int = _bytes(512 * KIB)  # their definitions together, as JSON
    schema_size: int = _bytes(64 * KIB)  # as JSON
    files: int = _number(1000, "Most files in one call.")
    file_size: int = _bytes(MIB, "Largest text of one file; of a chat's files together.")


DEFAULT_LIMITS = Limits()
"""Of an operator who sets nothing."""


def setting_of(limit: str) -> str:
    """The variable of a limit; "" for one that is fixed.

    >>> setting_of("prompt")
    'OLLAMA_MCP_MAX_PROMPT'
    """
    return "" if limit in _FIXED else f"OLLAMA_MCP_MAX_{limit.upper()}"


_FIXED = {limit.name for limit in fields(Limits) if "setting" not in limit.metadata}


# --- the inputs --------------------------------------------------------------------------------


def check_text(limits: Limits, name: str, text: str) -> None:
    """Check a prompt, or another text that stands alone.

    Raises:
        TooLarge: It is over `prompt`.
    """
    _check(
        limits,
        "prompt",
        _size(text),
        f'"{name}" has {{}} bytes',
        "Shorten it, or split the work into several calls.",
    )


def check_options(limits: Limits, options: Mapping[str, Any]) -> None:
    """Check the size of options: a `stop` can have any number of texts.

    Raises:
        TooLarge: They are over `prompt`.
        InvalidArgument: They are nested too deeply.
    """
    _check(
        limits,
        "prompt",
        _json_size("options", options),
        '"options" has {} bytes',
        "Send fewer and shorter ones.",
    )


_FEWER_MESSAGES = "Leave out the oldest messages, or sum them up in one."
_LISTS = {
    "messages": ("messages", '"messages" has {} messages', _FEWER_MESSAGES),
    "images": ("images", "there are {} images", "Send fewer, in several calls."),
    "input": ("texts", '"input" has {} texts', "Send them in several calls."),
    "candidates": ("texts", '"candidates" has {} texts', "Send them in several calls."),
    "tools": ("tools", '"tools" has {} tools', "Send only those that the question needs."),
    "files": ("files", "there are {} files", "Name fewer, in several calls."),
}
"""Arguments that are lists: the limit of their length, how it is told, what to do."""


def check_length(limits: Limits, name: str, items: Sized) -> None:
    """Check how long an argument that is a list may be, before any of its items is read.

    Raises:
        TooLarge: It is over `messages`, `images`, `texts`, `tools` or `files`.
    """
    if name in _LISTS:
        limit, told, remedy = _LISTS[name]
        _check(limits, limit, len(items), told, remedy)


def check_calls(limits: Limits, calls: Any) -> None:
    """Check the size of one message's `tool_calls`, before they are read.

    Raises:
        TooLarge: They are over `messages_size`.
        InvalidArgument: They are nested too deeply.
    """
    size = _json_size("tool_calls", calls)
    _check(limits, "messages_size", size, "the tool_calls of a message have {} bytes", _FEWER_MESSAGES)


def check_messages(limits: Limits, messages: Sequence[Message]) -> None:
    """Check the size of a conversation, and the images of all its messages.

    Raises:
        TooLarge: They are over `messages_size`, or one of the limits of images.
        InvalidArgument: An image is none.
    """
    size = sum(map(_message_size, messages))
    _check(limits, "messages_size", size, '"messages" has {} bytes without images', _FEWER_MESSAGES)
    check_images(limits, [image for message in messages for image in message.images or ()])


def _message_size(message: Message) -> int:
    texts = [message.content, message.thinking or "", message.tool_name or "", message.tool_call_id or ""]
    calls = [call.model_dump() for call in message.tool_calls or ()]
    return sum(map(_size, texts)) + (_json_size("tool_calls", calls) if calls else 0)


def check_images(limits: Limits, images: Sequence[str]) -> None:
    """Check images in bare base64: number, size, kind, and the pixels that the headers promise.

    Raises:
        TooLarge: They are over `images`, `images_size` or `megapixels`.
        InvalidArgument: One is of no kind that Ollama takes.
    """
    check_length(limits, "images", images)
    size = sum(len(image.rstrip("=")) * 3 // 4 for image in images)
    _check(
        limits, "images_size", size, "the images have {} bytes, decoded", "Send fewer, or scale them down."
    )
    for place, image in enumerate(images):
        _check_pixels(limits, look(base64.b64decode(image)), f"image {place + 1} of {len(images)}")


def _check_pixels(limits: Limits, picture: Picture, name: str) -> None:
    if picture.width * picture.height > limits.megapixels * _MEGAPIXEL:
        raise _too_large(
            "megapixels",
            f"{name} has {picture.width} x {picture.height} pixels",
            f"{limits.megapixels} megapixels",
            "Scale it down.",
        )


def check_file_size(limits: Limits, name: str, size: int) -> None:
    """Check the size of one file of text, before it is read.

    Raises:
        TooLarge: It is over `file_size`.
    """
    _check(limits, "file_size", size, f"{_literal(name)} has {{}} bytes", "Name smaller files.")


def check_file_sizes(limits: Limits, size: int) -> None:
    """Check how much text the files of one call have together.

    Raises:
        TooLarge: It is over `file_size`.
    """
    _check(limits, "file_size", size, "the files have {} bytes together", "Name fewer, in several calls.")


def check_image_size(limits: Limits, name: str, size: int) -> None:
    """Check the size of one image, before it is read.

    Raises:
        TooLarge: It is over `images_size`.
    """
    _check(limits, "images_size", size, f"{_literal(name)} has {{}} bytes", "Scale it down.")


def _literal(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")


def check_texts(limits: Limits, texts: Sequence[str]) -> None:
    """Check texts to embed.

    Raises:
        TooLarge: They are over `texts` or `texts_size`.
    """
    check_length(limits, "input", texts)
    _check(
        limits,
        "texts_size",
        sum(map(_size, texts)),
        '"input" has {} bytes',
        "Send the texts in several calls.",
    )


def check_tools(limits: Limits, tools: Sequence[Any]) -> None:
    """Check the tools that a model may call.

    Raises:
        TooLarge: They are over `tools` or `tools_size`.
        InvalidArgument: They are nested too deeply.
    """
    check_length(limits, "tools", tools)
    _check(
        limits,
        "tools_size",
        _json_size("tools", tools),
        '"tools" has {} bytes',
        "Shorten their descriptions.",
    )


def check_schema_size(limits: Limits, schema: Mapping[str, Any]) -> None:
    """Check the size of a JSON Schema, before anybody reads it.

    Raises:
        TooLarge: It is over `schema_size`.
        InvalidArgument: It is nested too deeply.
    """
    _check(
        limits,
        "schema_size",
        _json_size("schema", schema),
        '"schema" has {} bytes',
        "Send one with fewer fields.",
    )


# --- how they are told -------------------------------------------------------------------------


_UNITS = {limit.name: limit.metadata.get("unit") for limit in fields(Limits)}


def _check(limits: Limits, limit: str, found: int, told: str, remedy: str) -> None:
    """Refuse a number above a limit; `told` is a sentence in which the number has its place."""
    allowed: int = getattr(limits, limit)
    if found > allowed:
        shown = shown_size(allowed) if _UNITS[limit] == "bytes" else str(allowed)
        raise _too_large(limit, told.format(found), shown, remedy)


def _too_large(limit: str, found: str, allowed: str, remedy: str) -> TooLarge:
    setting = setting_of(limit)
    return TooLarge(
        f"{found}; the limit is {allowed}",
        f"{remedy} The operator can raise {setting}." if setting else remedy,
        setting=setting,
        limit=allowed,
    )


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _json_size(name: str, value: Any) -> int:
    try:
        return _size(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, TypeError, RecursionError):  # a circle, a key that is no text
        raise InvalidArgument(
            f"{name} cannot be written as JSON", "Send it with less nesting, and plain values only."
        ) from None
