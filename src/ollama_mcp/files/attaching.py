"""Files put before the prompt of an Ask: texts inside a fence, pictures as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ollama_mcp.files.fence import fenced
from ollama_mcp.files.reading import Content
from ollama_mcp.ollama.api_models import GenerateRequest, Message
from ollama_mcp.replies.asks import Ask, GenerationRequest
from ollama_mcp.settings.limits import Limits, check_images


def attached(ask: Ask, contents: Sequence[Content], limits: Limits) -> Ask:
    """The same Ask with files: before the prompt, or the last message of the user.

    Raises:
        TooLarge: The images are over one of their limits, with those that were there.
        InvalidArgument: A picture's header makes no sense.
    """
    images = [content.image for content in contents if content.image]
    text = fenced([(content.name, content.text) for content in contents if not content.image])
    request = _with(ask.request, text, images)
    if images:
        check_images(limits, _images(request))
    needs = ask.needs if not images or "vision" in ask.needs else (*ask.needs, "vision")
    return replace(ask, request=request, needs=needs, notes=(*ask.notes, *_notes(contents)))


def _with(request: GenerationRequest, text: str, images: list[str]) -> GenerationRequest:
    if isinstance(request, GenerateRequest):
        return request.model_copy(update=_before(text, request.prompt, request.images, images, "prompt"))
    messages = list(request.messages)
    place = next((n for n in range(len(messages) - 1, -1, -1) if messages[n].role == "user"), None)
    if place is None:
        messages.append(Message(role="user"))
        place = len(messages) - 1
    last = messages[place]
    messages[place] = last.model_copy(update=_before(text, last.content, last.images, images, "content"))
    return request.model_copy(update={"messages": messages})


def _before(text: str, prompt: str, old: list[str] | None, new: list[str], name: str) -> dict[str, Any]:
    return {name: text + prompt, "images": [*(old or []), *new] or None}


def _images(request: GenerationRequest) -> list[str]:
    if isinstance(request, GenerateRequest):
        return request.images or []
    return [image for message in request.messages for image in message.images or ()]


def _notes(contents: Sequence[Content]) -> list[str]:
    return [
        f"{content.removed} invisible characters were left out of {content.name[:80]}"
        for content in contents
        if content.removed
    ]
