"""An answer's numbers are what Ollama said, and nothing where it said nothing; failures say what to do."""

import json
from typing import Any

import anyio
import pytest

from ollama_mcp.errors import Truncated, Upstream
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

CITY = {"type": "object", "required": ["city"]}


def ending(**numbers: Any) -> Script:
    """An answer of one word whose last line says these numbers."""
    lines = [{"message": {"content": "word"}}, {"message": {"content": ""}, "done": True, **numbers}]
    return Script(lines=[json.dumps(line).encode() for line in lines])


async def numbers_of(bench, **numbers: Any) -> dict[str, Any]:
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            b.fake.models["m:latest"].load(4096)
            b.fake.script(ending(**numbers), path="/api/chat")
            return (await b.chat(model="m")).stats.as_data()


@pytest.mark.real_time  # an answer in no time has no speed
async def test_the_numbers_are_those_of_the_last_line(bench):
    found = await numbers_of(
        bench, done_reason="length", prompt_eval_count=7, eval_count=10, eval_duration=3 * 10**9,
        load_duration=1_234_567_890,
    )  # fmt: skip
    assert 0 <= found.pop("first_token_s") <= found.pop("total_s") < 5
    assert found == {
        "model": "m",
        "done_reason": "length",
        "prompt_tokens": 7,
        "output_tokens": 10,
        "tokens_per_s": 3.333,
        "load_s": 1.235,
        "context_used": 17,
        "context_window": 4096,
        "chunks": 2,
        "thinking_chars": 0,
    }


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({}, {}),
        ({"prompt_eval_count": 0, "eval_count": 0, "eval_duration": 10**9, "load_duration": 0}, {}),
        ({"prompt_eval_count": 1}, {"prompt_tokens": 1, "context_used": 1}),
        ({"eval_count": 1}, {"output_tokens": 1, "context_used": 1}),
        ({"load_duration": 1_000_000}, {"load_s": 0.001}),
    ],
)
async def test_what_ollama_does_not_say_is_not_known(bench, said, known):
    found = await numbers_of(bench, **said)
    names = ("prompt_tokens", "output_tokens", "tokens_per_s", "load_s", "context_used")
    assert {name: found[name] for name in names if name in found} == known
    assert found["done_reason"] == "stop"


async def test_the_thinking_is_counted_in_characters(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=["a"], thinking=["ü" * 5, "x"]))
            answer = await b.chat()
    assert answer.stats.thinking_chars == len(answer.thinking) == 6


@pytest.mark.parametrize("keep_alive", [0, "0s", "0m", "0h"])
async def test_the_window_of_a_model_that_leaves_at_once_is_known(bench, keep_alive):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path="/api/chat")
            job = b.begin(prompt="hi", model="m", keep_alive=keep_alive)
            await b.fake.wait_for(lambda fake: fake.asked("/api/ps"))
            b.fake.release()
            answer = await job.result()
            assert not b.fake.models["m:latest"].running
    assert answer.stats.context_window == 4096


async def test_the_window_of_a_model_that_stays_is_asked_for_when_the_answer_is_there(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path="/api/chat")
            job = b.begin(prompt="hi", model="m")
            await job.begun.wait()
            await anyio.wait_all_tasks_blocked()
            early = len(b.fake.asked("/api/ps"))
            b.fake.release()
            await job.result()
            assert (early, len(b.fake.asked("/api/ps"))) == (0, 1)


@pytest.mark.parametrize(
    ("options", "total"), [({"num_predict": 5}, 5), ({"num_predict": 1}, 1), ({"num_predict": -1}, None),
                           ({"num_predict": 0}, None), ({}, None)],
)  # fmt: skip
async def test_the_most_tokens_are_known_where_there_is_a_limit(bench, options, total):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path="/api/chat")
            job = b.begin(prompt="hi", model="m", options=options)
            await job.begun.wait()
            found = (job.model, job.total)
            b.fake.release()
            await job.result()
    assert found == ("m", total)


async def test_a_cut_is_noted_with_what_was_seen(bench, snapshot):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",)), version="0.5.0") as b:
            b.fake.models["m:latest"].load(4096)
            b.fake.script(ending(prompt_eval_count=4096), path="/api/chat")
            answer = await b.chat(model="m")
    assert answer.notes == snapshot


# --- what does not fit a schema ----------------------------------------------------------------


async def test_an_answer_that_was_cut_off_says_what_to_change(bench, snapshot):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=['{"city'], done_reason="length"))
            with pytest.raises(Truncated) as caught:
                await b.chat(schema=CITY)
    assert str(caught.value) == snapshot


@pytest.mark.parametrize("raw", [False, True])
async def test_an_answer_that_does_not_fit_says_what_is_wrong_and_what_to_change(bench, snapshot, raw):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=["5"]))
            with pytest.raises(Upstream) as caught:
                await b.generate(schema={"type": "object"}, raw=raw)
    assert str(caught.value) == snapshot


async def test_the_second_turn_has_the_first_prompt_the_answer_and_what_is_wrong_with_it(bench, snapshot):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*[Script(tokens=[text]) for text in ("{}", '{"city":1}')] * 2)
            await b.generate("where?", schema=CITY)
            await b.chat("where?", schema=CITY)
            prompt = b.sent("/api/generate")[1]["prompt"]
            turns = b.sent()[1]["messages"]
    assert {"prompt": prompt, "turns": [(turn["role"], turn["content"]) for turn in turns]} == snapshot
