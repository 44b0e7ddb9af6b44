"""Text as a person sees it: without characters that are invisible, or that turn its direction.

They hide words from people that models read. Done to what is read from files and other sources,
never to what a user writes.
"""

from __future__ import annotations

import re

# Control characters; then what Unicode calls default-ignorable, and the marks of annotations.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_WORD = r"[^\x00-\x7f" + _HIDDEN + "]"
_SEEN_JOINER = rf"(?<={_WORD})[\u200c\u200d](?={_WORD})|(?<={_WORD})[\ufe0e\ufe0f](?!\s*[{_HIDDEN}])"
"""One joiner inside a word or an emoji, one choice of how it is drawn: writing needs them."""
_FOUND = re.compile(rf"(?P<seen>{_SEEN_JOINER})|[{_HIDDEN}]")


def visible(text: str) -> tuple[str, int]:
    r"""Return the text without what cannot be seen, and how many characters that took.

    >>> visible("pay\u200b \u202eevil\u202c now\r\n")
    ('pay evil now\n', 3)
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
