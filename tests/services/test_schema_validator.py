"""Schemas that keep the interpreter busy are ended, and everybody else's calls go on meanwhile."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import anyio
import pytest

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.services.schema import SchemaValidator, is_plain, violations
from ollama_mcp.testing import Script

ENDLESS = {"type": "string", "pattern": "^(a+)+$"}
WITH_PATTERN = {"type": "string", "pattern": "^a+$"}
"""Small, but with a pattern: judged by the child."""
LARGE = {"allOf": [{"type": "object"}] * 2900}
ANSWER = '"' + "a" * 40 + '!"'

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.fixture
async def schema_validator() -> AsyncIterator[SchemaValidator]:
    made = SchemaValidator()
    with anyio.fail_after(60):
        yield made
        await made.aclose()


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "a"},
        {"properties": {"a": {"items": [{"patternProperties": {"a": {}}}]}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"description": "x" * 600},
        {"uniqueItems": True},
        {"items": {"anyOf": [{"type": "string"}]}},
        {"properties": {"a": {"not": {}}}},
    ],
)
async def test_what_could_take_long_is_not_judged_on_the_event_loop(schema):
    assert not is_plain(schema)


async def test_the_child_says_what_we_would_say_and_is_asked_again_and_again(schema_validator, monkeypatch):
    begun: list[object] = []
    begin = asyncio.create_subprocess_exec

    async def counted(*arguments: str, **pipes: int) -> asyncio.subprocess.Process:
        begun.append(arguments)
        return await begin(*arguments, **pipes)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    await schema_validator.check(WITH_PATTERN)
    for text in ('"aa"', '"b"', "no JSON", '"ü"', json.dumps("x" * 100_000)):
        assert await schema_validator.violations(text, WITH_PATTERN) == violations(text, WITH_PATTERN)
    with pytest.raises(InvalidArgument, match="schema is not a JSON Schema at"):
        await schema_validator.check(LARGE | {"type": "strin"})
    assert len(begun) == 1


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows counts no CPU time: there the parent's limit holds"
)
@pytest.mark.parametrize(("work", "is_ended"), [("time.sleep(0.3)", False), ("\nwhile True: pass", True)])
def test_the_limit_counts_the_work_and_not_the_time_that_others_have_the_processor(work, is_ended):
    code = f"import time; from ollama_mcp.services import schema; schema._limit_cpu(0.1); {work}"
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert ended.returncode == (-signal.SIGPROF if is_ended else 0)


async def test_several_who_ask_at_once_each_get_their_own_answer(schema_validator):
    texts = ['"a"', '"b"', '"c"', "[]"] * 3
    found: dict[int, list[str]] = {}

    async def ask(place: int) -> None:
        found[place] = await schema_validator.violations(texts[place], WITH_PATTERN)

    async with anyio.create_task_group() as group:
        for place in range(len(texts)):
            group.start_soon(ask, place)
    assert [found[place] for place in range(len(texts))] == [violations(text, WITH_PATTERN) for text in texts]


async def test_who_gives_up_ends_the_child_and_the_next_one_gets_another(schema_validator):
    assert await schema_validator.violations('"a"', WITH_PATTERN) == []
    with anyio.move_on_after(0.2):
        await schema_validator.violations(ANSWER, ENDLESS)
    assert await schema_validator.violations('"a"', WITH_PATTERN) == []


@pytest.mark.long
async def test_a_pattern_that_never_ends_is_ended_while_others_are_served(bench, figure):
    with anyio.fail_after(60):
        async with bench() as b:
            b.fake.script(Script(tokens=[ANSWER]), Script(tokens=["served"]), path="/api/chat")
            job = b.begin(prompt="x", schema=ENDLESS)
            await b.fake.wait_for(lambda fake: fake.answered >= 1 and not fake.in_flight)
            started = time.monotonic()
            assert await b.chat() == "served"
            assert time.monotonic() - started < figure(0.9), "the endless schema held the loop"
            with pytest.raises(InvalidArgument) as told:
                await job.result()
    assert told.value.cause == "the schema could not be checked in 5 s"


@pytest.mark.long
async def test_cancelling_ends_the_child(bench, figure):
    with anyio.fail_after(60):
        async with bench() as b:
            b.fake.script(Script(tokens=[ANSWER]), path="/api/chat")
            job = b.begin(prompt="x", schema=ENDLESS)
            await b.fake.wait_for(lambda fake: fake.asked("/api/chat") and not fake.in_flight)
            started = time.monotonic()
            await job.cancel()
            assert time.monotonic() - started < figure(1)


@pytest.mark.long
async def test_several_of_one_endless_schema_hold_others_up_once(schema_validator, figure):
    async def hopeless() -> None:
        with pytest.raises(InvalidArgument):
            await schema_validator.violations(ANSWER, ENDLESS)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(hopeless)
        await anyio.sleep(0.1)
        started = time.monotonic()
        assert await schema_validator.violations('"a"', WITH_PATTERN) == []
    assert time.monotonic() - started < figure(8)


async def test_a_child_that_died_between_two_questions_is_replaced(schema_validator):
    assert await schema_validator.violations('"a"', WITH_PATTERN) == []
    child = schema_validator._children.here()._process
    child.kill()
    await child.wait()
    assert await schema_validator.violations('"b"', WITH_PATTERN) != []


@pytest.mark.long
async def test_a_child_that_nobody_asks_for_a_while_answers_on(schema_validator):
    assert await schema_validator.violations('"a"', WITH_PATTERN) == []
    child = schema_validator._children.here()._process
    await anyio.sleep(12)
    assert await schema_validator.violations('"a"', WITH_PATTERN) == []
    assert schema_validator._children.here()._process is child
