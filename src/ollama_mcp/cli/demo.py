"""`ollama-mcp demo`: a real MCP client talks over stdio to this server and gets a real model's answers."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult, TextContent

from ollama_mcp.app import App
from ollama_mcp.cli.embedded import complain, download, find, require_extra
from ollama_mcp.client import OllamaClient
from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable
from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.base_models import Response
from ollama_mcp.ollama.endpoints import Call
from ollama_mcp.services.embedding import similarity
from ollama_mcp.settings import Settings
from ollama_mcp.tools.calls import FORM
from ollama_mcp.tools.results import STATS

_LIMIT_S = 300
_REACH_S = 5
_QUESTION = "How do I keep a loaf of bread fresh?"
_SENTENCES = (
    "Store it in a paper bag at room temperature, not in the fridge.",
    "The train to the coast leaves at nine.",
    "Slices that are frozen taste newly baked once they are toasted.",
    "Her violin has four strings.",
)


class DemoFailed(Exception):
    """A step did not do what it is there to show."""


@dataclass(frozen=True)
class Place:
    """The server that answers, and whether it is the embedded engine."""

    url: str
    embedded: bool


def demo(settings: Settings, *, embedded: bool) -> int:
    """Run every step; returns 0 only if all of them happened."""
    try:
        asyncio.run(_demo(settings, embedded=embedded))
    except EmbeddedUnavailable as error:
        return complain(error)
    except (DemoFailed, TimeoutError) as error:
        print(f"\nollama-mcp demo: {error or f'not done within {_LIMIT_S} s'}", file=sys.stderr)
        return 1
    print("\nAll of it happened. Next: put ollama-mcp into your client; README and docs/clients.md say how.")
    return 0


async def _demo(settings: Settings, *, embedded: bool) -> None:
    async with AsyncExitStack() as stack:
        place = None if embedded else await _own_ollama(settings)
        if place is None:
            place = await _embedded(settings, stack)
        await _show_all(place)


async def _show_all(place: Place) -> None:
    failure: DemoFailed | None = None
    with anyio.fail_after(_LIMIT_S):
        async with _client(place) as client:
            try:
                for step in _STEPS:
                    await step(client, place)
            except DemoFailed as error:
                failure = error  # raised outside: the client's task group would wrap it
    if failure is not None:
        raise failure


async def _own_ollama(settings: Settings) -> Place | None:
    """The user's Ollama, if it answers and can do all that is shown."""
    app = App.create(settings)
    try:
        with anyio.fail_after(_REACH_S):
            rows = await app.catalog.listed()
    except (OllamaError, TimeoutError):
        print(f"No Ollama answers at {app.client.address}, so this is shown on the embedded engine.")
        return None
    finally:
        await app.aclose()
    can = {capability for row in rows if not row.model.is_cloud for capability in row.model.capabilities}
    if {"completion", "embedding"} <= can:
        print(f"Using the Ollama at {app.client.address}.")
        return Place(app.client.address, embedded=False)
    print("Your Ollama lacks a chat or an embedding model, so this is shown on the embedded engine.")
    print("(`ollama pull llama3.2` and `ollama pull nomic-embed-text` install them.)")
    return None


async def _embedded(settings: Settings, stack: AsyncExitStack) -> Place:
    try:
        weights = find(settings)
    except EmbeddedUnavailable:
        if settings.embedded_model:
            raise
        require_extra()
        print(f"It needs two small models (176 MB), which are downloaded once into {settings.cache}:")
        weights = await anyio.to_thread.run_sync(download, settings)
    engine = await stack.enter_async_context(EmbeddedEngine(weights))
    print(f"The embedded engine listens on {engine.url}. Its model is a toy: watch the wire, not the wit.")
    return Place(engine.url, embedded=True)


def _client(place: Place) -> Client:
    """An MCP client of the official SDK; the server is a child process, as a host would start it."""
    environment = {**os.environ, "OLLAMA_HOST": place.url}
    server = StdioServerParameters(command=sys.executable, args=["-m", "ollama_mcp"], env=environment)
    return Client(stdio_client(server))


# --- the steps ---------------------------------------------------------------------------------


async def _show_tools(client: Client, _: Place) -> None:
    _title("The client lists the tools")
    for tool in (await client.list_tools()).tools:
        print(f"  {tool.name}: {(tool.description or '').strip()}")


async def _show_chat(client: Client, _: Place) -> None:
    _title("A chat, streamed as MCP progress notifications (its end comes with the result)")
    heard: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")
        print(message or "", end="", flush=True)

    print("  > Tell me a short story about a lighthouse.\n  ", end="")
    arguments = {"prompt": "Tell me a short story about a lighthouse.", "max_tokens": 120, "seed": 7}
    result = await client.call_tool("ollama_chat", arguments, progress_callback=hear, meta={FORM: "text"})
    answer, streamed = _text(result), "".join(heard)
    print(answer.removeprefix(streamed))
    _require(bool(streamed) and answer.startswith(streamed), "the answer was not streamed")
    stats = (result.meta or {})[STATS]
    print(
        f"  ({stats['model']}: {stats.get('output_tokens')} tokens at {stats.get('tokens_per_s')} tokens/s, "
        f"first after {stats.get('first_token_s')} s, in {len(heard)} progress messages)"
    )


async def _show_models(client: Client, _: Place) -> None:
    _title("The models")
    print("  " + _text(await client.call_tool("ollama_list_models", {})).replace("\n", "\n  "))


async def _show_ranking(client: Client, _: Place) -> None:
    _title(f"Sentences ranked by embeddings: {_QUESTION}")
    arguments = {"input": [_QUESTION, *_SENTENCES], "vectors": "base64"}
    result = await client.call_tool("ollama_embeddings", arguments)
    _text(result)
    question, *others = [_vector(text) for text in result.structured_content["vectors"]]
    ranked = sorted(zip(_SENTENCES, others, strict=True), key=lambda pair: -similarity(question, pair[1]))
    for sentence, vector in ranked:
        print(f"  {similarity(question, vector):.3f}  {sentence}")


async def _show_cancel(client: Client, place: Place) -> None:
    _title("A long generation is cancelled")
    before = await _activity(place)
    writing = asyncio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        if sys.stdout.isatty():
            print(f"\r\x1b[K  {message}", end="", flush=True)
        if progress >= 5:
            writing.set()

    arguments = {"prompt": "Write a very long story about a river.", "max_tokens": 1500, "seed": 7}
    call = asyncio.create_task(client.call_tool("ollama_chat", arguments, progress_callback=hear))
    waiting = asyncio.create_task(writing.wait())
    await asyncio.wait([call, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    _require(not call.done(), "the generation ended before it could be cancelled")
    started = time.monotonic()
    call.cancel()
    await asyncio.wait([call])
    await _show_stopped(client, place, before, started)


async def _show_stopped(client: Client, place: Place, before: dict[str, int], started: float) -> None:
    if place.embedded:
        with anyio.move_on_after(5):
            while (now := await _activity(place))["running"] or now["cancelled"] <= before["cancelled"]:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        now = await _activity(place)
        _require(now["running"] == 0 and now["cancelled"] > before["cancelled"], "the engine did not stop")
        print(f"\n  cancelled; the engine stopped after {time.monotonic() - started:.2f} s")
    result = await client.call_tool("ollama_chat", {"prompt": "Say hi.", "max_tokens": 4})
    _text(result)
    print(f"  and answers the next call {time.monotonic() - started:.2f} s after the cancel")


_STEPS: tuple[Callable[[Client, Place], Awaitable[None]], ...] = (
    _show_tools,
    _show_chat,
    _show_models,
    _show_ranking,
    _show_cancel,
)


# --- helpers -----------------------------------------------------------------------------------


def _title(text: str) -> None:
    print(f"\n{text}")


def _require(happened: bool, complaint: str) -> None:
    if not happened:
        raise DemoFailed(complaint)


def _text(result: Any) -> str:
    """The text of a result that is no failure."""
    if not isinstance(result, CallToolResult) or not isinstance(result.content[0], TextContent):
        raise DemoFailed("a tool returned no text")
    _require(not result.is_error, result.content[0].text)
    return result.content[0].text


def _vector(packed: str) -> list[float]:
    data = base64.b64decode(packed)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


class _Activity(Response):
    running: int = 0
    cancelled: int = 0
    completed: int = 0


_ACTIVITY = Call("GET", "/api/embedded/activity", type(None), _Activity)


async def _activity(place: Place) -> dict[str, int]:
    """Return what the embedded engine counts; nothing where it is a real Ollama."""
    if not place.embedded:
        return {}
    async with OllamaClient(place.url) as client:
        activity = await client.call(_ACTIVITY)
    return activity.model_dump()
