"""The models that the engine has, and how ``/api/tags``, ``/api/show`` and ``/api/ps`` show them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_mcp.embedded.gguf_header import Header, read_header
from ollama_mcp.embedded.gowords import rfc3339
from ollama_mcp.embedded.names import Name, parse_name

if TYPE_CHECKING:
    from pathlib import Path

CHAT_NAME = "smollm2:135m"
EMBEDDING_NAME = "all-minilm:22m"
# Ollama's own template for SmolLM2 in the recordings, so that the counts are Ollama's too.
CHAT_TEMPLATE = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
CHAT_STOPS = ("<|im_start|>", "<|im_end|>")

Json = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model file and its name.

    Attributes:
        name: As ``/api/tags`` lists it.
        key: The whole name, for looking up.
        path: The GGUF.
        header: What the file says of itself.
        digest: sha256 of the file, hexadecimal.
        modified_ns: When the file was written, since 1970.
        embedding: Whether it makes vectors instead of text.
        known: Whether it is the model that we ship for, whose template we know.
    """

    name: str
    key: Name
    path: Path
    header: Header
    digest: str
    modified_ns: int
    embedding: bool
    known: bool

    @property
    def window(self) -> int:
        """Return the tokens that the model was trained for."""
        return self.header.of_architecture("context_length")

    @property
    def capabilities(self) -> list[str]:
        """Return Ollama's words for what the model can do."""
        return ["embedding"] if self.embedding else ["completion"]

    @property
    def template(self) -> str:
        """Return the template to show."""
        if self.embedding:
            return "{{ .Prompt }}"
        return CHAT_TEMPLATE if self.known else str(self.header.metadata.get("tokenizer.chat_template", ""))

    @property
    def stops(self) -> tuple[str, ...]:
        """Return the texts that end an answer when the request names none."""
        return CHAT_STOPS if self.known and not self.embedding else ()


def describe(path: Path, *, embedding: bool, known_digest: str | None = None) -> Model:
    """Read a model file (0.2 s for 100 MB).

    Args:
        path: The GGUF.
        embedding: Whether it is the embedding model.
        known_digest: The sha256 of the model whose name and template are ours; another file gets its
            file's name. ``None`` takes the file for ours.

    Raises:
        ModelFileError: The file is missing, corrupt or cut off.
    """
    header = read_header(path)
    digest = sha256(path)
    known = known_digest in {None, digest}
    ours = EMBEDDING_NAME if embedding else CHAT_NAME
    name, key = _named(ours if known else path.stem)
    return Model(name, key, path, header, digest, path.stat().st_mtime_ns, embedding, known)


def _named(text: str) -> tuple[str, Name]:
    key = parse_name(text.lower()) or parse_name("custom")
    assert key is not None, "'custom' is a valid name"  # noqa: S101  # for the type checker
    return f"{key.model}:{key.tag}", key


def sha256(path: Path) -> str:
    """Return a file's digest in hexadecimal (0.1 s for 100 MB)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def in_tags(model: Model) -> Json:
    """Return a model's entry in ``/api/tags``."""
    window = {
        "context_length": model.window,
        "embedding_length": model.header.of_architecture("embedding_length"),
    }
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": rfc3339(model.modified_ns),
        "size": model.path.stat().st_size,
        "digest": model.digest,
        "details": _details(model) | window,
        "capabilities": model.capabilities,
    }


@dataclass(frozen=True)
class Loaded:
    """What ``/api/ps`` says of a loaded model: its window in tokens, and when it goes (ns since 1970)."""

    num_ctx: int
    expires_ns: int


def in_ps(model: Model, loaded: Loaded) -> Json:
    """Return a loaded model's entry in ``/api/ps``; the size counts the file and the cache."""
    return {
        "name": model.name,
        "model": model.name,
        "size": model.path.stat().st_size + _cache_size(model, loaded.num_ctx),
        "digest": model.digest,
        "details": _details(model),
        "expires_at": rfc3339(loaded.expires_ns),
        "size_vram": 0,
        "context_length": loaded.num_ctx,
    }


def in_show(model: Model) -> Json:
    """Return the answer of ``/api/show``."""
    return {
        "modelfile": _modelfile(model),
        **({"parameters": _parameters(model)} if model.stops else {}),
        "template": model.template,
        "details": _details(model),
        "model_info": _model_info(model.header),
        "tensors": [
            {"name": t.name, "type": t.type_name, "shape": list(t.shape)} for t in model.header.tensors
        ],
        "capabilities": model.capabilities,
        "modified_at": rfc3339(model.modified_ns),
    }


def _details(model: Model) -> Json:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.header.architecture,
        "families": [model.header.architecture],
        "parameter_size": human_count(model.header.parameter_count),
        "quantization_level": model.header.quantization,
    }


def human_count(number: int) -> str:
    """Return a count of parameters as Ollama shows it.

    >>> human_count(134_515_008), human_count(7_241_732_096)
    ('134.52M', '7.2B')
    """
    return f"{number / 1e9:.1f}B" if number >= 1e9 else f"{number / 1e6:.2f}M"


def _model_info(header: Header) -> Json:
    info = {key: _shown(value) for key, value in header.metadata.items()}
    return dict(sorted((info | {"general.parameter_count": header.parameter_count}).items()))


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return None  # Ollama shows no array unless asked to be verbose
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _parameters(model: Model) -> str:
    return "\n".join(f"{'stop':<31}{json.dumps(stop)}" for stop in model.stops)


def _modelfile(model: Model) -> str:
    stops = "".join(f"PARAMETER stop {stop}\n" for stop in model.stops)
    head = f"# Modelfile of the embedded engine's {model.name}\nFROM {model.path.name}\n"
    return f'{head}TEMPLATE "{model.template}"\n{stops}'


def _cache_size(model: Model, num_ctx: int) -> int:
    if model.embedding:
        return 0
    header = model.header
    heads = header.of_architecture("attention.head_count_kv") or header.of_architecture(
        "attention.head_count"
    )
    width = header.of_architecture("embedding_length") // max(
        1, header.of_architecture("attention.head_count")
    )
    keys_and_values, bytes_each = 2, 2
    return num_ctx * header.of_architecture("block_count") * heads * width * keys_and_values * bytes_each
