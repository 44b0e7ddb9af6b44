"""What goes on, told at once, whatever the server does."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp_types import CallToolResult

from ollama_mcp import App, create_server
from ollama_mcp.errors import Busy
from ollama_mcp.services.server_status import PATIENCE_S
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools import caller

pytestmark = pytest.mark.anyio
_PATIENCE_S = 300
"""Virtual time counts, too."""


@asynccontextmanager
async def desk(mode: str, **environment: str) -> AsyncIterator[tuple[FakeOllama, App, Client]]:
    with anyio.fail_after(_PATIENCE_S):
        async with FakeOllama() as fake:
            app = App.create(load({"OLLAMA_HOST": fake.url, **environment}))
            async with Client(create_server(app), mode=mode) as client:
                await client.list_tools()
                yield fake, app, client


async def ask(client: Client) -> tuple[str, dict[str, Any]]:
    result: CallToolResult = await client.call_tool("ollama_status", {})
    assert not result.is_error, result.content
    (block,) = result.content
    return block.text, result.structured_content


# --- the server --------------------------------------------------------------------------------


async def test_a_server_where_nothing_goes_on(mode):
    async with desk(mode) as (_, __, client):
        text, data = await ask(client)
    assert text == "Ollama 0.33.0 answers. No model is loaded."
    assert data == {
        "reachable": True, "version": "0.33.0", "trouble": "", "loaded": [], "queue": [], "running": [],
        "tokens_per_s": {},
    }  # fmt: skip


async def test_loaded_models_with_their_share_window_and_expiry(mode):
    async with desk(mode) as (fake, _, client):
        models = [
            {"name": "big:1b", "model": "big:1b", "size": 4_000_000_000, "size_vram": 1_000_000_000,
             "context_length": 8192, "expires_at": "2999-01-01T00:00:00Z"},
            {"name": "old:1b", "model": "old:1b", "size": 2_000_000, "size_vram": 9_000_000,
             "expires_at": "2001-01-01T00:00:00.123456789+01:00"},
            {"name": "odd:1b", "model": "odd:1b", "size": 0, "expires_at": "soon"},
        ]  # fmt: skip
        fake.script(Script(body={"models": models}), path="/api/ps")
        text, data = await ask(client)
    shown = ("name", "gpu_percent", "window", "expires_s")
    assert [tuple(map(model.get, shown)) for model in data["loaded"]] == [
        ("big:1b", 25, 8192, None), ("old:1b", 100, None, 0), ("odd:1b", None, None, None)
    ]  # fmt: skip
    assert text.splitlines() == [
        "Ollama 0.33.0 answers.",
        "",
        "loaded  size    on GPU  window  expires in",
        "big:1b  4.0 GB  25 %    8192    -",
        "old:1b  2 MB    100 %   -       0 s",
        "odd:1b  -       -       -       -",
    ]


async def test_a_model_that_was_used_is_loaded_and_expires(mode):
    async with desk(mode) as (_, __, client):
        await client.call_tool("ollama_chat", {"prompt": "x"})
        text, data = await ask(client)
    (loaded,) = data["loaded"]
    assert (loaded["name"], loaded["window"]) == ("llama3.2:3b", 4096)
    assert 290 <= loaded["expires_s"] <= 300
    (line,) = data["queue"]
    assert (line["model"], line["running"], line["waiting"]) == ("llama3.2:3b", 0, 0)
    assert line["mean_s"] >= 0
    assert data["tokens_per_s"].keys() == {"llama3.2:3b"}
    assert "No model" not in text


async def test_a_server_that_is_down(mode):
    async with desk(mode) as (fake, _, client):
        await fake.stop()
        text, data = await ask(client)
    assert not data["reachable"]
    assert data["trouble"].startswith("UNREACHABLE: ")
    assert text.startswith("Ollama does not answer: UNREACHABLE: ")
    assert "Start it with `ollama serve`" in text


async def test_a_setting_that_is_unknown_is_told(mode):
    async with desk(mode, OLLAMA_MCP_CHATMODEL="x") as (_, _, client):
        text, _ = await ask(client)
    assert text.endswith("Unknown setting OLLAMA_MCP_CHATMODEL. Did you mean OLLAMA_MCP_CHAT_MODEL?")


async def test_a_server_that_went_down_is_told_with_what_it_said_last(mode):
    async with desk(mode) as (fake, _, client):
        await client.call_tool("ollama_chat", {"prompt": "x"})
        await ask(client)
        await fake.stop()
        text, data = await ask(client)
    assert text.startswith("Ollama 0.33.0 does not answer: ")
    assert "it answered 0 s ago, and this is of then" in text
    assert [model["name"] for model in data["loaded"]] == ["llama3.2:3b"]
    assert (data["reachable"], data["version"]) == (False, "0.33.0")


async def test_another_service_is_not_ollama(mode):
    async with desk(mode) as (fake, _, client):
        fake.script(Script(body="<html>", headers={"content-type": "text/html"}))
        _, data = await ask(client)
    assert data["trouble"].startswith("NOT_OLLAMA: ")


@pytest.mark.parametrize("path", ["/api/version", "/api/ps"])
@pytest.mark.long
async def test_a_server_that_hangs_does_not_hold_the_status_up(mode, path):
    async with desk(mode) as (fake, _, client):
        fake.script(Script(delay_first=30), path=path)
        took = []
        for _ in range(10):
            begun = time.monotonic()
            text, data = await ask(client)
            took.append(time.monotonic() - begun)
            assert data["trouble"] == f"no answer within {PATIENCE_S:g} s"
            assert text == f"Ollama does not answer: no answer within {PATIENCE_S:g} s."
        assert sorted(took)[len(took) // 2] <= 0.25
        assert len(fake.asked(path)) == 1  # one look at a time


async def test_a_slow_server_is_told_with_the_next_status(mode):
    async with desk(mode) as (fake, _, client):
        rule = fake.script(Script(delay_first=0.25), path="/api/version", times=1)
        assert not (await ask(client))[1]["reachable"]
        while not (await ask(client))[1]["reachable"]:
            pass
        assert rule.used == 1


async def test_all_who_ask_at_once_are_told_the_same_by_one_look(mode):
    async with desk(mode) as (fake, _, client):
        fake.script(Script(delay_first=0.02), path="/api/ps")
        told = await asyncio.gather(*(ask(client) for _ in range(20)))
        assert {data["trouble"] for _, data in told} == {""}
        assert len(fake.asked("/api/ps")) < 20


async def test_closing_the_connections_is_no_failure(mode):
    async with desk(mode) as (fake, app, client):
        fake.script(Script(delay_first=30), path="/api/version", times=1)
        asked = asyncio.create_task(ask(client))
        await fake.wait_for(lambda fake: fake.asked("/api/version"))
        await app.aclose()
        assert (await asked)[1]["trouble"] == "the connections were closed"
        assert (await ask(client))[1]["reachable"]


def test_a_look_that_hangs_is_given_up_and_another_one_follows(virtually, mode):
    async def run() -> None:
        async with desk(mode) as (fake, _, client):
            rule = fake.script(Script(delay_first=1000), path="/api/version")
            begun = asyncio.get_running_loop().time()
            for _ in range(3):
                await ask(client)
                assert asyncio.get_running_loop().time() - begun <= 0.25
                await asyncio.sleep(6)
                begun = asyncio.get_running_loop().time()
            assert rule.used == 3

    virtually(run)


# --- what goes on here -------------------------------------------------------------------------


def test_the_line_the_replies_and_the_speeds(virtually, mode, in_line):
    async def run() -> None:
        async with desk(mode, OLLAMA_MCP_PARALLEL="1") as (fake, app, client):
            fake.script(Script(tokens=["a "] * 9, delay=1))
            await client.call_tool("ollama_chat", {"prompt": "x", "wait_s": 0})
            for _ in range(2):
                await client.call_tool("ollama_chat", {"prompt": "x", "wait_s": 1.5})
            text, data = await ask(client)
            (line,) = data["queue"]
            assert (line["model"], line["running"], line["waiting"]) == ("llama3.2:3b", 1, 1)
            assert line["mean_s"] >= 0
            states = ["4 tok · 1 tok/s · writing", f"{in_line(1, 'llama3.2:3b')}, 1 s"]
            assert [job["state"] for job in data["running"]] == states
            for job in data["running"]:
                assert job["handle"] in text
                assert await client.call_tool("ollama_continue", {"handle": job["handle"], "wait_s": 0})
            _, data = await ask(client)
            assert data["running"] == []
            assert [speed.model for speed in app.jobs.recent] == ["llama3.2:3b"] * 3
            told = data["tokens_per_s"]["llama3.2:3b"]
            assert told == pytest.approx(app.jobs.recent[-1].tokens_per_s, abs=0.1)
            assert "a a" not in text

    virtually(run)


async def test_transfers_that_run_and_wait_are_told_as_such_and_not_as_a_model():
    with anyio.fail_after(10):
        async with desk("auto", OLLAMA_MCP_PARALLEL="1", OLLAMA_MCP_QUEUE="1") as (fake, app, client):
            fake.script(Script(lines=[b'{"status":"success"}'], hold_after_tokens=0), path="/api/pull")
            pulls = [app.jobs.start(partial(app.transfers.pull, name)) for name in ("transfers", "b")]
            while not (app.model_queue.statistics() and app.model_queue.statistics()[0].waiting):
                await anyio.lowlevel.checkpoint()
            text, data = await ask(client)
            assert data["queue"] == []
            assert data["transfers"] == {"running": 1, "waiting": 1}
            assert text.splitlines()[-1] == "Pulls, pushes and creations: 1 running, 1 waiting."
            with pytest.raises(Busy) as told:
                await app.jobs.start(partial(app.transfers.pull, "c")).wait()
            assert told.value.cause == "1 transfers run and 1 wait, which is the most"
            assert "another model" not in told.value.remedy
            async with app.model_queue.admit("transfers"):
                assert (await ask(client))[1]["queue"][0]["model"] == "transfers"
            fake.release()
            for pull in pulls:
                await pull.wait()


def test_nobody_sees_the_replies_of_another(virtually, monkeypatch):
    async def run() -> None:
        async with desk("auto") as (fake, app, client):
            fake.script(Script(tokens=["a "] * 9, delay=10))
            await client.call_tool("ollama_chat", {"prompt": "x", "wait_s": 1})
            assert len((await ask(client))[1]["running"]) == 1
            handle = app.jobs.running("")[0].handle
            monkeypatch.setattr(caller, "get_access_token", lambda: "a token")
            monkeypatch.setattr(caller, "principal_components", lambda token: ["somebody else", token])
            _, data = await ask(client)
            assert data["running"] == []
            for tool in ("ollama_continue", "ollama_cancel"):
                result = await client.call_tool(tool, {"handle": handle})
                assert result.content[0].text.startswith("UNKNOWN_HANDLE: ")
            assert data["queue"][0]["running"] == 1
            seen = await app.status_probe.status(caller.caller_id())
            assert (seen.in_flight, seen.running) == (1, [])
            with pytest.raises(dataclasses.FrozenInstanceError):
                seen.in_flight = 0

    virtually(run)


@pytest.mark.long
async def test_the_status_needs_no_turn_and_many_calls_do_not_hold_it_up(mode):
    async with desk(mode, OLLAMA_MCP_QUEUE="1000") as (fake, app, client):
        fake.script(Script(delay_first=30), path="/api/chat")
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(client.call_tool, "ollama_chat", {"prompt": "x"})
            await fake.wait_for(lambda fake: len(fake.asked("/api/chat")) == 4)
            while (await ask(client))[1]["queue"][0]["waiting"] < 196:
                pass
            begun = time.monotonic()
            _, data = await ask(client)
            assert time.monotonic() - begun <= 0.25
            assert data["queue"][0]["running"] == 4
            assert app.jobs.in_flight == 200
            group.cancel_scope.cancel()
