"""Values that language models send in many forms, and Ollama takes in one: keep_alive, think, images."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.api_models import KeepAlive, Think

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_DURATION = re.compile(rf"[+-]?(?:{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h))+\Z", re.ASCII)
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_PLAIN = re.compile(rf"([+-]?{_NUMBER})([dw]?)\Z", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONG_UNITS = {"d": 24, "w": 24 * 7}
_LONGEST_S = 9e9
"""Seconds, 285 years: Go's durations end at 292, and so does for ever."""
_FOR_EVER = frozenset({"forever", "infinite", "inf", "always", "never"})
_THINK_WORDS: dict[str, Think] = {
    "true": True, "on": True, "yes": True, "false": False, "off": False, "no": False, "none": False,
    "low": "low", "medium": "medium", "high": "high", "max": "max",
}  # fmt: skip


def check_kind(name: str, value: Any, kind: type[Any], of: type[Any] | None = None) -> None:
    """Refuse a value of another kind, which a program can send and JSON's check would have told.

    Args:
        name: The argument.
        value: What was sent.
        kind: str, bool, int, Mapping or Sequence, which a text is not here.
        of: The kind of a Sequence's items.

    Raises:
        InvalidArgument: It is not of that kind.
    """
    is_text, is_bool = isinstance(value, str), isinstance(value, bool)
    if not isinstance(value, kind) or (is_text and kind is not str) or (is_bool and kind is int):
        raise InvalidArgument(
            f'"{name}" is of the kind {type(cast("object", value)).__name__}',
            f'Send "{name}" as {_WANTED[kind]}.',
        )
    for place, item in enumerate(cast("Sequence[object]", value) if of else ()):
        check_kind(f"{name}[{place}]", item, cast("type[Any]", of))


_WANTED: dict[type[Any], str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    Mapping: "an object",
    Sequence: "a list",
}


def parse_keep_alive(value: Any) -> KeepAlive | None:
    """Read a keep_alive; None (or an empty text) is the server's own default.

    >>> [parse_keep_alive(v) for v in ("", "300", "-1", "10m", "2d", "forever", 0, "1.5h", "9999999h")]
    [None, 300.0, -1, '10m', '48h', -1, 0, '1.5h', -1]

    Raises:
        InvalidArgument: What Ollama would answer with HTTP 400.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:  # noqa: PLR0124 - no NaN
        return value if abs(value) < _LONGEST_S else -1
    text = value.strip().lower() if isinstance(value, str) else "?"
    if text in {"", "null"}:
        return None
    if text in _FOR_EVER:
        return -1
    if _DURATION.match(text):
        return text if _seconds(text) < _LONGEST_S else -1
    return _plain_number(text)


def _seconds(duration: str) -> float:
    """The length of a Go duration, without its sign."""
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


def keep_alive_seconds(value: KeepAlive) -> float:
    """Return the seconds for which a keep_alive keeps a model loaded; below 0 is for ever.

    >>> [keep_alive_seconds(value) for value in (300, "1h30m", -1, "-5m", 0)]
    [300.0, 5400.0, inf, inf, 0.0]
    """
    seconds = float(value) if not isinstance(value, str) else _seconds(value)
    is_negative = value.startswith("-") if isinstance(value, str) else seconds < 0
    return math.inf if is_negative and seconds else seconds


def _plain_number(text: str) -> KeepAlive:
    """`300`, `-1`, and the units that Go does not have: `2d`."""
    found = _PLAIN.match(text)
    if found is None:
        raise InvalidArgument(
            f"keep_alive {text[:40]!r} is not a time", 'Send seconds or a time such as "10m"; -1 is for ever.'
        )
    amount, unit = float(found[1]), found[2]
    hours = amount * _LONG_UNITS.get(unit, 0)
    if max(abs(hours) * 3600, amount) >= _LONGEST_S:
        return -1
    if unit:
        return f"{hours:.6f}".rstrip("0").rstrip(".") + "h"
    return -1 if amount < 0 else amount


def parse_think(value: Any) -> Think | None:
    """Read a think; None (or an empty text) is the model's own default.

    >>> [parse_think(v) for v in ("", "true", False, "HIGH", "off")]
    [None, True, False, 'high', False]

    Raises:
        InvalidArgument: Anything else.
    """
    if value is None or isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else "?"
    if text in {"", "null", "default", "auto"}:
        return None
    if text not in _THINK_WORDS:
        raise InvalidArgument(
            f"think {text[:40]!r} is not a level", 'Send "true", "false", "low", "medium", "high" or "max".'
        )
    return _THINK_WORDS[text]


_PLACE = re.compile(
    r"\s*(?:[a-z]+://|[~.]{0,2}[\\/]|[A-Z]:[\\/])|.*\.(?:png|jpe?g|gif|webp|bmp)\s*\Z", re.IGNORECASE
)
"""What looks like where a picture is."""
_BY_PATH = (
    ("files", 'send its path in "files"'),
    ("!files", 'have the operator allow its folder (OLLAMA_MCP_ROOTS), and send its path in "files"'),
)


def check_image(image: str) -> str:
    r"""Return an image as the bare base64 that Ollama takes; a `data:` URL loses its head.

    A text that is a path is refused, never read.

    >>> check_image("data:image/png;base64,aGVsbG8="), check_image("aGVs\nbG8")
    ('aGVsbG8=', 'aGVsbG8=')

    Raises:
        InvalidArgument: It is not base64.
    """
    bare = image.partition(",")[2] if image.startswith("data:") else image
    bare = "".join(bare.split()).rstrip("=")
    bare += "=" * (-len(bare) % 4)
    try:
        decoded = base64.b64decode(bare, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded or (bare.startswith("/") and not bare.startswith("/9j")):  # a path, and no JPEG
        is_place = bool(_PLACE.match(image))
        raise InvalidArgument(
            "an image is a path or an address, not base64" if is_place else "an image is not base64",
            ways=[*(_BY_PATH if is_place else ()), ("", "send the bytes of the image file in base64")],
        )
    return bare
