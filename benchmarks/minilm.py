"""Vectors by MiniLM, the embedding model of the embedded engine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ollama_mcp import App
from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable, locate
from ollama_mcp.jobs.job import Part
from ollama_mcp.services.embedding import EmbedSpec
from ollama_mcp.settings import load

MODEL = "all-minilm:22m"

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def embed(texts: Sequence[str]) -> Matrix:
    """Return the vectors of texts, one a row, each of length 1.

    Raises:
        SystemExit: The weights are missing; the message says how to fetch them.
    """
    try:
        weights = locate(load().cache)
    except EmbeddedUnavailable as error:
        sys.exit(str(error))
    return asyncio.run(_embed(weights, texts))


async def _embed(weights: Any, texts: Sequence[str]) -> Matrix:
    async with EmbeddedEngine(weights) as engine:
        app = App.create(load({"OLLAMA_HOST": engine.url}))
        async with app.lifespan():
            found = await app.embedder.run(EmbedSpec(texts, MODEL, truncate=True), Part("texts"))
    return unit(np.array(found.vectors, np.float32))


def unit(vectors: Any) -> Matrix:
    """Return vectors brought to length 1, as float32."""
    found = np.asarray(vectors, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)
