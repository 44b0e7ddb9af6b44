"""What is asked of vectors and told of them: kinds, limits, numbers, and words for what is wrong."""

import json
import re
import time
from functools import partial
from typing import Any

import anyio
import pytest

from ollama_mcp.errors import BadUpstream, ContextOverflow, InvalidArgument, TooLarge
from ollama_mcp.services.embedding import BATCH, EmbedSpec, build_embed, similarity
from ollama_mcp.settings import ModelDefaults
from ollama_mcp.settings.limits import Limits
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

EMBED = "/api/embed"


def model(name: str = "e", context: int = 8192, **more: Any) -> Model:
    return Model(name, ("embedding",), context, dimensions=8, family="nomic-bert", **more)


# --- what is asked -----------------------------------------------------------------------------


def test_one_text_alone_is_a_list_of_one():
    assert EmbedSpec("text").texts == build_embed("text").texts == ["text"]


def test_what_nobody_says_is_the_models_own_length_nothing_cut_and_a_summary():
    ask = build_embed(["x"])
    assert (ask.model, ask.dimensions, ask.truncate, ask.form) == ("", None, False, "summary")
    ask = build_embed(["x"], "m", 1, truncate=True, form="full")
    assert (ask.texts, ask.model, ask.dimensions, ask.truncate, ask.form) == (["x"], "m", 1, True, "full")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"texts": [5]}, '"input[0]" is of the kind int. Send "input[0]" as a string.'),
        ({"texts": 5}, '"input" is of the kind int.'),
        ({"texts": ["x"], "model": 5}, '"model" is of the kind int. Send "model" as a string.'),
        ({"texts": ["x"], "truncate": "no"}, '"truncate" is of the kind str. Send "truncate" as true'),
        ({"texts": ["x"], "dimensions": "8"}, '"dimensions" is of the kind str.'),
        ({"texts": ["x"], "dimensions": 0},
         "dimensions is 0. Send \"dimensions\" above 0, or 0 for the model's own."),
        ({"texts": ["x"], "form": "f" * 50},
         f"\"vectors\" is '{'f' * 40}'. Send \"vectors\" as \"summary\", \"full\" or \"base64\"."),
        ({"texts": []}, 'there is nothing to embed. Send "input", a list of at least one text.'),
    ],
)  # fmt: skip
def test_what_cannot_be_embedded_is_refused_with_what_to_send(arguments, told):
    with pytest.raises(InvalidArgument, match=re.escape(told)):
        build_embed(**arguments)


def test_the_operators_limits_count():
    limits = Limits(texts=2)
    assert build_embed(["x"] * 2, limits=limits)
    with pytest.raises(TooLarge):
        build_embed(["x"] * 3, limits=limits)


# --- what is told ------------------------------------------------------------------------------


@pytest.mark.long
async def test_the_numbers_of_a_call_are_told(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            before = time.monotonic()
            found = await b.embed("one two", "three", form="full")
            took = time.monotonic() - before
    stats = found.stats
    assert (stats.model, stats.chosen, stats.count, stats.dimensions) == ("e:latest", "installed last", 2, 8)
    assert (stats.prompt_tokens, stats.batches, stats.legacy, stats.cloud) == (3, 1, False, False)
    assert (stats.context_window, stats.context_grown) == (None, False)
    assert 0 <= stats.total_s <= took + 0.001
    assert stats.total_s == round(stats.total_s, 3)
    assert found.form == "full"


async def test_a_window_that_grew_is_told_in_the_numbers_and_the_notes(bench):
    with anyio.fail_after(5):
        async with bench(model(), window=512) as b:
            found = await b.embed("w " * 600)
            again = await b.embed("x")
    assert (found.stats.context_window, found.stats.context_grown) == (1024, True)
    assert found.notes == ["window grown to 1024"]
    assert (again.stats.context_window, again.stats.context_grown, again.notes) == (1024, False, [])


@pytest.mark.parametrize(("options", "window"), [({"num_ctx": 1024}, 1024), ({}, 2048)])
async def test_a_window_that_the_server_does_not_name_is_the_one_asked_for_or_loaded(bench, options, window):
    too_long = Script(status=400, body={"error": "the input length exceeds the context length"})
    with anyio.fail_after(5):
        async with bench(model(context=2048), defaults=ModelDefaults(options=options)) as b:
            b.fake.models["e:latest"].load(2048)
            b.fake.script(too_long, path=EMBED)
            with pytest.raises(ContextOverflow) as error:
                await b.embed("x")
    assert error.value.details["window"] == window


async def test_an_empty_text_alone_may_have_no_vector(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body={"embeddings": []}), path=EMBED)
            found = await b.embed("")
    assert (list(found), found.stats.count, found.stats.dimensions) == ([], 0, 0)


async def test_a_batch_without_a_count_leaves_the_tokens_untold(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body={"embeddings": [[1.0, 0.0]]}), path=EMBED)
            assert (await b.embed("x")).stats.prompt_tokens is None


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        ([[1, 0]], "Ollama sent 1 vectors for 2 texts"),
        ([[1, 0], [1]], "Ollama sent vectors of different lengths, or of none"),
        ([[], []], "Ollama sent vectors of different lengths, or of none"),
        ([[1e39, 1], [-1e39, 1]], "Ollama sent a vector with a number that is not finite"),
    ],
)
async def test_what_is_wrong_with_vectors_is_told_with_what_to_do(bench, vectors, told):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body=json.dumps({"embeddings": vectors}).encode()), path=EMBED)
            with pytest.raises(BadUpstream) as error:
                await b.embed("a", "b")
    assert str(error.value).endswith(f": {told}. Name another embedding model, or update Ollama.")


@pytest.mark.parametrize("number", [1e39, -1e39])
async def test_a_vector_that_is_none_is_empty_and_its_text_is_named(bench, number):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body={"embeddings": [[1, 0], [number, 1]]}), path=EMBED)
            found = await b.embed("a", "b")
    assert (found.vectors, found.failed) == ([[1, 0], []], [1])
    assert found.notes == ["input[1] has no vector: Ollama sent a vector with a number that is not finite"]


async def test_the_largest_number_of_a_vector_is_that_of_float32(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body={"embeddings": [[3.4028234e38, -3.4028234e38]]}), path=EMBED)
            assert len((await b.embed("a"))[0]) == 2


async def test_a_length_that_cannot_be_had_is_told_with_the_one_that_can(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body={"embeddings": [[1.0, 0.0]]}), path=EMBED)
            with pytest.raises(BadUpstream) as error:
                await b.embed("x", dimensions=4)
    assert str(error.value).endswith(
        ": Ollama sent vectors of length 2 where 4 was asked for. "
        'Send "dimensions" of at most 2, or 0 for the model\'s own.'
    )


async def test_an_empty_text_that_gets_no_vector_is_to_be_left_out(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body={"embeddings": [[1.0], []]}), path=EMBED)
            with pytest.raises(InvalidArgument, match=r"input has empty texts\. Leave them out\."):
                await b.embed("x", "")


async def test_a_full_batch_is_one_request_and_one_text_more_is_two(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            await b.embed(*["x"] * BATCH)
            await b.embed(*["x"] * (BATCH + 1))
            assert [len(body["input"]) for body in b.sent(EMBED)] == [BATCH, BATCH, 1]


@pytest.mark.parametrize("place", [0, 2])
async def test_the_longest_text_is_named_wherever_it_stands(bench, place):
    texts = ["x"] * 4
    texts[place] = "long " * 50
    with anyio.fail_after(5):
        async with bench(model(context=8), window=8) as b:
            with pytest.raises(ContextOverflow, match=rf"input\[{place}\], the longest text,"):
                await b.embed(*texts)


async def test_a_call_from_which_nothing_has_come_yet_says_whether_the_model_loads(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(delay_first=60), path=EMBED)
            job = b.app.jobs.start(partial(b.app.embedder.run, build_embed(["x"], "e")), unit="texts")
            await b.fake.wait_for(lambda fake: fake.asked(EMBED))
            b.fake.models["e:latest"].loaded = False
            await job.look()
            said = job.status()
            await job.cancel()
    assert said == "loading e"


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ([1.0, 0.0], [0.0, 2.0], 0.0),
        ([3.0, 4.0], [6.0, 8.0], 1.0),
        ([1.0, 2.0], [-2.0, -4.0], -1.0),
        ([1.0, 0.0], [1.0, 1.0], 0.707107),
        ([0.0, 0.0], [1.0, 1.0], 0.0),
    ],
)
def test_similarity_is_the_cosine_to_six_places(a, b, found):
    assert similarity(a, b) == found


def test_vectors_of_different_lengths_are_not_compared():
    with pytest.raises(ValueError, match="shorter"):
        similarity([1.0, 0.0], [1.0])
