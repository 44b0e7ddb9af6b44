"""Secrets in recordings: which headers are secret, and how texts are struck out."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl

from ollama_mcp.ollama_server.go_values import as_object
from ollama_mcp.ollama_server.http_messages import Request

_WORDS = ("auth", "cookie", "token", "key", "secret", "session", "passw", "credential", "signature", "jwt")
_SHORTEST = 4
_NO_SECRETS = {"true", "false", "null", "ollama"}
"""Values of headers such as `X-Auth-Optional: true`, and the key that OpenAI's clients send to Ollama."""
_SHORTEST_PART = 8
"""Characters of a part of a cookie or a query that is struck out: `theme=dark` is none of it."""


def is_secret(header: str) -> bool:
    """Return whether a header's name says that its value is nobody's business."""
    return any(word in header.lower() for word in _WORDS)


def credentials(request: Request) -> set[str]:
    """Return what the client proved itself with.

    The values of secret headers and what stands in them behind a scheme, the user's name and password
    of Basic, and the parts of cookies and of the query that are long enough to be a secret.
    """
    found: set[str] = set()
    for name, value in request.headers.items():
        if is_secret(name):
            found |= {value, value.rpartition(" ")[2], *_basic(value), *_parts(value)}
    found |= {value for _, value in parse_qsl(request.query) if _is_long(value)}
    return found | {_as_utf8(text) for text in found}


def _basic(value: str) -> tuple[str, ...]:
    scheme, _, coded = value.partition(" ")
    if scheme.lower() != "basic":
        return ()
    try:
        decoded = base64.b64decode(coded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ()
    return (decoded, decoded.partition(":")[2])


def _parts(value: str) -> Iterator[str]:
    for part in re.split(r"[\s;,]+", value):
        for text in (part, part.partition("=")[2]):
            if _is_long(text):
                yield text


def _is_long(part: str) -> bool:
    # A number is a time or a count, and stands elsewhere too.
    return len(part) >= _SHORTEST_PART and not part.isdecimal()


def _as_utf8(header: str) -> str:
    # A header was read as Latin-1; what it holds may be UTF-8.
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


class Secrets:
    """Texts that are struck out in each spelling that they have in JSON, in a URL or as they are.

    Args:
        texts: The secrets; one of less than four characters is none, since it may stand anywhere.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        chosen = {text for text in texts if len(text) >= _SHORTEST} - _NO_SECRETS
        longest_first = sorted(chosen, key=len, reverse=True)  # one may hold another
        self._any = re.compile(b"|".join(map(_any_spelling, longest_first))) if chosen else None

    def struck(self, data: bytes) -> bytes:
        """Return the data without secrets, as long as before, so that lengths and chunks stay right."""
        return self._any.sub(lambda found: b"*" * len(found[0]), data) if self._any else data

    def struck_text(self, text: str) -> str:
        """Return a text without secrets."""
        return self.struck(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def struck_spans(self, data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
        """Return the data without secrets, also where one lies across spans, as in the chunks of a body."""
        spans, at = tuple(spans), 0
        body = self.struck(b"".join(data[one:other] for one, other in spans))
        clean = bytearray(data)
        for one, other in spans:
            clean[one:other] = body[at : at + other - one]
            at += other - one
        return self.struck(bytes(clean))

    def are_told(self, body: bytes) -> bool:
        """Return whether one comes up where the tokens of an answer are put together."""
        told: defaultdict[str, list[str]] = defaultdict(list)
        for line in body.split(b"\n"):
            for name, text in _texts(line):
                told[name].append(text)
        return any(self._are_in("".join(texts)) for texts in told.values())

    def _are_in(self, text: str) -> bool:
        return bool(self._any and self._any.search(text.encode("utf-8", "surrogatepass")))


def _texts(line: bytes) -> Iterator[tuple[str, str]]:
    try:
        record = as_object(json.loads(line))
    except (ValueError, RecursionError):
        return
    for holder in (record, as_object(record.get("message"))):
        yield from ((name, text) for name, text in holder.items() if isinstance(text, str))


def _any_spelling(secret: str) -> bytes:
    """Return a pattern for a text as it is, in JSON (also in JSON within JSON) and in a URL."""
    return b"".join(_any_form(character) for character in secret)


def _any_form(character: str) -> bytes:
    if character.isascii() and character.isalnum():
        return character.encode()  # nobody escapes these, and a pattern of plain bytes is fast
    return b"(?:%b)" % b"|".join(_spellings(character))


def _spellings(character: str) -> Iterator[bytes]:
    plain = character.encode("utf-8", "surrogatepass")
    yield re.escape(plain)
    yield b"".join(rb"%%(?i:%02x)" % byte for byte in plain)
    units = character.encode("utf-16-be", "surrogatepass").hex()
    yield b"".join(rb"\\+u(?i:%b)" % units[at : at + 4].encode() for at in range(0, len(units), 4))
    if character in _SHORT:
        yield rb"\\+" + _SHORT[character]
    if character == " ":
        yield rb"\+"


_SHORT = {'"': b'"', "\\": rb"\\", "/": b"/", "\n": b"n", "\t": b"t", "\r": b"r", "\b": b"b", "\f": b"f"}
