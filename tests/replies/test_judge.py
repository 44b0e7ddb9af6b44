"""Schemas that keep the interpreter busy are ended, and everybody else's calls go on meanwhile."""

import asyncio
import io
import json
import sys
import time
from typing import Any

import anyio
import pytest

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.replies import judge as rooms
from ollama_mcp.replies.judge import is_tame, judge
from ollama_mcp.testing import Script

ENDLESS = {"type": "string", "pattern": "^(a+)+$"}
ANSWER = '"' + "a" * 40 + '!"'

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "a"},
        {"properties": {"a": {"items": [{"patternProperties": {"a": {}}}]}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"description": "x" * 70_000},
    ],
)
async def test_what_could_take_long_is_not_judged_on_the_event_loop(schema):
    assert not is_tame(schema)


@pytest.mark.parametrize(("text", "found"), [('"aa"', []), ('"b"', ["$: 'b' does not match '^a+$'"])])
async def test_the_child_says_what_we_would_say(text: str, found: list[str]):
    schema = {"type": "string", "pattern": "^a+$"}
    with anyio.fail_after(10):
        assert await judge(text, schema) == found == rooms.violations(text, schema)


@pytest.mark.long
async def test_a_pattern_that_never_ends_is_ended_while_others_are_served(bench, monkeypatch):
    monkeypatch.setattr(rooms, "_LIMIT_S", 1.0)
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=[ANSWER]), Script(tokens=["served"]), path="/api/chat")
            reply = b.begin(prompt="x", schema=ENDLESS)
            await b.fake.wait_for(lambda fake: fake.answered >= 1 and not fake.in_flight)
            started = time.monotonic()
            assert await b.chat() == "served"
            assert time.monotonic() - started < 0.9, "the endless schema held the loop"
            with pytest.raises(InvalidArgument) as told:
                await reply.result()
    assert told.value.cause == "the answer could not be checked against the schema in 1 s"
    assert told.value.remedy == "Simplify its patterns and references."


@pytest.mark.long
async def test_cancelling_ends_the_child(bench):
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=[ANSWER]), path="/api/chat")
            reply = b.begin(prompt="x", schema=ENDLESS)
            await b.fake.wait_for(lambda fake: fake.asked("/api/chat") and not fake.in_flight)
            started = time.monotonic()
            await reply.cancel()
            assert time.monotonic() - started < 1


async def test_whoever_gives_up_leaves_no_child_behind(monkeypatch):
    begun: list[asyncio.subprocess.Process] = []
    begin = asyncio.create_subprocess_exec

    async def watched(*arguments: Any, **settings: Any) -> asyncio.subprocess.Process:
        begun.append(await begin(*arguments, **settings))
        return begun[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(judge, ANSWER, ENDLESS)
            while not begun:
                await anyio.sleep(0.001)
            await anyio.sleep(0)
            group.cancel_scope.cancel()
    assert begun[0].returncode == -9


@pytest.mark.parametrize(("text", "found"), [('"aa"', []), ('"b"', ["$: 'b' does not match '^a+$'"])])
def test_a_question_to_the_child_is_answered_on_its_standard_output(monkeypatch, capsys, text, found):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([text, {"pattern": "^a+$"}])))
    rooms._main()
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(("size", "is_ours"), [(64 * 1024, True), (64 * 1024 + 1, False)])
async def test_what_is_large_is_judged_by_a_child(monkeypatch, size, is_ours):
    asked: list[str] = []
    monkeypatch.setattr(rooms, "violations", lambda text, _: asked.append(text) or ["ours"])
    with anyio.fail_after(10):
        found = await judge('"' + "x" * (size - 2) + '"', {"type": "string"})
    assert (found, len(asked)) == ((["ours"], 1) if is_ours else ([], 0))


def test_a_schema_is_tame_up_to_its_size():
    schema = {"description": ""}
    rest = 64 * 1024 - len(json.dumps(schema))
    assert is_tame({"description": "x" * rest})
    assert not is_tame({"description": "x" * (rest + 1)})
