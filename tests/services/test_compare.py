"""The same asked of several models, one after another."""

from functools import partial

import anyio
import pytest

from ollama_mcp.errors import InvalidArgument, ModelNotFound
from ollama_mcp.jobs.job import JobState
from ollama_mcp.services.compare import Compared, Comparer, Comparison
from ollama_mcp.services.specs import build_chat
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

MODELS = (Model("m"), Model("n"), Model("o"))


def begin(b, *models: str, prompt: str = "?", **arguments):
    ask = build_chat(prompt=prompt, **arguments)
    return b.app.jobs.start(partial(Comparer(b.app.generator, b.app.catalog).run, ask, models))


async def compared(b, *models: str, **arguments) -> list[Compared]:
    return (await begin(b, *models, **arguments).result()).rows


async def test_each_model_is_asked_the_same_in_turn(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            rows = await compared(b, "n", "m", prompt="why", system="be brief")
            sent = b.sent()
    assert [(row.model, str(row.answer), row.failure) for row in rows] == [
        ("n", "You said: why", None),
        ("m", "You said: why", None),
    ]
    assert [row.answer.stats.model for row in rows] == ["n", "m"]
    assert [body["model"] for body in sent] == ["n", "m"]
    assert sent[0]["messages"] == sent[1]["messages"]
    assert sent[0]["messages"][0] == {"role": "system", "content": "be brief"}


async def test_one_that_fails_is_a_row_and_the_next_is_asked(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            first, second, third = await compared(b, "m", "nobody", "n")
    assert (str(first.answer), str(third.answer)) == ("You said: ?", "You said: ?")
    assert second.model == "nobody"
    assert second.answer is None
    assert isinstance(second.failure, ModelNotFound)


async def test_a_model_that_is_named_twice_or_with_blanks_is_asked_once(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            rows = await compared(b, " m ", "", "m", "  ", "n")
    assert [row.model for row in rows] == ["m", "n"]


@pytest.mark.parametrize("models", [[], ["", " "], [f"x{number}" for number in range(9)]], ids=len)
async def test_no_model_and_more_than_eight_are_refused_before_any_is_asked(bench, models):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            with pytest.raises(InvalidArgument, match=r"[09] models are named.*from 1 to 8.*\"models\""):
                await compared(b, *models)
            assert not b.fake.requests


async def test_one_and_eight_models_may_be_named(bench):
    names = [f"x{number}" for number in range(8)]
    with anyio.fail_after(5):
        async with bench(*map(Model, names)) as b:
            assert len(await compared(b, *names)) == 8
            assert len(await compared(b, "x0")) == 1


async def test_the_whole_tells_whose_turn_it_is_and_how_far_that_one_is(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            b.fake.script(Script(tokens=["one ", "two ", "three"], hold_after_tokens=2), model="n")
            job = begin(b, "m", "n")
            await b.fake.wait_for(lambda fake: fake.in_flight == 1 and len(fake.asked("/api/chat")) == 2)
            while job.count < 5:
                await anyio.sleep(0.001)
            said, text, state = job.status(), job.text, job.state
            b.fake.release()
            await job.result()
    assert state is JobState.WRITING
    assert said.startswith("model 2 of 2 · n · 2 tok")
    assert said.endswith("one two")
    assert text == "m:\nYou said: ?\n\none two ", "what is complete is kept, whatever comes of the second one"
    assert job.count == 6


async def test_all_names_are_looked_up_before_the_first_model_works(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            b.fake.script(Script(tokens=["a"]), path="/api/chat")
            job = begin(b, "m", "nowhere:7b")
            found = await job.result()
            asked = [request.path for request in b.fake.requests]
    assert [row.failure.code if row.failure else "" for row in found.rows] == ["", "MODEL_NOT_FOUND"]
    assert max(place for place, path in enumerate(asked) if path == "/api/show") < asked.index("/api/chat")


async def test_a_comparison_in_which_no_name_is_known_is_refused(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            with pytest.raises(ModelNotFound):
                await begin(b, "nowhere:7b", "nothing:1b").result()
            assert not b.fake.asked("/api/chat")


async def test_waiting_for_a_turn_is_told_of_the_whole(bench, in_line):
    with anyio.fail_after(5):
        async with bench(*MODELS, parallel=1) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), model="m")
            others = [b.begin(prompt="x", model="m") for _ in range(b.app.settings.parallel)]
            await b.fake.wait_for(lambda fake: len(fake.asked("/api/chat")) >= 1)
            job = begin(b, "m")
            while job.queue_entry is None:
                await anyio.sleep(0.001)
            said = job.status()
            b.fake.release()
            for other in others:
                await other.result()
            await job.result()
    assert said.startswith(in_line(1, "m"))
    assert job.queue_entry is None


async def test_the_thoughts_of_whose_turn_it_is_are_seen_in_the_line(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            b.fake.script(Script(thinking=["I see. "], tokens=["x", "y"], hold_after_tokens=2), model="m")
            job = begin(b, "m")
            while job.count < 2:
                await anyio.sleep(0.001)
            said, text = job.status(), job.text
            b.fake.release()
            await job.result()
    assert said.endswith(" · I see. x")
    assert text == "x"


async def test_each_turn_stands_in_line_as_whoever_compares(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS, parallel=1) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), model="m")
            others = [b.begin(prompt="x", model="m") for _ in range(b.app.settings.parallel)]
            await b.fake.wait_for(lambda fake: len(fake.asked("/api/chat")) >= 1)
            work = partial(Comparer(b.app.generator, b.app.catalog).run, build_chat(prompt="?"), ["m"])
            job = b.app.jobs.start(work, caller="me")
            while job.queue_entry is None:
                await anyio.sleep(0.001)
            caller = job.queue_entry.caller
            b.fake.release()
            for other in [*others, job]:
                await other.result()
    assert caller == "me"


def test_a_comparison_is_as_large_as_its_answers():
    assert Comparison([Compared("m", None)]).size == 0


async def test_each_answer_counts_in_the_size(bench):
    with anyio.fail_after(5):
        async with bench(*MODELS) as b:
            rows = await compared(b, "m", "nobody", "n")
    assert Comparison(rows).size == rows[0].answer.size + rows[2].answer.size > 0
