"""The official Ollama client drives every endpoint."""

import hashlib
import math

import anyio
import ollama
import pytest

from ollama_mcp.testing import FakeOllama, Model, Script, vector

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture(autouse=True)
async def limit(anyio_backend: str):
    with anyio.fail_after(10):
        yield


async def test_a_chat_answers_what_was_said_word_by_word(client):
    parts = [part async for part in await client.chat("llama3.2:3b", HELLO, stream=True)]
    assert [part.message.content for part in parts] == ["You", " said:", " hello", " there", ""]
    assert [part.done for part in parts] == [False] * 4 + [True]
    assert (parts[-1].done_reason, parts[-1].prompt_eval_count, parts[-1].eval_count) == ("stop", 2, 4)


async def test_a_chat_without_streaming_is_the_same_in_one_piece(client):
    whole = await client.chat("llama3.2:3b", HELLO)
    assert whole.message.content == "You said: hello there"
    assert whole.done
    assert whole.eval_count == 4


async def test_generate_answers_the_prompt_and_brings_the_context(client):
    whole = await client.generate("llama3.2:3b", "one two")
    assert whole.response == "You said: one two"
    assert len(whole.context) == whole.prompt_eval_count + whole.eval_count


async def test_scripted_thinking_text_and_calls_come_in_that_order(client, fake: FakeOllama):
    call = {"name": "weather", "arguments": {"city": "Paris"}}
    fake.script(Script(thinking=["hm", "m"], tokens=["a", "b"], tool_calls=[call, call]))
    parts = [part.message async for part in await client.chat("llama3.2:3b", HELLO, stream=True)]
    assert [part.thinking for part in parts[:2]] == ["hm", "m"]
    assert [part.content for part in parts[2:4]] == ["a", "b"]
    assert [part.tool_calls[0].function.arguments for part in parts[4:6]] == [{"city": "Paris"}] * 2
    whole = (await client.chat("llama3.2:3b", HELLO)).message
    assert (whole.thinking, whole.content, len(whole.tool_calls)) == ("hmm", "ab", 2)


async def test_a_thinking_model_thinks_unless_it_is_told_not_to(client, fake: FakeOllama):
    fake.add_model(Model("qwen3:8b", capabilities=("completion", "thinking")))
    assert (await client.chat("qwen3:8b", HELLO)).message.thinking == "Let me think."
    assert (await client.chat("qwen3:8b", HELLO, think=False)).message.thinking is None
    assert (await client.generate("qwen3:8b", "x", think="high")).thinking == "Let me think."


async def test_num_predict_cuts_the_default_answer(client):
    whole = await client.chat("llama3.2:3b", HELLO, options={"num_predict": 2})
    assert (whole.message.content, whole.done_reason, whole.eval_count) == ("You said:", "length", 2)


@pytest.mark.parametrize(
    ("stop", "text"), [("hello", "You said: "), ("th", "You said: hello "), ("zz", "You said: hello there")]
)
async def test_a_stop_text_ends_the_default_answer_before_it(client, stop, text):
    whole = await client.chat("llama3.2:3b", HELLO, options={"stop": [stop]})
    assert (whole.message.content, whole.done_reason) == (text, "stop")


async def test_format_gets_json_that_fits_the_schema(client):
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 6},
            "kind": {"enum": ["big", "small"]},
            "years": {"type": "array", "items": {"type": "integer", "minimum": 1900}, "minItems": 2},
            "mayor": {"$ref": "#/$defs/person"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "$defs": {"person": {"type": "object", "properties": {"name": {"const": "Ada"}}}},
    }
    answer = (await client.chat("llama3.2:3b", HELLO, format=schema)).message.content
    assert answer == ('{"city":"fake--","kind":"big","years":[1900,1900],"mayor":{"name":"Ada"},"note":null}')
    assert (await client.chat("llama3.2:3b", HELLO, format="json")).message.content == '{"answer":"fake"}'


async def test_a_schema_that_refers_to_itself_has_an_end(client):
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert (await client.chat("llama3.2:3b", HELLO, format=tree)).message.content.startswith('{"left":{')


async def test_logprobs_come_when_asked_for(client):
    whole = [part async for part in await client.chat("llama3.2:3b", HELLO, stream=True, logprobs=True)]
    assert whole[0].logprobs[0].token == "You"


async def test_embedding_gives_the_same_unit_vector_for_the_same_text(client):
    one = await client.embed("nomic-embed-text", "a cat")
    many = await client.embed("nomic-embed-text", ["a cat", "", "a dog"])
    assert one.embeddings[0] == many.embeddings[0] == vector("a cat")
    assert len(many.embeddings) == 3
    assert all(math.isclose(math.hypot(*row), 1, abs_tol=1e-6) for row in many.embeddings)
    assert many.prompt_eval_count == 4


async def test_dimensions_shorten_a_vector_and_keep_its_length(client):
    row = (await client.embed("nomic-embed-text", "a cat", dimensions=16)).embeddings[0]
    assert len(row) == 16
    assert math.isclose(math.hypot(*row), 1, abs_tol=1e-6)


async def test_an_empty_text_alone_embeds_to_nothing(client):
    assert (await client.embed("nomic-embed-text", "")).embeddings == []
    assert (await client.embed("nomic-embed-text", [])).embeddings == []


async def test_the_legacy_embedding_is_there(client):
    assert (await client.embeddings("nomic-embed-text", "a cat")).embedding == vector("a cat")


async def test_tags_show_and_ps_describe_the_models(client, fake: FakeOllama):
    fake.add_model(
        Model("qwen3:8b", ("completion", "tools", "thinking"), 40960, 5_200_000_000, "8.2B", family="qwen3")
    )
    listed = {model.model: model for model in (await client.list()).models}
    assert listed["qwen3:8b"].details.parameter_size == "8.2B"
    shown = await client.show("qwen3:8b")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo["qwen3.context_length"] == 40960
    assert (await client.ps()).models == []
    await client.chat("qwen3:8b", HELLO, options={"num_ctx": 8192})
    assert [(model.model, model.context_length) for model in (await client.ps()).models] == [
        ("qwen3:8b", 8192)
    ]


async def test_an_empty_prompt_loads_and_keep_alive_0_unloads(client, fake: FakeOllama):
    assert (await client.generate("llama3.2:3b", keep_alive=-1)).done_reason == "load"
    assert fake.models["llama3.2:3b"].running
    assert (await client.ps()).models[0].expires_at.year > 2200
    assert (await client.generate("llama3.2:3b", keep_alive=0)).done_reason == "unload"
    assert not fake.models["llama3.2:3b"].running


async def test_a_model_stays_loaded_as_long_as_the_call_says(client, fake: FakeOllama):
    model = fake.models["llama3.2:3b"]
    for alive, running in ((None, True), (0, False), ("5m", True), ("0s", False), (-1, True)):
        await client.chat("llama3.2:3b", HELLO, keep_alive=alive)
        assert model.running is running


async def test_a_model_can_be_loaded_from_the_start(client, fake: FakeOllama):
    fake.add_model(Model("small", context_length=512, loaded=True))
    assert [model.context_length for model in (await client.ps()).models] == [512]


async def test_the_youngest_model_is_listed_first(client, fake: FakeOllama):
    fake.add_model(Model("young", modified_at="2027-01-01T00:00:00Z"))
    fake.add_model(Model("old", modified_at="2020-01-01T00:00:00Z"))
    listed = [model.model for model in (await client.list()).models]
    assert (listed[0], listed[-1]) == ("young:latest", "old:latest")


async def test_another_window_loads_the_model_again(client, fake: FakeOllama):
    for window in (4096, 4096, 2048):
        await client.chat("llama3.2:3b", HELLO, options={"num_ctx": window})
    assert fake.models["llama3.2:3b"].loads == 2


async def test_a_window_is_never_longer_than_the_models_own(client, fake: FakeOllama):
    await client.chat("llama3.2:3b", HELLO, options={"num_ctx": 10_000_000})
    assert fake.models["llama3.2:3b"].window == 131_072


async def test_a_pull_shows_progress_and_then_the_model_is_there(client, fake: FakeOllama):
    fake.registry["mine:1b"] = Model("mine:1b", size=5_000_000, capabilities=("completion", "vision"))
    lines = [line async for line in await client.pull("mine:1b", stream=True)]
    assert lines[0].status == "pulling manifest"
    assert lines[-1].status == "success"
    weights = [line for line in lines if line.total and line.total > 1e6]
    assert [line.completed for line in weights] == sorted(line.completed for line in weights)
    assert weights[-1].completed == weights[-1].total
    assert "vision" in fake.models["mine:1b"].capabilities


async def test_a_scripted_pull_that_fails_installs_nothing(client, fake: FakeOllama):
    fake.pull_script = [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        _ = [line async for line in await client.pull("nope:1b", stream=True)]
    with pytest.raises(ollama.ResponseError, match="file does not exist") as caught:
        await client.pull("nope:1b")
    assert caught.value.status_code == 500
    assert "nope:1b" not in fake.models


async def test_a_pull_that_the_client_leaves_installs_nothing(client, fake: FakeOllama):
    fake.script(Script(delay=0.05), path="/api/pull")
    with anyio.move_on_after(0.12):
        _ = [line async for line in await client.pull("mine:1b", stream=True)]
    await fake.wait_for(lambda fake: fake.disconnects)
    assert "mine:1b" not in fake.models


async def test_a_pull_without_streaming_says_success(client):
    assert (await client.pull("all-minilm:22m")).status == "success"
    assert len((await client.embed("all-minilm:22m", "x")).embeddings) == 1


async def test_a_push_of_a_model_that_is_there_succeeds(client):
    lines = [line async for line in await client.push("llama3.2:3b", stream=True)]
    assert lines[-1].status == "success"


async def test_create_derives_a_model(client, fake: FakeOllama):
    made = await client.create(
        "pirate",
        from_="llama3.2:3b",
        system="You are a pirate.",
        parameters={"stop": ["Arr", "Yo"], "top_k": 3},
    )
    assert made.status == "success"
    shown = await client.show("pirate")
    assert (shown.details.parent_model, shown.capabilities) == ("llama3.2:3b", ["completion", "tools"])
    assert '"Arr"' in shown.parameters
    assert fake.models["pirate:latest"].system == "You are a pirate."


async def test_create_reads_capabilities_from_a_template(client, fake: FakeOllama):
    await client.create("t", from_="llama3.2:3b", template="<think>{{ .Tools }}{{ .Suffix }}")
    assert fake.models["t:latest"].capabilities == ("completion", "tools", "insert", "thinking")


async def test_a_created_parameter_of_a_wrong_type_breaks_the_first_chat(client):
    await client.create("broken", from_="llama3.2:3b", parameters={"temperature": "hot"})
    with pytest.raises(ollama.ResponseError, match="must be of type float32") as caught:
        await client.chat("broken", HELLO)
    assert caught.value.status_code == 500


async def test_copy_and_delete_change_what_is_installed(client, fake: FakeOllama):
    await client.copy("llama3.2:3b", "mine")
    assert "mine:latest" in fake.models
    await client.delete("mine")
    assert "mine:latest" not in fake.models
    with pytest.raises(ollama.ResponseError, match="model 'mine' not found"):
        await client.delete("mine")


async def test_a_blob_is_kept_when_its_digest_is_right(client, fake: FakeOllama, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF and so on")
    digest = await client.create_blob(tmp_path / "m.gguf")
    assert digest == f"sha256:{hashlib.sha256(b'GGUF and so on').hexdigest()}"
    await client.create_blob(tmp_path / "m.gguf")
    assert list(fake.blobs) == [digest]
    assert (await client.create("made", files={"m.gguf": digest})).status == "success"


async def test_a_cloud_model_shows_where_it_runs(client, fake: FakeOllama):
    fake.add_model(Model("gpt-oss:120b-cloud", remote_host="https://ollama.com:443"))
    listed = (await client._request_raw("GET", "/api/tags")).json()["models"]
    assert any(model.get("remote_host") == "https://ollama.com:443" for model in listed)


async def test_the_web_endpoints_of_the_cloud_want_a_key(client):
    response = await client._client.post("/api/web_search", json={"query": "x"})
    assert response.status_code == 401
    key = {"Authorization": "Bearer k"}
    found = await client._client.post("/api/web_search", json={"query": "x"}, headers=key)
    assert found.json()["results"][0]["content"] == "x"
    page = await client._client.post("/api/web_fetch", json={"url": "https://a.b"}, headers=key)
    assert page.json()["content"] == "Fetched https://a.b"
