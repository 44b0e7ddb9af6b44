"""Schemas that keep the interpreter busy are ended, and everybody else's calls go on meanwhile."""

import time

import anyio
import pytest

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.replies import judge as rooms
from ollama_mcp.replies.judge import is_tame, judge
from ollama_mcp.testing import Script

ENDLESS = {"type": "string", "pattern": "^(a+)+$"}
ANSWER = '"' + "a" * 40 + '!"'

pytestmark = pytest.mark.anyio


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
            with pytest.raises(InvalidArgument, match="could not be checked"):
                await reply.result()


async def test_cancelling_ends_the_child(bench):
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=[ANSWER]), path="/api/chat")
            reply = b.begin(prompt="x", schema=ENDLESS)
            await b.fake.wait_for(lambda fake: fake.asked("/api/chat") and not fake.in_flight)
            started = time.monotonic()
            await reply.cancel()
            assert time.monotonic() - started < 1
