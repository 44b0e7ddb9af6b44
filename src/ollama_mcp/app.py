"""App: the collaborators of one Ollama server, built once and handed to every tool. Data only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from ollama_mcp.client import OllamaClient
from ollama_mcp.jobs.call_stats import CallStats
from ollama_mcp.jobs.model_queue import ModelQueue
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.jobs.rate_limit import RateLimit
from ollama_mcp.jobs.store import JobStore, Retention
from ollama_mcp.services.agent_loop import Agent
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.collections import Collections
from ollama_mcp.services.compare import Comparer
from ollama_mcp.services.conversations import Conversations
from ollama_mcp.services.embedding import Embedder, Ranker
from ollama_mcp.services.files.batch import Mapper
from ollama_mcp.services.generation import Generator
from ollama_mcp.services.grounded_answer import GroundedAnswers
from ollama_mcp.services.indexing import Indexer
from ollama_mcp.services.installed_names import InstalledNames
from ollama_mcp.services.model_manager import ModelManager, Warmer
from ollama_mcp.services.retrieval import Retriever
from ollama_mcp.services.schema import SchemaValidator
from ollama_mcp.services.server_status import StatusProbe
from ollama_mcp.services.transfers import Transfers
from ollama_mcp.services.upstream_pool import UpstreamPool
from ollama_mcp.services.web_search import Web
from ollama_mcp.settings import Settings, load_from_environment
from ollama_mcp.stores.configured import configured_collections, configured_conversations

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class App:
    """The collaborators of one Ollama server. Opens nothing until it is used; never needs a lifespan."""

    settings: Settings
    backend: OllamaBackend
    generator: Generator
    embedder: Embedder
    ranker: Ranker
    comparer: Comparer
    mapper: Mapper
    transfers: Transfers
    model_manager: ModelManager
    warmer: Warmer
    names: InstalledNames
    jobs: JobStore
    limit: RateLimit
    status_probe: StatusProbe
    schema_validator: SchemaValidator
    web: Web
    grounded: GroundedAnswers
    retriever: Retriever
    collections: Collections
    indexer: Indexer
    upstreams: UpstreamPool
    conversations: Conversations
    agent: Agent
    calls: CallStats = field(default_factory=CallStats)
    users: PerLoop[list[App]] = field(default_factory=lambda: PerLoop(list[App]), repr=False)
    """This App, as often as it has been entered, by event loop."""

    def __new__(cls, *parts: Any, **named: Any) -> Self:
        """Say how to make one, where not all parts are given."""
        if len(parts) + len(named) < _PARTS:
            raise TypeError("make it with App.create(), or App.create(load({'OLLAMA_HOST': 'http://gpu'}))")
        return super().__new__(cls)

    @classmethod
    def create(
        cls,
        settings: Settings | None = None,
        *,
        client: OllamaClient | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> App:
        """Build an App.

        Args:
            settings: Those of the process's environment by default, whose warnings are logged.
            client: A client of the caller's own.
            transport: An httpx transport instead of the network, for tests and other HTTP stacks.

        Raises:
            SettingsError: The environment has a bad setting.
            TypeError: `settings` are something else, such as an address.
        """
        settings = load_from_environment() if settings is None else settings
        if not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"App.create takes Settings, not a {type(settings).__name__}: write App.create(load("
                "{'OLLAMA_HOST': 'http://gpu:11434'})), with load from ollama_mcp.settings"
            )
        client = client or OllamaClient(settings.backend, transport=transport)
        backend = OllamaBackend.create(client, settings)
        jobs = JobStore(Retention(unclaimed_s=settings.unclaimed_timeout))
        schema_validator = SchemaValidator()
        generator = Generator(backend, schema_validator)
        embedder = Embedder(backend)
        model_manager = ModelManager(backend)
        retriever = Retriever(embedder)
        store = configured_collections(settings.store)
        collections = Collections(store, backend.catalog, settings.shared_collections)
        upstreams = UpstreamPool(settings.upstreams)
        conversations = Conversations(
            backend,
            generator,
            configured_conversations(settings.store, settings.conversation_days),
            summarises=settings.summarise,
        )
        return cls(
            settings=settings,
            backend=backend,
            generator=generator,
            embedder=embedder,
            ranker=Ranker(embedder),
            comparer=Comparer(generator, backend.catalog),
            mapper=Mapper(generator, backend.catalog, settings),
            transfers=Transfers(backend),
            model_manager=model_manager,
            warmer=Warmer(model_manager, jobs, settings.warm),
            names=InstalledNames(backend.catalog, jobs, settings),
            jobs=jobs,
            limit=RateLimit(settings.rate, settings.burst),
            status_probe=StatusProbe(backend, jobs, upstreams),
            schema_validator=schema_validator,
            web=Web(client),
            grounded=GroundedAnswers(backend, generator, retriever, collections),
            retriever=retriever,
            collections=collections,
            indexer=Indexer(backend, embedder, collections),
            upstreams=upstreams,
            conversations=conversations,
            agent=Agent(backend, generator, retriever, conversations, schema_validator),
        )

    @property
    def client(self) -> OllamaClient:
        """The client of its server, for calls of one's own."""
        return self.backend.client

    @property
    def catalog(self) -> Catalog:
        """The models of its server."""
        return self.backend.catalog

    @property
    def model_queue(self) -> ModelQueue:
        """The queue before each model."""
        return self.backend.model_queue

    @asynccontextmanager
    async def lifespan(self, _host: Any = None) -> AsyncGenerator[Self]:
        """Close everything at the end; to compose with a host's own lifespan, never required.

        The SDK enters a server's lifespan anew for each in-memory or SSE connection: the last one that
        leaves closes, so that no client's end breaks off another's call.
        """
        async with self:
            yield self

    async def __aenter__(self) -> Self:
        self.users.here().append(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.users.here().pop()
        if not self.users.here():
            await self.aclose()

    def warm_up(self) -> None:
        """Begin to load the models of OLLAMA_MCP_WARM in the background; returns at once."""
        self.warmer.begin()

    async def aclose(self) -> None:
        """Cancel what is generated and close the connections, on this event loop, whoever uses them."""

        async def ours() -> None:
            await self.jobs.aclose()
            await self.schema_validator.aclose()
            await self.collections.aclose()
            await self.conversations.store.aclose()
            await self.client.aclose()

        # Side by side: children may take a third of a second, and the process has no more than a whole one.
        await asyncio.gather(ours(), self.upstreams.aclose())


_PARTS = sum(part.default is MISSING and part.default_factory is MISSING for part in fields(App))
