"""What is done with installed models in one request: copy, delete, load, unload."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from ollama_mcp.errors import InvalidArgument, OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.jobs.store import JobStore
from ollama_mcp.ollama.api_models import (
    CopyRequest,
    DeleteRequest,
    EmbedRequest,
    GenerateRequest,
    KeepAlive,
    ModelInfo,
    RunningModel,
)
from ollama_mcp.ollama.endpoints import COPY, DELETE, EMBED, GENERATE
from ollama_mcp.ollama.model_names import canonical, check_name, is_cloud_name
from ollama_mcp.ollama.options import Options
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Model, named
from ollama_mcp.services.clamp import clamp, clamp_limits
from ollama_mcp.services.confirmation import Confirmation, Question, keep_others
from ollama_mcp.services.model_summary import InMemory, Summary, summary

_LOADER = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
"""Options that a model is loaded with: others than those of the next call would load it anew."""


@dataclass(frozen=True)
class Copied:
    """A second name for a model. `digest` and `size` (bytes) are of both; the files are shared."""

    source: str
    model: str
    digest: str = ""
    size: int = 0


@dataclass(frozen=True)
class Deleted:
    """A model that is gone.

    Attributes:
        model: Its name.
        digest: Its content.
        freed: Bytes on disk that are free again, at most: files that other models use stay.
        notes: What is known of such models.
    """

    model: str
    digest: str
    freed: int
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Loaded:
    """A model that is in memory.

    Attributes:
        model: Its name.
        seconds: How long it took.
        was_loaded: Whether it was there before.
        memory: Where it is; None where Ollama does not say.
        notes: What was lowered.
    """

    model: str
    seconds: float
    was_loaded: bool
    memory: InMemory | None = None
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Unloaded:
    """A model that is not in memory any more. `freed`: bytes of memory; 0 where it was not loaded."""

    model: str
    was_loaded: bool
    freed: int = 0


class ModelManager:
    """The installed models of one server."""

    def __init__(self, backend: OllamaBackend) -> None:
        self._client = backend.client
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._settings = backend.settings

    async def copy(self, source: str, destination: str, *, confirmed: Confirmation | None = None) -> Copied:
        """Give a model a second name.

        Raises:
            ModelNotFound: The source is not installed.
            NotConfirmed: There is a model of the second name, which would be replaced.
            InvalidArgument: Both names are the same one.
            OllamaError: Any of the backend's.
        """
        name = check_name(destination)
        info = await self._installed(source)
        for one in (name, info.name):
            if is_cloud_name(one) or info.remote_host:
                self._catalog.allow_cloud(one)
        if canonical(info.name) == canonical(name):
            raise InvalidArgument(f"{name} is the model itself", "Send another name for the copy.")
        await keep_others(self._catalog, name, confirmed)
        await self._client.call(COPY, CopyRequest(source=info.name, destination=name))
        self._catalog.forget(name)
        return Copied(info.name, name, info.digest, info.size)

    async def delete(self, model: str, *, confirmed: Confirmation | None = None) -> Deleted:
        """Delete a model. What stands behind the name is read again first.

        Raises:
            NotConfirmed: Nobody confirmed it, or it is not the content that was confirmed.
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        name = check_name(model)
        installed = await self._catalog.entries()
        info = named(name, installed) or await self._raise_missing(name)
        Question.about("delete", info, "its files are deleted from the Ollama server").check(confirmed)
        await self._client.call(DELETE, DeleteRequest(model=info.name))
        self._catalog.forget(info.name)
        twin = next((one.name for one in installed if one is not info and _is_same(one, info)), "")
        notes = [f"{twin} is the same model, so that the files stay"] if twin else []
        return Deleted(info.name, info.digest, 0 if twin else info.size, notes)

    async def load(self, model: str, job: Job[Loaded], *, keep_alive: KeepAlive | None = None) -> Loaded:
        """Load a model as the next call of it will want it.

        Args:
            model: Its name.
            job: Says that it loads.
            keep_alive: How long it stays; None is the operator's, or Ollama's own.

        Raises:
            InvalidArgument: It runs in the cloud, or would be unloaded at once.
            OllamaError: Any of the tree.
        """
        if keep_alive == 0:
            raise InvalidArgument("keep_alive 0 unloads", "Send a longer keep_alive, or unload the model.")
        found = await self._catalog.find(model)
        if found.is_cloud:
            raise InvalidArgument(f"{found.name} runs in the cloud", "Call it; there is nothing to load.")
        job.model, job.look = found.name, partial(job.find_out, self._catalog.is_loaded)
        before = await self._running(found.name)
        self._catalog.forget_window()
        await self._run(found, keep_alive, job)
        return Loaded(
            model=found.name,
            seconds=round(time.monotonic() - job.started_at, 3),
            was_loaded=before is not None,
            memory=InMemory.of(await self._running(found.name)),
            notes=list(job.notes),
        )

    async def _run(self, model: Model, keep_alive: KeepAlive | None, job: Job[Loaded]) -> None:
        """An empty prompt, which loads and generates nothing; for a model without one an empty text."""
        name = model.name
        most = clamp_limits(self._settings, name, model.max_context)
        asked, notes = clamp(GenerateRequest(model=name, keep_alive=keep_alive), most)
        job.notes += notes
        own = self._settings.defaults_for(name).keep_alive if keep_alive is None else asked.keep_alive
        common: dict[str, Any] = {"model": name, "options": self._loader_options(name), "keep_alive": own}
        if "completion" not in model.capabilities and "embedding" in model.capabilities:
            await self._client.call(EMBED, EmbedRequest(input="", **common))
            return
        await self._say_nothing(GenerateRequest(**common))

    def _loader_options(self, name: str) -> Options | None:
        options = {k: v for k, v in self._settings.defaults_for(name).options.items() if k in _LOADER}
        window = self._windows.of(name)
        if window is not None:
            options["num_ctx"] = max(window, options.get("num_ctx", 0))
        return Options(**options) if options else None

    async def _say_nothing(self, request: GenerateRequest) -> None:
        async with self._client.stream(GENERATE, request) as chunks:
            async for _ in chunks:
                pass

    async def unload(self, model: str) -> Unloaded:
        """Take a model out of memory; one that is not there stays where it is.

        Raises:
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        info = await self._installed(model)
        before = await self._running(info.name)
        if before is None:
            return Unloaded(info.name, was_loaded=False)
        await self._say_nothing(GenerateRequest(model=info.name, keep_alive=0))
        self._catalog.forget_window()
        self._windows.forget(info.name)
        return Unloaded(info.name, was_loaded=True, freed=before.size)

    async def summary(self, model: str) -> Summary:
        """What there is to know of an installed model; cloud models, too, as no prompt is sent.

        Raises:
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        info = await self._installed(model)
        try:
            running = await self._running(info.name)
        except OllamaError:
            running = None  # the model is what was asked for
        return await summary(self._client, info, running)

    # --- what there is --------------------------------------------------------------------------

    async def _installed(self, model: str) -> ModelInfo:
        name = check_name(model)
        return await self._catalog.entry(name) or await self._raise_missing(name)

    async def _raise_missing(self, name: str) -> NoReturn:
        raise await self._catalog.missing(name, replaceable=False)

    async def _running(self, name: str) -> RunningModel | None:
        running = await self._catalog.running() or []
        return next((one for one in running if canonical(one.name) == canonical(name)), None)


def _is_same(one: ModelInfo, other: ModelInfo) -> bool:
    return bool(one.digest) and one.digest == other.digest


PAUSE_S = 0.2
"""Seconds before the first load: the answer in which it was begun has left by then."""

_log = logging.getLogger(__name__)


@dataclass
class _Begun:
    """The warm-up of one event loop."""

    task: asyncio.Task[None] | None = None


class Warmer:
    """Loads models once for each event loop, one after the other.

    Args:
        model_manager: Loads them.
        jobs: Holds the task, and cancels it when the App closes.
        models: Their names.
    """

    def __init__(self, model_manager: ModelManager, jobs: JobStore, models: Sequence[str]) -> None:
        self._model_manager = model_manager
        self._jobs = jobs
        self._models = models
        self._begun: PerLoop[_Begun] = PerLoop(_Begun)

    def begin(self) -> None:
        """Begin in the background, and return at once; what goes on or has been done is not begun again.

        The work belongs to no call: cancelling one leaves it alone. One that a closing App has cut
        short begins anew.
        """
        begun = self._begun.here()
        if self._models and (begun.task is None or begun.task.cancelled()):
            begun.task = self._jobs.spawn(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(PAUSE_S)
        for model in self._models:
            await self._load(model)

    async def _load(self, model: str) -> None:
        """One model; a failure is a line in the log, as nobody waits for it."""
        try:
            done = await self._jobs.start(partial(self._model_manager.load, model)).result()
        except OllamaError as error:
            _log.warning("warm-up of %s: %s", model, error)
        else:
            _log.info("warm-up of %s: loaded after %.1f s", model, done.seconds)
