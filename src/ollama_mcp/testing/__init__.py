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
    from ollama_mcp.ollama_server.http_messages import Request as Request
    from ollama_mcp.ollama_server.installed_models import Model as Model
    from ollama_mcp.testing.fake import FakeOllama as FakeOllama
    from ollama_mcp.testing.recorder import Recorder as Recorder
    from ollama_mcp.testing.recordings import Exchange as Exchange
    from ollama_mcp.testing.scripted_backend import vector as vector
    from ollama_mcp.testing.scripts import Rule as Rule
    from ollama_mcp.testing.scripts import Script as Script
    from ollama_mcp.testing.scripts import Wait as Wait
    from ollama_mcp.testing.scripts import tool_call as tool_call

_HOMES = {
    "Exchange": "testing.recordings",
    "FakeOllama": "testing.fake",
    "Model": "ollama_server.installed_models",
    "Recorder": "testing.recorder",
    "Request": "ollama_server.http_messages",
    "Rule": "testing.scripts",
    "Script": "testing.scripts",
    "Wait": "testing.scripts",
    "tool_call": "testing.scripts",
    "vector": "testing.scripted_backend",
}
__all__ = [
    "Exchange",
    "FakeOllama",
    "Model",
    "Recorder",
    "Request",
    "Rule",
    "Script",
    "Wait",
    "tool_call",
    "vector",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ollama_mcp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
