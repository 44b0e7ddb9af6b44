"""What a model is, in short facts; what is long is there too, for those who ask for it by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

from ollama_mcp.client import OllamaClient
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.api_models import ModelInfo, RunningModel, ShowRequest, ShowResponse
from ollama_mcp.ollama.endpoints import SHOW
from ollama_mcp.ollama.model_names import is_name
from ollama_mcp.services.catalog import describe


@dataclass(frozen=True)
class InMemory:
    """How a model is loaded.

    Attributes:
        size: Its bytes in all memory.
        gpu: The share of them in the GPU's, from 0 to 1; None where Ollama does not say.
        window: Tokens that it holds; 0 where Ollama does not say.
        expires_at: When it unloads, in RFC 3339.
    """

    size: int
    gpu: float | None = None
    window: int = 0
    expires_at: str = ""

    @classmethod
    def of(cls, running: RunningModel | None) -> Self | None:
        """What the list of loaded models says of one."""
        if running is None:
            return None
        return cls(running.size, running.gpu_share, running.context_length, running.expires_at)


@dataclass(frozen=True)
class Summary:
    """An installed model.

    Attributes:
        name: As Ollama lists it.
        digest: Its content.
        size: Its bytes on disk.
        modified_at: When it was installed, in RFC 3339.
        family: Its architecture.
        parameters: Their number, such as 3.2B.
        quantization: Such as Q4_K_M.
        window: The most tokens that it was made for; 0 where unknown.
        dimensions: Length of its vectors; 0 where unknown.
        capabilities: In order of the alphabet.
        defaults: Options of its own, by name.
        is_cloud: Whether prompts for it leave the machine.
        parent: The model that it was made from; "" where that was a file, whose path Ollama tells.
        requires: The oldest version of Ollama that runs it.
        memory: How it is loaded; None where it is not.
        parts: What is long, by name, as far as the model has it: template, system, license, messages,
            metadata. Not for a result unless somebody asks.
    """

    name: str
    digest: str
    size: int
    modified_at: str
    family: str
    parameters: str
    quantization: str
    window: int
    dimensions: int
    capabilities: tuple[str, ...]
    defaults: Mapping[str, Any]
    is_cloud: bool
    parent: str
    requires: str
    memory: InMemory | None
    parts: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def part(self, name: str) -> Any:
        """One of the long parts; "" where the model has none.

        Raises:
            InvalidArgument: There is no such part.
        """
        if name not in PARTS:
            raise InvalidArgument(f"{name[:40]!r} is no part of a model", f"Send one of {', '.join(PARTS)}.")
        return self.parts.get(name, "")


PARTS = ("template", "system", "license", "messages", "metadata")
"""The modelfile is not among them: it has the server's paths, and nothing else that is not here."""


async def summary(client: OllamaClient, info: ModelInfo, running: RunningModel | None) -> Summary:
    """Put together what the list, the server's show and the list of loaded models say."""
    shown = await client.call(SHOW, ShowRequest(model=info.name))
    model, details = describe(info.name, shown), shown.details
    return Summary(
        name=info.name,
        digest=info.digest,
        size=info.size,
        modified_at=info.modified_at or shown.modified_at,
        family=details.family or info.details.family,
        parameters=details.parameter_size or info.details.parameter_size,
        quantization=details.quantization_level or info.details.quantization_level,
        window=model.max_context or info.details.context_length,
        dimensions=shown.fact("embedding_length"),
        capabilities=tuple(sorted(model.capabilities)),
        defaults=default_options(shown.parameters),
        is_cloud=model.is_cloud or bool(info.remote_host),
        parent=details.parent_model if is_name(details.parent_model) else "",
        requires=shown.requires,
        memory=InMemory.of(running),
        parts={name: value for name, value in _parts(shown).items() if value},
    )


def _parts(shown: ShowResponse) -> dict[str, Any]:
    licence = shown.license if isinstance(shown.license, str) else "\n\n".join(shown.license)
    return {
        "template": shown.template,
        "system": shown.system,
        "license": licence,
        "messages": shown.messages,
        "metadata": {name: value for name, value in shown.model_info.items() if value is not None},
    }


def default_options(text: str) -> dict[str, Any]:
    r"""Options of a model, as show prints them: a name, spaces, a value; lists are taken apart there.

    >>> default_options('stop    "<|im_end|>"\nstop    "Arr"\ntemperature    0.1\nnum_ctx 4096')
    {'stop': ['<|im_end|>', 'Arr'], 'temperature': 0.1, 'num_ctx': 4096}
    """
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, said = line.strip().partition(" ")
        value = _value(said.strip())
        if name == "stop":
            cast("list[Any]", found.setdefault("stop", [])).append(value)
        elif name:
            found[name] = value
    return found


def _value(said: str) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        return said
