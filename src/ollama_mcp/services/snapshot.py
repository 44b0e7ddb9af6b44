"""The last answers of an Ollama server: installed models, loaded models, version, each with its age."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Generic, TypeVar

from ollama_mcp.client import OllamaClient
from ollama_mcp.client.failures import is_missing
from ollama_mcp.errors import NotOllama
from ollama_mcp.jobs.per_loop import SingleFlight
from ollama_mcp.ollama.api_models import ModelInfo, RunningModel
from ollama_mcp.ollama.base_models import Response
from ollama_mcp.ollama.endpoints import PS, TAGS, VERSION, Call

T = TypeVar("T")
ResponseT = TypeVar("ResponseT", bound=Response)


class CachedValue(Generic[T]):
    """A value of the server's, with its age. A failed request leaves the last one.

        version = CachedValue(ask)
        await version.within(60.0)  # the last one, unless it is older than a minute

    Attributes:
        known: The last value; None before the first answer.

    Args:
        ask: Asks the server; its argument says whether a failure is not tried again.
    """

    def __init__(self, ask: Callable[[bool], Coroutine[Any, Any, T]]) -> None:
        self.known: T | None = None
        self._ask = ask
        self._at = self._changed_at = -math.inf
        self._shared = SingleFlight()

    @property
    def age_s(self) -> float:
        """Seconds since the request for the last value began."""
        return time.monotonic() - self._at

    async def now(self, *, once: bool = False) -> T:
        """Ask the server by a new request, which begins now.

        Args:
            once: Whether a failure is not tried again.
        """
        begun = time.monotonic()
        value = await self._ask(once)
        if begun >= max(self._at, self._changed_at):  # of two that overlap the later one knows more
            self.known, self._at = value, begun
        return value

    async def within(self, age_s: float) -> T:
        """Return the value if it is younger than that, else ask; several calls at once share a request."""
        if self.known is not None and self.age_s < age_s:
            return self.known
        return await self._shared.do("now", self.now)

    def expire(self) -> None:
        """Have the next call of `within` ask, as the value has changed."""
        self._at, self._changed_at = -math.inf, time.monotonic()


class Snapshot:
    """The last answers of one Ollama server.

        snapshot = Snapshot(client)
        models = await snapshot.installed.now()
        snapshot.installed.age_s  # seconds

    Attributes:
        installed: The installed models, modified last first.
        loaded: The loaded models; None of a server without /api/ps.
        version: Its version; "" of a server without /api/version.
    """

    def __init__(self, client: OllamaClient) -> None:
        self._client = client
        self.installed: CachedValue[list[ModelInfo]] = CachedValue(self._installed)
        self.loaded: CachedValue[list[RunningModel] | None] = CachedValue(self._loaded)
        self.version: CachedValue[str] = CachedValue(self._version)

    async def _installed(self, once: bool) -> list[ModelInfo]:
        models = (await self._client.call(replace(TAGS, once=once))).models
        return sorted(models, key=lambda info: info.modified_at, reverse=True)

    async def _loaded(self, once: bool) -> list[RunningModel] | None:
        response = await self._if_there(replace(PS, once=once))
        return None if response is None else response.models

    async def _version(self, once: bool) -> str:
        response = await self._if_there(replace(VERSION, once=once))
        return "" if response is None else response.version

    async def _if_there(self, endpoint: Call[None, ResponseT]) -> ResponseT | None:
        """Call an endpoint; returns None from a server that speaks a part of the API without that."""
        try:
            return await self._client.call(endpoint)
        except NotOllama as error:
            if is_missing(error):
                return None
            raise
