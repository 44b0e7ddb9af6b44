"""One Ollama server, with all that calls of its models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ollama_mcp.client import OllamaClient
from ollama_mcp.jobs.model_queue import Gate
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.context_window import Windows
from ollama_mcp.settings import Settings


@dataclass(frozen=True)
class OllamaBackend:
    """An Ollama server as services see it.

    Attributes:
        client: The way to it.
        catalog: Its models, and what it said last.
        gate: The queue before each model.
        windows: The context windows that models have grown to.
        settings: The operator's.
    """

    client: OllamaClient
    catalog: Catalog
    gate: Gate
    windows: Windows
    settings: Settings

    @classmethod
    def create(cls, client: OllamaClient, settings: Settings) -> Self:
        """Make one, of which nothing is asked yet."""
        gate = Gate(settings.parallel, settings.queue)
        return cls(client, Catalog(client, settings), gate, Windows(), settings)
