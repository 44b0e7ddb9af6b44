"""Ollama's model options, typed: what Ollama would ignore in silence or refuse with HTTP 500 is told here.

Source of the names: Ollama's `api.Options` and its documentation of model parameters.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ollama_mcp.errors import InvalidArgument, UnknownOption

ALIASES = {
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "max_output_tokens": "num_predict",
    "n_predict": "num_predict",
    "n_ctx": "num_ctx",
    "stop_sequences": "stop",
}
"""What other APIs call the same thing."""

RETIRED = frozenset(
    {
        "embedding_only", "f16_kv", "logits_all", "low_vram", "mirostat", "mirostat_eta", "mirostat_tau",
        "num_gqa", "numa", "penalize_newline", "rope_frequency_base", "rope_frequency_scale", "tfs_z",
        "use_mlock", "vocab_only",
    }
)  # fmt: skip
"""Options that Ollama once had and now ignores: dropped with a note, since old clients still send them."""


def _number(value: Any) -> Any:
    """Refuse what pydantic would turn into a number: booleans, NaN, infinity."""
    if isinstance(value, bool):
        raise ValueError("a number, not a boolean")  # noqa: TRY004 - pydantic collects ValueError only
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def _texts(value: Any) -> Any:
    """Read one text as a list. An empty one is none: an answer would end before its first character."""
    texts = [value] if isinstance(value, str) else value
    return [text for text in cast("list[Any]", texts) if text != ""] if isinstance(texts, list) else texts


Integer = Annotated[int, BeforeValidator(_number), Field(ge=-(2**63), lt=2**63)]
Number = Annotated[float, BeforeValidator(_number), Field(ge=-3.4e38, le=3.4e38)]  # Go: float32
Texts = Annotated[list[str], BeforeValidator(_texts)]


class Options(BaseModel):
    """Options of a generation or an embedding; an absent one is the model's own default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)

    num_keep: Integer | None = None
    seed: Integer | None = None
    num_predict: Integer | None = None
    top_k: Integer | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    repeat_last_n: Integer | None = None
    temperature: Number | None = None
    repeat_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    stop: Texts | None = None
    num_ctx: Integer | None = None
    num_batch: Integer | None = None
    num_gpu: Integer | None = None
    main_gpu: Integer | None = None
    use_mmap: bool | None = None
    num_thread: Integer | None = None


def option_names() -> frozenset[str]:
    """Every name that `parse_options` takes: the options, their aliases and the retired ones."""
    return frozenset(Options.model_fields) | frozenset(ALIASES) | RETIRED


def parse_options(raw: Mapping[str, Any]) -> tuple[Options, list[str]]:
    """Check options as a caller sends them.

    Args:
        raw: Names and values; `max_tokens` and other APIs' names are understood, null means absent.

    Returns:
        The typed options, and a note for each option that was dropped because Ollama retired it.

    Raises:
        UnknownOption: A name that Ollama would ignore in silence; the remedy has the nearest one.
        InvalidArgument: A value of the wrong type, NaN, infinity, or a boolean as a number.

    >>> parse_options({"max_tokens": 8, "temperature": 0, "mirostat": 2})[0].model_dump(exclude_none=True)
    {'num_predict': 8, 'temperature': 0.0}
    """
    notes = [f"option {name} was dropped: Ollama retired it" for name in raw if name in RETIRED]
    given = {ALIASES.get(k, str(k)): v for k, v in raw.items() if k not in RETIRED and v is not None}
    if given.get("stop") in ("", [""]):  # as of a client that fills in every option
        del given["stop"]
    for name in given:
        _known(name)
    try:
        return Options.model_validate(given), notes
    except ValidationError as error:
        raise _wrong_value(error, given) from None


def _known(name: str) -> None:
    if name in Options.model_fields:
        return
    close = difflib.get_close_matches(name.lower(), [*Options.model_fields, *ALIASES], n=1, cutoff=0.6)
    meant = ALIASES.get(close[0], close[0]) if close else ""
    remedy = f'Send "{meant}" instead.' if close else f"The options are {', '.join(Options.model_fields)}."
    raise UnknownOption(f'Ollama has no option "{name[:60]}" and would ignore it', remedy)


def _wrong_value(error: ValidationError, given: Mapping[str, Any]) -> InvalidArgument:
    name = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
    return InvalidArgument(f"option {name} is {_shown(given[name])}", f'Send "{name}" as {_kind(name)}.')


def _kind(name: str) -> str:
    type_ = get_args(Options.model_fields[name].annotation)[0]  # the other one is None
    return _KINDS[(get_args(type_) or [type_])[0]]


def _shown(value: Any) -> str:
    try:
        return repr(value)[:40]
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "too large a number"


_KINDS: dict[Any, str] = {
    int: "an integer",
    float: "a finite number",
    list[str]: "a list of strings",
    bool: "true or false",
}
