"""Models: found by name, chosen where none is named, checked for what they can do, local unless allowed."""

import anyio
import pytest

from ollama_mcp.errors import CapabilityMissing, Forbidden, InvalidArgument, ModelNotFound, Unreachable
from ollama_mcp.services.catalog import version_numbers
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

CHAT = ("completion", "tools")
EYES = ("completion", "vision")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
VERSIONS = ["0.33.0", "0.24.0", "0.12.0", "0.6.3", "0.5.0"]


def modified(day: int) -> str:
    return f"2026-10-{day:02d}T00:00:00Z"


BROKEN = Script(status=500, body={"error": "broken"})


# --- choosing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_without_a_name_the_configured_model_answers_then_a_loaded_one_then_the_newest(
    bench, version: str
):
    models = [
        Model("old:1b", CHAT, modified_at=modified(1)),
        Model("loaded:1b", CHAT, modified_at=modified(2)),
        Model("configured:1b", CHAT, modified_at=modified(3)),
        Model("new:1b", CHAT, modified_at=modified(4)),
    ]
    with anyio.fail_after(5):
        async with bench(*models, version=version, chat_model="configured:1b") as b:
            b.fake.models["loaded:1b"].load(4096)
            told = [(await b.chat()).stats]
        models[2].keep(0)
        async with bench(*models, version=version) as b:
            b.fake.models["loaded:1b"].load(4096)
            told.append((await b.chat()).stats)
            b.fake.models["loaded:1b"].keep(0)
            told.append((await b.chat()).stats)
    assert [(stats.model, stats.chosen) for stats in told] == [
        ("configured:1b", "configured"),
        ("loaded:1b", "loaded"),
        ("new:1b", "installed last"),
    ]


@pytest.mark.parametrize(
    ("setting", "ask"), [("OLLAMA_MCP_CHAT_MODEL", "chat"), ("OLLAMA_MCP_EMBEDDING_MODEL", "embed")]
)
async def test_a_configured_model_that_is_not_there_is_told_and_not_replaced(bench, setting: str, ask: str):
    with anyio.fail_after(5):
        async with bench(chat_model="gone:1b", embedding_model="gone:1b") as b:
            with pytest.raises(ModelNotFound, match=rf'"gone:1b" of {setting} is not installed'):
                await (b.chat() if ask == "chat" else b.embed("x"))


@pytest.mark.parametrize("version", [v for v in VERSIONS if version_numbers(v) >= (0, 6, 4)])
async def test_only_a_model_that_can_do_it_is_chosen(bench, version: str):
    models = [
        Model("eyes:1b", EYES, modified_at=modified(1)),
        Model("configured:1b", CHAT),
        Model("loaded:1b", CHAT),
        Model("embed:1b", ("embedding",), modified_at=modified(9)),
    ]
    with anyio.fail_after(5):
        async with bench(*models, version=version, chat_model="configured:1b") as b:
            b.fake.models["loaded:1b"].load(4096)
            seen = await b.chat(messages=[{"role": "user", "content": "?", "images": [PIXEL]}])
            vectors = await b.embed("x")
    assert (seen.stats.model, seen.stats.chosen) == ("eyes:1b", "installed last")
    assert vectors.stats.model == "embed:1b"


async def test_a_named_model_is_not_called_chosen(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            assert (await b.chat(model="llama3.2:3b")).stats.chosen == ""


async def test_the_configured_model_is_used_without_asking_what_is_loaded(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", CHAT), chat_model="m") as b:
            b.fake.script(BROKEN, path="/api/ps")
            b.fake.script(BROKEN, path="/api/tags")
            assert (await b.chat()).stats.chosen == "configured"


async def test_a_server_that_cannot_say_what_is_loaded_still_has_a_newest_model(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(BROKEN, path="/api/ps")
            assert (await b.chat()).stats.model == "llama3.2:3b"


@pytest.mark.parametrize("version", ["0.33.0", "0.24.0"])
async def test_a_model_that_cannot_be_shown_is_passed_over(bench, version: str):
    models = [
        Model("broken:1b", CHAT, modified_at=modified(9)),
        Model("good:1b", CHAT, modified_at=modified(1)),
    ]
    with anyio.fail_after(5):
        async with bench(*models, version=version) as b:
            b.fake.models["broken:1b"].load(4096)
            b.fake.script(BROKEN, path="/api/show", model="broken:1b")
            assert (await b.chat()).stats.model == "good:1b"


async def test_a_server_that_dies_while_one_is_chosen_is_unreachable(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            await b.fake.stop()
            with pytest.raises(Unreachable):
                await b.chat()


async def test_nothing_that_fits_says_what_to_install(bench):
    with anyio.fail_after(5):
        async with bench(Model("embed:1b", ("embedding",))) as b:
            with pytest.raises(ModelNotFound, match="ollama pull"):
                await b.chat()
            b.fake.models.clear()
            with pytest.raises(ModelNotFound, match="ollama pull nomic-embed-text"):
                await b.embed("x")


# --- the cloud ---------------------------------------------------------------------------------


def cloud_models() -> list[Model]:
    return [
        Model("gpt-oss:120b-cloud", CHAT, modified_at=modified(9), remote_host="https://ollama.com:443"),
        Model("glm:cloud", CHAT, modified_at=modified(8)),
        Model("alias:8b", CHAT, modified_at=modified(7), remote_host="https://ollama.com:443", loaded=True),
    ]


@pytest.mark.parametrize("cloud", [False, True])
@pytest.mark.parametrize("version", ["0.33.0", "0.24.0", "0.6.0"])
async def test_a_cloud_model_is_never_picked(bench, version: str, cloud: bool):
    with anyio.fail_after(5):
        async with bench(*cloud_models(), version=version, cloud=cloud) as b:
            with pytest.raises(ModelNotFound):
                await b.chat()
            b.fake.add_model(Model("local:8b", CHAT, modified_at=modified(1)))
            answer = await b.chat()
    assert answer.stats.model == "local:8b"
    assert not answer.stats.cloud


async def test_an_allowed_cloud_model_that_the_operator_configured_is_used(bench):
    with anyio.fail_after(5):
        async with bench(*cloud_models(), cloud=True, chat_model="glm:cloud") as b:
            stats = (await b.chat()).stats
    assert (stats.model, stats.chosen, stats.cloud) == ("glm:cloud", "configured", True)


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "glm:cloud", "alias:8b", "not-installed:cloud"])
async def test_a_cloud_model_is_forbidden_before_a_word_leaves_the_machine(bench, name: str):
    with anyio.fail_after(5):
        async with bench(*cloud_models()) as b:
            for _ in range(2):
                with pytest.raises(Forbidden, match="OLLAMA_MCP_CLOUD=1"):
                    await b.chat("secret", model=name)
            assert not any(b"secret" in request.body for request in b.fake.requests)


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "alias:8b"])
async def test_an_answer_of_an_allowed_cloud_model_says_so(bench, name: str):
    with anyio.fail_after(5):
        async with bench(*cloud_models(), cloud=True) as b:
            answer = await b.chat(model=name)
    assert answer.stats.cloud
    assert answer.stats.as_data()["cloud"] is True


async def test_a_cloud_model_is_not_named_as_a_way_out(bench):
    eyes = Model("eyes:cloud", EYES, remote_host="https://ollama.com:443")
    with anyio.fail_after(5):
        async with bench(Model("blind:1b", CHAT), eyes) as b:
            with pytest.raises(CapabilityMissing) as caught:
                await b.generate(model="blind:1b", images=[PIXEL])
    assert caught.value.details == {"lacks": "vision", "having": []}


# --- capabilities ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("lacks", "arguments"),
    [
        ("vision", {"messages": [{"role": "user", "content": "?", "images": [PIXEL]}]}),
        ("tools", {"prompt": "?", "tools": [{"name": "f"}]}),
        ("thinking", {"prompt": "?", "think": "true"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_a_model_lacks_is_told_before_it_is_asked_on_every_version(
    bench, version: str, lacks: str, arguments: dict
):
    with anyio.fail_after(5):
        async with bench(Model("plain:1b", ("completion",)), version=version) as b:
            with pytest.raises(CapabilityMissing) as caught:
                await b.chat(**{"prompt": "", **arguments}, model="plain:1b")
            assert caught.value.details["lacks"] == lacks
            assert b.sent() == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_gap_is_filled_only_by_a_model_that_can(bench, version: str):
    coder = Model("coder:1b", ("completion", "insert"), template="{{ .Prompt }}{{ .Suffix }}")
    with anyio.fail_after(5):
        async with bench(Model("plain:1b", ("completion",)), coder, version=version) as b:
            with pytest.raises(CapabilityMissing) as caught:
                await b.generate(model="plain:1b", suffix="}")
            assert caught.value.details == {"lacks": "insert", "having": ["coder:1b"]}
            assert 'model="coder:1b"' in caught.value.remedy
            assert b.sent("/api/generate") == []
            await b.generate(model="coder:1b", suffix="}")


@pytest.mark.parametrize("version", ["0.33.0", "0.24.0", "0.6.4"])
async def test_an_embedding_model_does_not_chat_and_a_chat_model_does_not_embed(bench, version: str):
    with anyio.fail_after(5):
        async with bench(version=version) as b:
            with pytest.raises(CapabilityMissing) as chats:
                await b.chat(model="nomic-embed-text")
            with pytest.raises(CapabilityMissing) as embeds:
                await b.embed("x", model="llama3.2:3b")
            assert b.sent() == b.sent("/api/embed") == []
    assert chats.value.details["lacks"] == "completion"
    assert embeds.value.details == {"lacks": "embedding", "having": ["nomic-embed-text:latest"]}


async def test_what_a_model_lacks_is_told_also_where_nothing_else_can_be_said(bench):
    with anyio.fail_after(5):
        async with bench(Model("plain:1b", ("completion",))) as b:
            b.fake.script(BROKEN, path="/api/tags")
            with pytest.raises(CapabilityMissing) as caught:
                await b.chat(model="plain:1b", think="true")
    assert caught.value.details["having"] == []


async def test_thinking_is_left_to_the_model_where_the_caller_says_nothing_or_no(bench):
    with anyio.fail_after(5):
        async with bench(Model("plain:1b", ("completion",)), Model("t:1b", ("completion", "thinking"))) as b:
            await b.chat(model="plain:1b", think="false")
            await b.chat(model="t:1b", think="false")
            await b.chat(model="t:1b", think="high")
            await b.chat(model="t:1b")
            assert [body.get("think") for body in b.sent()] == [None, False, "high", None]


# --- names -------------------------------------------------------------------------------------


async def test_a_name_that_is_not_installed_comes_with_those_that_look_alike(bench):
    names = ["qwen3:8b", "qwen3:14b", "llama3.2:3b"]
    with anyio.fail_after(5):
        async with bench(*(Model(name, CHAT) for name in names)) as b:
            with pytest.raises(ModelNotFound) as caught:
                await b.chat(model="qwen3:7b")
            assert b.sent() == []
    error = caught.value
    assert set(error.details["similar"]) == {"qwen3:8b", "qwen3:14b"}
    assert f'model="{error.details["similar"][0]}"' in error.remedy
    assert "ollama pull qwen3:7b" in error.remedy


async def test_a_model_that_is_listed_and_not_found_is_to_be_installed_anew(bench):
    with anyio.fail_after(5):
        async with bench(Model("qwen3:8b", CHAT)) as b:
            b.fake.script(Script(status=404, body={"error": "model 'qwen3:8b' not found"}), path="/api/show")
            with pytest.raises(ModelNotFound, match="Ollama lists the model") as caught:
                await b.chat(model="Qwen3:8b")
    assert "alike" not in str(caught.value)
    assert caught.value.remedy.startswith("Install it anew with `ollama pull qwen3:8b`")


async def test_a_name_that_is_not_installed_is_told_also_where_the_list_fails(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(BROKEN, path="/api/tags")
            with pytest.raises(ModelNotFound, match="ollama pull nope"):
                await b.chat(model="nope")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a b", "x" * 1000, "a:b:c", "http://h/m", "\ud800", "-"]
)
async def test_a_name_that_can_be_none_is_refused_at_once(bench, name: str):
    with anyio.fail_after(5):
        async with bench() as b:
            with pytest.raises(InvalidArgument):
                await b.chat(model=name)
            assert b.fake.requests == []


async def test_every_spelling_of_a_name_is_the_same_model(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", CHAT)) as b:
            for name in ("m", " m ", "m:latest", "library/m", "registry.ollama.ai/library/m:latest"):
                assert await b.chat(model=name)
            assert len(b.sent("/api/show")) == 1


async def test_a_model_is_looked_up_again_after_a_minute(bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ollama_mcp.services.catalog._FRESH_S", 0.0)
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            await b.chat(model="m")
            b.fake.models["m:latest"].capabilities = CHAT
            await b.chat(model="m", tools=[{"name": "f"}])


async def test_a_model_that_has_learnt_something_is_not_refused_for_a_minute(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            await b.chat(model="m")
            b.fake.models["m:latest"].capabilities = CHAT
            await b.chat(model="m", tools=[{"name": "f"}])


# --- the list ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_list_has_every_model_the_newest_first(bench, version: str):
    models = [Model(f"m{day}:1b", CHAT, modified_at=modified(day)) for day in range(1, 29)]
    with anyio.fail_after(5):
        async with bench(*models, cloud_models()[0], version=version) as b:
            b.fake.models["m3:1b"].load(4096)
            b.fake.script(BROKEN, path="/api/show", model="m5:1b")
            rows = await b.app.catalog.listed()
    names = [row.info.name for row in rows]
    assert [name for name in names if name != "gpt-oss:120b-cloud"] == [
        f"m{day}:1b" for day in range(28, 0, -1)
    ]
    assert [row.info.name for row in rows if row.running] == ["m3:1b"]
    assert [row.info.name for row in rows if row.model.is_cloud] == ["gpt-oss:120b-cloud"]
    assert all("completion" in row.model.capabilities for row in rows if row.info.name != "m5:1b")


async def test_a_model_that_looked_local_and_answers_from_the_cloud_is_stopped(bench):
    away = Script(
        lines=[b'{"message":{"content":"hi"},"remote_host":"https://ollama.com:443","done":false}\n']
    )
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(away, path="/api/chat")
            with pytest.raises(Forbidden, match="leave this machine"):
                await b.chat()


async def test_a_forbidden_cloud_model_is_not_proposed(bench):
    with anyio.fail_after(5):
        async with bench(*cloud_models(), Model("local:8b", CHAT)) as b:
            with pytest.raises(ModelNotFound) as told:
                await b.chat(model="gpt-oss:120b")
    assert "cloud" not in str(told.value)


async def test_vectors_from_the_cloud_say_so(bench):
    away = Model("ee:cloud", ("embedding",), remote_host="https://ollama.com:443")
    with anyio.fail_after(5):
        async with bench(away, cloud=True) as b:
            assert (await b.embed("x", model="ee:cloud")).stats.as_data()["cloud"] is True
