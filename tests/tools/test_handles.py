"""Calls that outlive their client's clock, as the SDK's client sees them, in both of its modes.

Time is virtual here: seconds pass as they are written, over real sockets to the fake.
"""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult, Implementation

from ollama_mcp import App, create_server, ollama_chat, register
from ollama_mcp.errors import StreamBroken
from ollama_mcp.plain import clean_text
from ollama_mcp.replies import StillRunning
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools.clients import CLIENTS, UNKNOWN, client_named
from ollama_mcp.tools.handles import pages

REPLY = "ollama-mcp/reply"
in_legacy_mode = pytest.mark.parametrize("mode", ["legacy"])
"""The SDK's client in memory has progress in this mode only."""
WORDS = [f"word{n} " for n in range(10)]


@dataclass
class Desk:
    """A fake, an App and a client of its server."""

    fake: FakeOllama
    app: App
    client: Client

    async def call(self, tool: str = "ollama_chat", **arguments: Any) -> CallToolResult:
        """Call a tool; progress is asked for if there is a `hear`."""
        hear = arguments.pop("hear", None)
        if tool == "ollama_chat":
            arguments.setdefault("prompt", "x")
        return await self.client.call_tool(tool, arguments, progress_callback=hear)

    async def begun(self, tool: str = "ollama_chat", **arguments: Any) -> str:
        """Call and get the handle."""
        return handle_of(await self.call(tool, **{"wait_s": 1.5, **arguments}))

    async def cont(self, handle: str, **arguments: Any) -> CallToolResult:
        return await self.call("ollama_continue", handle=handle, **arguments)

    async def closed(self, count: int = 1) -> None:
        await self.fake.wait_for(lambda fake: fake.disconnects == count)


@asynccontextmanager
async def desk(mode: str, client: str = "", **environment: str) -> AsyncIterator[Desk]:
    info = Implementation(name=client, version="1") if client else None
    async with FakeOllama() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url, **environment}))
        async with Client(create_server(app), mode=mode, client_info=info) as opened:
            yield Desk(fake, app, opened)


@pytest.fixture
def at(virtually, mode) -> Callable[..., Any]:
    """Runs a test at a desk, in virtual time."""

    def at(work: Callable[[Desk], Any], client: str = "", **environment: str) -> Any:
        async def run() -> Any:
            async with asyncio.timeout(1e9), desk(mode, client, **environment) as opened:
                return await work(opened)

        return virtually(run)

    return at


def now() -> float:
    return asyncio.get_running_loop().time()


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    return block.text


def handle_of(result: CallToolResult) -> str:
    assert not result.is_error, result.content
    return re.fullmatch(
        r'STILL RUNNING: this is not the answer yet\. Call ollama_continue with handle="([0-9a-f]{32})" '
        r"to get it\.\n.*",
        text_of(result),
        re.DOTALL,
    ).group(1)


# --- STILL RUNNING -----------------------------------------------------------------------------


def test_a_call_that_goes_on_returns_a_handle_and_no_text_of_the_answer(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        began = now()
        result = await d.call(wait_s=3.5)
        assert now() - began == pytest.approx(3.5, abs=0.1)
        handle = handle_of(result)
        assert text_of(result).splitlines()[1] == "4 tok · 1 tok/s · writing"
        assert "word" not in json.dumps(result.model_dump(mode="json"))
        assert result.meta[REPLY] == {
            "handle": handle, "state": "writing", "model": "llama3.2:3b", "tok": 4, "position": None,
        }  # fmt: skip
        answer = await d.cont(handle)
        assert text_of(answer) == "".join(WORDS)
        assert answer.meta["ollama-mcp/stats"]["model"] == "llama3.2:3b"

    at(work)


@pytest.mark.parametrize(
    ("script", "state"),
    [
        (Script(tokens=["a"], load_delay=30), "loading llama3.2:3b"),
        (Script(tokens=["a"], delay_first=30), "reading the prompt"),
        (Script(thinking=["hm"] * 9, tokens=["a"], delay=1), "thinking · 3 tok · 1 tok/s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_says_where_the_answer_is(at, script, state):
    async def work(d: Desk) -> None:
        d.fake.models["llama3.2:3b"].loaded = not script.load_delay
        d.fake.script(script)
        result = await d.call(wait_s=2.5)
        assert text_of(result).splitlines()[1].startswith(state)
        assert text_of(await d.cont(handle_of(result))) == "a"

    at(work)


def test_a_call_that_ends_in_time_is_as_ever(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        result = await d.call(wait_s=60)
        assert text_of(result) == "".join(WORDS)
        assert REPLY not in result.meta
        assert d.app.replies.running("") == []

    at(work)


@in_legacy_mode
def test_waiting_again_has_its_own_deadline_and_progress(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        handle = await d.begun()
        heard: list[str] = []

        async def hear(_: float, __: float | None, message: str | None) -> None:
            heard.append(message)

        for _ in range(3):
            assert handle_of(await d.cont(handle, wait_s=20, hear=hear)) == handle
        assert any(" tok" in message for message in heard)
        assert text_of(await d.cont(handle, wait_s=0)) == "".join(WORDS)
        assert text_of(await d.cont(handle)) == "".join(WORDS)

    at(work)


def test_whatever_the_deadlines_and_the_timings_the_answer_is_whole(at):
    chance = random.Random(5)
    alphabet = ["a", " ", "\r\n", "\N{COMBINING ACUTE ACCENT}", "\N{GRINNING FACE}", "\N{LLAMA}", "\t"]

    async def one(d: Desk) -> int:
        tokens = ["".join(chance.choices(alphabet, k=4)) for _ in range(chance.randint(1, 8))]
        delay, first = chance.choice([0, 0.1, 1, 7]), chance.choice([0, 0.5, 20])
        d.fake.script(Script(tokens=tokens, delay=delay, delay_first=first))
        result, rounds = await d.call(wait_s=chance.uniform(0.01, 12)), 0
        while text_of(result).startswith("STILL RUNNING"):
            handle, rounds = handle_of(result), rounds + 1
            await asyncio.sleep(chance.choice([0, 0, 3, 60]))
            result = await d.cont(handle, wait_s=chance.uniform(0.01, 12))
        assert text_of(result) == "".join(tokens)
        return rounds

    async def work(d: Desk) -> None:
        rounds = [await one(d) for _ in range(500)]  # in each of the two modes
        assert 100 < sum(map(bool, rounds)) < 490
        assert d.fake.disconnects == d.app.replies.in_flight == 0

    at(work)


# --- unfinished text ---------------------------------------------------------------------------


def test_unfinished_text_says_that_it_is_unfinished(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        began = now()
        result = await d.cont(handle, partial=True)
        assert now() == began
        first, text = text_of(result).split("\n", 1)
        assert first.startswith("UNFINISHED: the text below is not the whole answer, which goes on (2 tok")
        assert text == "word0 word1 "
        assert text_of(await d.cont(handle)) == "".join(WORDS)
        assert text_of(await d.cont(handle, partial=True)) == "".join(WORDS)

    at(work)


def test_nothing_yet_is_said_so(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay_first=30))
        handle = await d.begun()
        assert text_of(await d.cont(handle, partial=True)).endswith("\n(nothing yet)")

    at(work)


def test_a_failure_with_text_offers_it_by_handle(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset"))
        result = await d.call()
        assert result.is_error
        error = result.meta["ollama-mcp/error"]
        assert error["partial_text"] == "word0 word1 word2 "
        assert f'ollama_continue with handle="{error["handle"]}" and partial=true' in text_of(result)
        assert "word" not in text_of(result)
        first, text = text_of(await d.cont(error["handle"], partial=True)).split("\n", 1)
        assert "there will be no more of it: STREAM_BROKEN" in first
        assert text == "word0 word1 word2 "
        again = await d.cont(error["handle"])
        assert text_of(again) == text_of(result)

    at(work)


def test_a_failure_after_the_deadline_is_told_to_who_continues(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset"))
        handle = await d.begun()
        result = await d.cont(handle)
        assert result.meta["ollama-mcp/error"]["handle"] == handle
        assert text_of(result).startswith("STREAM_BROKEN: ")

    at(work)


def test_a_failure_without_text_has_no_handle(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(status=500, body={"error": "it broke"}), path="/api/chat")
        result = await d.call()
        assert not result.meta["ollama-mcp/error"]["handle"]
        assert "handle" not in text_of(result)

    at(work)


# --- stopping ----------------------------------------------------------------------------------


def test_an_answer_can_be_stopped_and_its_text_is_kept(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        result = await d.call("ollama_cancel", handle=handle)
        assert not result.is_error
        assert "word" not in text_of(result)
        await d.closed()
        assert d.app.replies.in_flight == 0
        assert text_of(await d.cont(handle, partial=True)).endswith("\nword0 word1 ")
        again = await d.cont(handle)
        assert again.is_error
        assert "stopped by ollama_cancel" in text_of(again)
        assert text_of(await d.call("ollama_cancel", handle=handle)) == text_of(result)

    at(work)


def test_what_has_ended_cannot_be_stopped_and_says_how_it_ended(at):
    async def work(d: Desk) -> None:
        d.fake.script(
            Script(tokens=WORDS, delay=1), Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset")
        )
        done, broken = await d.begun(), await d.begun()
        await asyncio.sleep(20)
        assert "still has the whole answer" in text_of(await d.call("ollama_cancel", handle=done))
        assert text_of(await d.cont(done)) == "".join(WORDS)
        told = text_of(await d.call("ollama_cancel", handle=broken))
        assert "lost" in told or "broken" in told
        assert "ollama_cancel" not in told

    at(work)


@pytest.mark.parametrize("tool", ["ollama_continue", "ollama_cancel"])
def test_a_handle_that_is_none_is_unknown(at, tool):
    async def work(d: Desk) -> None:
        for handle in ("", "x", "0" * 32):
            result = await d.call(tool, handle=handle)
            assert text_of(result).startswith("UNKNOWN_HANDLE: ")

    at(work)


async def given_up(d: Desk, after: float, call: Any) -> asyncio.Task[CallToolResult]:
    """Begin a call and cancel it after so many seconds."""
    task = asyncio.create_task(call)
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.2)
    return task


@pytest.mark.parametrize(("mode", "hears"), [("auto", False), ("legacy", False), ("legacy", True)])
@pytest.mark.parametrize("after", [0.5, 1.4999, 1.5, 1.5001, 1.52, 1.58, 3.0])
def test_a_call_given_up_about_its_deadline_is_stopped_or_kept_and_never_lost(at, after, hears):
    async def hear(*_: object) -> None:
        pass

    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        called = d.call(wait_s=1.5, **({"hear": hear} if hears else {}))
        await given_up(d, after, called)
        running = d.app.replies.running("")
        assert len(running) + d.fake.disconnects == 1
        assert d.app.replies.in_flight == len(running)
        if after < 1.4:
            assert d.fake.disconnects
        if after > 1.6:
            assert text_of(await d.cont(running[0].handle)) == "".join(WORDS)

    at(work)


def test_giving_up_a_wait_stops_nothing(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        await given_up(d, 2.0, d.cont(handle))
        others = [asyncio.create_task(d.cont(handle)) for _ in range(3)]
        await given_up(d, 1.0, d.cont(handle))
        assert [text_of(await other) for other in others] == ["".join(WORDS)] * 3
        assert d.fake.disconnects == 0

    at(work)


def test_what_nobody_continues_is_stopped_in_the_end(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS * 400, delay=1))
        handle = await d.begun()
        await asyncio.sleep(16 * 60)
        await d.closed()
        result = await d.cont(handle)
        assert text_of(result).startswith("TIMEOUT: the answer was stopped, since nobody had asked for it")
        assert "partial=true" in text_of(result)

    at(work)


def test_the_end_of_the_server_stops_what_goes_on(virtually, mode):
    async def run() -> None:
        async with desk(mode) as d:
            d.fake.script(Script(tokens=WORDS * 400, delay=1))
            await d.begun()
            await d.client.__aexit__(None, None, None)
            await d.closed()

    virtually(run)


def test_where_no_handle_is_left_the_call_waits_for_the_whole_answer(at, monkeypatch):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=50))
        handles = [await d.begun() for _ in range(64)]
        assert text_of(await d.call(wait_s=1.5)) == "".join(WORDS)
        assert [text_of(await d.cont(handle)) for handle in handles] == ["".join(WORDS)] * 64

    at(work, OLLAMA_MCP_PARALLEL="100")


# --- pages -------------------------------------------------------------------------------------


async def read_pages(d: Desk, result: CallToolResult) -> str:
    """What all pages have, put together by what each says of the next."""
    found: list[str] = []
    while True:
        first, text = text_of(result).split("\n", 1)
        found.append(text)
        place, of = map(int, re.match(r"page (\d+) of (\d+)\. ", first).groups())
        assert place == len(found)
        assert (result.meta[REPLY]["page"], result.meta[REPLY]["pages"]) == (place, of)
        if place == of:
            assert first.endswith("This is the last one.")
            return "".join(found)
        handle, page = re.search(r'ollama_continue with handle="(\w+)" and page=(\d+)', first).groups()
        result = await d.cont(handle, page=int(page))


def test_a_long_answer_comes_in_pages(at):
    async def work(d: Desk) -> None:
        text = "line\n" * 500 + "word " * 500 + "x" * 2500 + "a\r\n" * 500
        d.fake.script(Script(tokens=[text]))
        result = await d.call()
        assert len(text_of(result)) < 1200
        assert await read_pages(d, result) == text
        for page in (0, -1, 99):
            told = await d.cont(result.meta[REPLY]["handle"], page=page)
            assert text_of(told).startswith(f"INVALID_ARGUMENT: there is no page {page}. ")

    at(work, OLLAMA_MCP_PAGE="1000")


def test_an_answer_of_one_page_has_no_second(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        told = await d.cont(handle, page=2)
        assert text_of(told).startswith("INVALID_ARGUMENT: there is no page 2. ")
        assert text_of(await d.cont(handle, page=1)) == "".join(WORDS)

    at(work)


def test_the_text_of_an_answer_that_has_ended_comes_in_pages_however_it_is_asked_for(at):
    async def work(d: Desk) -> None:
        text = "word " * 1000
        d.fake.script(Script(tokens=[text[:3000], text[3000:]], delay=9))
        handle = await d.begun()
        await asyncio.sleep(20)
        assert await read_pages(d, await d.cont(handle, partial=True)) == text

    at(work, OLLAMA_MCP_PAGE="1000")


def test_unfinished_text_comes_in_pages_that_do_not_move(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=["word "] * 1000, delay=0.1))
        handle = await d.begun(wait_s=50)
        one = text_of(await d.cont(handle, partial=True)).split("\n", 2)
        assert one[0].startswith("UNFINISHED: ")
        assert re.match(r"page 1 of 3\. Call ollama_continue with .*, partial=true and page=2 for", one[1])
        await asyncio.sleep(10)
        two = text_of(await d.cont(handle, partial=True, page=2)).split("\n", 2)
        assert two[1].startswith("page 2 of ")
        assert one[2] + two[2] == "word " * 400

    at(work, OLLAMA_MCP_PAGE="1000")


def test_surrogates_in_a_long_answer_are_replaced_once(at):
    async def work(d: Desk) -> None:
        token = b'{"message":{"role":"assistant","content":"\\ud83e\\udd99\\ud800 no\\udd99 "}}'
        end = b'{"message":{"role":"assistant","content":""},"done":true}'
        d.fake.script(Script(lines=[*[token] * 500, end]), path="/api/chat")
        found = await read_pages(d, await d.call())
        assert found == "\N{LLAMA}\ufffd no\ufffd " * 500

    at(work, OLLAMA_MCP_PAGE="1000")


any_text = st.text() | st.lists(
    st.sampled_from(["\r\n", "\n", " ", "a", "\N{COMBINING ACUTE ACCENT}", "\N{LLAMA}", "\u2028", "word"]),
    max_size=200,
).map("".join)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(any_text, st.integers(1, 50))
def test_pages_joined_are_the_text(text, size):
    text = clean_text(text)
    cut = pages(text, size)
    assert "".join(cut) == text
    assert all(0 < len(page) <= size for page in cut) or cut == [""]
    assert len(cut) <= max(2 * len(text) / size + 1, 1) + 1
    assert size == 1 or not any(before[-1] == "\r" and page[0] == "\n" for before, page in pairwise(cut))


# --- hosts -------------------------------------------------------------------------------------


@asynccontextmanager
async def hosted(mode: str, build: Callable[[MCPServer, App], None], **environment: str):
    async with FakeOllama() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url, **environment}))
        host = MCPServer("host", log_level="ERROR")
        build(host, app)
        async with Client(host, mode=mode) as client:
            yield Desk(fake, app, client)
        await app.aclose()


def test_a_prefix_is_part_of_the_tool_that_is_named(virtually, mode):
    async def run() -> None:
        async with hosted(mode, lambda host, app: register(host, app, prefix="local_")) as d:
            d.fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=5, how="reset"))
            result = await d.call("local_ollama_chat", prompt="x", wait_s=1.5)
            handle = re.search(r'Call local_ollama_continue with handle="(\w+)"', text_of(result)).group(1)
            broken = await d.call("local_ollama_continue", handle=handle)
            assert f'local_ollama_continue with handle="{handle}"' in text_of(broken)

    virtually(run)


@pytest.mark.parametrize("tools", [["ollama_chat"], ["ollama_chat", "ollama_cancel"]])
def test_without_the_tool_that_continues_there_is_no_deadline_and_no_page(virtually, mode, tools):
    async def run() -> None:
        build = lambda host, app: register(host, app, tools=tools)  # noqa: E731
        async with hosted(mode, build, OLLAMA_MCP_PAGE="1000", OLLAMA_MCP_SOFT_DEADLINE="2") as d:
            d.fake.script(Script(tokens=["word "] * 1000, delay=1))
            for wait in ({}, {"wait_s": 5}):
                assert text_of(await d.call(**wait)) == "word " * 1000
            d.fake.script(Script(tokens=WORDS, cut_after_tokens=3, how="reset"))
            assert "handle" not in text_of(await d.call())

    virtually(run)


def test_a_hosts_own_tool_gets_the_whole_answer_or_its_own_deadline(virtually, mode):
    def build(host: MCPServer, app: App) -> None:
        register(host, app)

        @host.tool()
        async def own(ctx: Context, wait_s: float = 0.0) -> str:
            try:
                answer = await ollama_chat(app, "x", wait_s=wait_s, ctx=ctx)
            except StillRunning as running:
                return running.handle
            assert not answer.handle
            return str(answer)

    async def run() -> None:
        async with hosted(mode, build, OLLAMA_MCP_SOFT_DEADLINE="2", OLLAMA_MCP_PAGE="1000") as d:
            d.fake.script(Script(tokens=["word "] * 1000, delay=1))
            assert text_of(await d.call("own")) == "word " * 1000
            handle = text_of(await d.call("own", wait_s=3))
            assert handle_of(await d.cont(handle)) == handle

    virtually(run)


def test_a_direct_call_never_gets_a_handle_unless_it_waits_so_long_only(virtually):
    async def run() -> None:
        async with FakeOllama() as fake:
            app = App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_SOFT_DEADLINE": "2"}))
            fake.script(Script(tokens=WORDS, delay=10))
            assert await ollama_chat(app, "x") == "".join(WORDS)
            with pytest.raises(StillRunning, match="ollama_continue") as told:
                await ollama_chat(app, "x", wait_s=15)
            assert await app.replies.find(told.value.handle).wait() == "".join(WORDS)
            fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset"))
            with pytest.raises(StreamBroken) as broken:
                await ollama_chat(app, "x")
            assert broken.value.handle == ""
            await app.aclose()

    virtually(run)


def test_embeddings_that_go_on_fit_their_schema_and_are_continued(at):
    async def work(d: Desk) -> None:
        await d.client.list_tools()  # with the schemas, against which the client checks
        d.fake.script(Script(delay_first=2), path="/api/embed")
        texts = [f"text {n}" for n in range(100)]
        result = await d.call("ollama_embeddings", input=texts, wait_s=3, vectors="full")
        handle = handle_of(result)
        assert "32/100 texts" in text_of(result)
        assert result.structured_content["handle"] == handle
        assert result.structured_content["status"].startswith("STILL RUNNING")
        whole = await d.cont(handle)
        direct = await d.call("ollama_embeddings", input=texts, wait_s=0, vectors="full")
        assert whole.structured_content == direct.structured_content
        assert text_of(whole) == text_of(direct)

    at(work)


# --- the table of clients ----------------------------------------------------------------------

FULL_NAMES = [client.name + more for client in CLIENTS for more in ("", " - next 2")]


@pytest.mark.parametrize(("mode", "hears"), [("auto", False), ("legacy", False), ("legacy", True)])
@pytest.mark.parametrize("name", [*FULL_NAMES, "Claude-AI", "some-client", "x-claude-ai"])
def test_each_client_has_its_deadline(at, name, hears):
    async def hear(*_: object) -> None:
        pass

    async def work(d: Desk) -> None:
        row = client_named(name)
        assert (row is UNKNOWN) == name.startswith(("some", "x-"))
        d.fake.script(Script(tokens=["a"] * 1000, delay=1))
        began = now()
        handle_of(await d.call(**({"hear": hear} if hears else {})))
        assert now() - began == pytest.approx(row.reported_s if hears else row.silent_s, abs=0.2)

    at(work, name)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_each_client_has_its_page(at, client):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=["x" * client.page]), Script(tokens=["x" * (client.page + 1)]))
        assert text_of(await d.call()) == "x" * client.page
        assert text_of(await d.call()).startswith("page 1 of 2. ")

    at(work, client.name)


@pytest.mark.parametrize(("set_to", "expected"), [("7", 7), ("0", None)])
def test_the_operators_deadline_is_before_the_clients_and_that_of_the_call_before_both(at, set_to, expected):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=["a"] * 1000, delay=1))
        began = now()
        if expected is None:
            assert text_of(await d.call()) == "a" * 1000
        else:
            handle_of(await d.call())
            assert now() - began == pytest.approx(expected, abs=0.2)
        began = now()
        handle_of(await d.call(wait_s=20))
        assert now() - began == pytest.approx(20, abs=0.2)
        assert text_of(await d.call(wait_s=0)) == "a" * 1000

    at(work, "claude-ai", OLLAMA_MCP_SOFT_DEADLINE=set_to)


@pytest.mark.parametrize("wait", [-1, "soon"])
def test_a_wait_that_is_none_is_refused(at, wait):
    async def work(d: Desk) -> None:
        assert text_of(await d.call(wait_s=wait)).startswith("INVALID_ARGUMENT: ")
        assert not d.fake.asked("/api/chat")

    at(work)


# --- the line ----------------------------------------------------------------------------------


@in_legacy_mode
def test_the_place_in_line_is_progress_and_part_of_what_goes_on(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        first = [asyncio.create_task(d.call(wait_s=0)) for _ in range(3)]
        await asyncio.sleep(1)
        heard: list[str] = []

        async def hear(_: float, __: float | None, message: str | None) -> None:
            heard.append(message)

        result = await d.call(wait_s=150, hear=hear)
        assert text_of(result).splitlines()[1] == "2nd in line for llama3.2:3b, 150 s"
        assert result.meta[REPLY]["position"] == 2
        assert result.meta[REPLY]["state"] == "queued"
        assert any(message.startswith("3rd in line for llama3.2:3b") for message in heard)
        assert any(message.startswith("2nd in line for llama3.2:3b") for message in heard)
        assert text_of(await d.cont(handle_of(result), wait_s=0)) == "".join(WORDS)
        assert [text_of(await call) for call in first] == ["".join(WORDS)] * 3

    at(work, OLLAMA_MCP_PARALLEL="1")


def test_one_who_is_stopped_in_line_never_reaches_ollama(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        first = asyncio.create_task(d.call(wait_s=0))
        await asyncio.sleep(1)
        handle = await d.begun()
        await d.call("ollama_cancel", handle=handle)
        assert text_of(await first) == "".join(WORDS)
        await asyncio.sleep(60)
        assert len(d.fake.asked("/api/chat")) == 1

    at(work, OLLAMA_MCP_PARALLEL="1")


def test_one_too_many_is_busy_at_once_and_what_needs_no_turn_has_none(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        handles = [await d.begun() for _ in range(2)]
        began = now()
        result = await d.call()
        assert text_of(result).startswith("BUSY: 1 calls of llama3.2:3b run and 1 wait")
        error = result.meta["ollama-mcp/error"]
        assert error["estimated"] is True
        assert error["retryable"] is True
        assert error["retry_after_s"] >= 1
        for tool in ("ollama_list_models", "ollama_status"):
            assert not (await d.call(tool)).is_error
        await d.cont(handles[1], partial=True)
        await d.call("ollama_cancel", handle=handles[0])
        assert now() - began < 0.2

    at(work, OLLAMA_MCP_PARALLEL="1", OLLAMA_MCP_QUEUE="1")


def test_a_place_that_is_stuck_is_named_with_the_way_to_free_it(at):
    async def work(d: Desk) -> None:
        d.fake.script(Script(tokens=["warm"]), Script(tokens=["a"], delay_first=1000))
        await d.call()
        result = await d.call(wait_s=0)
        assert text_of(result).startswith("TIMEOUT: ")
        assert "`ollama stop llama3.2:3b`" in text_of(result)
        d.fake.models["llama3.2:3b"].loaded = False
        d.fake.script(Script(tokens=["a"], load_delay=1000))
        result = await d.call(wait_s=0)
        assert text_of(result).startswith("TIMEOUT: ")
        assert "ollama stop" not in text_of(result)
        d.fake.script(Script(delay_first=1000), path="/api/ps")
        began = now()
        result = await d.call(wait_s=0, model="llama3.2:3b")
        assert text_of(result).startswith("TIMEOUT: ")
        assert now() - began == pytest.approx(301, abs=1)

    at(work)
