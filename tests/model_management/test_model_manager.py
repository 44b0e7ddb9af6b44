"""Copy, delete, load, unload and the summary of installed models."""

import anyio
import pytest

from ollama_mcp.errors import Forbidden, InvalidArgument, ModelNotFound, NotConfirmed
from ollama_mcp.ollama.api_models import RunningModel
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.model_manager import InMemory
from ollama_mcp.settings import ModelDefaults
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

COPY, DELETE, GENERATE, EMBED = "/api/copy", "/api/delete", "/api/generate", "/api/embed"


# --- copy --------------------------------------------------------------------------------------


async def test_a_copy_is_the_same_model_under_a_second_name(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            done = await b.model_manager.copy("m", "me/n:v1")
            names = sorted(b.fake.models)
    assert (done.source, done.model, done.digest) == ("m:latest", "me/n:v1", Model("m").digest)
    assert names == ["m:latest", "me/n:v1"]


async def test_a_copy_overwrites_only_what_was_confirmed(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), Model("n")) as b:
            with pytest.raises(NotConfirmed, match="overwrite n:latest") as refused:
                await b.model_manager.copy("m", "library/n")
            assert b.fake.asked(COPY) == []
            await b.model_manager.copy("m", "n", confirmed=Confirmation.of(refused.value))
            assert b.fake.models["n:latest"].digest == b.fake.models["m:latest"].digest


async def test_a_model_is_not_copied_to_itself(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            with pytest.raises(InvalidArgument):
                await b.model_manager.copy("m", "M:latest")


async def test_a_cloud_model_gets_no_harmless_name(bench):
    remote = Model("far", remote_host="https://ollama.com:443")
    with anyio.fail_after(5):
        async with bench(remote, Model("x:8b-cloud"), Model("m")) as b:
            for pair in (("far", "near"), ("x:8b-cloud", "near"), ("m", "m:cloud")):
                with pytest.raises(Forbidden):
                    await b.model_manager.copy(*pair)
            assert b.fake.asked(COPY) == []


# --- delete ------------------------------------------------------------------------------------


async def test_nothing_is_deleted_that_nobody_confirmed(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", size=5_200_000_000), Model("n")) as b:
            with pytest.raises(NotConfirmed) as refused:
                await b.model_manager.delete("m")
            with pytest.raises(NotConfirmed, match="'n' was confirmed, not to delete m:latest"):
                await b.model_manager.delete("m", confirmed=Confirmation("n"))
            assert b.fake.asked(DELETE) == []
    error = refused.value
    assert "to delete m:latest (5.2 GB) was not confirmed" in error.cause
    assert error.details["question"].startswith("Delete m:latest (5.2 GB)?")
    assert Confirmation.of(error) == Confirmation("m:latest", Model("m").digest)
    assert len(str(error)) <= 400


async def test_deleting_says_what_is_free_again(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), Model("n")) as b:
            done = await b.model_manager.delete("m", confirmed=Confirmation("m", Model("m").digest))
            assert list(b.fake.models) == ["n:latest"]
    assert (done.model, done.digest, done.freed, done.notes) == (
        "m:latest",
        Model("m").digest,
        2019393189,
        [],
    )


async def test_the_name_alone_confirms_where_no_content_was_shown(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            assert (await b.model_manager.delete("m", confirmed=Confirmation("m"))).model == "m:latest"


@pytest.mark.parametrize(("name", "other"), [("Foo", "foo"), ("foo", "Foo")])
async def test_of_two_names_that_look_alike_the_one_that_was_said_is_deleted(bench, name, other):
    models = [
        Model(name, modified_at="2025-01-01T00:00:00Z"),
        Model(other, modified_at="2026-01-01T00:00:00Z"),
    ]
    with anyio.fail_after(5):
        async with bench(*models) as b:
            await b.model_manager.delete(name, confirmed=Confirmation(name))
            assert b.sent("/api/delete") == [{"model": f"{name}:latest"}]


async def test_a_model_that_changed_since_it_was_confirmed_is_not_deleted(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            with pytest.raises(NotConfirmed) as refused:
                await b.model_manager.delete("m")
            b.fake.add_model(Model("m", digest="f" * 64))  # pulled anew by somebody
            with pytest.raises(NotConfirmed, match="has changed since it was confirmed") as again:
                await b.model_manager.delete("m", confirmed=Confirmation.of(refused.value))
            assert "m:latest" in b.fake.models
            await b.model_manager.delete("m", confirmed=Confirmation.of(again.value))


async def test_deleting_one_of_two_names_frees_nothing(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            await b.model_manager.copy("m", "n")
            done = await b.model_manager.delete("n", confirmed=Confirmation("n"))
    assert (done.freed, done.notes) == (0, ["m:latest is the same model, so that the files stay"])


async def test_a_model_that_is_not_installed_cannot_be_deleted(bench):
    with anyio.fail_after(5):
        async with bench(Model("qwen3:8b")) as b:
            with pytest.raises(ModelNotFound, match="qwen3:8b"):
                await b.model_manager.delete("qwen3:4b", confirmed=Confirmation("qwen3:4b"))


async def test_a_deleted_model_is_no_longer_known(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), Model("n")) as b:
            await b.app.catalog.find("m")
            await b.model_manager.delete("m", confirmed=Confirmation("m"))
            with pytest.raises(ModelNotFound):
                await b.app.catalog.find("m")


# --- load and unload ---------------------------------------------------------------------------


async def test_a_model_is_loaded_as_its_next_call_will_want_it(bench):
    defaults = ModelDefaults(options={"num_ctx": 8192, "temperature": 0.2}, keep_alive="10m")
    with anyio.fail_after(5):
        async with bench(Model("m"), defaults=defaults) as b:
            done = await b.load("m")
            sent = b.sent(GENERATE)
            assert b.fake.models["m:latest"].running
    assert sent == [
        {"model": "m", "prompt": "", "stream": True, "options": {"num_ctx": 8192}, "keep_alive": "10m"}
    ]
    assert (done.model, done.was_loaded, done.memory.window) == ("m", False, 8192)
    assert (done.memory.size, done.memory.gpu) == (2019393189, 0.0)


async def test_an_embedding_model_is_loaded_with_an_empty_text(bench):
    with anyio.fail_after(5):
        async with bench(Model("e", ("embedding",))) as b:
            done = await b.load("e", keep_alive="10m")
            assert b.sent(EMBED) == [{"model": "e", "input": "", "keep_alive": "10m"}]
            assert b.fake.models["e:latest"].running
            again = await b.load("e")
    assert (done.was_loaded, again.was_loaded) == (False, True)


async def test_a_model_stays_loaded_no_longer_than_the_operator_allows(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            done = await b.load("m", keep_alive=-1)
            kept = b.sent(GENERATE)[0]["keep_alive"]
    assert kept == b.app.settings.limits.keep_alive
    assert done.notes[0].startswith("keep_alive lowered from -1 to")


async def test_what_would_unload_a_model_does_not_load_it(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), defaults=ModelDefaults(keep_alive=0)) as b:
            await b.load("m")
            assert "keep_alive" not in b.sent(GENERATE)[0]
            for none in (0, "0s"):
                with pytest.raises(InvalidArgument, match="keep_alive 0 unloads"):
                    await b.load("m", keep_alive=none)


async def test_loading_says_that_it_loads(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            b.fake.script(Script(load_delay=30), path=GENERATE)
            job = b.app.jobs.start(lambda job: b.model_manager.load("m", job))
            await b.fake.wait_for(lambda fake: fake.asked(GENERATE))
            await job.look()
            assert job.status().startswith("loading m")
            await job.cancel()
            await b.fake.wait_for(lambda fake: fake.disconnects == 1)


async def test_what_cannot_be_loaded_is_refused(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), Model("far", remote_host="https://ollama.com:443"), cloud=True) as b:
            with pytest.raises(InvalidArgument, match="unload"):
                await b.load("m", keep_alive=0)
            with pytest.raises(InvalidArgument, match="cloud"):
                await b.load("far")


@pytest.mark.parametrize("capability", ["completion", "embedding"])
async def test_a_model_is_unloaded(bench, capability):
    with anyio.fail_after(5):
        async with bench(Model("m", (capability,), loaded=True)) as b:
            done = await b.model_manager.unload("m")
            assert not b.fake.models["m:latest"].running
            again = await b.model_manager.unload("m")
            assert len(b.fake.asked(GENERATE)) == 1
    assert (done.model, done.was_loaded, done.freed) == ("m:latest", True, 2019393189)
    assert (again.was_loaded, again.freed) == (False, 0)


async def test_what_is_not_installed_is_neither_loaded_nor_unloaded(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            for work in (b.load, b.model_manager.unload):
                with pytest.raises(ModelNotFound):
                    await work("nope")


# --- summary -----------------------------------------------------------------------------------


async def test_a_summary_has_the_facts_and_keeps_what_is_long_apart(bench):
    model = Model(
        "m", ("completion", "vision"), 8192, system="Be kind.", license="MIT", loaded=True,
        parameters={"stop": ["a b", "c"], "temperature": 0.1, "num_ctx": 2048},
        messages=[{"role": "user", "content": "Hi"}],
    )  # fmt: skip
    with anyio.fail_after(5):
        async with bench(model) as b:
            found = await b.model_manager.summary("m")
    assert (found.name, found.family, found.parameters, found.quantization) == (
        "m:latest",
        "llama",
        "3.2B",
        "Q4_K_M",
    )
    assert (found.window, found.capabilities, found.size) == (8192, ("completion", "vision"), 2019393189)
    assert found.defaults == {"stop": ["a b", "c"], "temperature": 0.1, "num_ctx": 2048}
    assert found.memory is not None
    assert (found.memory.size, found.memory.gpu, found.memory.window) == (2019393189, 0.0, 4096)
    assert sorted(found.parts) == ["license", "messages", "metadata", "system", "template"]
    assert found.part("license") == "MIT"
    assert "/var/lib" not in str(found.parts)
    assert "MIT" not in repr(found)


@pytest.mark.parametrize(
    "parent",
    ["/root/.ollama/models/blobs/sha256-" + "0" * 64, "C:\\Users\\me\\m.gguf", "./m.gguf"],
    ids=["Unix", "Windows", "relative"],
)
async def test_a_summary_does_not_tell_where_the_server_has_its_files(bench, parent):
    with anyio.fail_after(5):
        async with bench(Model("m", parent_model=parent), Model("n", parent_model="qwen3:8b")) as b:
            assert (await b.model_manager.summary("m")).parent == ""
            assert (await b.model_manager.summary("n")).parent == "qwen3:8b"


async def test_a_part_that_there_is_not_is_an_error_and_an_absent_one_is_empty(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            found = await b.model_manager.summary("m")
    assert found.memory is None
    assert found.part("system") == ""
    with pytest.raises(InvalidArgument, match="template"):
        found.part("modelfile")


async def test_a_cloud_model_is_shown_but_said_to_be_one(bench):
    with anyio.fail_after(5):
        async with bench(Model("far", remote_host="https://ollama.com:443")) as b:
            assert (await b.model_manager.summary("far")).is_cloud


@pytest.mark.parametrize(
    ("size", "vram", "share"),
    [(100, 25, 0.25), (100, 100, 1.0), (100, 900, 1.0), (0, 0, None), (100, -5, 0.0)],
)
def test_the_share_on_the_gpu_is_between_none_and_all(size, vram, share):
    found = InMemory.of(RunningModel(size=size, size_vram=vram))
    assert found is not None
    assert found.gpu == share
