"""Calls that outlive their client's clock, as each client of the table makes them."""

import math
import random
import re
import signal
import time
from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from mcp.client import Client as SDKClient
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import Implementation

from ollama_mcp.settings import load
from ollama_mcp.testing import Script
from ollama_mcp.tools.caller import CallProfile, call_profile
from ollama_mcp.tools.client_profiles import CLIENTS, DEFAULT_PROFILE, ClientProfile

FULL_NAMES = {
    "": "pipes",
    "gemini-cli-mcp-client": "gemini-cli-mcp-client-ollama",
    "visual studio code": "Visual Studio Code - Insiders",
}
"""How those write themselves whose row is a beginning only."""

every_client = pytest.mark.parametrize(
    "row", [*CLIENTS, DEFAULT_PROFILE], ids=lambda row: row.name or "unknown"
)
every_era = pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])


def name_of(row: ClientProfile) -> str:
    return FULL_NAMES.get(row.name, row.name)


def handle_in(text: str) -> str:
    """The handle, as the model that reads a result has to find it."""
    assert text.startswith("STILL RUNNING: this is not the answer yet. Call ollama_continue with handle="), (
        text
    )
    return re.search(r'handle="(\w{32})"', text)[1]


def continued(child: Any, handle: str, ids: Iterable[str], **arguments: Any) -> str:
    """Call ollama_continue until it is no longer STILL RUNNING; returns what came last."""
    for call_id in ids:
        child.call(call_id, "ollama_continue", prompt=None, handle=handle, progress=True, **arguments)
        text = child.text_of(call_id)
        if not text.startswith("STILL RUNNING"):
            return text
        assert handle_in(text) == handle
    raise AssertionError("it never ended")


def words(count: int) -> list[str]:
    """Tokens of every kind that a transport might spoil."""
    dice = random.Random(count)
    return [
        dice.choice(["word ", "größer ", "\n", "\r\n", "  ", "😀", "\t", '"\\', "\u2028", "漢字"])
        for _ in range(count)
    ]


@every_era
@every_client
def test_an_answer_that_outlives_the_call_is_fetched_whole(
    serve: Any, fake: Any, row: ClientProfile, version: str
):
    tokens = ["begin ", *words(80), " end"]
    fake.script(Script(tokens=tokens, delay=0.015), path="/api/chat")
    child = serve(version, name_of(row), OLLAMA_MCP_SOFT_DEADLINE="0.25")
    child.call("first", progress=True)
    handle = handle_in(child.text_of("first"))
    ids = [f"more {number}" for number in range(30)]
    assert continued(child, handle, ids, wait_s=0.3) == "".join(tokens)
    assert continued(child, handle, ["again"]) == "".join(tokens), "an answer that was fetched is still kept"
    assert child.progress_of("first")
    assert child.progress_of("more 0")
    assert len(fake.asked("/api/chat")) == 1
    assert child.finish() == 0
    assert not child.err.rest()


@every_era
@every_client
def test_a_long_answer_comes_in_pages_of_the_size_that_this_client_shows(
    serve: Any, fake: Any, row: ClientProfile, version: str
):
    line = "a line of a long answer, größer\n"
    room = row.page
    tokens = [line * 500] * (5 * room.fitting(line * 10_000) // 2 // len(line * 500) + 1)
    fake.script(Script(tokens=tokens, hold_after_tokens=3), path="/api/chat")
    child = serve(version, name_of(row), OLLAMA_MCP_SOFT_DEADLINE="0.1")
    child.call("first")
    handle = handle_in(child.text_of("first"))
    fake.release()
    pages: list[str] = []
    for number in (1, 2, 3):
        text = continued(child, handle, [f"page {number}"], wait_s=9, page=number)
        head, page = text.split("\n", 1)
        assert head.startswith(f"page {number} of 3."), head
        assert room.holds(text)
        assert page.endswith("\n"), "it was cut inside a line"
        pages.append(page)
    assert not room.holds(f"{head}\n{pages[0]}" + 10 * line), "the page is not that of this client"
    assert "".join(pages) == "".join(tokens)
    assert child.finish() == 0


@pytest.mark.gate
@every_era
def test_a_reply_that_is_cancelled_by_its_handle_closes_ollamas_socket(serve: Any, fake: Any, version: str):
    fake.script(Script(tokens=["one ", "two ", "three"], hold_after_tokens=2), path="/api/chat")
    child = serve(version, OLLAMA_MCP_SOFT_DEADLINE="0.1")
    child.call("first")
    handle = handle_in(child.text_of("first"))
    child.call("waits", "ollama_continue", prompt=None, handle=handle, wait_s=9, progress=True)
    child.out.wait_for(lambda message: "two" in message.get("params", {}).get("message", ""))
    assert not fake.disconnects
    child.call("stop", "ollama_cancel", prompt=None, handle=handle)
    assert child.text_of("stop").startswith("Stopped")
    fake.wait_for_sync(lambda fake: fake.disconnects == 1, timeout=1)
    child.call("so far", "ollama_continue", prompt=None, handle=handle, partial=True)
    head, text = child.text_of("so far").split("\n", 1)
    assert head.startswith("UNFINISHED")
    assert text == "one two "
    child.call("rest", "ollama_continue", prompt=None, handle=handle)
    for call_id in ("waits", "rest"):
        assert child.result_of(call_id)["isError"]
    assert child.finish() == 0


def test_cancelling_one_who_waits_stops_nothing(serve: Any, fake: Any):
    fake.script(Script(tokens=["one ", "two"], hold_after_tokens=1), path="/api/chat")
    child = serve(OLLAMA_MCP_SOFT_DEADLINE="0.1")
    child.call("first")
    handle = handle_in(child.text_of("first"))
    for call_id in ("cancelled", "kept"):
        child.call(call_id, "ollama_continue", prompt=None, handle=handle, wait_s=9)
    child.cancel("cancelled")
    child.call("behind", "ollama_status", prompt=None)  # the cancel has been heard when this is answered
    assert handle in child.text_of("behind")
    fake.release()
    assert child.text_of("kept") == "one two"
    assert not fake.disconnects


@pytest.mark.parametrize("how", ["EOF", "SIGTERM", "SIGINT"])
def test_the_process_ends_within_a_second_while_replies_run(serve: Any, fake: Any, figure: Any, how: str):
    fake.script(Script(tokens=["a "] * 10, hold_after_tokens=3), path="/api/chat")
    child = serve(OLLAMA_MCP_SOFT_DEADLINE="0.1", OLLAMA_MCP_PARALLEL="3")
    for call_id in range(5):  # two of them in line
        child.call(call_id)
    handles = {handle_in(child.text_of(call_id)) for call_id in range(5)}
    assert len(handles) == 5
    fake.wait_for_sync(lambda fake: len(fake.asked("/api/chat")) == 3)
    child.call("waits", "ollama_continue", prompt=None, handle=handles.pop(), wait_s=0)
    begin = time.monotonic()
    if how == "EOF":
        child.close_stdin()
    else:
        child.process.send_signal(signal.Signals[how])
    assert child.wait() == 0
    took = time.monotonic() - begin
    print(f"\n{how}: ended after {took * 1000:.0f} ms")
    assert took < figure(1)
    fake.wait_for_sync(lambda fake: fake.disconnects == 3 and not fake.open_connections)
    assert not child.err.rest()


# --- the table's own numbers -------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@every_client
async def test_a_client_gets_the_clock_of_its_row(row: ClientProfile, mode: str):
    host = MCPServer("clock", log_level="WARNING")
    found: list[float] = []

    @host.tool()
    async def clock(ctx: Context) -> str:
        """Say how long a call may take."""
        found.append(call_profile(ctx).deadline(load({}), None))
        return ""

    async def hear(*_: object) -> None:
        return

    with anyio.fail_after(10):
        async with SDKClient(
            host, mode=mode, client_info=Implementation(name=name_of(row), version="1")
        ) as client:
            await client.call_tool("clock", {})
            await client.call_tool("clock", {}, progress_callback=hear)
    # In the same process the modern client calls the server directly, and sends no progressToken.
    assert found == [row.silent_s, row.reported_s if mode == "legacy" else row.silent_s]


@pytest.mark.parametrize("setting", ["7", "0"])
@every_client
def test_what_the_operator_sets_goes_before_the_table_and_wait_s_before_both(
    row: ClientProfile, setting: str
):
    settings = load({"OLLAMA_MCP_SOFT_DEADLINE": setting})
    for wants_progress in (False, True):
        caller = CallProfile(row, wants_progress)
        assert caller.deadline(settings, None) == (float(setting) or math.inf)
        assert caller.deadline(settings, 3) == 3
        assert caller.deadline(settings, 0) == math.inf
