"""The installed models: finding, choosing and checking them before they are called.

Capabilities are checked here on every version of Ollama: an older one drops an image in silence
and the model invents an answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import anyio

from ollama_mcp.client import OllamaClient
from ollama_mcp.client.error_answers import WITHOUT, lacks, model_is_broken, model_not_found
from ollama_mcp.client.failures import is_missing
from ollama_mcp.errors import (
    BadUpstream,
    CallerError,
    Forbidden,
    ModelNotFound,
    NotOllama,
    OllamaError,
    Timeout,
    Upstream,
)
from ollama_mcp.jobs.per_loop import SingleFlight
from ollama_mcp.ollama.api_models import ModelInfo, RunningModel, ShowRequest, ShowResponse
from ollama_mcp.ollama.endpoints import SHOW
from ollama_mcp.ollama.model_names import canonical, check_name, is_cloud_name, nearest
from ollama_mcp.services.snapshot import Snapshot
from ollama_mcp.settings import Settings

_FRESH_S = 60.0
"""Seconds for which facts about a model hold: they change when somebody pulls or creates it anew."""
_MOST_LOOKED_AT = 256
"""Models that are looked through for one that fits."""
_SHOWS_AT_ONCE = 8
_STUCK_LOOK_S = 1.0
"""Seconds to find out whether a model that says nothing is loaded."""
_EXAMPLES = {
    "embedding": "nomic-embed-text",
    "vision": "gemma3",
    "thinking": "qwen3",
    "insert": "qwen2.5-coder:1.5b-base",
    "tools": "llama3.2",
}
"""A small model of Ollama's library for each capability."""


@dataclass(frozen=True)
class Model:
    """An installed model, as far as a call needs to know it.

        model = await catalog.find("qwen3:8b")
        model.can(["completion", "tools"])

    Attributes:
        name: The name, as Ollama writes it.
        capabilities: completion, tools, insert, vision, embedding, thinking, audio.
        max_context: The most tokens that the model was made for; 0 where unknown.
        is_cloud: Whether prompts for it leave this machine.
        opens_thinking: Whether its template itself opens the thinking, which then may leak.
        is_described: Whether the server said what it can do; else only its name is known.
    """

    name: str
    capabilities: frozenset[str]
    max_context: int = 0
    is_cloud: bool = False
    opens_thinking: bool = False
    is_described: bool = True

    def can(self, needs: Iterable[str]) -> bool:
        """Return whether it has those capabilities, as far as is known."""
        return not self.is_described or self.capabilities.issuperset(needs)

    def may_think(self, think: object) -> bool:
        """Return whether a request may have that `think`: a model that cannot think refuses any."""
        return "thinking" in self.capabilities or (not self.is_described and think is not None)


@dataclass(frozen=True)
class Choice:
    """A model and, where the caller named none, why it was chosen.

    Attributes:
        model: The model.
        why: configured, loaded or installed last; "" for one that was named.
    """

    model: Model
    why: str = ""


@dataclass(frozen=True)
class Listed:
    """A row of the list of models.

    Attributes:
        info: The row of Ollama's list.
        model: Its capabilities.
        running: Its row in the list of loaded models; None where it is not loaded.
        is_loaded: Whether it is loaded; None where the server does not say.
    """

    info: ModelInfo
    model: Model
    running: RunningModel | None
    is_loaded: bool | None = None


class Catalog:
    """The models of one Ollama server, remembered for a minute.

        catalog = Catalog(client, settings)
        choice = await catalog.resolve("", ["completion"], default="")
        choice.model.name, choice.why  # ("qwen3:8b", "loaded")

    Attributes:
        snapshot: The server's last answers: its lists of models, its version.
    """

    def __init__(self, client: OllamaClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._known: dict[str, tuple[float, Model]] = {}
        """By canonical name: when it was looked up, and the model; the newest is last."""
        self.snapshot = Snapshot(client)
        self._shared = SingleFlight()

    # --- finding and choosing -------------------------------------------------------------------

    async def resolve(self, name: str, needs: Iterable[str], *, default: str) -> Choice:
        """Find the model that a call names, or choose one, and check that it can do what is asked.

        Args:
            name: The model, or "" to choose one: `default`, else one that is loaded, else the
                local one modified last; each only if it has what is needed.
            needs: Capabilities, such as completion and vision.
            default: The operator's model for such calls, or "".

        Raises:
            ModelNotFound: It is not installed, or nothing that fits is.
            CapabilityMissing: It cannot do that; the text names installed models that can.
            Forbidden: It is a cloud model, and the operator has not allowed those.
        """
        required = list(needs)
        if not name.strip():
            choosing = partial(self._choose, required, default)
            return await self._shared.do(("choose", *sorted(required), default), choosing)
        was_known = canonical(name) in self._known
        model = await self.find(name)
        if was_known and not model.can(required):
            self.forget(name)  # it may have been pulled anew with more
            model = await self.find(name)
        for capability in () if model.can(required) else required:
            if not model.can([capability]):
                raise lacks(model.name, capability, await self._having(required))
        return Choice(model)

    async def find(self, name: str) -> Model:
        """Look up one model by its name; failures are `Forbidden` and `ModelNotFound`, as of `resolve`."""
        name = check_name(name)
        if is_cloud_name(name):
            self.allow_cloud(name)
        try:
            model = await self._look_up(name)
        except ModelNotFound:
            raise await self.missing(name) from None
        if model.is_cloud:
            self.allow_cloud(name)
        return model

    async def missing(self, name: str, setting: str = "", *, replaceable: bool = True) -> OllamaError:
        """Return MODEL_NOT_FOUND, with the installed names that look alike.

        A model that is in the list, and yet not found, has lost a part of its files.

        Args:
            name: The model.
            setting: The setting that named it; "" where the caller did.
            replaceable: Whether another model would do.
        """
        installed = [info.name for info in await self._installed_if_told()]
        listed = next((model for model in installed if canonical(model) == canonical(name)), "")
        if listed:
            return model_is_broken(listed)
        local = [model for model in installed if self._settings.cloud or not is_cloud_name(model)]
        return model_not_found(name, nearest(name, local), setting, replaceable=replaceable)

    @asynccontextmanager
    async def explaining(self, name: str) -> AsyncGenerator[None]:
        """Add to a failure of the call inside what can be known of the model now."""
        try:
            yield
        except ModelNotFound:
            self.forget(name)
            raise await self.missing(name) from None
        except Timeout as error:
            raise await self.named_stuck(name, error) from None

    async def named_stuck(self, name: str, error: Timeout) -> Timeout:
        """Return the TIMEOUT; where the model is loaded and yet says nothing, the remedy is to unload it.

        A client that leaves at the wrong moment can leave a model's only slot taken in Ollama: every
        later call then waits for a byte that never comes (ollama/ollama#17131).
        """
        if error.details.get("clock") != "first_byte":
            return error
        loaded: bool | None = False
        with suppress(OllamaError), anyio.move_on_after(_STUCK_LOOK_S):
            loaded = await self.is_loaded(name)
        if loaded:
            error.remedy = (
                f"Ollama has {name} loaded and says nothing: unless others keep it busy, its place is stuck; "
                f"unload it (`ollama stop {name}`) and call again"
            )
        return error

    def forget(self, name: str) -> None:
        """Have the next call look the model up anew."""
        self._known.pop(canonical(name), None)

    async def _look_up(self, name: str) -> Model:
        key = canonical(name)
        at, model = self._known.get(key, (0.0, None))
        if model is not None and time.monotonic() - at < _FRESH_S:
            return model
        return await self._shared.do(("show", key), partial(self._show, name, key))

    async def _show(self, name: str, key: str) -> Model:
        """Ask the server for a model, and remember it under its canonical name."""
        try:
            model = describe(name, await self._client.call(SHOW, ShowRequest(model=name)))
        except NotOllama as error:  # a server without /api/show: its list may say enough
            info = await self.entry(name) if is_missing(error) else None
            if info is None:
                raise
            is_cloud = bool(info.remote_host) or is_cloud_name(info.name)
            can = frozenset(info.capabilities or ())
            model = Model(info.name, can, info.details.context_length, is_cloud, is_described=bool(can))
        self._known[key] = (time.monotonic(), model)
        return model

    def allow_cloud(self, name: str) -> None:
        """Raise `Forbidden` for a model of the cloud unless the operator allows those."""
        if not self._settings.cloud:
            raise Forbidden(
                f"{name} is a cloud model: prompts for it leave this machine",
                "Name a local model (ollama_list_models), or have the operator set OLLAMA_MCP_CLOUD=1.",
            )

    async def _choose(self, needs: list[str], default: str) -> Choice:
        if default:
            # A configured model that is not there is not replaced in silence: vectors of two do not mix.
            try:
                await self._look_up(default)
            except ModelNotFound:
                kind = "EMBEDDING" if "embedding" in needs else "CHAT"
                raise await self.missing(default, f"OLLAMA_MCP_{kind}_MODEL") from None
            except OllamaError:
                pass  # broken in another way: one of the others may do
        # The operator, who configured it, also says whether cloud models are allowed at all.
        model = await self._fitting(default, needs, may_be_cloud=self._settings.cloud)
        if model is not None:
            return Choice(model, "configured")
        try:
            loaded = await self.running() or []
        except (Upstream, BadUpstream, NotOllama):
            loaded = []
        for running in loaded:
            model = await self._fitting(running.name, needs)
            if model is not None:
                return Choice(model, "loaded")
        for info in await self.entries():
            model = await self._fitting(info.name, needs, info)
            if model is not None:
                return Choice(model, "installed last")
        raise ModelNotFound(
            f"no local model with {' and '.join(needs)} is installed",
            ways=[
                ("", f"install one, for example with `ollama pull {example(needs)}`"),
                *(WITHOUT[need] for need in needs if need in WITHOUT),
            ],
        )

    async def _fitting(
        self, name: str, needs: list[str], info: ModelInfo | None = None, *, may_be_cloud: bool = False
    ) -> Model | None:
        """Return the model if it has the capabilities; a cloud model is never picked, only configured."""
        leaves = is_cloud_name(name) or (info is not None and bool(info.remote_host))
        if not name or (leaves and not may_be_cloud):
            return None
        if info is not None and info.capabilities and not set(needs) <= set(info.capabilities):
            return None
        try:
            model = await self._look_up(name)
        except (CallerError, Upstream, BadUpstream):
            return None  # gone or broken; the others are still there
        if model.is_cloud and not may_be_cloud:
            return None
        return model if model.can(needs) else None

    async def _having(self, needs: list[str]) -> list[str]:
        """Return installed local models that have all capabilities, newest first; at most five."""
        found: list[str] = []
        for info in (await self._installed_if_told())[:_MOST_LOOKED_AT]:
            if await self._fitting(info.name, needs, info) is not None:
                found.append(info.name)
            if len(found) == 5:
                break
        return found

    # --- lists of the server --------------------------------------------------------------------

    async def entries(self) -> list[ModelInfo]:
        """Read the list of installed models anew, modified last first."""
        return await self.snapshot.installed.now()

    async def entry(self, name: str) -> ModelInfo | None:
        """Read the row of one model anew; None where it is not installed."""
        return named(name, await self.entries())

    async def _installed_if_told(self) -> list[ModelInfo]:
        """Read the list for the remedy of another failure, which a failure to read must not replace."""
        try:
            return await self.entries()
        except OllamaError:
            return []

    async def running(self) -> list[RunningModel] | None:
        """Read the list of loaded models; None where the server has no /api/ps."""
        return await self.snapshot.loaded.now()

    async def is_loaded(self, name: str) -> bool | None:
        """Return whether the model is loaded now; None where the server does not say."""
        loaded = await self.running()
        return None if loaded is None else _named(name, loaded) is not None

    async def version(self) -> tuple[int, ...]:
        """Return the server's version in numbers; () where it does not say."""
        return version_numbers(await self.snapshot.version.within(_FRESH_S))

    async def window(self, name: str) -> int | None:
        """Return the window, in tokens, that a loaded model has; None where the server does not say."""
        loaded = self.snapshot.loaded
        model = _named(name, loaded.known or ()) if loaded.age_s < _FRESH_S else None
        if model is None or not model.context_length:
            try:
                model = _named(name, await loaded.within(0) or ())
            except OllamaError:
                return None  # a number is not worth the answer that it stands beside
        return model.context_length or None if model else None

    def forget_window(self) -> None:
        """Have `window` ask the server again, as a model is about to be loaded anew."""
        self.snapshot.loaded.expire()

    async def listed(self) -> list[Listed]:
        """List every installed model with its capabilities and its place in memory, modified last first."""
        infos = await self.entries()
        loaded_models = await self.running()
        running = {canonical(model.name): model for model in loaded_models or ()}
        limit = anyio.CapacityLimiter(_SHOWS_AT_ONCE)
        rows: dict[int, Listed] = {}

        async def add(place: int, info: ModelInfo) -> None:
            is_cloud = bool(info.remote_host) or is_cloud_name(info.name)
            if info.capabilities and (info.details.context_length or is_cloud):  # the list says it since 0.30
                model = Model(info.name, frozenset(info.capabilities), info.details.context_length, is_cloud)
            else:
                async with limit:
                    try:
                        model = await self._look_up(info.name)
                    except OllamaError:
                        model = Model(info.name, frozenset(), 0, is_cloud)
            loaded = running.get(canonical(info.name))
            rows[place] = Listed(info, model, loaded, None if loaded_models is None else loaded is not None)

        async with anyio.create_task_group() as group:
            for place, info in enumerate(infos):
                group.start_soon(add, place, info)
        return [rows[place] for place in sorted(rows)]


def example(needs: Iterable[str]) -> str:
    """Return a small model of Ollama's library that has the capabilities; "" where none is known.

    >>> example(["completion", "vision"]), example(["audio"])
    ('gemma3', '')
    """
    capabilities = list(needs)
    any_model = "llama3.2" if "completion" in capabilities else ""
    return next((_EXAMPLES[need] for need in capabilities if need in _EXAMPLES), any_model)


def _named(name: str, running: Iterable[RunningModel]) -> RunningModel | None:
    key = canonical(name)
    return next((model for model in running if canonical(model.name) == key), None)


def named(name: str, infos: Iterable[ModelInfo]) -> ModelInfo | None:
    """Return the model of that name among others, however it is spelled.

    An Ollama that has had two names apart by case alone lists both; then it is the one that was spelled.
    """
    key = canonical(name)
    found = [info for info in infos if canonical(info.name) == key]
    spelled = (info for info in found if info.name in {name.strip(), f"{name.strip()}:latest"})
    return next(spelled, found[0] if found else None)


def describe(name: str, shown: ShowResponse) -> Model:
    """Make a Model of the answer of /api/show."""
    return Model(
        name=name,
        capabilities=frozenset(
            inferred_capabilities(shown) if shown.capabilities is None else shown.capabilities
        ),
        max_context=shown.fact("context_length"),
        is_cloud=bool(shown.remote_host) or is_cloud_name(name),
        opens_thinking=shown.template.rstrip().endswith("<think>"),
    )


def inferred_capabilities(shown: ShowResponse) -> set[str]:
    """Infer capabilities, which servers before 0.6.4 do not list, from the template and the model's facts."""
    pools = any(name.endswith(".pooling_type") for name in shown.model_info)
    if pools or "bert" in shown.details.family:
        return {"embedding"}
    found = {"completion"}
    if ".Tools" in shown.template:
        found.add("tools")
    if ".Suffix" in shown.template:
        found.add("insert")
    if shown.projector_info or {"clip", "mllama"} & set(shown.details.families):
        found.add("vision")
    return found


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, as far as they are numbers.

    >>> version_numbers("0.33.0-rc2"), version_numbers("dev")
    ((0, 33, 0), ())
    """
    numbers: list[int] = []
    for part in text.partition("-")[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
