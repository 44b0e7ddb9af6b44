"""Go's values: how the real server reads and writes JSON, durations, times and base64, and complains.

Nothing here knows of HTTP or of models. The texts are those of recordings of real servers where there is
one, and Go's own otherwise.
"""

from __future__ import annotations

import json
import math
import re
import time
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

_LONGEST_S = 2**63 / 1e9  # Go's longest duration, about 292 years
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]*")
_GO_TYPES = {"bool": "bool", "object": "map[string]interface {}", "array": "[]interface {}"}
_KIND_NAMES: dict[type, str] = {
    bool: "bool",  # before int, which it is a kind of
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        text: Ollama's words, the value of `error`.
        runner: Whether it comes from the model runner, whose answers are chunked and name no charset.
    """

    def __init__(self, status: int, text: str, *, runner: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.runner = runner


def dump(value: object) -> bytes:
    """Return JSON as Go writes it: compact, `<>&` and U+2028/9 escaped, a lone surrogate as U+FFFD.

    NaN and infinities pass as Python spells them: only a script can bring them, and means to.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return _whole_characters(text).encode()


def _whole_characters(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def quote(text: str) -> str:
    """Return the text in double quotes, as Go's `%q` writes it."""
    return json.dumps(text, ensure_ascii=False)


def load(body: bytes) -> Any:
    """Read a request's body; what stands behind the first JSON value is ignored, as in Go.

    Raises:
        Refusal: 400, it is empty or is not JSON, with the text that Ollama answers.
    """
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise Refusal(400, "missing request body")
    try:
        value = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(text)[0]
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        if not rest or error.msg.startswith("Unterminated"):
            raise Refusal(400, "unexpected EOF") from error
        raise Refusal(400, f"invalid character '{rest[0]}' looking for beginning of value") from error
    except RecursionError as error:
        raise Refusal(400, "exceeded max depth") from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise Refusal(400, "json: cannot unmarshal number into Go value of type int") from error
    if "\\u" in text:
        # Half a surrogate pair is legal JSON and no text: Go puts U+FFFD in its place.
        value = json.loads(_whole_characters(json.dumps(value, ensure_ascii=False)))
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Refusal(400, f"invalid character '{name[0]}' looking for beginning of value")


def kind_of(value: object) -> str:
    """Return the JSON kind of a value in Go's word: string, number, bool, object, array, null."""
    return next((name for kind, name in _KIND_NAMES.items() if isinstance(value, kind)), "null")


def seconds(text: str) -> float:
    """Read a Go duration such as `1h30m` or `-1.5s`.

    Raises:
        Refusal: 400, it is none, in the words of Go's `time.ParseDuration`.

    >>> seconds("1h30m"), seconds("-2s"), seconds("0")
    (5400.0, -2.0, 0.0)
    """
    unsigned = text[1:] if text[:1] in {"+", "-"} else text
    if unsigned == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(unsigned) or not at:
        term = _TERM.match(unsigned, at)
        if term is None:
            raise Refusal(400, f"time: invalid duration {quote(text)}")
        number, unit = term.groups()
        if not unit:
            raise Refusal(400, f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise Refusal(400, f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        total += float(number) * _UNITS[unit]
        at = term.end()
    return -total if text.startswith("-") else total


def keep_alive(value: object) -> float:
    """Return the seconds that a model stays loaded: 300 for None, infinity for anything negative.

    Raises:
        Refusal: 400, a kind or a text that Ollama refuses, such as True, "300" or "2d".

    >>> keep_alive(1.5), keep_alive("5m"), keep_alive(-1)
    (1.5, 300.0, inf)
    """
    if value is None:
        return 300.0
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refusal(400, f"Unsupported type: '{_GO_TYPES[kind_of(value)]}'")
    length = seconds(value) if isinstance(value, str) else min(value, _LONGEST_S)
    return math.inf if length < 0 or length >= _LONGEST_S else float(length)


def rfc3339(nanoseconds: int) -> str:
    """Return a time since 1970 as Go writes it, in UTC.

    >>> rfc3339(1_500_000_000)
    '1970-01-01T00:00:01.5Z'
    """
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(whole, UTC).isoformat()[:19]}{fraction}Z"


def timestamp(after: float = 0.0) -> str:
    """Return the time now, or so many seconds from now, as Go writes it."""
    return rfc3339(time.time_ns() + int(after * 1e9))


def check_base64(text: str) -> None:
    """Accept what Go's standard base64 accepts.

    Raises:
        Refusal: 400 with the place of the first wrong byte.
    """
    body = text.rstrip("=\r\n")
    good = _BASE64.match(body)
    place = good.end() if good else 0
    if place < len(body):
        raise Refusal(400, f"illegal base64 data at input byte {place}")
    try:
        b64decode(text)
    except ValueError as error:
        raise Refusal(400, f"illegal base64 data at input byte {len(body)}") from error


def as_object(value: Any) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return the value if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_int(value: Any, default: int) -> int:
    """Return the value without its fraction if it is a finite number, else the default."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return int(value)
    return default
