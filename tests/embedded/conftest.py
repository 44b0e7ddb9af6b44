"""One engine for the whole session: it starts in a second, and every test leaves it usable."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import ollama
import pytest

from ollama_mcp.embedded import EmbeddedEngine, Weights, fetch
from ollama_mcp.settings import load

CACHE = load().cache
RECORDINGS = Path(__file__).parent.parent / "recordings"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def weights() -> Weights:
    """The real models; without them, and without a way to get them, tests fail."""
    return fetch(CACHE)


@pytest.fixture(scope="session")
def engine(weights: Weights):
    with EmbeddedEngine(weights) as engine:
        yield engine


@pytest.fixture
def http(engine: EmbeddedEngine):
    with httpx.Client(base_url=engine.url, timeout=60) as client:
        yield client


@pytest.fixture
def official(engine: EmbeddedEngine):
    client = ollama.Client(engine.url, timeout=60)
    yield client
    client._client.close()


@pytest.fixture
def recording():
    def load(name: str) -> dict:
        return json.loads((RECORDINGS / f"{name}.json").read_text("utf-8"))

    return load
