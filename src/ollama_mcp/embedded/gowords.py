"""Ollama's answers in Go's words: JSON errors, durations, base64, times, and JSON as Go writes it."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any, cast

from ollama_mcp.embedded.errors import Refused

SECOND = 1_000_000_000
# Go's largest duration, about 292 years: what Ollama makes of a negative keep_alive.
FOREVER = 2**63 - 1

_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]*")
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def dump(value: Any) -> bytes:
    """Return JSON as Go's encoder writes it: compact, raw UTF-8, ``<``, ``>`` and ``&`` escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def parse_object(body: bytes, type_name: str) -> dict[str, Any]:
    """Read a request's body; what stands behind the first JSON value is ignored, as Go does.

    Args:
        body: The bytes of the request.
        type_name: Go's name of the request, for the error.

    Raises:
        Refused: 400 with Go's text.
    """
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise Refused(400, "missing request body")
    value = _parse(text)
    if not isinstance(value, dict):
        raise Refused(400, f"json: cannot unmarshal {json_type(value)} into Go value of type api.{type_name}")
    return cast("dict[str, Any]", value)


def _parse(text: str) -> Any:
    try:
        value = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)[0]
    except json.JSONDecodeError as error:
        raise Refused(400, _syntax_error(text, error.pos)) from error
    except RecursionError as error:
        raise Refused(400, "exceeded max depth") from error
    return _without_surrogates(value) if "\\u" in text else value


def _no_constant(name: str) -> None:
    raise Refused(400, f"invalid character '{name[0]}' looking for beginning of value")


def _syntax_error(text: str, position: int) -> str:
    if position >= len(text.rstrip()) or text[position] == '"':
        return "unexpected EOF"
    return f"invalid character '{text[position]}' looking for beginning of value"


def _without_surrogates(value: Any) -> Any:
    # Half a surrogate pair is legal JSON and no text: Go puts U+FFFD in its place.
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def json_type(value: Any) -> str:
    """Return what Go calls a JSON value: ``number``, ``string``, ``bool``, ``array``, ``object``."""
    if isinstance(value, bool):
        return "bool"
    kinds: list[tuple[Any, str]] = [
        ((int, float), "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    ]
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def keep_alive(value: Any) -> int:
    """Return a keep_alive in nanoseconds; a number is seconds, negative is for ever.

    Raises:
        Refused: 400 with Go's text.

    >>> keep_alive(1.5), keep_alive("5m"), keep_alive(-1) == FOREVER
    (1500000000, 300000000000, True)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(400, f"Unsupported type: '{_go_type(value)}'")
    length = duration(value) if isinstance(value, str) else int(min(value * SECOND, FOREVER))
    return FOREVER if length < 0 else min(length, FOREVER)


def _go_type(value: Any) -> str:
    names = {"bool": "bool", "array": "[]interface {}", "object": "map[string]interface {}"}
    return names.get(json_type(value), "<nil>")


def duration(text: str) -> int:
    """Return a Go duration in nanoseconds.

    Raises:
        Refused: 400 with Go's text.

    >>> duration("1h30m"), duration("-2s"), duration("0")
    (5400000000000, -2000000000, 0)
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    parts = _PART.findall(rest)
    if not rest or "".join(number + unit for number, unit in parts) != rest:
        raise Refused(400, f'time: invalid duration "{text}"')
    return sign * sum(_part(number, unit, text) for number, unit in parts)


def _part(number: str, unit: str, text: str) -> int:
    if not unit:
        raise Refused(400, f'time: missing unit in duration "{text}"')
    if unit not in _UNITS:
        raise Refused(400, f'time: unknown unit "{unit}" in duration "{text}"')
    return int(float(number) * _UNITS[unit])


def check_base64(text: str) -> None:
    """Accept what Go's standard base64 accepts.

    Raises:
        Refused: 400 with the place of the first wrong byte.
    """
    body = text.rstrip("=\r\n")
    good = _BASE64.match(body)
    place = good.end() if good else 0
    if place < len(body):
        raise Refused(400, f"illegal base64 data at input byte {place}")
    try:
        b64decode(text)
    except ValueError as error:
        raise Refused(400, f"illegal base64 data at input byte {len(body)}") from error


def rfc3339(nanoseconds: int) -> str:
    """Return a time since 1970 as Go writes it, in UTC.

    >>> rfc3339(1_500_000_000)
    '1970-01-01T00:00:01.5Z'
    """
    seconds, rest = divmod(nanoseconds, SECOND)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
