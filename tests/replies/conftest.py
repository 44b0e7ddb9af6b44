from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from ollama_mcp.app import App
from ollama_mcp.jobs.job import Reply
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.services.embedding import EmbeddingAsk
from ollama_mcp.services.specs import chat_ask, generate_ask
from ollama_mcp.settings import Backend, Settings
from ollama_mcp.testing import FakeOllama


class Bench:
    """A fake Ollama and an App that calls it."""

    def __init__(self, fake: FakeOllama, settings: Settings) -> None:
        self.fake = fake
        self.app = App.create(settings)

    def begin(self, **arguments: Any) -> Reply[Any]:
        """A chat, which may still be going on."""
        ask = chat_ask(**arguments)
        return self.app.replies.start(partial(self.app.generator.run, ask))

    async def chat(self, prompt: str = "hi", **arguments: Any) -> Any:
        return await self.begin(prompt=prompt, **arguments).result()

    async def generate(self, prompt: str = "hi", **arguments: Any) -> Any:
        ask = generate_ask(prompt=prompt, **arguments)
        return await self.app.replies.start(partial(self.app.generator.run, ask)).result()

    async def embed(self, *texts: str, **arguments: Any) -> Any:
        ask = EmbeddingAsk(list(texts), **arguments)
        return await self.app.replies.start(partial(self.app.embedder.run, ask), unit="texts").result()

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
