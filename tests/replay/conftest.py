import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_mcp.testing import Exchange, FakeOllama, Model

RECORDINGS = Path(__file__).parent.parent / "recordings"


def _recorded_models() -> list[Model]:
    """What the recorded servers had installed, with the templates and capabilities that they showed."""
    small = {"context_length": 8192, "dimensions": 576, "parameter_size": "134.52M"}
    chats = [_shown("smollm2:135m", "show-chat"), _shown("tooler", "show-tools")]
    chats += [_shown("thinker", "show-thinking"), _shown("pirate", "show-created")]
    plain = ("pirate2", "127.0.0.1:5055/library/smollm2:135m")
    chats += [Model(name, ("completion",), **small) for name in plain]
    chats.append(Model("p3", ("completion",), parameters={"temperature": "hot"}, **small))
    return [*chats, _shown("all-minilm:22m", "show-embedding")]


def _shown(name: str, recording: str) -> Model:
    shown = json.loads(Exchange.load(RECORDINGS / f"{recording}.json").body())
    facts = shown["model_info"]
    length = next(value for key, value in facts.items() if key.endswith(".context_length"))
    width = next(value for key, value in facts.items() if key.endswith(".embedding_length"))
    return Model(name, shown["capabilities"], length, dimensions=width, template=shown["template"])


@pytest.fixture
def world() -> Callable[[Exchange], FakeOllama]:
    """A fake that has what the server had when the exchange was recorded; the exchange is not in it yet."""

    def build(exchange: Exchange) -> FakeOllama:
        is_old = exchange.name.startswith("old-")
        fake = FakeOllama(_recorded_models(), version="0.24.0" if is_old else "0.33.0-rc2")
        for model in fake.models.values():
            model.load(min(fake.window, model.context_length))
        return fake

    return build
