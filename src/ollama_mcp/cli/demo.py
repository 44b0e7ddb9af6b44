"""`ollama-mcp demo`: a real MCP client talks over stdio to this server and gets a real model's answers."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.message import SessionMessage
from mcp_types import CallToolResult, TextContent

from ollama_mcp.app import App
from ollama_mcp.cli.embedded import complain, download, find, require_extra
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import mark, paint, width
from ollama_mcp.client import OllamaClient
from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable
from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.base_models import Response
from ollama_mcp.ollama.endpoints import Call
from ollama_mcp.settings import Settings
from ollama_mcp.tools.calls import FORM
from ollama_mcp.tools.results import REPLY, STATS

_LIMIT_S = 300
_REACH_S = 5
_QUESTION = "In two or three sentences: why do lighthouses blink?"
_STORY = "Write a long story about a river that wants to be a road."
_LONG = "The committee met again, and nobody could say why. " * 800
_DOCUMENTS = (
    {"title": "tea.md", "text": "Green tea steeps for two minutes in water of 80 degrees."},
    {"title": "coffee.md", "text": "Coffee is brewed for four minutes in water of 95 degrees."},
)
_ASKED = "How long does green tea steep?"


class DemoFailed(Exception):
    """A step did not do what it is there to show."""


@dataclass(frozen=True)
class Place:
    """The server that answers, and whether it is the embedded engine."""

    url: str
    embedded: bool


def demo(settings: Settings, *, embedded: bool, shows_wire: bool = False) -> int:
    """Run every step; returns 0 only if all of them happened.

    Args:
        settings: Settings in force.
        embedded: Whether the embedded engine answers even if there is an Ollama.
        shows_wire: Whether the messages of MCP are printed.
    """
    installation = Installation.find()
    try:
        asyncio.run(_demo(settings, embedded=embedded, shows_wire=shows_wire))
    except EmbeddedUnavailable as error:
        return complain(error)
    except (DemoFailed, TimeoutError) as error:
        print(f"\nollama-mcp demo: {error or f'not done within {_LIMIT_S} s'}", file=sys.stderr)
        return 1
    print(f"\n{mark(True)} All of it happened. Put it into your own client:")
    print(f"\n    {installation.command('setup')}")
    return 0


async def _demo(settings: Settings, *, embedded: bool, shows_wire: bool) -> None:
    async with AsyncExitStack() as stack:
        place = None if embedded else await _own_ollama(settings)
        if place is None:
            place = await _embedded(settings, stack)
        await _show_all(place, Page(), shows_wire=shows_wire)


async def _show_all(place: Place, page: Page, *, shows_wire: bool) -> None:
    failure: DemoFailed | None = None
    with anyio.fail_after(_LIMIT_S):
        async with _client(place, page if shows_wire else None) as client:
            try:
                for number, (title, step) in enumerate(_STEPS.items(), 1):
                    page.title(f"{number}/{len(_STEPS)}  {title}")
                    await step(client, place, page)
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
        print(f"No Ollama answers at {app.client.address}, so this is shown on the\nembedded engine.")
        return None
    finally:
        await app.aclose()
    can = {capability for row in rows if not row.model.is_cloud for capability in row.model.capabilities}
    if "completion" in can:
        print(f"Using the Ollama at {app.client.address}.")
        return Place(app.client.address, embedded=False)
    print("Your Ollama has no chat model, so this is shown on the\nembedded engine.")
    print("(`ollama-mcp pull llama3.2` installs one.)")
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
    print("The embedded engine answers. Its model is tiny: mind what happens, not its wit.")
    return Place(engine.url, embedded=True)


def _client(place: Place, wire: Page | None) -> Client:
    """Return an MCP client of the official SDK; the server is a child process, as a host would start it."""
    # Settings are for the user's own Ollama: the engine has other models.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not (place.embedded and name.startswith("OLLAMA_MCP_"))
    }
    environment = {
        **inherited,
        "OLLAMA_HOST": place.url,
        "OLLAMA_MCP_HTTP": "",
        # What is shown has to be there, and the prompt of the second step too long for it.
        "OLLAMA_MCP_TOOLSETS": "chat,models,rag",
        "OLLAMA_MCP_READ_ONLY": "0",
        "OLLAMA_MCP_MAX_CONTEXT": "4096",
    }
    transport = stdio_client(
        StdioServerParameters(command=sys.executable, args=["-m", "ollama_mcp"], env=environment)
    )
    return Client(transport if wire is None else _shown(transport, wire))


@asynccontextmanager
async def _shown(transport: Any, page: Page) -> AsyncGenerator[Any]:
    """Pass a transport's messages on, and print each."""
    async with transport as (read, write):
        to_client, from_server = anyio.create_memory_object_stream[Any](0)
        to_server, from_client = anyio.create_memory_object_stream[Any](0)

        async def forward(source: Any, sink: Any, sign: str) -> None:
            async with source, sink:
                async for item in source:
                    if isinstance(item, SessionMessage):
                        page.message(sign, item.message.model_dump_json(by_alias=True, exclude_none=True))
                    await sink.send(item)

        async with anyio.create_task_group() as group:
            group.start_soon(forward, read, to_client, "<-")
            group.start_soon(forward, from_client, write, "->")
            yield from_server, to_server
            group.cancel_scope.cancel()


class Page:
    """Text on stdout, wrapped to the width as it is written."""

    def __init__(self) -> None:
        self._width = width() - 2
        self._column = 0
        self._word = ""

    def title(self, text: str) -> None:
        """Print a heading."""
        self.end()
        print(f"\n{paint(text, 'bold')}")

    def say(self, text: str, colour: str = "") -> None:
        """Print paragraphs, each of which is wrapped."""
        self.end()
        for line in text.splitlines() or [""]:
            for part in textwrap.wrap(line, self._width, break_on_hyphens=False) or [""]:
                print(f"  {paint(part, colour) if colour else part}" if part else "", flush=True)

    def write(self, text: str) -> None:
        """Print text as it comes; its last word waits until it is whole."""
        for character in text:
            if not character.isspace():
                self._word += character
                continue
            self._put_word()
            if character == "\n":
                print()
                self._column = 0
        sys.stdout.flush()

    def _put_word(self) -> None:
        if not self._word:
            return
        if self._column and self._column + 1 + len(self._word) > self._width:
            print()
            self._column = 0
        print(f"{' ' if self._column else '  '}{self._word}", end="")
        self._column += len(self._word) + (1 if self._column else 0)
        self._word = ""

    def end(self) -> None:
        """End the line that is being written, if there is one."""
        self._put_word()
        if self._column:
            print()
            self._column = 0

    def message(self, sign: str, text: str) -> None:
        """Print a message of the wire; what is too long for two lines is cut."""
        self.end()
        room = 2 * self._width - 20
        text = text if len(text) <= room else f"{text[:room]}… ({len(text):,} characters)"
        lines = textwrap.wrap(text, self._width - 3, break_on_hyphens=False)
        print(f"  {paint(sign, 'cyan')} " + "\n     ".join(paint(line, "dim") for line in lines), flush=True)


# --- the steps ---------------------------------------------------------------------------------


async def _show_chat(client: Client, _: Place, page: Page) -> None:
    heard: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")
        page.write(message or "")

    page.say(f"> {_QUESTION}", "cyan")
    arguments = {"prompt": _QUESTION, "max_tokens": 120, "seed": 7, "think": "false"}
    result = await client.call_tool("ollama_chat", arguments, progress_callback=hear, meta={FORM: "text"})
    answer, streamed = _text(result), "".join(heard)
    page.write(answer.removeprefix(streamed))
    _require(bool(streamed) and answer.startswith(streamed), "the answer was not streamed")
    stats = (result.meta or {})[STATS]
    speed, first = stats.get("tokens_per_s") or 0, stats.get("first_token_s") or 0
    count = f"{stats['model']}: {stats.get('output_tokens')} tokens"
    page.say(f"{count}, {speed:.0f} a second, the first after {first:.1f} s.", "dim")


async def _show_overflow(client: Client, _: Place, page: Page) -> None:
    page.say(f"> {_LONG[:50]} … ({len(_LONG.split()):,} words)", "cyan")
    result = await client.call_tool("ollama_chat", {"prompt": _LONG, "max_tokens": 20})
    _require(result.is_error, "a prompt that does not fit was answered")
    page.say(_first(result))
    page.say("Ollama itself would have cut it in silence.", "dim")


async def _show_handle(client: Client, _: Place, page: Page) -> None:
    page.say(f"> {_STORY} (wait_s: 0.5)", "cyan")
    started = time.monotonic()
    arguments = {"prompt": _STORY, "max_tokens": 150, "seed": 7, "wait_s": 0.5, "think": "false"}
    result = await client.call_tool("ollama_chat", arguments)
    told = _text(result)
    page.say(told.partition("\n")[0] if told.startswith("STILL") else "This machine is fast: it is done.")
    while told.startswith("STILL"):
        handle = (result.meta or {})[REPLY]["handle"]
        page.say(f'> ollama_continue handle="{handle[:6]}…"', "cyan")
        result = await client.call_tool("ollama_continue", {"handle": handle})
        told = _text(result)
    page.say(f"… {' '.join(told.split())[-140:]}")
    page.say(f"The end of {len(told.split())} words, after {time.monotonic() - started:.1f} s.", "dim")


async def _show_cancel(client: Client, place: Place, page: Page) -> None:
    before = await _activity(place)
    writing = asyncio.Event()
    last = ""

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        last = message or ""
        if progress >= 5:
            writing.set()

    page.say(f"> {_STORY}", "cyan")
    arguments = {"prompt": _STORY, "max_tokens": 1500, "seed": 7, "think": "false"}
    call = asyncio.create_task(client.call_tool("ollama_chat", arguments, progress_callback=hear))
    waiting = asyncio.create_task(writing.wait())
    await asyncio.wait([call, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    _require(not call.done(), "the generation ended before it could be cancelled")
    page.say(last)
    started = time.monotonic()
    call.cancel()
    await asyncio.wait([call])
    if place.embedded:
        with anyio.move_on_after(5):
            while (now := await _activity(place))["running"] or now["cancelled"] <= before["cancelled"]:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        now = await _activity(place)
        _require(now["running"] == 0 and now["cancelled"] > before["cancelled"], "the engine did not stop")
        page.say(f"Cancelled. The engine stopped after {time.monotonic() - started:.2f} s.")
    _text(await client.call_tool("ollama_chat", {"prompt": "Say hi.", "max_tokens": 4}))
    page.say(f"The next call has its answer {time.monotonic() - started:.2f} s after the cancel.")


async def _show_sources(client: Client, _: Place, page: Page) -> None:
    page.say(f"> {_ASKED} (from {' and '.join(one['title'] for one in _DOCUMENTS)})", "cyan")
    arguments = {"query": _ASKED, "documents": [*_DOCUMENTS], "options": {"seed": 7, "num_predict": 60}}
    page.say(_text(await client.call_tool("ollama_rag_query", arguments)))


_STEPS: Mapping[str, Callable[[Client, Place, Page], Awaitable[None]]] = {
    "A question, answered as it is written": _show_chat,
    "A prompt that does not fit is refused, and says why": _show_overflow,
    "A long answer: the call returns, the work goes on, and its end is fetched": _show_handle,
    "A cancel frees the model": _show_cancel,
    "An answer out of two documents, with its sources": _show_sources,
}


# --- helpers -----------------------------------------------------------------------------------


def _require(happened: bool, complaint: str) -> None:
    if not happened:
        raise DemoFailed(complaint)


def _first(result: Any) -> str:
    if not isinstance(result, CallToolResult) or not isinstance(result.content[0], TextContent):
        raise DemoFailed("a tool returned no text")
    return result.content[0].text


def _text(result: Any) -> str:
    """Return the text of a result that is no failure."""
    text = _first(result)
    _require(not result.is_error, text)
    return text


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
