"""Vectors come in the order of the texts, each checked; servers without /api/embed are asked the old way."""

import json
import math

import anyio
import pytest

from ollama_mcp.errors import (
    BadUpstream,
    ContextOverflow,
    InvalidArgument,
    ModelNotFound,
    OllamaError,
    Upstream,
)
from ollama_mcp.services.embedding import BATCH, similarity
from ollama_mcp.settings import ModelDefaults
from ollama_mcp.testing import Model, Script
from ollama_mcp.testing import vector as fake_vector

pytestmark = pytest.mark.anyio

EMBED = "/api/embed"
LEGACY = "/api/embeddings"


def model(name: str = "e", context: int = 2048, **more) -> Model:
    return Model(name, ("embedding",), context, dimensions=8, family="nomic-bert", **more)


def answer(*vectors) -> Script:
    return Script(
        body=json.dumps({"embeddings": list(vectors)}).encode(), headers={"Content-Type": "application/json"}
    )


def close_to(numbers: list[float]):
    return pytest.approx(numbers, abs=1e-6)


# --- order and batches -------------------------------------------------------------------------


async def test_many_texts_go_in_batches_and_keep_their_order(bench):
    texts = [f"text {place}" for place in range(BATCH * 2 + 5)]
    with anyio.fail_after(5):
        async with bench(model()) as b:
            found = await b.embed(*texts)
            sizes = [len(body["input"]) for body in b.sent(EMBED)]
    assert sizes == [BATCH, BATCH, 5]
    assert list(found) == [close_to(fake_vector(text, 8)) for text in texts]
    stats = found.stats
    assert (stats.count, stats.dimensions, stats.batches, stats.prompt_tokens) == (69, 8, 3, 138)
    assert not stats.legacy
    assert found.notes == []


async def test_a_reply_counts_texts_of_a_known_total(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            job = None
            original = b.app.jobs.start

            def start(work, unit):
                nonlocal job
                job = original(work, unit)
                return job

            b.app.jobs.start = start
            await b.embed(*["x"] * 40)
    assert (job.count, job.total, job.unit) == (40, 40, "texts")
    assert job.status().startswith("40/40 texts")


async def test_one_failing_batch_fails_all_and_stops(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(), Script(status=500, body={"error": "x"}), path=EMBED)
            with pytest.raises(Upstream):
                await b.embed(*["x"] * BATCH * 3)
            assert len(b.sent(EMBED)) == 2 + 4 + 1, "some of its texts were tried alone, and a good one again"


async def test_what_the_settings_say_goes_with_the_request(bench):
    defaults = ModelDefaults(options={"num_thread": 2}, keep_alive="10m")
    with anyio.fail_after(5):
        async with bench(model(), embedding_model="e", defaults=defaults) as b:
            found = await b.embed("x", dimensions=4)
            (body,) = b.sent(EMBED)
    assert body == {
        "model": "e",
        "input": ["x"],
        "truncate": False,
        "dimensions": 4,
        "keep_alive": "10m",
        "options": {"num_thread": 2},
    }
    assert found.stats.chosen == "configured"
    assert found.stats.dimensions == 4


# --- texts that are nothing --------------------------------------------------------------------


async def test_no_texts_are_refused_without_a_request(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            with pytest.raises(InvalidArgument, match="nothing to embed"):
                await b.embed()
            assert b.fake.requests == []


async def test_an_empty_text_beside_others_has_its_vector(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            assert len(await b.embed("", "x", "")) == 3


async def test_a_server_that_has_no_vector_for_an_empty_text_alone_is_believed(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(answer(), path=EMBED)
            assert len(await b.embed("")) == 0


async def test_an_empty_text_left_over_for_the_last_batch_is_told(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(), answer(), path=EMBED)
            with pytest.raises(InvalidArgument, match="empty"):
                await b.embed(*["x"] * BATCH, "")


# --- old servers -------------------------------------------------------------------------------


async def test_a_server_without_embed_is_asked_one_text_at_a_time(bench):
    texts = [f"text {place}" for place in range(BATCH + 3)]
    with anyio.fail_after(5):
        async with bench(model(), version="0.2.8") as b:
            found = await b.embed(*texts, model="e")
            assert len(b.sent(EMBED)) == 1
            assert [body["prompt"] for body in b.sent(LEGACY)] == texts
    assert found.stats.legacy
    for vector, text in zip(found, texts, strict=True):
        assert math.hypot(*vector) == pytest.approx(1)
        assert vector == close_to(fake_vector(text, 8)) or similarity(vector, fake_vector(text, 8)) > 0.99


async def test_the_old_way_keeps_the_operators_keep_alive_and_options(bench):
    defaults = ModelDefaults(options={"num_thread": 2}, keep_alive="10m")
    with anyio.fail_after(5):
        async with bench(model(), version="0.2.8", defaults=defaults) as b:
            await b.embed("x", model="e")
            (body,) = b.sent(LEGACY)
    assert body == {"model": "e", "prompt": "x", "keep_alive": "10m", "options": {"num_thread": 2}}


async def test_an_empty_text_is_no_vector_the_old_way_either(bench):
    with anyio.fail_after(5):
        async with bench(model(), version="0.2.8") as b:
            assert len(await b.embed("", model="e")) == 0
            with pytest.raises(OllamaError):
                await b.embed("x", "", model="e")


async def test_a_missing_model_is_not_taken_for_a_missing_endpoint(bench):
    with anyio.fail_after(5):
        async with bench(model("embed:1b"), model("embed:2b")) as b:
            await b.embed("x", model="embed:1b")
            del b.fake.models["embed:1b"]
            with pytest.raises(ModelNotFound) as caught:
                await b.embed("x", model="embed:1b")
            assert b.sent(LEGACY) == []
            assert caught.value.details["similar"] == ["embed:2b"]
            with pytest.raises(ModelNotFound):
                await b.embed("x", model="embed:1b")
            assert len(b.sent(EMBED)) == 2


# --- vectors that are none ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"embeddings": [[1, 0]]}',
        b'{"embeddings": [[1, 0], [0, 1], [1, 1]]}',
        b'{"embeddings": []}',
        b"{}",
        b'{"embeddings": null}',
        b'{"embeddings": [[1, 0], [1]]}',
        b'{"embeddings": [[], []]}',
        b'{"embeddings": [[1, 0], [NaN, 1]]}',
        b'{"embeddings": [[1, 0], [Infinity, 1]]}',
        b'{"embeddings": [[1, 0], [null, 1]]}',
        b'{"embeddings": [[1, 0], "no"]}',
        b'{"embeddings": 5}',
        b"[]",
    ],
    ids=lambda body: body.decode(),
)
async def test_an_answer_that_is_not_one_sound_vector_a_text_is_refused(bench, body: bytes):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(body=body, headers={"Content-Type": "application/json"}), path=EMBED)
            with pytest.raises(BadUpstream):
                await b.embed("a", "b")


async def test_a_second_batch_of_another_length_is_refused(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(), answer([1.0, 0.0]), path=EMBED)
            with pytest.raises(BadUpstream, match="lengths"):
                await b.embed(*["x"] * BATCH, "y")


async def test_a_length_that_was_not_asked_for_is_refused(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(answer([1.0, 0.0]), path=EMBED)
            with pytest.raises(BadUpstream, match="length 2 where 4"):
                await b.embed("x", dimensions=4)


async def test_a_length_below_one_is_refused_before_the_server_ignores_it(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            with pytest.raises(InvalidArgument, match="dimensions"):
                await b.embed("x", dimensions=-3)
            assert b.fake.requests == []


# --- texts that do not fit ---------------------------------------------------------------------


async def test_a_text_that_does_not_fit_grows_the_window_once_and_keeps_it(bench):
    with anyio.fail_after(5):
        async with bench(model(context=8192), window=2048) as b:
            found = await b.embed("a", "w " * 3000)
            again = await b.embed("a")
            options = b.options_sent(EMBED)
    assert options[0] == {}
    assert options[1]["num_ctx"] >= 4096
    assert options[2] == options[1]
    assert (found.stats.context_grown, again.stats.context_grown) == (True, False)
    assert found.notes == [f"window grown to {options[1]['num_ctx']}"]


async def test_a_text_beyond_the_models_window_is_an_overflow(bench):
    with anyio.fail_after(5):
        async with bench(model(context=512), window=2048) as b:
            await b.embed("load it")
            with pytest.raises(ContextOverflow) as caught:
                await b.embed("a", "w " * 600)
    assert caught.value.details["window"] == 512
    assert "truncate=true" in caught.value.remedy


async def test_an_overflow_stays_one_where_the_server_does_not_tell_its_window(bench):
    with anyio.fail_after(5):
        async with bench(model(context=512), window=2048) as b:
            b.fake.script(Script(status=500, body={"error": "x"}), path="/api/ps")
            with pytest.raises(ContextOverflow):
                await b.embed("w " * 600, model="e")


async def test_a_grown_window_that_does_not_load_is_an_overflow_and_is_forgotten(bench):
    with anyio.fail_after(5):
        async with bench(model(context=8192), window=2048) as b:
            b.fake.script(Script(), Script(status=500, body={"error": "no memory"}), path=EMBED, times=2)
            with pytest.raises(ContextOverflow):
                await b.embed("w " * 3000)
            await b.embed("a")
            assert b.options_sent(EMBED)[-1] == {}


async def test_texts_are_cut_where_that_was_asked_for(bench):
    with anyio.fail_after(5):
        async with bench(model(context=512), window=2048) as b:
            assert len(await b.embed("w " * 600, truncate=True)) == 1
            assert b.sent(EMBED)[0]["truncate"] is True


async def test_an_operators_larger_window_is_not_made_smaller(bench):
    defaults = ModelDefaults(options={"num_ctx": 8192})
    with anyio.fail_after(5):
        async with bench(model(context=32768), defaults=defaults) as b:
            b.app.embedder._windows.keep("e", 4096)
            await b.embed("x")
            assert b.options_sent(EMBED) == [{"num_ctx": 8192}]


# --- cancelling --------------------------------------------------------------------------------


async def test_cancelling_closes_the_connection_at_once(bench):
    with anyio.fail_after(5):
        async with bench(model()) as b:
            b.fake.script(Script(delay_first=60), path=EMBED)
            async with anyio.create_task_group() as group:
                group.start_soon(b.embed, "x")
                await b.fake.wait_for(lambda fake: fake.asked(EMBED))
                group.cancel_scope.cancel()
            await b.fake.wait_for(lambda fake: fake.disconnects == 1, timeout=1)


def test_similarity_of_nothing_is_nothing():
    assert similarity([0.0, 0.0], [1.0, 0.0]) == 0


async def test_the_text_that_does_not_fit_is_named(bench):
    with anyio.fail_after(5):
        async with bench(model(context=8), window=8) as b:
            with pytest.raises(ContextOverflow, match=rf"input\[{BATCH + 1}\], the longest text,"):
                await b.embed(*["x"] * BATCH, "y", "long " * 50)
