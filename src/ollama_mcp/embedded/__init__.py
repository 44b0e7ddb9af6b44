"""A toy engine with Ollama's wire protocol: a real small model on loopback, without Ollama.

For the first five minutes, for demos and for end-to-end tests; never a silent stand-in for a
missing Ollama. Nothing here is imported before it is used (PEP 562), so ``import
ollama_mcp.embedded`` is cheap and works without the extra ``embedded``.

    weights, convert        where the models are, and MiniLM as a GGUF
    child, __main__         starting the engine as a child process, and that process
    engine, model_slot      the models behind ``ollama_server``; one model's slot and time to live
    completion_request      llama.cpp's request out of Ollama's
    llama                   the one seam to xllamacpp
    gguf_header, gguf_models  a model file's header, and the model that it makes
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_mcp.embedded.child import EmbeddedEngine
    from ollama_mcp.embedded.weights import Weights, fetch, locate

__all__ = ["EmbeddedEngine", "EmbeddedUnavailable", "Weights", "fetch", "locate"]

_HOMES = {"EmbeddedEngine": "child", "Weights": "weights", "fetch": "weights", "locate": "weights"}


class EmbeddedUnavailable(Exception):
    """The embedded engine cannot run here.

    Attributes:
        cause: What is missing or broken, one sentence.
        remedy: What to do about it, for a person to read.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


def __getattr__(name: str) -> object:
    """Import the module of a public name when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
