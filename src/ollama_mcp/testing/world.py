"""The pretended Ollama: which models it has, how old it is, what it was told to answer. No sockets."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_mcp.testing import go
from ollama_mcp.testing.answers import Element, Refusal, Turn, Wait
from ollama_mcp.testing.framing import Request
from ollama_mcp.testing.models import Model, short_name
from ollama_mcp.testing.scripts import Script, ScriptBook


def default_models() -> list[Model]:
    """One model for chat and one for embedding."""
    return [
        Model("llama3.2:3b"),
        Model(
            "nomic-embed-text:latest",
            capabilities=("embedding",),
            context_length=2048,
            size=274_302_450,
            parameter_size="137M",
            quantization_level="F16",
            family="nomic-bert",
        ),
    ]


class World:
    """The state behind the endpoints. FakeOllama, which is one, says what the fields are."""

    models: dict[str, Model]
    registry: dict[str, Model]
    pull_script: Sequence[Mapping[str, Any]] | None
    blobs: dict[str, bytes]

    def __init__(
        self,
        models: Iterable[Model] | None = None,
        *,
        version: str = "0.33.0",
        window: int = 4096,
        parallel: int | None = None,
    ) -> None:
        self.version = version
        self.window = window
        self.parallel = parallel
        self.models = {}
        self.registry = {}
        self.pull_script = None
        self.blobs = {}
        self.scripts: ScriptBook = ScriptBook()
        for model in default_models() if models is None else models:
            self.add_model(model)

    def add_model(self, model: Model | str) -> Model:
        """Install a model, or with a name a plain chat model, and return it."""
        given = Model(model) if isinstance(model, str) else model
        given.name = short_name(given.name)
        if given.loaded and not given.window:
            given.window = min(self.window, given.context_length)
        self.models[given.name] = given
        return given

    def find(self, name: str) -> Model | None:
        """The installed model of that name, however much of its full name is given."""
        return self.models.get(short_name(name)) if name else None

    def since(self, *version: int) -> bool:
        """Whether the server claims to be of this version or a younger one."""
        numbers = re.match(r"[\d.]+", self.version)
        own = [int(number) for number in numbers[0].split(".") if number] if numbers else []
        return tuple(own) >= version

    @property
    def refuses_images(self) -> bool:
        """Whether a text model refuses an image; before 0.30 it drops it in silence."""
        return self.since(0, 30)

    @property
    def knows_truncate(self) -> bool:
        """Whether `truncate` is heard; before 0.12.6 it is ignored."""
        return self.since(0, 12, 6)


@dataclass(frozen=True)
class Call:
    """One request to an endpoint: its decoded body, checked for kinds, and the script for it."""

    request: Request
    script: Script
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name as the client wrote it; `name` is the field of old clients."""
        return self.text("model") or self.text("name")

    def text(self, field: str) -> str:
        """A field of text, empty if it is missing."""
        return self.body.get(field) or ""

    @property
    def streams(self) -> bool:
        """Whether the answer is to come in records, which is so if nothing is said."""
        return self.body.get("stream") is not False

    @property
    def options(self) -> Mapping[str, Any]:
        """The model options."""
        return go.as_object(self.body.get("options"))


def loading(world: World, call: Call, model: Model, window: int) -> Generator[Element, None, bool]:
    """Wait for the model's turn and load it if it is not loaded so; returns whether it had to be."""
    yield Turn(model.name, world.parallel)
    cold = not model.running or model.window != window
    if cold:
        yield Wait(call.script.load_delay)
    model.load(window)
    return cold


def not_found(name: str) -> Refusal:
    """The usual 404."""
    return Refusal(404, f"model '{name}' not found")
