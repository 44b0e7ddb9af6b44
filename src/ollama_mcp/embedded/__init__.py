"""A toy engine with Ollama's wire protocol: a real small model on loopback, without Ollama.

For the first five minutes, for demos and for end-to-end tests; never a silent stand-in for a
missing Ollama. Nothing here is imported before it is used (PEP 562), so ``import
ollama_mcp.embedded`` is cheap and works without the extra ``embedded``.

Rooms: ``weights`` (where the models are), ``convert`` (MiniLM to GGUF), ``gguf_header`` (what a
model file says of itself), ``llama`` (the one seam to xllamacpp), ``host`` (one loaded model, its
slot and its time to live), ``prompts``, ``names``, ``gowords`` and ``requests`` (Ollama's rules and
words), ``server`` (the endpoints), ``__main__`` (the child process), ``child`` (who starts it).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_mcp.embedded.child import EmbeddedEngine
    from ollama_mcp.embedded.errors import EmbeddedUnavailable
    from ollama_mcp.embedded.weights import Weights, fetch, locate

__all__ = ["EmbeddedEngine", "EmbeddedUnavailable", "Weights", "fetch", "locate"]

_HOMES = {
    "EmbeddedEngine": "child",
    "EmbeddedUnavailable": "errors",
    "Weights": "weights",
    "fetch": "weights",
    "locate": "weights",
}


def __getattr__(name: str) -> object:
    """Import a public name's room when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
