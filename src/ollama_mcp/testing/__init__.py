"""A fake Ollama to test against: a real socket, scripted answers, every fault of the wire.

    async with FakeOllama() as fake:
        fake.script(Script(tokens=["Hel", "lo"], cut_after_tokens=1, how="reset"))
        ...                            # call fake.url with your client
        assert fake.last.json["model"] == "llama3.2:3b"

Only the standard library is used, and nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollama_mcp.testing.answers import Wait as Wait
    from ollama_mcp.testing.embedding import vector as vector
    from ollama_mcp.testing.fake import FakeOllama as FakeOllama
    from ollama_mcp.testing.framing import Request as Request
    from ollama_mcp.testing.models import Model as Model
    from ollama_mcp.testing.recorder import Recorder as Recorder
    from ollama_mcp.testing.replay import Exchange as Exchange
    from ollama_mcp.testing.scripts import Rule as Rule
    from ollama_mcp.testing.scripts import Script as Script

_HOMES = {
    "Exchange": "replay",
    "FakeOllama": "fake",
    "Model": "models",
    "Recorder": "recorder",
    "Request": "framing",
    "Rule": "scripts",
    "Script": "scripts",
    "Wait": "answers",
    "vector": "embedding",
}
__all__ = ["Exchange", "FakeOllama", "Model", "Recorder", "Request", "Rule", "Script", "Wait", "vector"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
