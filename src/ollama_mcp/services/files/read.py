"""Contents of files, as a model can take them: text, or a picture. Read in a thread, within the limits."""

from __future__ import annotations

import base64
import codecs
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from ollama_mcp.errors import InvalidArgument, StorageError
from ollama_mcp.ollama.api_models import GenerateRequest, Message
from ollama_mcp.ollama.images import is_picture
from ollama_mcp.ollama.sanitize import strip_invisible
from ollama_mcp.services.file_access import Place, open_place, place_of, printable
from ollama_mcp.services.specs import ChatSpec, GenerationRequest
from ollama_mcp.services.untrusted import fenced
from ollama_mcp.settings.limits import (
    Limits,
    check_file_size,
    check_file_sizes,
    check_image_size,
    check_images,
    check_length,
)

_HEAD = 512
"""Bytes by which a picture is recognised."""


@dataclass(frozen=True)
class Content:
    """The content of a file.

    Attributes:
        name: The path from the allowed folder on, fit to be shown.
        text: The text, without invisible characters; "" for a picture.
        image: A picture in base64; "" for a text.
        removed: Number of invisible characters that the text had.
    """

    name: str
    text: str = ""
    image: str = ""
    removed: int = 0


async def read_files(paths: Sequence[str], roots: Sequence[Path], limits: Limits) -> list[Content]:
    """Read files in the order in which they are named.

    Raises:
        Forbidden: A file is in none of the folders.
        InvalidArgument: A file is not there, no plain file, neither text nor picture.
        TooLarge: They are too many, or too large one by one or together.
        StorageError: A file cannot be read.
    """
    check_length(limits, "files", paths)
    contents: list[Content] = []
    size = 0
    for path in paths:
        contents.append(await read_file(path, roots, limits))
        size += len(contents[-1].text.encode())
        check_file_sizes(limits, size)
        check_length(limits, "images", [content for content in contents if content.image])
    return contents


async def read_file(path: str | Place, roots: Sequence[Path], limits: Limits) -> Content:
    """Read one file; failures are those of `read_files`. A thread whose caller has gone reads to the end."""
    return await anyio.to_thread.run_sync(_read, path, roots, limits, abandon_on_cancel=True)


def _read(path: str | Place, roots: Sequence[Path], limits: Limits) -> Content:
    place = path if isinstance(path, Place) else place_of(path, roots)
    with open_place(place, roots) as file:
        try:
            data = read_bytes(file, printable(place.path.name), limits)
        except OSError:
            raise StorageError(
                f"{printable(place.path.name)} cannot be read to its end", "Check the disk that it is on."
            ) from None
    name = " ".join(strip_invisible(place.shown)[0].split("\n"))
    if is_picture(data):
        return Content(name, image=base64.b64encode(data).decode())
    text, removed = strip_invisible(decode_text(data, printable(place.path.name)))
    return Content(name, text, removed=removed)


def read_bytes(file: BinaryIO, name: str, limits: Limits) -> bytes:
    """Read a file, as long as it was when it was opened: one that grows meanwhile may have no end."""
    size = os.fstat(file.fileno()).st_size
    head = _exactly(file, min(size, _HEAD))
    check = check_image_size if is_picture(head) else check_file_size
    check(limits, name, size)
    data = head + _exactly(file, size - len(head))
    if not data:
        raise InvalidArgument(f"{name} is empty", "Name a file with something in it.")
    return data


def _exactly(file: BinaryIO, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := file.read(min(size, 1 << 20))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


_MARKED = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""Byte order marks, and their encodings; a text without one is UTF-8."""


def decode_text(data: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, or in what its byte order mark says.

    Raises:
        InvalidArgument: It is no text.
    """
    encoding = next((encoding for mark, encoding in _MARKED if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidArgument(
            f"{name} is neither text in UTF-8 nor a picture",
            "Name a text file, or PNG, JPEG, GIF, WebP or BMP.",
        )
    return text


def attached(spec: ChatSpec, contents: Sequence[Content], limits: Limits) -> ChatSpec:
    """Return the ChatSpec with files, which stand before the prompt, or in the last message of the user.

    Raises:
        TooLarge: The images, with those that were there, are over one of their limits.
        InvalidArgument: A picture's header makes no sense.
    """
    images = [content.image for content in contents if content.image]
    text = fenced([(content.name, content.text) for content in contents if not content.image])
    request: GenerationRequest = spec.request
    if isinstance(request, GenerateRequest):
        all_images = [*(request.images or []), *images]
        request = request.model_copy(update={"prompt": text + request.prompt, "images": all_images or None})
    else:
        messages = list(request.messages)
        place = next((n for n in range(len(messages) - 1, -1, -1) if messages[n].role == "user"), None)
        if place is None:
            messages.append(Message(role="user"))
            place = len(messages) - 1
        last = messages[place]
        update = {"content": text + last.content, "images": [*(last.images or []), *images] or None}
        messages[place] = last.model_copy(update=update)
        request = request.model_copy(update={"messages": messages})
        all_images = [image for message in messages for image in message.images or ()]
    if images:
        check_images(limits, all_images)
    needs = spec.needs if not images or "vision" in spec.needs else (*spec.needs, "vision")
    notes = [
        f"{content.removed} invisible characters were left out of {content.name[:80]}"
        for content in contents
        if content.removed
    ]
    return replace(spec, request=request, needs=needs, notes=(*spec.notes, *notes))
