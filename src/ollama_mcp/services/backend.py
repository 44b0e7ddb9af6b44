"""An Ollama server, with everything that calls of its models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ollama_mcp.client import OllamaClient
from ollama_mcp.jobs.model_queue import ModelQueue
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.context_window import ContextWindows
from ollama_mcp.settings import Settings


@dataclass(frozen=True)
class OllamaBackend:
    """An Ollama server as services see it.

        backend = OllamaBackend.create(OllamaClient(), Settings())
        choice = await backend.catalog.resolve("", ["completion"], default="")

    Attributes:
        client: The client of the server.
        catalog: The server's models, and its last answers.
        model_queue: The queue in front of each model.
        windows: The context windows that models have grown to.
        settings: The operator's settings.
    """

    client: OllamaClient
    catalog: Catalog
    model_queue: ModelQueue
    windows: ContextWindows
    settings: Settings

    @classmethod
    def create(cls, client: OllamaClient, settings: Settings) -> Self:
        """Make a backend; the server is not called yet."""
        model_queue = ModelQueue(settings.parallel, settings.queue)
        return cls(client, Catalog(client, settings), model_queue, ContextWindows(), settings)
