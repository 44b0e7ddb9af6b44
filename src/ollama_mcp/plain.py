"""Plain data: what JSON and UTF-8 can carry.

Language models, servers and clients make text with half a surrogate pair, and numbers that are not
finite. In the serialiser either ends the process, so both are mended wherever data leaves it.
"""

from __future__ import annotations

import math
from typing import Any, cast

DEPTH = 200
"""Levels of nesting; what JSON parsers take."""


def clean(value: Any, depth: int = DEPTH) -> Any:
    """Copy a JSON value; lone surrogates become U+FFFD, NaN and infinity become null.

    >>> clean({"a": [1.5, float("nan"), "x" + chr(0xD800)]}) == {"a": [1.5, None, "x" + chr(0xFFFD)]}
    True

    Raises:
        RecursionError: It is nested too deeply, or contains itself.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not depth:
        raise RecursionError("nested too deeply")
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {clean(key, depth - 1): clean(item, depth - 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [clean(item, depth - 1) for item in cast("list[Any]", value)]
    return value


def clean_text(text: str) -> str:
    """Text that UTF-8 can carry; the halves of a pair become the character that they mean.

    >>> clean_text(chr(0xD83E) + chr(0xDD99)) == chr(0x1F999)
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
