"""What two real Ollamas said, replayed byte for byte to pull, push, create, copy and delete."""

from pathlib import Path

import anyio
import pytest

from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import JobState
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.testing import Exchange, Model

pytestmark = pytest.mark.anyio

RECORDINGS = Path(__file__).parent.parent / "recordings"
WEIGHTS = 98362432
BASE = Model("smollm2:135m", ("completion",))


def recording(name: str) -> Exchange:
    return Exchange.load(RECORDINGS / f"{name}.json")


@pytest.mark.parametrize(
    ("name", "size"), [("pull-resumes", WEIGHTS), ("pull-again", WEIGHTS + 102 + 59 + 152)]
)
async def test_a_recorded_pull_succeeds_with_all_its_bytes(bench, name, size):
    counts: list[int] = []
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.replay(recording(name))
            job = b.begin_pull("smollm2:135m")
            advance = job.advance
            job.advance = lambda state, units=1: (advance(state, units), counts.append(job.count))
            done = await job.result()
    assert (done.status, done.bytes) == ("success", size)
    assert (job.count, job.total, job.state) == (size, size, JobState.DONE)
    assert counts == sorted(set(counts))


async def test_a_recorded_pull_that_its_client_leaves_says_how_far_it_came(bench):
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.replay(recording("pull-client-leaves"), as_recorded_timing=True)
            job = b.begin_pull("smollm2:135m")
            await job.begun.wait()
            status = job.status()
            await job.cancel()
            await b.fake.wait_for(lambda fake: fake.disconnects == 1)
    assert status == "2 of 98 MB · 1 % · pulling 941f309b54ca"
    assert job.notes[0].startswith("Stopped at 2 of 98 MB, what has come is kept: pulling")


@pytest.mark.parametrize("name", ["pull-missing", "pull-unreachable", "pull-plain-http", "pull-http-scheme"])
async def test_a_recorded_pull_that_fails_in_its_stream_is_an_error(bench, name):
    exchange = recording(name)
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.replay(exchange)
            with pytest.raises(OllamaError) as failed:
                await b.pull("llama3.2:1b")
    assert failed.value.code in exchange.expects["error"]
    assert "198.51" not in str(failed.value)


async def test_a_recorded_push_counts_all_its_layers(bench):
    model = Model("gpu:5056/library/mine:v1")
    with anyio.fail_after(10):
        async with bench(model, registries=("gpu:5056",)) as b:
            b.fake.replay(recording("push"))
            done = await b.push(model.name, confirmed=Confirmation(model.name, model.digest))
    assert (done.status, done.bytes) == ("success", WEIGHTS + 102 + 59 + 152)


async def test_a_recorded_push_of_nothing_shows_no_path_of_the_server(bench):
    with anyio.fail_after(5):
        async with bench(Model("me/m")) as b:
            b.fake.replay(recording("push-unknown"))
            with pytest.raises(OllamaError) as failed:
                await b.push("me/m", confirmed=Confirmation("me/m"))
    assert failed.value.code in recording("push-unknown").expects["error"]
    assert "/var/lib" not in str(failed.value)


@pytest.mark.parametrize(
    "name", ["create-system", "create-template", "create-thinker", "create-bad-parameter"]
)
async def test_a_recorded_create_succeeds(bench, name):
    with anyio.fail_after(5):
        async with bench(BASE) as b:
            b.fake.replay(recording(name))
            done = await b.create("new", "smollm2:135m")
    assert (done.status, done.bytes) == ("success", 0)


@pytest.mark.parametrize(
    "name", ["create-quantize-bad", "create-from-missing", "create-bad-name", "create-neither"]
)
async def test_a_recorded_create_that_fails_is_an_error(bench, name):
    exchange = recording(name)
    with anyio.fail_after(5):
        async with bench(BASE) as b:
            b.fake.replay(exchange)
            with pytest.raises(OllamaError) as failed:
                await b.create("new", "smollm2:135m")
    assert failed.value.code in exchange.expects["error"]


async def test_recorded_copies_deletes_loads_and_unloads_are_understood(bench):
    with anyio.fail_after(5):
        async with bench(BASE, Model("all-minilm:22m", ("embedding",), loaded=True)) as b:
            for name in ("copy", "delete", "generate-load", "unload-embedding"):
                b.fake.replay(recording(name))
            assert (await b.model_manager.copy("smollm2:135m", "new")).model == "new"
            assert (
                await b.model_manager.delete("smollm2:135m", confirmed=Confirmation("smollm2:135m"))
            ).freed
            assert (await b.model_manager.unload("all-minilm:22m")).was_loaded


@pytest.mark.parametrize(("name", "defaults"), [
    ("show-chat", {}), ("show-created", {"stop": ["Arr"], "temperature": 0.1}), ("show-embedding", {}),
])  # fmt: skip
async def test_a_recorded_show_becomes_short_facts_without_paths(bench, name, defaults):
    with anyio.fail_after(5):
        async with bench(BASE) as b:
            b.fake.replay(recording(name))
            found = await b.model_manager.summary("smollm2:135m")
    assert defaults.items() <= found.defaults.items()
    assert found.family
    assert found.window
    assert found.capabilities
    assert len(repr(found)) < 1000
    assert "/var/lib" not in str(found.parts)
