"""A fake Ollama, and an mcp.json whose servers run in this process."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_mcp import App
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama
from ollama_mcp.tools.upstreams import source

from .servers import Connections


@pytest.fixture(params=["auto", pytest.param("legacy", marks=pytest.mark.long)])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def fake(anyio_backend: str) -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as fake:
        fake.script("Behind the museum [1].", path="/api/chat")
        yield fake


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, mode: str) -> Connections:
    """Connections to servers in this process, which tools make instead of real ones."""
    connections = Connections(mode=mode)
    monkeypatch.setattr(source.Upstreams.__init__, "__defaults__", (connections,))
    return connections


@pytest.fixture
async def make_app(fake: FakeOllama, tmp_path: Path) -> AsyncIterator[Callable[..., App]]:
    """Make an App with these upstreams."""
    apps: list[App] = []

    def make_app(**servers: dict[str, Any]) -> App:
        path = tmp_path / "mcp.json"
        path.write_text(json.dumps({"mcpServers": servers}), "utf-8")
        apps.append(App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_UPSTREAM": str(path)})))
        return apps[-1]

    yield make_app
    for app in apps:
        await app.aclose()
