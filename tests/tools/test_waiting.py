"""How long a call waits, by who called it and where; and what is said of the line that it waits in."""

import asyncio
import random
import re
from typing import Any

import pytest
from mcp.server.mcpserver import Context, MCPServer

from ollama_mcp import App, ollama_chat, register
from ollama_mcp.errors import StreamBroken
from ollama_mcp.jobs.job import StillRunning
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools.client_profiles import CLIENTS, DEFAULT_PROFILE, client_profile

REPLY = "ollama-mcp/reply"
in_legacy_mode = pytest.mark.parametrize("mode", ["legacy"])
"""The SDK's client in memory has progress in this mode only."""
WORDS = [f"word{n} " for n in range(10)]


# --- hosts -------------------------------------------------------------------------------------


def test_a_prefix_is_part_of_the_tool_that_is_named(virtually, desk):
    async def run() -> None:
        async with desk(build=lambda host, app: register(host, app, prefix="local_")) as d:
            d.fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=5, how="reset"))
            result = await d.call("local_ollama_chat", prompt="x", wait_s=1.5)
            handle = re.search(r'Call local_ollama_continue with handle="(\w+)"', d.text(result)).group(1)
            broken = await d.call("local_ollama_continue", handle=handle)
            assert f'local_ollama_continue with handle="{handle}"' in d.text(broken)

    virtually(run)


@pytest.mark.parametrize("tools", [["ollama_chat"], ["ollama_chat", "ollama_cancel"]])
def test_without_the_tool_that_continues_there_is_no_deadline_and_no_page(virtually, desk, tools):
    async def run() -> None:
        build = lambda host, app: register(host, app, tools=tools)  # noqa: E731
        async with desk(build=build, OLLAMA_MCP_PAGE="1000", OLLAMA_MCP_SOFT_DEADLINE="2") as d:
            d.fake.script(Script(tokens=["word "] * 1000, delay=1))
            for wait in ({}, {"wait_s": 5}):
                assert d.text(await d.call(**wait)) == "word " * 1000
            d.fake.script(Script(tokens=WORDS, cut_after_tokens=3, how="reset"))
            assert "handle" not in d.text(await d.call())

    virtually(run)


def test_a_hosts_own_tool_gets_the_whole_answer_or_its_own_deadline(virtually, desk):
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
        async with desk(build=build, OLLAMA_MCP_SOFT_DEADLINE="2", OLLAMA_MCP_PAGE="1000") as d:
            d.fake.script(Script(tokens=["word "] * 1000, delay=1))
            assert d.text(await d.call("own")) == "word " * 1000
            handle = d.text(await d.call("own", wait_s=3))
            assert d.handle(await d.cont(handle)) == handle

    virtually(run)


def test_a_direct_call_never_gets_a_handle_unless_it_waits_so_long_only(virtually):
    async def run() -> None:
        async with FakeOllama() as fake:
            app = App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_SOFT_DEADLINE": "2"}))
            fake.script(Script(tokens=WORDS, delay=10))
            assert await ollama_chat(app, "x") == "".join(WORDS)
            with pytest.raises(StillRunning, match="ollama_continue") as told:
                await ollama_chat(app, "x", wait_s=15)
            assert await app.jobs.find(told.value.handle).wait() == "".join(WORDS)
            fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset"))
            with pytest.raises(StreamBroken) as broken:
                await ollama_chat(app, "x")
            assert broken.value.handle == ""
            await app.aclose()

    virtually(run)


def test_embeddings_that_go_on_fit_their_schema_and_are_continued(at):
    async def work(d: Any) -> None:
        await d.client.list_tools()  # with the schemas, against which the client checks
        d.fake.script(Script(delay_first=2), path="/api/embed")
        texts = [f"text {n}" for n in range(100)]
        result = await d.call("ollama_embeddings", input=texts, wait_s=3, vectors="full")
        handle = d.handle(result)
        assert "32/100 texts" in d.text(result)
        assert result.structured_content["handle"] == handle
        assert result.structured_content["status"].startswith("STILL RUNNING")
        whole = await d.cont(handle)
        direct = await d.call("ollama_embeddings", input=texts, wait_s=0, vectors="full")
        assert whole.structured_content == direct.structured_content
        assert d.text(whole) == d.text(direct)

    at(work)


# --- the table of clients ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "hears", "name"),
    [
        *[
            ("auto", False, name)
            for name in (*[c.name for c in CLIENTS], "claude-ai - next 2", "x-claude-ai")
        ],
        *[
            ("legacy", True, name) for name in (CLIENTS[0].name, "x-claude-ai")
        ],  # a report a second takes long
    ],
)
def test_each_client_has_its_deadline(at, name, hears):
    async def hear(*_: object) -> None:
        pass

    async def work(d: Any) -> None:
        row = client_profile(name)
        assert (row is DEFAULT_PROFILE) == name.startswith("x-")
        d.fake.script(Script(tokens=["a"] * 20, delay=50))
        began = d.now()
        d.handle(await d.call(**({"hear": hear} if hears else {})))
        assert d.now() - began == pytest.approx(row.reported_s if hears else row.silent_s, abs=0.2)

    at(work, name)


PAGES = {
    "claude-ai": (100_000, None),
    "claude-code": (48_000, 48_000),
    "codex-mcp-client": (40_000, None),
    "opencode": (40_000, None),
    "copilot-cli": (None, 20_000),
    "github-copilot-developer": (None, 20_000),
    "gemini-cli-mcp-client": (39_000, None),
    "visual studio code": (100_000, None),
    "anything-else": (None, 20_000),
}
"""Characters and bytes of a result that each client shows its model."""


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        *[(name, "x") for name in PAGES],
        *[(name, "\u00e9") for name in ("claude-ai", "claude-code", "copilot-cli")],
    ],
)
def test_each_client_has_its_page_in_its_own_unit(at, name, letter):
    chars, size = PAGES[name]
    most = min(chars or 10**6, (size or 10**6) // len(letter.encode()))

    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=[letter * most]), Script(tokens=[letter * (most + 1)]))
        assert d.text(await d.call()) == letter * most
        first = d.text(await d.call())
        assert first.startswith("page 1 of 2. ")
        length = len(first.encode()) if size else len(first)
        assert (size or chars) - 250 < length <= (size or chars), "the head line counts"

    at(work, name)


def test_the_table_of_clients_is_this_one():
    assert {client.name for client in CLIENTS} | {"anything-else"} == set(PAGES)


@pytest.mark.parametrize(("set_to", "expected"), [("7", 7), ("0", None)])
def test_the_operators_deadline_is_before_the_clients_and_that_of_the_call_before_both(at, set_to, expected):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=["a"] * 100, delay=2))
        began = d.now()
        if expected is None:
            assert d.text(await d.call()) == "a" * 100
        else:
            d.handle(await d.call())
            assert d.now() - began == pytest.approx(expected, abs=0.2)
        began = d.now()
        d.handle(await d.call(wait_s=20))
        assert d.now() - began == pytest.approx(20, abs=0.2)
        assert d.text(await d.call(wait_s=0)) == "a" * 100

    at(work, "claude-ai", OLLAMA_MCP_SOFT_DEADLINE=set_to)


@pytest.mark.parametrize("wait", [-1, "soon"])
def test_a_wait_that_is_none_is_refused(at, wait):
    async def work(d: Any) -> None:
        assert d.text(await d.call(wait_s=wait)).startswith("INVALID_ARGUMENT: ")
        assert not d.fake.asked("/api/chat")

    at(work)


# --- the line ----------------------------------------------------------------------------------


@in_legacy_mode
def test_the_place_in_line_is_progress_and_part_of_what_goes_on(at, in_line):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        first = [asyncio.create_task(d.call(wait_s=0)) for _ in range(3)]
        await asyncio.sleep(1)
        heard: list[str] = []

        async def hear(_: float, __: float | None, message: str | None) -> None:
            heard.append(message)

        result = await d.call(wait_s=150, hear=hear)
        assert d.text(result).splitlines()[1] == in_line(2, "llama3.2:3b") + ", 150 s"
        assert result.meta[REPLY]["position"] == 2
        assert result.meta[REPLY]["state"] == "queued"
        assert any(message.startswith(in_line(3, "llama3.2:3b")) for message in heard)
        assert any(message.startswith(in_line(2, "llama3.2:3b")) for message in heard)
        assert d.text(await d.cont(d.handle(result), wait_s=0)) == "".join(WORDS)
        assert [d.text(await call) for call in first] == ["".join(WORDS)] * 3

    at(work, OLLAMA_MCP_PARALLEL="1")


def test_one_who_is_stopped_in_line_never_reaches_ollama(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        first = asyncio.create_task(d.call(wait_s=0))
        await asyncio.sleep(1)
        handle = await d.begun()
        await d.call("ollama_cancel", handle=handle)
        assert d.text(await first) == "".join(WORDS)
        await asyncio.sleep(60)
        assert len(d.fake.asked("/api/chat")) == 1

    at(work, OLLAMA_MCP_PARALLEL="1")


def test_one_too_many_is_busy_at_once_and_what_needs_no_turn_has_none(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        handles = [await d.begun() for _ in range(2)]
        began = d.now()
        result = await d.call()
        assert d.text(result).startswith("BUSY: 1 calls of llama3.2:3b run and 1 wait")
        error = result.meta["ollama-mcp/error"]
        assert error["estimated"] is True
        assert error["retryable"] is True
        assert error["retry_after_s"] >= 1
        for tool in ("ollama_list_models", "ollama_status"):
            assert not (await d.call(tool)).is_error
        await d.cont(handles[1], partial=True)
        await d.call("ollama_cancel", handle=handles[0])
        assert d.now() - began < 0.2

    at(work, OLLAMA_MCP_PARALLEL="1", OLLAMA_MCP_QUEUE="1")


def test_a_place_that_is_stuck_is_named_with_the_way_to_free_it(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=["warm"]), Script(tokens=["a"], delay_first=1000))
        await d.call(keep_alive="1h")
        result = await d.call(wait_s=0)
        assert d.text(result).startswith("TIMEOUT: ")
        assert "`ollama stop llama3.2:3b`" in d.text(result)
        d.fake.models["llama3.2:3b"].loaded = False
        d.fake.script(Script(tokens=["a"], load_delay=1000))
        result = await d.call(wait_s=0)
        assert d.text(result).startswith("TIMEOUT: ")
        assert "ollama stop" not in d.text(result)
        d.fake.script(Script(delay_first=1000), path="/api/ps")
        began = d.now()
        result = await d.call(wait_s=0, model="llama3.2:3b")
        assert d.text(result).startswith("TIMEOUT: ")
        assert d.now() - began == pytest.approx(301, abs=1)

    at(work)


@pytest.mark.long
def test_whatever_is_given_up_or_stopped_and_when_no_turn_is_lost(at):
    chance = random.Random(7)

    async def one(d: Any, number: int) -> None:
        await asyncio.sleep(chance.uniform(0, 60))
        result = await d.call(prompt=str(number), wait_s=chance.choice([0, 0.5, 3]))
        while d.text(result).startswith("STILL RUNNING"):
            handle = d.handle(result)
            await asyncio.sleep(chance.uniform(0, 5))
            if chance.random() < 0.3:
                await d.call("ollama_cancel", handle=handle)
                return
            result = await d.cont(handle, wait_s=chance.choice([0, 0.5, 3]))
        assert d.text(result).startswith(("BUSY: ", "word0"))

    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=0.3))
        tasks = [asyncio.create_task(one(d, number)) for number in range(150)]
        for task in chance.sample(tasks, 60):
            asyncio.get_running_loop().call_later(chance.uniform(0, 90), task.cancel)
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            assert found is None or isinstance(found, asyncio.CancelledError)
        await asyncio.sleep(16 * 60)  # what nobody has continued is stopped by then
        (line,) = d.app.model_queue.statistics()
        assert (line.running, line.waiting, d.app.jobs.in_flight) == (0, 0, 0)
        assert line.refused
        assert d.app.jobs.running("") == []
        assert await asyncio.gather(*(d.call(wait_s=0) for _ in range(3)))

    at(work, OLLAMA_MCP_PARALLEL="3", OLLAMA_MCP_QUEUE="10")
