from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from ollama_mcp.app import App
from ollama_mcp.jobs.job import Job
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.services.create import CreateSpec, build_create
from ollama_mcp.settings import Backend, Settings, Timeouts
from ollama_mcp.testing import FakeOllama

GB = 1_000_000_000


class Bench:
    """A fake Ollama and an App that manages it."""

    def __init__(self, fake: FakeOllama, settings: Settings) -> None:
        self.fake = fake
        self.app = App.create(settings)
        self.model_manager = self.app.model_manager

    def begin_pull(self, model: str, **more: Any) -> Job[Any]:
        return self.app.jobs.start(partial(self.app.transfers.pull, model, **more))

    def begin_push(self, model: str, **more: Any) -> Job[Any]:
        return self.app.jobs.start(partial(self.app.transfers.push, model, **more))

    def begin_create(self, wanted: CreateSpec, **more: Any) -> Job[Any]:
        return self.app.jobs.start(partial(self.app.transfers.create, wanted, **more))

    async def pull(self, model: str, **more: Any) -> Any:
        return await self.begin_pull(model, **more).result()

    async def push(self, model: str, **more: Any) -> Any:
        return await self.begin_push(model, **more).result()

    async def create(self, model: str, source: str, confirmed: Any = None, **more: Any) -> Any:
        wanted = build_create(model=model, source=source, **more)
        return await self.begin_create(wanted, confirmed=confirmed).result()

    async def load(self, model: str, **more: Any) -> Any:
        return await self.app.jobs.start(partial(self.model_manager.load, model, **more)).result()

    def sent(self, path: str) -> list[dict[str, Any]]:
        """The bodies of the requests to a path."""
        return [request.json for request in self.fake.asked(path)]


@pytest.fixture
def bench() -> Callable[..., Any]:
    """`async with bench(*models, version=…, clocks={…}, **settings) as b`."""

    @asynccontextmanager
    async def opened(
        *models: Any, version: str = "0.33.0", timeouts: dict[str, float] | None = None, **settings: Any
    ) -> AsyncIterator[Bench]:
        async with FakeOllama(models or None, version=version) as fake:
            backend = Backend(host=parse_host(fake.url), timeouts=Timeouts(**(timeouts or {})), retries=0)
            made = Bench(fake, Settings(backend=backend, **settings))
            async with made.app:
                yield made

    return opened
