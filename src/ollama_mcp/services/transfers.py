"""Pull, push and create: transfers that take minutes to hours, each as one Job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from ollama_mcp.errors import (
    Forbidden,
    InvalidArgument,
    ModelNotFound,
    OllamaError,
    StreamBroken,
    Timeout,
    Truncated,
)
from ollama_mcp.jobs.job import Job
from ollama_mcp.jobs.model_queue import TRANSFERS
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.ollama.api_models import CreateRequest, GenerateRequest, ModelInfo, ProgressLine, PullRequest
from ollama_mcp.ollama.endpoints import CREATE, PULL, PUSH, Stream
from ollama_mcp.ollama.model_names import DEFAULT_REGISTRY, canonical, check_name, is_cloud_name, registry_of
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Model
from ollama_mcp.services.clamp import clamp, clamp_limits
from ollama_mcp.services.confirmation import Confirmation, Question, bind_to_content, keep_others
from ollama_mcp.services.create import CreateSpec, send
from ollama_mcp.services.transfer_progress import Layers, TransferProgress
from ollama_mcp.services.units import format_part

_MENDED = (0, 17, 1)
"""The first version of Ollama without CVE-2026-7482, which lets create and push leak memory."""
_GB = 1e9


@dataclass(frozen=True)
class Transferred:
    """The result of a pull, a push or a create.

    Attributes:
        model: The name, as Ollama lists it.
        status: Ollama's last status, which is success.
        bytes: Size of the layers that Ollama counted; 0 where it counted none.
        seconds: The time that it took.
        digest: SHA-256 of the model as it is installed now; "" where Ollama does not say.
        size: Bytes on disk.
        notes: Notes for the caller.
    """

    model: str
    status: str
    bytes: int
    seconds: float
    digest: str = ""
    size: int = 0
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class _Kind:
    """A kind of transfer: its endpoint, and the remedy where it is broken off."""

    endpoint: Stream[Any, ProgressLine]
    again: str


_PULL = _Kind(PULL, "what has come is kept: pulling {model} again goes on there")
_PUSH = _Kind(PUSH, "what has arrived is kept: pushing {model} again goes on there")
_CREATE = _Kind(CREATE, "nothing was created: create {model} again")


class Transfers:
    """Pulls, pushes and creates models.

    transfers = Transfers(backend)
    done = await transfers.pull("qwen3:8b", job)
    done.size  # bytes on disk
    """

    def __init__(self, backend: OllamaBackend) -> None:
        self._client = backend.client
        self._catalog = backend.catalog
        self._model_queue = backend.model_queue
        self._settings = backend.settings
        self._names: PerLoop[WeakValueDictionary[str, asyncio.Lock]] = PerLoop(
            WeakValueDictionary[str, asyncio.Lock]
        )

    async def pull(
        self, model: str, job: Job[Transferred], *, confirmed: Confirmation | None = None
    ) -> Transferred:
        """Fetch a model from its registry, or bring it up to date.

        Ollama tells no size before it pulls (ollama/ollama#12093), and names the layers one after
        another. So the pull begins, and is stopped at the line with which the layers that are to be
        fetched pass the limit; what came until then is kept by Ollama, and the confirmed pull goes on
        there. Layers that are there already do not count.

        Raises:
            NotConfirmed: It is larger than OLLAMA_MCP_MAX_PULL_GB, of which some may have come, or it would
                replace a model that was made on the server, and that no registry gives back.
            Forbidden: Its registry is not allowed, or it is a cloud model.
            ModelNotFound: The registry does not have it.
            OllamaError: Any of the backend's.
        """
        name = self._check_registry(model)
        limit_gb = self._settings.max_pull_gb

        async def keep_own(confirmed: Confirmation | None) -> str:
            """Refuse to replace a model that was made here; returns the digest of the name's model, or ""."""
            there = await self._catalog.entry(name)
            if there is not None and there.details.parent_model:
                why = "it was made on that server, and the registry's model of that name would replace it"
                Question.about("overwrite", there, why).check(confirmed)
            return there.digest if there else ""

        digest = await keep_own(confirmed)
        bound = bind_to_content(confirmed, digest)

        def check(layers: Layers) -> None:
            if layers.missing > limit_gb * _GB:
                limit = f"OLLAMA_MCP_MAX_PULL_GB ({limit_gb:g})"
                why = f"it is at least that large, and {limit} is the limit"
                Question("pull", name, digest, layers.missing, why).check(bound)

        async def begin() -> PullRequest:
            await keep_own(bound)
            return PullRequest(model=name)

        return await self._follow(_PULL, name, begin, job, check)

    async def push(
        self, model: str, job: Job[Transferred], *, confirmed: Confirmation | None = None
    ) -> Transferred:
        """Send an installed model to the registry in its name.

        Raises:
            NotConfirmed: Nobody confirmed that very content, which others can then read.
            InvalidArgument: Its name has no account, so that no registry could take it.
            Forbidden: Its registry is not allowed.
            ModelNotFound: It is not installed.
            OllamaError: Any of the backend's.
        """
        name = self._check_registry(model)
        info = await self._installed(name)
        if registry_of(name) == DEFAULT_REGISTRY and "/" not in canonical(name):
            raise InvalidArgument(
                f"{name} cannot be pushed: the name has no account",
                f'Copy it to "<account>/{canonical(name)}" and push that.',
            )
        why = f"it leaves this machine for {registry_of(name)}"
        Question.about("push", info, why).check(confirmed)
        await self._warn(job)

        async def begin() -> PullRequest:
            now = await self._installed(name)
            Question.about("push", now, why).check(bind_to_content(confirmed, info.digest))
            return PullRequest(model=name)

        return await self._follow(_PUSH, name, begin, job)

    async def create(
        self, spec: CreateSpec, job: Job[Transferred], *, confirmed: Confirmation | None = None
    ) -> Transferred:
        """Make a model from an installed one, or from files of this machine.

        Raises:
            ModelNotFound: The source is not installed; Ollama itself would pull it, from anywhere.
            NotConfirmed: There is a model of that name, which would be replaced.
            OllamaError: Any of the backend's.
        """
        request = spec.request
        self._check_name(request.model)
        source: Model | None = None
        if request.from_:
            try:
                source = await self._catalog.find(request.from_)
            except ModelNotFound as error:
                error.remedy = error.remedy.replace("Send model=", "Send from_model=")
                raise
            await self._installed(source.name)  # looked for anew: Ollama would pull one that has gone
        # As options of the model's own, they would hold for every call.
        limits = clamp_limits(self._settings, request.model, source.max_context if source else 0)
        clamped, notes = clamp(GenerateRequest(model=request.model, options=request.parameters), limits)
        job.notes += notes
        update: dict[str, Any] = {
            "from_": source.name if source else None,
            "parameters": clamped.options,
        }
        bound = bind_to_content(confirmed, await keep_others(self._catalog, request.model, confirmed))
        job.notes += spec.notes
        await self._warn(job)
        progress = TransferProgress(job)

        def tell(doing: str, sent: int, total: int) -> None:
            progress.take(ProgressLine(status=doing, completed=sent, total=total))

        async def begin() -> CreateRequest:
            if source is not None:
                await self._installed(source.name)
            await keep_others(self._catalog, request.model, bound)
            if spec.files:
                update["files"] = {file.name: await send(self._client, file, tell) for file in spec.files}
                await keep_others(self._catalog, request.model, bound)  # sending can have taken an hour
            return request.model_copy(update=update)

        return await self._follow(_CREATE, request.model, begin, job, progress=progress)

    # --- what is allowed ------------------------------------------------------------------------

    def _check_registry(self, model: str) -> str:
        """Return the name of a model that may be fetched or sent."""
        name = self._check_name(model)
        host = registry_of(name)
        if host not in self._settings.registries:
            allowed = ", ".join(self._settings.registries) or "no registry"
            raise Forbidden(
                f"{name} is of the registry {host}, and allowed is {allowed}",
                "Name another model, or have the operator add it to OLLAMA_MCP_REGISTRIES.",
            )
        return name

    def _check_name(self, model: str) -> str:
        name = check_name(model)
        if is_cloud_name(name):
            self._catalog.allow_cloud(name)
        return name

    async def _installed(self, name: str) -> ModelInfo:
        info = await self._catalog.entry(name)
        if info is None:
            raise await self._catalog.missing(name, replaceable=False)
        return info

    async def _warn(self, job: Job[Any]) -> None:
        """Note an Ollama with a known hole."""
        try:
            version = await self._catalog.version()
        except OllamaError:
            return  # a warning is not worth the work
        if version and version < _MENDED:
            shown = ".".join(map(str, version))
            job.notes.append(f"Ollama {shown} has CVE-2026-7482: update it to 0.17.1 or newer")

    # --- the stream -----------------------------------------------------------------------------

    async def _follow(
        self,
        kind: _Kind,
        name: str,
        begin: Callable[[], Awaitable[Any]],
        job: Job[Transferred],
        check: Callable[[Layers], None] | None = None,
        progress: TransferProgress | None = None,
    ) -> Transferred:
        """Wait for the turn, and do it.

        Args:
            kind: Which of the streams.
            name: The model that it fetches, sends or makes.
            begin: Makes the request, once the turn has come. Facts that were found out before can be hours
                old then, so that a confirmation has to be checked here again.
            job: Shows the progress.
            check: Stops it by an error, at any line of the stream.
            progress: Takes the lines.
        """
        job.model, progress = name, progress or TransferProgress(job)
        layers = progress.layers
        # All transfers share one queue: each alone fills a disk or a network. Those of one name have
        # their turns one after the other: each may change what another has checked.
        async with self._model_queue.admit(TRANSFERS, job.caller, job.queue):
            job.enter()
            async with self._names.here().setdefault(canonical(job.model), asyncio.Lock()):
                request = await begin()
                try:
                    async with self._client.stream(kind.endpoint, request) as lines:
                        async for line in lines:
                            progress.take(line)
                            if check is not None:
                                check(layers)
                except asyncio.CancelledError:
                    job.notes.append(_broken_off(kind, request.model, layers))
                    raise
                except (Timeout, StreamBroken, Truncated) as error:
                    error.remedy = _broken_off(kind, request.model, layers)
                    raise
                finally:
                    self._catalog.forget(request.model)
                    self._catalog.forget_window()
        progress.finish()
        try:
            info = await self._catalog.entry(name)
        except OllamaError:
            info = None  # it has succeeded, whatever the list says
        return Transferred(
            model=info.name if info else name,
            status=progress.status,
            bytes=layers.total,
            seconds=round(time.monotonic() - job.started_at, 3),
            digest=info.digest if info else "",
            size=info.size if info else 0,
            notes=list(job.notes),
        )


def _broken_off(kind: _Kind, model: str, layers: Layers) -> str:
    where = f"stopped at {format_part(layers.count, layers.total)}, " if layers.total else ""
    text = where + kind.again.format(model=model)
    return text[0].upper() + text[1:]
