from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from ollama_mcp.app import App
from ollama_mcp.jobs.job import Job
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.services.embedding import EmbedSpec
from ollama_mcp.services.specs import build_chat, build_generate
from ollama_mcp.settings import Backend, Settings
from ollama_mcp.testing import FakeOllama


class Bench:
    """A fake Ollama and an App that calls it."""

    def __init__(self, fake: FakeOllama, settings: Settings) -> None:
        self.fake = fake
        self.app = App.create(settings)

    def begin(self, **arguments: Any) -> Job[Any]:
        """A chat, which may still be going on."""
        spec = build_chat(**arguments)
        return self.app.jobs.start(partial(self.app.generator.run, spec))

    async def chat(self, prompt: str = "hi", **arguments: Any) -> Any:
        return await self.begin(prompt=prompt, **arguments).result()

    async def generate(self, prompt: str = "hi", **arguments: Any) -> Any:
        spec = build_generate(prompt=prompt, **arguments)
        return await self.app.jobs.start(partial(self.app.generator.run, spec)).result()

    async def embed(self, *texts: str, **arguments: Any) -> Any:
        spec = EmbedSpec(list(texts), **arguments)
        return await self.app.jobs.start(partial(self.app.embedder.run, spec), unit="texts").result()

    def sent(self, path: str = "/api/chat") -> list[dict[str, Any]]:
        """The bodies of the requests to a path."""
        return [request.json for request in self.fake.asked(path)]

    def options_sent(self, path: str = "/api/chat") -> list[dict[str, Any]]:
        return [body.get("options") or {} for body in self.sent(path)]


@pytest.fixture
def bench() -> Callable[..., Any]:
    """`async with bench(*models, version=…, **settings) as b`."""

    @asynccontextmanager
    async def opened(
        *models: Any,
        version: str = "0.33.0",
        window: int = 4096,
        parallel: int | None = None,
        **settings: Any,
    ) -> AsyncIterator[Bench]:
        async with FakeOllama(models or None, version=version, window=window, parallel=parallel) as fake:
            backend = settings.pop("backend", None) or Backend(host=parse_host(fake.url))
            made = Bench(fake, Settings(backend=backend, **settings))
            yield made
            await made.app.aclose()

    return opened
