"""Go's words: how the real server spells JSON, times, durations and complaints.

Nothing here knows of HTTP or of models. The texts are those of ../recordings of real servers where
there is one, and Go's own otherwise.
"""

from __future__ import annotations

import json
import math
import re
import time
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeAlias, cast

Shape: TypeAlias = "str | dict[str, Shape] | list[Shape]"
"""What a JSON value must be: a kind's name ("any" is all), an object's fields, a list's items."""

_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_TYPES = {
    "string": "string",
    "bool": "bool",
    "number": "int",
    "object": "map[string]interface {}",
    "array": "[]interface {}",
}
_KIND_NAMES: dict[type, str] = {
    bool: "bool",  # before int, which it is a kind of
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_THINK_LEVELS = ("high", "medium", "low", "max")


class GoError(ValueError):
    """A complaint in Go's words; the endpoint that hears it answers 400 with this text."""


def dump(value: object) -> bytes:
    """JSON as Go writes it: compact, `<>&` and U+2028/9 escaped, U+0085 raw, a lone surrogate as U+FFFD.

    NaN and infinities pass as Python spells them: only a script can bring them, and means to.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def quote(text: str) -> str:
    """The text in double quotes, as Go's `%q` writes it."""
    return json.dumps(text, ensure_ascii=False)


def load(body: bytes) -> Any:
    """Read a request's body.

    Raises:
        GoError: it is empty or is not JSON, with the text that Ollama answers.
    """
    text = body.decode("utf-8", "replace")
    if not text.strip():
        raise GoError("missing request body")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise GoError(_not_json(text, error)) from error
    except RecursionError as error:
        raise GoError("exceeded max depth") from error


def _refuse_constant(name: str) -> NoReturn:
    raise GoError(f"invalid character '{name[0]}' looking for beginning of value")


def _not_json(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :].strip()
    if not rest or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    return f"invalid character '{rest[0]}' looking for beginning of value"


def kind_of(value: object) -> str:
    """The JSON kind of a value, in the word that Go's decoder uses: string, number, bool, object, array."""
    return next((name for kind, name in _KIND_NAMES.items() if isinstance(value, kind)), "null")


def conform(value: Any, shape: Shape, type_name: str, path: str = "") -> None:
    """Check a decoded body against the struct that Go would decode it into; null fits everywhere.

    Raises:
        GoError: a value is of another kind, in the words of Go's decoder.
    """
    if value is None or shape == "any":
        return
    wanted = shape if isinstance(shape, str) else kind_of(shape)
    if kind_of(value) != wanted:
        raise GoError(_misfit(kind_of(value), wanted, type_name, path))
    if isinstance(shape, dict):
        for name, inner in shape.items():
            conform(value.get(name), inner, type_name, f"{path}.{name}" if path else name)
    elif isinstance(shape, list):
        for item in value:
            conform(item, shape[0], type_name, path)


def _misfit(kind: str, wanted: str, type_name: str, path: str) -> str:
    place = f"struct field {type_name}.{path} of type {_GO_TYPES[wanted]}"
    return f"json: cannot unmarshal {kind} into Go {place if path else f'value of type api.{type_name}'}"


def seconds(text: str) -> float:
    """Read a Go duration such as `1h30m` or `-1.5s`.

    Raises:
        GoError: it is none, in the words of Go's `time.ParseDuration`.
    """
    unsigned = text[1:] if text[:1] in {"+", "-"} else text
    total = 0.0 if unsigned == "0" else sum(_terms(unsigned, text))
    return -total if text.startswith("-") else total


def _terms(unsigned: str, text: str) -> list[float]:
    terms: list[float] = []
    at = 0
    while at < len(unsigned) or not terms:
        match = _TERM.match(unsigned, at)
        if match is None:
            raise GoError(f"time: invalid duration {quote(text)}")
        terms.append(float(match[1]) * _unit(match[2], text))
        at = match.end()
    return terms


def _unit(unit: str, text: str) -> float:
    if not unit:
        raise GoError(f"time: missing unit in duration {quote(text)}")
    if unit not in _UNITS:
        raise GoError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
    return _UNITS[unit]


def keep_alive(value: object) -> float:
    """Seconds that a model stays loaded: 300 for None, infinity for anything negative.

    Raises:
        GoError: a kind or a text that Ollama refuses, such as True, "300" or "2d".
    """
    if value is None:
        return 300.0
    given = _alive(value)
    return math.inf if given < 0 else given


def _alive(value: object) -> float:
    if isinstance(value, str):
        return seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise GoError(f"Unsupported type: '{_GO_TYPES[kind_of(value)]}'")


def think(value: object) -> bool | None:
    """What `think` asks for: True also for a level, None where nothing is said.

    Raises:
        GoError: it is neither a boolean nor a level.
    """
    if value is None or isinstance(value, bool):
        return value
    if value in _THINK_LEVELS:
        return True
    if isinstance(value, str):
        raise GoError(
            f'invalid think value: {quote(value)} (must be "high", "medium", "low", "max", true, or false)'
        )
    raise GoError('think must be a boolean or string ("high", "medium", "low", "max", true, or false)')


def timestamp(after: float = 0.0) -> str:
    """The time now, or so many seconds from now, in RFC 3339 with nanoseconds as Go trims them."""
    whole, nanoseconds = divmod(time.time_ns() + int(after * 1e9), 1_000_000_000)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_int(value: Any, default: int) -> int:
    """The value if it is a finite number, without its fraction, else the default."""
    if kind_of(value) == "number" and math.isfinite(value):
        return int(value)
    return default
