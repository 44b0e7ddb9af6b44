"""Model names as Ollama reads them: ``[host/][namespace/]model[:tag]``.

A name without a tag means ``:latest``, here as in Ollama; ``smollm2`` alone is therefore not found
when ``smollm2:135m`` is what there is. Guessing would teach habits that the real thing punishes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class Name(NamedTuple):
    """A whole name, in lower case: Ollama does not tell ``SmolLM2`` from ``smollm2``."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def full(self) -> str:
        """Return the name with everything in it, as Ollama's errors show it."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"


def parse_name(text: str) -> Name | None:
    """Read a name; ``None`` when Ollama would call it invalid.

    >>> parse_name("smollm2").full
    'registry.ollama.ai/library/smollm2:latest'
    >>> parse_name("../../etc/passwd") is None
    True
    """
    path, tag = _split_tag(text.removeprefix("https://").removeprefix("http://"))
    parts = path.rsplit("/", 2)
    host, namespace, model = ["registry.ollama.ai", "library"][: 3 - len(parts)] + parts
    forms = zip((_HOST, _NAMESPACE, _PART, _PART), (host, namespace, model, tag), strict=True)
    if not all(form.fullmatch(part) for form, part in forms):
        return None
    return Name(host.lower(), namespace.lower(), model.lower(), tag.lower())


def _split_tag(text: str) -> tuple[str, str]:
    path, colon, tag = text.rpartition(":")
    return (path, tag) if colon and "/" not in tag else (text, "latest")
