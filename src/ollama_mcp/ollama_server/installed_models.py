"""Installed models: their names, what they can do, whether they are loaded, and how listings show them."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollama_mcp.ollama.model_names import DEFAULT_REGISTRY, is_name
from ollama_mcp.ollama_server.go_values import as_list, quote, timestamp

_SCHEME = re.compile(r"https?://")
_MEAN = 1  # GGUF's number for a vector that is the mean of all tokens
_SIZES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_FAR_S = 9e9  # 285 years: how a keep_alive without end is shown

CAPABILITIES = frozenset({"completion", "tools", "thinking", "vision", "insert", "embedding", "audio"})
"""The capabilities that Ollama knows."""


@dataclass
class Model:
    """A model that the server has installed. Change its fields at any time; the next request sees it.

    Attributes:
        name: Its name. Installing it makes it the short one, with a tag: `llama3.2` is
            `llama3.2:latest`.
        capabilities: What it can do: any of "completion", "tools", "thinking", "vision", "insert" and
            "embedding". The first two by default. What it cannot do is refused as by a real server.
        context_length: The longest window that the model was trained for, in tokens; a larger num_ctx
            is cut to it. 131072 by default.
        size: Bytes on disk, which tags and ps show and a pull counts. 2019393189 by default.
        parameter_size: The number of its parameters as show writes it, with K, M, B or T at the end.
            "3.2B" by default.
        quantization_level: As show writes it. "Q4_K_M" by default.
        family: Its architecture, which the names in show's `model_info` begin with. "llama" by default.
        modified_at: When it was installed, in RFC 3339; tags lists the youngest first. A fixed moment
            by default.
        loaded: Whether it is loaded, unless `expires` is over; ps lists it then. False by default.
        remote_host: The URL where the model runs if that is elsewhere: prompts would leave the
            machine. Empty (the default) for a model that runs here.
        remote_model: Its name there; the same as here if left empty.
        template: The template that show gives; the fake itself uses none. "{{ .Prompt }}" by default.
        dimensions: The length of its vectors, in numbers. 768 by default.
        system: The system prompt that show gives; its tokens are not counted. Empty by default.
        parameters: Options by name, for calls of chat and generate that do not set them themselves;
            show prints them. One of a wrong type fails each call. Empty by default.
        messages: The messages that show gives. Empty by default.
        license: The licence that show gives. Empty by default.
        parent_model: The model that it was made from, as show gives it. Empty by default.
        digest: 64 hexadecimal digits; made from the name if left empty.
        window: The window that it is loaded with, in tokens; 0 (the default) while it was never
            loaded. Installing it as `loaded` with 0 makes it the server's window.
        expires: When it unloads by itself, in seconds of `time.monotonic`; never by default. Every
            call sets it anew by its keep_alive.
        loads: How often it was loaded, from 0: a second time means that a call asked for another
            window or that it had been unloaded.
    """

    name: str
    capabilities: Sequence[str] = ("completion", "tools")
    context_length: int = 131_072
    size: int = 2_019_393_189
    parameter_size: str = "3.2B"
    quantization_level: str = "Q4_K_M"
    family: str = "llama"
    modified_at: str = "2026-11-22T17:13:26.120612282Z"
    loaded: bool = False
    remote_host: str = ""
    remote_model: str = ""
    template: str = "{{ .Prompt }}"
    dimensions: int = 768
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    messages: Sequence[Mapping[str, Any]] = ()
    license: str = ""
    parent_model: str = ""
    digest: str = ""
    window: int = 0
    expires: float = math.inf
    loads: int = 0

    def __post_init__(self) -> None:
        """Refuse a capability that Ollama does not have: a misspelt one would be a model that cannot."""
        if unknown := set(self.capabilities) - CAPABILITIES:
            raise ValueError(
                f"no model has the capability {', '.join(sorted(map(repr, unknown)))}; "
                f"there are {', '.join(sorted(CAPABILITIES))}"
            )
        self.digest = self.digest or hashlib.sha256(self.name.encode()).hexdigest()

    def can(self, capability: str) -> bool:
        """Whether it has the capability."""
        return capability in self.capabilities

    @property
    def running(self) -> bool:
        """Whether it is loaded now, its keep_alive not being over."""
        return self.loaded and time.monotonic() < self.expires

    def load(self, window: int) -> None:
        """Load it with a window of so many tokens, if that is not how it is loaded already."""
        if not self.running or self.window != window:
            self.loads += 1
        self.loaded, self.window = True, window

    def keep(self, seconds: float) -> None:
        """Let it stay loaded for so long; 0 unloads it now."""
        self.loaded = seconds > 0
        self.expires = time.monotonic() + seconds

    # What show gives beside the fields.

    @property
    def modelfile(self) -> str:
        """The Modelfile that it could be made from."""
        head = f'# Modelfile generated by "ollama show"\nFROM {self.weights_path}'
        lines = [head, f"TEMPLATE {self.template}"] + ([f"SYSTEM {self.system}"] if self.system else [])
        lines += [f"PARAMETER {name} {value}" for name, value in self.parameter_lines]
        return "\n".join(lines) + "\n"

    @property
    def weights_path(self) -> str:
        """The file of its weights, as the Modelfile has it."""
        # A server's own path stands here in real answers, so that a test can see that it goes no further.
        return f"/var/lib/ollama/blobs/sha256-{self.digest}"

    @property
    def parameter_lines(self) -> list[tuple[str, Any]]:
        """Its parameters by name, lists taken apart."""
        lists = {name: as_list(value) or [value] for name, value in self.parameters.items()}
        return [(name, one) for name, several in sorted(lists.items()) for one in several]

    @property
    def model_info(self) -> dict[str, Any]:
        """The metadata of its file."""
        size = re.fullmatch(r"([\d.]+)([KMBT])", self.parameter_size)
        return {
            "general.architecture": self.family,
            "general.parameter_count": int(float(size[1]) * _SIZES[size[2]]) if size else 0,
            f"{self.family}.context_length": self.context_length,
            f"{self.family}.embedding_length": self.dimensions,
            **({f"{self.family}.pooling_type": _MEAN} if self.can("embedding") else {}),
            "tokenizer.ggml.tokens": None,
        }

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """The tensors in its file."""
        return [{"name": "token_embd.weight", "type": "Q8_0", "shape": [self.dimensions, 49152]}]


def is_valid(name: str) -> bool:
    """Return whether Ollama takes the text for a model's name; it may begin with `https://`."""
    return name == name.strip() and is_name(_SCHEME.sub("", name, count=1))


def full_name(name: str) -> str:
    """Return host, namespace, name and tag.

    >>> full_name("llama3.2"), full_name("https://hf.co/me/X:Q4_K_M")
    ('registry.ollama.ai/library/llama3.2:latest', 'hf.co/me/X:Q4_K_M')
    """
    path = _SCHEME.sub("", name, count=1)
    tagged = path if ":" in path.rpartition("/")[2] else f"{path}:latest"
    missing = 2 - tagged.count("/")
    return "/".join([*[DEFAULT_REGISTRY, "library"][: max(missing, 0)], tagged])


def short_name(name: str) -> str:
    """Return the name as Ollama shows it: without the default registry and namespace, with its tag.

    >>> short_name("library/x"), short_name("registry.ollama.ai/me/x:1b")
    ('x:latest', 'me/x:1b')
    """
    return full_name(name).removeprefix(f"{DEFAULT_REGISTRY}/").removeprefix("library/")


def find_model(models: Mapping[str, Model], name: str) -> Model | None:
    """Return the model of that name, whatever its case and however much of its full name is given.

    Args:
        models: The installed models by short name.
        name: The name as a client wrote it.
    """
    wanted = short_name(name.lower())
    if not name or wanted in models:
        return models.get(wanted)
    return next((model for known, model in models.items() if known.lower() == wanted), None)


def details(model: Model) -> dict[str, Any]:
    """Return the `details` object of show and ps."""
    return {
        "parent_model": model.parent_model,
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization_level,
    }


def remote(model: Model) -> dict[str, Any]:
    """Return the fields that only a model of another host has."""
    if not model.remote_host:
        return {}
    return {"remote_model": model.remote_model or model.name, "remote_host": model.remote_host}


def tag_entry(model: Model, *, rich: bool) -> dict[str, Any]:
    """Return a row of tags; `rich` as since 0.30, with lengths and capabilities."""
    lengths = {"context_length": model.context_length, "embedding_length": model.dimensions}
    return {
        "name": model.name,
        "model": model.name,
        **remote(model),
        "modified_at": model.modified_at,
        "size": model.size,
        "digest": model.digest,
        "details": details(model) | (lengths if rich else {}),
    } | ({"capabilities": list(model.capabilities)} if rich else {})


def running_entry(model: Model) -> dict[str, Any]:
    """Return a row of ps; a keep_alive without end shows as a date far in the future."""
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size,
        "digest": model.digest,
        "details": details(model),
        "expires_at": timestamp(min(model.expires - time.monotonic(), _FAR_S)),
        "size_vram": 0,
        "context_length": model.window,
    }


def card(model: Model, *, capabilities: bool) -> dict[str, Any]:
    """Return the answer of show; old servers leave the capabilities out."""
    told = {
        "license": model.license,
        "modelfile": model.modelfile,
        # A name, spaces, a value, one a line.
        "parameters": "\n".join(
            f"{name:<30} {quote(value) if isinstance(value, str) else value}"
            for name, value in model.parameter_lines
        ),
        "template": model.template,
        "system": model.system,
        "details": details(model),
        "messages": list(model.messages),
        **remote(model),
        "model_info": model.model_info,
        "tensors": model.tensors,
        "capabilities": list(model.capabilities) if capabilities else [],
        "modified_at": model.modified_at,
    }
    return {name: value for name, value in told.items() if value not in ("", [])}
