"""Sanitizing of text and JSON values: `sanitize` for what leaves, `strip_invisible` for what is read.

Language models, servers and clients make text with half a surrogate pair, and numbers that are not
finite. In the serialiser either ends the process, so `sanitize` mends both wherever data leaves it.

Invisible characters, and those that turn the direction of text, hide words from people that models
read. `strip_invisible` removes them from what is read from files and other sources, never from what a user
writes.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

DEPTH = 200
"""Levels of nesting; what JSON parsers take."""


def sanitize(value: Any, depth: int = DEPTH) -> Any:
    """Copy a JSON value; lone surrogates become U+FFFD, NaN and infinity become null.

    >>> sanitize({"a": [1.5, float("nan"), "x" + chr(0xD800)]}) == {"a": [1.5, None, "x" + chr(0xFFFD)]}
    True

    Raises:
        RecursionError: It is nested too deeply, or contains itself.
    """
    if isinstance(value, str):
        return sanitize_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not depth:
        raise RecursionError("nested too deeply")
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {sanitize(key, depth - 1): sanitize(item, depth - 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [sanitize(item, depth - 1) for item in cast("list[Any]", value)]
    return value


def sanitize_text(text: str) -> str:
    """Text that UTF-8 can carry; the halves of a pair become the character that they mean.

    >>> sanitize_text(chr(0xD83E) + chr(0xDD99)) == chr(0x1F999)
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# Control characters; then what Unicode calls default-ignorable, and the marks of annotations.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_WORD = r"[^\x00-\x7f" + _HIDDEN + "]"
_SEEN_JOINER = (
    rf"(?<={_WORD})\ufe0f?[\u200c\u200d](?={_WORD})|(?<={_WORD})[\ufe0e\ufe0f](?!\s*[{_HIDDEN}])"
    r"|(?<=[0-9#*])\ufe0f(?=\u20e3)|(?<=[\u0d4d\u09cd\u094d])[\u200c\u200d](?=[\s\u0900-\u0d7f])"
)
"""One joiner in a word or an emoji, or behind a virama; one choice of how it is drawn: writing needs them."""
_FOUND = re.compile(rf"(?P<seen>{_SEEN_JOINER})|[{_HIDDEN}]")


def strip_invisible(text: str) -> tuple[str, int]:
    r"""Return the text without what cannot be seen, and how many characters that took.

    >>> strip_invisible("pay\u200b \u202eevil\u202c now\r\n")
    ('pay evil now\n', 3)
    >>> all(strip_invisible(one) == (one, 0) for one in ("🏳️‍🌈", "❤️‍🔥", "1️⃣", "അവന്‍ വന്നു"))
    True
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    removed = 0

    def kept(match: re.Match[str]) -> str:
        nonlocal removed
        if match["seen"]:
            return match[0]
        removed += 1
        return ""

    return _FOUND.sub(kept, text), removed
