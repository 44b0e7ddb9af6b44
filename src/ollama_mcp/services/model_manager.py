"""The installed models of a server: copy, delete, load and unload them, and list their facts."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, cast

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
    ShowRequest,
    ShowResponse,
)
from ollama_mcp.ollama.endpoints import COPY, DELETE, EMBED, GENERATE, SHOW
from ollama_mcp.ollama.model_names import canonical, check_name, is_cloud_name, is_name
from ollama_mcp.ollama.options import Options
from ollama_mcp.ollama.parameters import keep_alive_seconds
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import describe, named
from ollama_mcp.services.clamp import clamp, clamp_limits
from ollama_mcp.services.confirmation import Confirmation, Question, keep_others

_LOADER = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
"""Options that a model is loaded with: others than those of the next call would load it anew."""
PAUSE_S = 0.2
"""Seconds before the first warm-up: the answer to the call that began it has left by then."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InMemory:
    """The place of a loaded model in memory.

    Attributes:
        size: Bytes in all memory.
        gpu: The share of them in the GPU's, from 0 to 1; None where Ollama does not say.
        window: Tokens of the context window; 0 where Ollama does not say.
        expires_at: The time of unloading, in RFC 3339.
    """

    size: int
    gpu: float | None = None
    window: int = 0
    expires_at: str = ""

    @classmethod
    def of(cls, running: RunningModel | None) -> Self | None:
        """Make one of a row in the list of loaded models."""
        if running is None:
            return None
        return cls(running.size, running.gpu_share, running.context_length, running.expires_at)


@dataclass(frozen=True)
class Summary:
    """The facts of an installed model.

        facts = await app.model_manager.summary("qwen3:8b")
        facts.window, facts.part("template")

    Attributes:
        name: The name, as Ollama lists it.
        digest: SHA-256 of the content.
        size: Bytes on disk.
        modified_at: The time of the installation, in RFC 3339.
        family: The architecture.
        parameters: Their number, such as 3.2B.
        quantization: Such as Q4_K_M.
        window: The most tokens that the model was made for; 0 where unknown.
        dimensions: Length of the vectors; 0 where unknown.
        capabilities: Ollama's words, in order of the alphabet.
        defaults: The model's own options, by name.
        is_cloud: Whether prompts leave the machine.
        parent: The model that this one was made from; "" where that was a file, whose path Ollama tells.
        requires: The oldest version of Ollama that runs the model.
        memory: The place in memory; None where it is not loaded.
        parts: Long facts by name, as far as the model has them: template, system, license, messages,
            metadata. A result has them only where they were asked for.
    """

    name: str
    digest: str
    size: int
    modified_at: str
    family: str
    parameters: str
    quantization: str
    window: int
    dimensions: int
    capabilities: tuple[str, ...]
    defaults: Mapping[str, Any]
    is_cloud: bool
    parent: str
    requires: str
    memory: InMemory | None
    parts: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def part(self, name: str) -> Any:
        """Return one of the long parts; "" where the model has none.

        Raises:
            InvalidArgument: There is no such part.
        """
        if name not in PARTS:
            raise InvalidArgument(f"{name[:40]!r} is no part of a model", f"Send one of {', '.join(PARTS)}.")
        return self.parts.get(name, "")


@dataclass(frozen=True)
class Copied:
    """A copy that was made: a second name for the same files.

    Attributes:
        source: The first name.
        model: The second name.
        digest: SHA-256 of the content of both.
        size: Bytes on disk, which are shared.
    """

    source: str
    model: str
    digest: str = ""
    size: int = 0


@dataclass(frozen=True)
class Deleted:
    """A model that is gone.

    Attributes:
        model: The name.
        digest: SHA-256 of the content.
        freed: Bytes on disk that are free again, at most: files that other models use stay.
        notes: Notes on such models.
    """

    model: str
    digest: str
    freed: int
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Loaded:
    """A model that is in memory.

    Attributes:
        model: The name.
        seconds: The time that loading took.
        was_loaded: Whether it was there before.
        memory: The place in memory; None where Ollama does not say.
        notes: Notes on values that were clamped.
    """

    model: str
    seconds: float
    was_loaded: bool
    memory: InMemory | None = None
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Unloaded:
    """A model that is not in memory any more.

    Attributes:
        model: The name.
        was_loaded: Whether it was there before.
        freed: Bytes of memory; 0 where it was not loaded.
    """

    model: str
    was_loaded: bool
    freed: int = 0


PARTS = ("template", "system", "license", "messages", "metadata")
"""Names of the long parts; not the modelfile, which adds nothing to them but paths of the server."""


def summarize(info: ModelInfo, shown: ShowResponse, running: RunningModel | None) -> Summary:
    """Put together the facts of three answers of Ollama.

    Args:
        info: The row in the list of models.
        shown: The answer of /api/show.
        running: The row in the list of loaded models; None where it is not loaded.
    """
    model, details = describe(info.name, shown), shown.details
    parts: dict[str, Any] = {
        "template": shown.template,
        "system": shown.system,
        "license": shown.license if isinstance(shown.license, str) else "\n\n".join(shown.license),
        "messages": shown.messages,
        "metadata": {name: value for name, value in shown.model_info.items() if value is not None},
    }
    return Summary(
        name=info.name,
        digest=info.digest,
        size=info.size,
        modified_at=info.modified_at or shown.modified_at,
        family=details.family or info.details.family,
        parameters=details.parameter_size or info.details.parameter_size,
        quantization=details.quantization_level or info.details.quantization_level,
        window=model.max_context or info.details.context_length,
        dimensions=shown.fact("embedding_length"),
        capabilities=tuple(sorted(model.capabilities)),
        defaults=default_options(shown.parameters),
        is_cloud=model.is_cloud or bool(info.remote_host),
        parent=details.parent_model if is_name(details.parent_model) else "",
        requires=shown.requires,
        memory=InMemory.of(running),
        parts={name: value for name, value in parts.items() if value},
    )


def default_options(text: str) -> dict[str, Any]:
    r"""Parse options as /api/show prints them: a name, spaces, a value; each item of a list has a line.

    >>> default_options('stop    "<|im_end|>"\nstop    "Arr"\ntemperature    0.1\nnum_ctx 4096')
    {'stop': ['<|im_end|>', 'Arr'], 'temperature': 0.1, 'num_ctx': 4096}
    """
    options: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, written = line.strip().partition(" ")
        value: Any = written.strip()
        with suppress(ValueError, RecursionError):  # a bare text stays as it is
            value = json.loads(value)
        if name == "stop":
            cast("list[Any]", options.setdefault("stop", [])).append(value)
        elif name:
            options[name] = value
    return options


class ModelManager:
    """The installed models of one server.

    manager = ModelManager(backend)
    await manager.copy("qwen3:8b", "mine")
    await manager.delete("mine", confirmed=Confirmation("mine"))
    """

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
        for either in (name, info.name):
            if is_cloud_name(either) or info.remote_host:
                self._catalog.allow_cloud(either)
        if canonical(info.name) == canonical(name):
            raise InvalidArgument(f"{name} is the model itself", "Send another name for the copy.")
        await keep_others(self._catalog, name, confirmed)
        await self._client.call(COPY, CopyRequest(source=info.name, destination=name))
        self._catalog.forget(name)
        return Copied(info.name, name, info.digest, info.size)

    async def delete(self, model: str, *, confirmed: Confirmation | None = None) -> Deleted:
        """Delete a model. The content behind the name is read anew first.

        Raises:
            NotConfirmed: Nobody confirmed it, or it is not the content that was confirmed.
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        name = check_name(model)
        installed = await self._catalog.entries()
        info = named(name, installed)
        if info is None:
            raise await self._catalog.missing(name, replaceable=False)
        Question.about("delete", info, "its files are deleted from the Ollama server").check(confirmed)
        await self._client.call(DELETE, DeleteRequest(model=info.name))
        self._catalog.forget(info.name)
        twins = (other for other in installed if other is not info and other.digest == info.digest)
        twin = next((other.name for other in twins if other.digest), "")
        notes = [f"{twin} is the same model, so that the files stay"] if twin else []
        return Deleted(info.name, info.digest, 0 if twin else info.size, notes)

    async def load(self, model: str, job: Job[Loaded], *, keep_alive: KeepAlive | None = None) -> Loaded:
        """Load a model with the options that the next call of it will have.

        Args:
            model: Its name.
            job: Shows that it loads, and gets the notes.
            keep_alive: Seconds or a duration for which it stays; None is the operator's, or Ollama's own.

        Raises:
            InvalidArgument: It runs in the cloud, or would be unloaded at once.
            OllamaError: Any of the tree.
        """
        if keep_alive is not None and keep_alive_seconds(keep_alive) == 0:
            raise InvalidArgument("keep_alive 0 unloads", "Send a longer keep_alive, or unload the model.")
        found = await self._catalog.find(model)
        name = found.name
        if found.is_cloud:
            raise InvalidArgument(f"{name} runs in the cloud", "Call it; there is nothing to load.")
        job.model, job.look = name, partial(job.find_out, self._catalog.is_loaded)
        before = await self._running(name)
        self._catalog.forget_window()
        limits = clamp_limits(self._settings, name, found.max_context)
        clamped, notes = clamp(GenerateRequest(model=name, keep_alive=keep_alive), limits)
        job.notes += notes
        defaults = self._settings.defaults_for(name)
        options = {key: value for key, value in defaults.options.items() if key in _LOADER}
        window = self._windows.of(name)
        if window is not None:
            options["num_ctx"] = max(window, options.get("num_ctx", 0))
        stays = defaults.keep_alive if keep_alive is None else clamped.keep_alive
        if stays is not None and keep_alive_seconds(stays) == 0:
            # OLLAMA_MCP_KEEP_ALIVE=0 is for calls: an empty prompt with it would unload the model.
            stays = None
        request: dict[str, Any] = {
            "model": name,
            "options": Options(**options) if options else None,
            "keep_alive": stays,
        }
        # An empty prompt loads and generates nothing; an embedding model takes an empty text instead.
        if "completion" not in found.capabilities and "embedding" in found.capabilities:
            await self._client.call(EMBED, EmbedRequest(input="", **request))
        else:
            await self._send_empty_prompt(GenerateRequest(**request))
        return Loaded(
            model=name,
            seconds=round(time.monotonic() - job.started_at, 3),
            was_loaded=before is not None,
            memory=InMemory.of(await self._running(name)),
            notes=list(job.notes),
        )

    async def _send_empty_prompt(self, request: GenerateRequest) -> None:
        async with self._client.stream(GENERATE, request) as chunks:
            async for _ in chunks:
                pass

    async def unload(self, model: str) -> Unloaded:
        """Take a model out of memory; one that is not loaded is not touched.

        Raises:
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        info = await self._installed(model)
        before = await self._running(info.name)
        if before is None:
            return Unloaded(info.name, was_loaded=False)
        await self._send_empty_prompt(GenerateRequest(model=info.name, keep_alive=0))
        self._catalog.forget_window()
        self._windows.forget(info.name)
        return Unloaded(info.name, was_loaded=True, freed=before.size)

    async def summary(self, model: str) -> Summary:
        """Return the facts of an installed model; of cloud models, too, as no prompt is sent.

        Raises:
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        info = await self._installed(model)
        try:
            running = await self._running(info.name)
        except OllamaError:
            running = None  # the model was asked for, and not its place in memory
        shown = await self._client.call(SHOW, ShowRequest(model=info.name))
        return summarize(info, shown, running)

    async def _installed(self, model: str) -> ModelInfo:
        name = check_name(model)
        info = await self._catalog.entry(name)
        if info is None:
            raise await self._catalog.missing(name, replaceable=False)
        return info

    async def _running(self, name: str) -> RunningModel | None:
        running = await self._catalog.running() or []
        return next((model for model in running if canonical(model.name) == canonical(name)), None)


@dataclass
class _WarmUp:
    """The warm-up of one event loop."""

    task: asyncio.Task[None] | None = None


class Warmer:
    """Loads models once for each event loop, one after the other.

        warmer = Warmer(app.model_manager, app.jobs, ["qwen3:8b"])
        warmer.begin()

    Args:
        model_manager: Loads them.
        jobs: Holds the task, and cancels it when the App closes.
        models: Their names.
    """

    def __init__(self, model_manager: ModelManager, jobs: JobStore, models: Sequence[str]) -> None:
        self._model_manager = model_manager
        self._jobs = jobs
        self._models = models
        self._begun: PerLoop[_WarmUp] = PerLoop(_WarmUp)

    def begin(self) -> None:
        """Begin in the background, and return at once; a warm-up that runs or is done is not begun again.

        The work belongs to no call: cancelling one leaves it alone. One that a closing App has cut
        short begins anew.
        """
        begun = self._begun.here()
        if self._models and (begun.task is None or begun.task.cancelled()):
            begun.task = self._jobs.spawn(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(PAUSE_S)
        for model in self._models:
            try:
                done = await self._jobs.start(partial(self._model_manager.load, model)).result()
            except OllamaError as error:  # a line in the log, as no call waits for it
                _log.warning("warm-up of %s: %s", model, error)
            else:
                _log.info("warm-up of %s: loaded after %.1f s", model, done.seconds)
