from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ollama_mcp.app import App
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.files.batch import Mapped, build_batch
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    folder.mkdir()
    return folder


class Bench:
    """A fake Ollama and an App that may read a folder and write to another."""

    def __init__(self, fake: FakeOllama, app: App) -> None:
        self.fake = fake
        self.app = app

    def begin(self, prompt: str = "Sum up.", files: Any = ("*.txt",), **more: Any) -> Job[Mapped]:
        spec = build_batch(self.app.settings, prompt=prompt, files=files, **more)
        work = partial(self.app.mapper.run, spec, self.app.settings.roots)
        return self.app.jobs.start(work, "files")

    async def map(self, *args: Any, **more: Any) -> Mapped:
        return await self.begin(*args, **more).result()

    @property
    def prompts(self) -> list[str]:
        """What models were asked."""
        return [request.json["messages"][-1]["content"] for request in self.fake.asked("/api/chat")]


@pytest.fixture
def bench(root: Path, out: Path) -> Callable[..., Any]:
    """`async with bench(*models, OLLAMA_MCP_…=…) as b`."""

    @asynccontextmanager
    async def opened(*models: Any, **environment: str) -> AsyncIterator[Bench]:
        async with FakeOllama(models or None) as fake:
            settings = load(
                {
                    "OLLAMA_HOST": fake.url,
                    "OLLAMA_MCP_ROOTS": str(root),
                    "OLLAMA_MCP_OUTPUT": str(out),
                    **environment,
                }
            )
            async with App.create(settings) as app:
                yield Bench(fake, app)

    return opened
