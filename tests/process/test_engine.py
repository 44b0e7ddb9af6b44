"""The demo and the embedded engine, on a real model. The weights are in the cache, or these fail."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollama_mcp import App, ollama_chat
from ollama_mcp.settings import load

pytestmark = pytest.mark.engine
ENVIRONMENT = {"HOME": str(Path.home()), "PATH": os.environ["PATH"], "OLLAMA_HOST": "127.0.0.1:1"}


@pytest.fixture
def engine(start: Any) -> Iterator[Callable[..., Any]]:
    """Start the command with the engine's cache and without an Ollama."""
    return lambda *args: start(*args, **ENVIRONMENT)


def test_the_demo_shows_every_step(engine: Any):
    child = engine("demo", "--embedded")
    assert child.process.wait(60) == 0
    out = "".join(line.message for line in child.out.rest())
    for step in (
        "The embedded engine listens on",
        "ollama_chat: ",
        "A chat, streamed as MCP progress",
        "tokens/s, first after",
        "smollm2:135m",
        "Sentences ranked by embeddings",
        "cancelled; the engine stopped after",
        "and answers the next call",
        "All of it happened.",
    ):
        assert step in out, out
    ranked = re.findall(r"^  (-?\d\.\d{3})  (.+)$", out, re.MULTILINE)
    assert "bread" in out
    assert float(ranked[0][0]) > float(ranked[-1][0])
    assert "paper bag" in ranked[0][1]


def test_the_engine_serves_ollamas_api_until_a_signal(engine: Any):
    child = engine("embedded", "serve", "--port", "0")
    said = child.out.wait_for(lambda line: "OLLAMA_HOST=" in line, patience=30).message
    address = re.search(r"OLLAMA_HOST=(\S+)", said)[1]

    async def chat() -> str:
        app = App.create(load({"OLLAMA_HOST": address}))
        with anyio.fail_after(30):
            answer = await ollama_chat(app, prompt="Say hi.", options={"num_predict": 4, "seed": 1})
        await app.aclose()
        return answer

    assert anyio.run(chat)
    child.process.send_signal(signal.SIGTERM)
    assert child.wait() == 0
    assert not [line for line in child.err.rest() if "Traceback" in line.message]


def test_what_is_missing_is_told_with_what_to_do(start: Any, tmp_path: Path):
    child = start("embedded", "serve", "--port", "0", OLLAMA_MCP_CACHE=str(tmp_path))
    assert child.wait() == 1
    assert "ollama-mcp embedded fetch" in "".join(line.message for line in child.err.rest())
