"""Calls that outlive their client's clock, as the SDK's client sees them, in both of its modes.

Time is virtual here: seconds pass as they are written, over real sockets to the fake.
"""

import asyncio
import json
import random
from typing import Any

import pytest
from mcp_types import CallToolResult

from ollama_mcp.jobs.store import Retention
from ollama_mcp.testing import Script

REPLY = "ollama-mcp/reply"
in_legacy_mode = pytest.mark.parametrize("mode", ["legacy"])
"""The SDK's client in memory has progress in this mode only."""
WORDS = [f"word{n} " for n in range(10)]


# --- STILL RUNNING -----------------------------------------------------------------------------


def test_a_call_that_goes_on_returns_a_handle_and_no_text_of_the_answer(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        began = d.now()
        result = await d.call(wait_s=3.5)
        assert d.now() - began == pytest.approx(3.5, abs=0.1)
        handle = d.handle(result)
        assert d.text(result).splitlines()[1] == "4 tok · 1 tok/s · writing"
        assert "word" not in json.dumps(result.model_dump(mode="json"))
        assert result.meta[REPLY] == {
            "handle": handle, "state": "writing", "model": "llama3.2:3b", "tok": 4, "position": None,
        }  # fmt: skip
        answer = await d.cont(handle)
        assert d.text(answer) == "".join(WORDS)
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
    async def work(d: Any) -> None:
        d.fake.models["llama3.2:3b"].loaded = not script.load_delay
        d.fake.script(script)
        result = await d.call(wait_s=2.5)
        assert d.text(result).splitlines()[1].startswith(state)
        assert d.text(await d.cont(d.handle(result))) == "a"

    at(work)


def test_a_call_that_ends_in_time_is_as_ever(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        result = await d.call(wait_s=60)
        assert d.text(result) == "".join(WORDS)
        assert REPLY not in result.meta
        assert d.app.jobs.running("") == []

    at(work)


@in_legacy_mode
def test_waiting_again_has_its_own_deadline_and_progress(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=10))
        handle = await d.begun()
        heard: list[str] = []

        async def hear(_: float, __: float | None, message: str | None) -> None:
            heard.append(message)

        for _ in range(3):
            assert d.handle(await d.cont(handle, wait_s=20, hear=hear)) == handle
        assert any(" tok" in message for message in heard)
        assert d.text(await d.cont(handle, wait_s=0)) == "".join(WORDS)
        assert d.text(await d.cont(handle)) == "".join(WORDS)

    at(work)


@pytest.mark.long
def test_whatever_the_deadlines_and_the_timings_the_answer_is_whole(at):
    chance = random.Random(5)
    alphabet = ["a", " ", "\r\n", "\N{COMBINING ACUTE ACCENT}", "\N{GRINNING FACE}", "\N{LLAMA}", "\t"]

    async def one(d: Any) -> int:
        tokens = ["".join(chance.choices(alphabet, k=4)) for _ in range(chance.randint(1, 8))]
        tokens.append("x")  # blanks alone would be no answer
        delay, first = chance.choice([0, 0.1, 1, 7]), chance.choice([0, 0.5, 20])
        d.fake.script(Script(tokens=tokens, delay=delay, delay_first=first))
        result, rounds = await d.call(wait_s=chance.uniform(0.01, 12)), 0
        while d.text(result).startswith("STILL RUNNING"):
            handle, rounds = d.handle(result), rounds + 1
            await asyncio.sleep(chance.choice([0, 0, 3, 60]))
            result = await d.cont(handle, wait_s=chance.uniform(0.01, 12))
        assert d.text(result) == "".join(tokens)
        return rounds

    async def work(d: Any) -> None:
        rounds = [await one(d) for _ in range(500)]  # in each of the two modes
        assert 100 < sum(map(bool, rounds)) < 490
        assert d.fake.disconnects == d.app.jobs.in_flight == 0

    at(work)


# --- unfinished text ---------------------------------------------------------------------------


def test_unfinished_text_says_that_it_is_unfinished(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        began = d.now()
        result = await d.cont(handle, partial=True)
        assert d.now() == began
        first, text = d.text(result).split("\n", 1)
        assert first.startswith("UNFINISHED: the text below is not the whole answer, which goes on (2 tok")
        assert text == "word0 word1 "
        assert d.text(await d.cont(handle)) == "".join(WORDS)
        assert d.text(await d.cont(handle, partial=True)) == "".join(WORDS)

    at(work)


def test_nothing_yet_is_said_so(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay_first=30))
        handle = await d.begun()
        assert d.text(await d.cont(handle, partial=True)).endswith("\n(nothing yet)")

    at(work)


def test_a_failure_with_text_offers_it_by_handle(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset"))
        result = await d.call()
        assert result.is_error
        error = result.meta["ollama-mcp/error"]
        assert error["partial_text"] == "word0 word1 word2 "
        assert f'ollama_continue with handle="{error["handle"]}" and partial=true' in d.text(result)
        assert "word" not in d.text(result)
        first, text = d.text(await d.cont(error["handle"], partial=True)).split("\n", 1)
        assert "there will be no more of it: STREAM_BROKEN" in first
        assert text == "word0 word1 word2 "
        again = await d.cont(error["handle"])
        assert d.text(again) == d.text(result)

    at(work)


def test_a_failure_after_the_deadline_is_told_to_who_continues(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset"))
        handle = await d.begun()
        result = await d.cont(handle)
        assert result.meta["ollama-mcp/error"]["handle"] == handle
        assert d.text(result).startswith("STREAM_BROKEN: ")

    at(work)


def test_a_failure_without_text_has_no_handle(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(status=500, body={"error": "it broke"}), path="/api/chat")
        result = await d.call()
        assert not result.meta["ollama-mcp/error"]["handle"]
        assert "handle" not in d.text(result)

    at(work)


# --- stopping ----------------------------------------------------------------------------------


def test_an_answer_can_be_stopped_and_its_text_is_kept(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        result = await d.call("ollama_cancel", handle=handle)
        assert not result.is_error
        assert "word" not in d.text(result)
        await d.closed()
        assert d.app.jobs.in_flight == 0
        assert d.text(await d.cont(handle, partial=True)).endswith("\nword0 word1 ")
        again = await d.cont(handle)
        assert again.is_error
        assert "stopped, as its caller wished" in d.text(again)
        assert d.text(await d.call("ollama_cancel", handle=handle)) == d.text(result)

    at(work)


def test_what_has_ended_cannot_be_stopped_and_says_how_it_ended(at):
    async def work(d: Any) -> None:
        d.fake.script(
            Script(tokens=WORDS, delay=1), Script(tokens=WORDS, delay=1, cut_after_tokens=3, how="reset")
        )
        done, broken = await d.begun(), await d.begun()
        await asyncio.sleep(20)
        assert "still has the whole answer" in d.text(await d.call("ollama_cancel", handle=done))
        assert d.text(await d.cont(done)) == "".join(WORDS)
        told = d.text(await d.call("ollama_cancel", handle=broken))
        assert "lost" in told or "broken" in told
        assert "ollama_cancel" not in told

    at(work)


@pytest.mark.parametrize("tool", ["ollama_continue", "ollama_cancel"])
def test_a_handle_that_is_none_is_unknown(at, tool):
    async def work(d: Any) -> None:
        for handle in ("", "x", "0" * 32):
            result = await d.call(tool, handle=handle)
            assert d.text(result).startswith("UNKNOWN_HANDLE: ")

    at(work)


async def given_up(d: Any, after: float, call: Any) -> asyncio.Task[CallToolResult]:
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

    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        called = d.call(wait_s=1.5, **({"hear": hear} if hears else {}))
        await given_up(d, after, called)
        running = d.app.jobs.running("")
        assert len(running) + d.fake.disconnects == 1
        assert d.app.jobs.in_flight == len(running)
        if after < 1.4:
            assert d.fake.disconnects
        if after > 1.6:
            assert d.text(await d.cont(running[0].handle)) == "".join(WORDS)

    at(work)


def test_giving_up_a_wait_stops_nothing(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        await given_up(d, 2.0, d.cont(handle))
        others = [asyncio.create_task(d.cont(handle)) for _ in range(3)]
        await given_up(d, 1.0, d.cont(handle))
        assert [d.text(await other) for other in others] == ["".join(WORDS)] * 3
        assert d.fake.disconnects == 0

    at(work)


def test_what_nobody_continues_is_stopped_in_the_end(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS * 400, delay=1))
        handle = await d.begun()
        await asyncio.sleep(16 * 60)
        await d.closed()
        result = await d.cont(handle)
        assert d.text(result).startswith("TIMEOUT: the answer was stopped, since nobody had asked for it")
        assert "partial=true" in d.text(result)

    at(work)


def test_the_end_of_the_server_stops_what_goes_on(virtually, desk):
    async def run() -> None:
        async with desk() as d:
            d.fake.script(Script(tokens=WORDS * 400, delay=1))
            await d.begun()
            await d.client.__aexit__(None, None, None)
            await d.closed()

    virtually(run)


def test_where_no_handle_is_left_the_call_waits_for_the_whole_answer(at):
    async def work(d: Any) -> None:
        d.app.jobs._held.here().kept._retention = Retention(most=8)
        d.fake.script(Script(tokens=WORDS, delay=50))
        handles = [await d.begun() for _ in range(8)]
        assert d.text(await d.call(wait_s=1.5)) == "".join(WORDS)
        assert [d.text(await d.cont(handle)) for handle in handles] == ["".join(WORDS)] * 8

    at(work, OLLAMA_MCP_PARALLEL="100")
