"""Model names: their grammar, which of them are the same model, look alike, or leave the machine."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from ollama_mcp.errors import InvalidArgument

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAMESPACE = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"
_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"
_NAME = re.compile(rf"(?:(?:{_HOST}/)?{_NAMESPACE}/)?{_PART}(?::{_PART})?\Z")
_REGISTRY = re.compile(rf"{_HOST}\Z")
DEFAULT_REGISTRY = "registry.ollama.ai"


def is_name(name: str) -> bool:
    """Return whether a text fits Ollama's grammar of names."""
    return _NAME.match(name.strip()) is not None


def is_registry(host: str) -> bool:
    """Return whether a text can be the host of a name.

    >>> [is_registry(h) for h in ("hf.co", "gpu-box:5000", "https://hf.co", "hf.co/unsloth", "*", "")]
    [True, True, False, False, False, False]
    """
    return _REGISTRY.match(host.strip()) is not None


def check_name(name: str) -> str:
    """Return a model name that fits Ollama's grammar `[host/][namespace/]model[:tag]`.

    >>> check_name(" qwen3:8b "), check_name("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M")
    ('qwen3:8b', 'hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M')

    Raises:
        InvalidArgument: For anything else.
    """
    name = name.strip()
    if not is_name(name):
        bare = _PREFIX.sub("", name).split("?")[0].rstrip("/").removesuffix("/tree/main")
        bare = bare.removeprefix("ollama.com/library/").removeprefix("ollama.com/")
        instead = bare if bare != name and is_name(bare) else ""
        raise InvalidArgument(
            f"model {name[:80]!r} is not a model name",
            f'Send model="{instead}".'
            if instead
            else 'Send a name such as "qwen3:8b"; ollama_list_models has the installed ones.',
        )
    return name


_PREFIX = re.compile(
    r"^(?:https?://(?:www\.)?|ollama(?:_chat)?[:/](?://)?|(?:ollama|huggingface)\s+(?:run|pull)\s+)"
)
"""What stands before a name in a page's address, in LiteLLM's and others' settings, and in a command."""


def canonical(name: str) -> str:
    """The one spelling of a name: Ollama's default registry left out, the tag written.

    >>> canonical("llama3.2"), canonical("registry.ollama.ai/library/llama3.2:1b"), canonical("hf.co/a/B")
    ('llama3.2:latest', 'llama3.2:1b', 'hf.co/a/b:latest')
    """
    name = name.strip().lower().removeprefix(f"{DEFAULT_REGISTRY}/")
    if name.count("/") == 1:  # in front of two parts it is a registry of that name
        name = name.removeprefix("library/")
    return name if _tag(name) else f"{name}:latest"


def registry_of(name: str) -> str:
    """The host that a name is pulled from and pushed to, with its port where it has one.

    >>> [registry_of(n) for n in ("qwen3:8b", "me/mine", "HF.co/unsloth/Qwen3:Q4_K_M", "gpu:5000/a/b")]
    ['registry.ollama.ai', 'registry.ollama.ai', 'hf.co', 'gpu:5000']
    """
    host, *rest = name.strip().lower().split("/")
    return host if len(rest) == 2 else DEFAULT_REGISTRY


def is_cloud_name(name: str) -> bool:
    """Return whether a name alone says that prompts for it leave this machine.

    >>> [is_cloud_name(n) for n in ("gpt-oss:120b-cloud", "glm-4.6:cloud", "cloud:8b", "cloud", "x:local")]
    [True, True, False, False, False]
    """
    tag = _tag(name.strip().lower())
    return tag == "cloud" or tag.endswith("-cloud")


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that look most like `name`, best first.

    >>> nearest("llama3:8b", ["qwen3:8b", "llama3.1:8b", "nomic-embed-text:latest"])
    ['llama3.1:8b']
    """
    candidates = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), candidates, n=count, cutoff=0.5)
    return [candidates[match] for match in close]


def _tag(name: str) -> str:
    """Return the text behind the colon of the last part (the colon of `host:port/…` is none)."""
    return name.rpartition("/")[2].partition(":")[2]
