"""The demo and the embedded engine, on a real model. The weights are in the cache, or these fail."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp import App, ollama_chat
from ollama_mcp.settings import load

pytestmark = pytest.mark.engine
STORY = "Write a long story about a dragon and a knight, with many chapters."
ENVIRONMENT = {"HOME": str(Path.home()), "PATH": os.environ["PATH"], "OLLAMA_HOST": "127.0.0.1:1"}


@pytest.fixture
def engine(start: Any) -> Iterator[Callable[..., Any]]:
    """Start the command with the engine's cache and without an Ollama."""
    return lambda *args, **more: start(*args, **ENVIRONMENT, **more)


def test_the_demo_shows_every_step(engine: Any):
    # What is set for the user's own Ollama and server is not for the engine and this one.
    child = engine("demo", "--embedded", OLLAMA_MCP_CHAT_MODEL="mine", OLLAMA_MCP_HTTP="127.0.0.1:0")
    assert child.process.wait(60) == 0
    out = "".join(line.message for line in child.out.rest())
    for step in (
        "The embedded engine answers",
        "1/5  A question",
        "smollm2:135m: ",
        "2/5  A prompt that does not fit",
        "CONTEXT_OVERFLOW: ",
        "3/5  A long answer",
        "STILL RUNNING: ",
        "4/5  A cancel frees the model",
        "The next call has its answer",
        "5/5  An answer out of two documents",
        "[1] tea.md",
        "All of it happened.",
    ):
        assert step in out, out


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


def test_an_engine_that_dies_ends_the_command(engine: Any):
    child = engine("embedded", "serve", "--port", "0")
    child.out.wait_for(lambda line: "OLLAMA_HOST=" in line, patience=30)
    (of_it,) = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text().split()
    os.kill(int(of_it), signal.SIGKILL)
    assert child.wait() == 1
    assert "the engine has ended" in "".join(line.message for line in child.err.rest())


def test_an_answer_of_four_hundred_tokens_outlives_calls_of_two_seconds(engine: Any):
    child = engine("embedded", "serve", "--port", "0")
    said = child.out.wait_for(lambda line: "OLLAMA_HOST=" in line, patience=30).message
    server = StdioServerParameters(
        command=str(Path(sys.executable).with_name("ollama-mcp")),
        env={"OLLAMA_HOST": re.search(r"OLLAMA_HOST=(\S+)", said)[1]},
    )
    ask = {"prompt": STORY, "options": {"num_predict": 400, "temperature": 0, "seed": 1}}
    reports: list[str | None] = []

    async def hear(_: float, __: float | None, message: str | None) -> None:
        reports.append(message)

    async def call(client: Client, tool: str, **arguments: Any) -> Any:
        result = await client.call_tool(tool, arguments, progress_callback=hear)
        assert not result.is_error, result
        return result

    async def read() -> tuple[Any, list[Any]]:
        with anyio.fail_after(120):
            async with Client(stdio_client(server)) as client:
                results = [await call(client, "ollama_chat", **ask, wait_s=2)]
                handle = re.search(r'handle="(\w+)"', results[0].content[0].text)[1]
                while results[-1].content[0].text.startswith("STILL RUNNING"):
                    results.append(await call(client, "ollama_continue", handle=handle, wait_s=2))
                return await call(client, "ollama_chat", **ask, wait_s=0), results

    whole, results = anyio.run(read)
    stats = results[-1].meta["ollama-mcp/stats"]
    print(f"\n{stats}, {len(results) - 1} calls of ollama_continue, {len(reports)} reports")
    assert len(results) > 1
    assert stats["output_tokens"] == 400
    assert results[-1].content[0].text == whole.content[0].text
    assert len(reports) > len(results)


def test_what_is_missing_is_told_with_what_to_do(start: Any, tmp_path: Path):
    child = start("embedded", "serve", "--port", "0", OLLAMA_MCP_CACHE=str(tmp_path))
    assert child.wait() == 1
    assert "ollama-mcp embedded fetch" in "".join(line.message for line in child.err.rest())
