"""What a new model is to be made of, checked before Ollama sees it.

`create` takes a parameter of a wrong type and says success, and the model's first chat is then HTTP 500.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.management.files import ModelFile, model_file
from ollama_mcp.ollama.api_models import CreateRequest, Message
from ollama_mcp.ollama.model_names import check_name
from ollama_mcp.ollama.options import parse_options
from ollama_mcp.settings.limits import USUAL, Limits, check_length, check_messages, check_options, check_text

_QUANTIZATION = re.compile(r"[A-Za-z0-9_]{1,16}\Z")
_ROLES = ("system", "user", "assistant")
_FIELDS = frozenset({"role", "content"})


@dataclass(frozen=True)
class Creation:
    """A model that is asked for.

    Attributes:
        request: What goes to Ollama; `from_` is the model that it is made from, unless it is made from files.
        files: Files of this machine that it is made from; they are sent first.
        notes: What was dropped on the way.
    """

    request: CreateRequest
    files: tuple[ModelFile, ...] = ()
    notes: tuple[str, ...] = ()


def creation(
    *,
    model: str,
    source: str = "",
    files: Sequence[str] = (),
    roots: Sequence[Path] = (),
    system: str = "",
    template: str = "",
    parameters: Mapping[str, Any] | None = None,
    messages: Sequence[Mapping[str, Any]] = (),
    quantize: str = "",
    license: str = "",  # noqa: A002 - Ollama's name
    limits: Limits = USUAL,
) -> Creation:
    """Put a new model into Ollama's words.

    Args:
        model: The name that it gets.
        source: The installed model that it is made from, or:
        files: GGUF files of this machine that it is made from.
        roots: Folders that such files may be in; none is allowed outside of them.
        system: Its system prompt.
        template: Its prompt template, in Go's template language.
        parameters: Options by name, as of a chat.
        messages: The beginning of every conversation: {"role", "content"} each.
        quantize: Such as Q4_K_M, for a source in F16 or F32.
        license: Its licence.
        limits: The operator's.

    Raises:
        InvalidArgument: Anything that Ollama would refuse, or take and fail on later.
        Forbidden: Files, where no folder is allowed.
        TooLarge: Anything over a limit.
    """
    for name, text in (("system", system), ("template", template), ("license", license)):
        check_text(limits, name, text)
    check_length(limits, "messages", messages)
    check_options(limits, parameters or {})
    if bool(source.strip()) == bool(files):
        what = "two things" if files else "nothing"
        raise InvalidArgument(
            f"there is {what} to make the model from", 'Send one installed model as "from_model".'
        )
    model_files = tuple(model_file(path, roots) for path in files)
    _require_own_names(model_files)
    options, notes = parse_options(parameters or {})
    beginning = [_message(place, raw) for place, raw in enumerate(messages)]
    check_messages(limits, beginning)
    request = CreateRequest(
        model=check_name(model),
        from_=None if files else check_name(source),
        system=system or None,
        template=template or None,
        parameters=options if options.model_fields_set else None,
        messages=beginning or None,
        quantize=_quantization(quantize) or None,
        license=license or None,
    )
    return Creation(request, model_files, tuple(notes))


def _require_own_names(files: Sequence[ModelFile]) -> None:
    """Ollama gets files by their names, without where they are."""
    if len({file.name for file in files}) < len(files):
        raise InvalidArgument("two files have the same name", "Name each file once, and rename one of those.")


def _quantization(wanted: str) -> str:
    wanted = wanted.strip()
    if wanted and not _QUANTIZATION.match(wanted):
        raise InvalidArgument(f"quantize {wanted[:40]!r} is no quantization", 'Send one such as "Q4_K_M".')
    return wanted


def _message(place: int, raw: Any) -> Message:
    """One message; what a model cannot be made with (images, tools) is refused, not dropped."""
    given: dict[str, Any] = dict(cast("Mapping[str, Any]", raw)) if isinstance(raw, Mapping) else {}
    if given.get("role") not in _ROLES or given.keys() - _FIELDS:
        raise _bad_message(place)
    try:
        return Message.model_validate(given)
    except ValidationError:
        raise _bad_message(place) from None


def _bad_message(place: int) -> InvalidArgument:
    return InvalidArgument(
        f"messages[{place}] is not a message that a model can begin with",
        'Send {"role": "system", "user" or "assistant", "content": "…"} for each.',
    )
