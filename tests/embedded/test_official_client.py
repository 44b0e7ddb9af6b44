"""The official client makes every call that the engine claims to support."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta

import ollama
import pytest

pytestmark = pytest.mark.engine

CHAT, EMBED = "smollm2:135m", "all-minilm:22m"
QUIET = {"temperature": 0, "seed": 7, "num_predict": 12}
HI = [{"role": "user", "content": "Say hi."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": ["small", "large"]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


def test_list_shows_both_models_with_what_they_can_do(official, http):
    assert {model.model for model in official.list().models} == {CHAT, EMBED}
    abilities = {model["name"]: model["capabilities"] for model in http.get("/api/tags").json()["models"]}
    assert abilities == {CHAT: ["completion"], EMBED: ["embedding"]}


def test_show(official):
    shown = official.show(CHAT)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["llama.context_length"] == 8192


def test_version_says_that_it_is_embedded(http):
    assert http.get("/api/version").json() == {"version": "0.0.0-embedded"}


@pytest.mark.parametrize("stream", [True, False])
def test_chat(official, stream):
    answer = official.chat(CHAT, HI, options=QUIET, stream=stream)
    parts = list(answer) if stream else [answer]
    assert "".join(part.message.content for part in parts)
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    check_figures(parts[-1])


@pytest.mark.parametrize("stream", [True, False])
def test_generate(official, stream):
    answer = official.generate(CHAT, "Say hi.", system="Be short.", options=QUIET, stream=stream)
    parts = list(answer) if stream else [answer]
    assert "".join(part.response for part in parts)
    assert parts[-1].context[:2] == [1, 9690]
    check_figures(parts[-1])


def check_figures(last) -> None:
    assert last.done_reason in {"stop", "length"}
    assert 0 < last.eval_count <= QUIET["num_predict"]
    assert last.prompt_eval_count > 5
    parts = last.load_duration, last.prompt_eval_duration, last.eval_duration
    assert all(isinstance(part, int) and part > 0 for part in parts)
    assert max(parts) <= last.total_duration < 60e9


def test_a_stream_and_a_whole_answer_are_the_same(official):
    whole = official.chat(CHAT, HI, options=QUIET)
    parts = list(official.chat(CHAT, HI, options=QUIET, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert (parts[-1].eval_count, parts[-1].prompt_eval_count) == (whole.eval_count, whole.prompt_eval_count)


@pytest.mark.parametrize("options", [QUIET, {"temperature": 1.5, "seed": 42, "num_predict": 12}])
def test_the_same_request_gives_the_same_answer_whatever_ran_between(official, options):
    first = official.generate(CHAT, "Once upon a time", options=options).response
    official.chat(CHAT, HI, options={"seed": 1, "num_predict": 3})
    assert official.generate(CHAT, "Once upon a time", options=options).response == first


def test_other_seeds_give_other_answers(official):
    answers = {
        official.generate(
            CHAT, "Once upon", options={"temperature": 1.5, "seed": seed, "num_predict": 12}
        ).response
        for seed in (1, 2, 3)
    }
    assert len(answers) > 1


def test_without_a_seed_answers_differ(official):
    options = {"temperature": 1.5, "num_predict": 12}
    assert len({official.generate(CHAT, "Once upon", options=options).response for _ in range(3)}) > 1


def test_context_goes_on_from_an_earlier_answer(official):
    first = official.generate(CHAT, "My name is Ada.", options=QUIET)
    second = official.generate(CHAT, "Hello", context=first.context, options=QUIET)
    alone = official.generate(CHAT, "Hello", options=QUIET)
    assert second.prompt_eval_count > alone.prompt_eval_count + len(first.context) - 3


def test_every_option_is_taken(official):
    options = {
        "temperature": 0.9, "seed": 7, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.9,
        "repeat_penalty": 1.2, "repeat_last_n": 32, "presence_penalty": 0.5, "frequency_penalty": 0.5,
        "num_predict": 3, "num_keep": 2, "stop": ["\n"],
    }  # fmt: skip
    assert official.chat(CHAT, HI, options=options).eval_count <= 3


def test_top_k_of_one_is_the_same_as_no_temperature(official):
    greedy = official.generate(CHAT, "Once upon", options=QUIET).response
    hot = {"temperature": 2.0, "top_k": 1, "seed": 3, "num_predict": 12}
    assert official.generate(CHAT, "Once upon", options=hot).response == greedy


def test_a_stop_text_ends_the_answer_and_is_not_in_it(official):
    whole = official.generate(CHAT, "Count: 1, 2,", raw=True, options=QUIET).response
    middle = whole[4:6]
    cut = official.generate(CHAT, "Count: 1, 2,", raw=True, options={**QUIET, "stop": [middle]})
    assert cut.response == whole[: whole.index(middle)]
    assert cut.done_reason == "stop"


def test_raw_has_no_template_and_no_context(official):
    raw = official.generate(CHAT, "One", raw=True, options=QUIET)
    assert (raw.prompt_eval_count, raw.context) == (1, None)


@pytest.mark.parametrize("content", ["A JSON object about a cat", "Hi"])
def test_format_json_is_an_object(official, content):
    options = {**QUIET, "num_predict": 80}
    answer = official.chat(CHAT, [{"role": "user", "content": content}], format="json", options=options)
    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.message.content), dict)
    assert answer.message.content.startswith("{")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_schema_is_kept_to(official, seed):
    options = {"temperature": 1.0, "seed": seed, "num_predict": 60}
    answer = official.chat(CHAT, HI, format=SCHEMA, options=options)
    value = json.loads(answer.message.content)
    assert set(value) == {"city", "size"}
    assert value["size"] in {"small", "large"}
    assert answer.done_reason == "stop"


def test_a_schema_cut_off_says_length(official):
    assert official.chat(CHAT, HI, format=SCHEMA, options={**QUIET, "num_predict": 3}).done_reason == "length"


@pytest.mark.parametrize("schema", [{"type": "obj"}, {"$ref": "http://example.com/x"}])
def test_a_schema_that_cannot_be_enforced_is_refused_instead_of_ignored(official, schema):
    with pytest.raises(ollama.ResponseError, match="invalid JSON schema in format"):
        official.chat(CHAT, HI, format=schema, options=QUIET)


def test_keywords_that_cannot_be_enforced_are_ignored_as_in_ollama(official):
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 2}
    value = json.loads(
        official.chat(CHAT, HI, format=schema, options={**QUIET, "num_predict": 60}).message.content
    )
    assert isinstance(value, list)


@pytest.mark.parametrize("texts", ["one text", ["a", "b", "", "c d"]])
def test_embed(official, texts):
    answer = official.embed(EMBED, texts)
    assert len(answer.embeddings) == (1 if isinstance(texts, str) else len(texts))
    for vector in answer.embeddings:
        assert len(vector) == 384
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


def test_a_text_embeds_alone_as_in_a_list(official):
    alone = official.embed(EMBED, "The sky is blue.").embeddings[0]
    assert official.embed(EMBED, ["other", "The sky is blue."]).embeddings[1] == alone


def test_fewer_dimensions(official):
    vector = official.embed(EMBED, "x", dimensions=10).embeddings[0]
    assert len(vector) == 10
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("call", ["pull", "push", "delete"])
def test_what_changes_models_says_that_it_cannot(official, call):
    with pytest.raises(ollama.ResponseError, match=f"cannot {call}") as caught:
        getattr(official, call)("llama3")
    assert caught.value.status_code == 501


def test_create_copy_and_the_old_embeddings_say_that_they_cannot(official):
    for call in (
        lambda: official.create("x", from_=CHAT),
        lambda: official.copy(CHAT, "x"),
        lambda: official.embeddings(EMBED, "x"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == 501


@pytest.mark.parametrize(
    "name", ["SmolLM2:135M", "library/smollm2:135m", "registry.ollama.ai/library/smollm2:135m"]
)
def test_other_spellings_of_a_name(official, name):
    assert official.generate(name, "Hi", options={"num_predict": 1}).model == name


def test_a_name_without_a_tag_means_latest_which_is_not_there(official):
    with pytest.raises(ollama.ResponseError, match="model 'smollm2' not found"):
        official.chat("smollm2", HI)


@pytest.mark.parametrize("more", [{"template": "{{ .Prompt }}"}, {"logprobs": True}])
def test_a_field_that_the_engine_has_not_is_refused_in_words(official, more):
    with pytest.raises(ollama.ResponseError, match=f"does not support {next(iter(more))}") as caught:
        official.generate(CHAT, "x", **more)
    assert caught.value.status_code == 400


def test_keep_alive_sets_when_the_model_goes(official):
    official.generate(CHAT, "Hi", keep_alive="1h", options={"num_predict": 1})
    assert timedelta(minutes=59) < left(official, CHAT) < timedelta(minutes=61)
    official.generate(CHAT, "Hi", keep_alive=-1, options={"num_predict": 1})
    assert left(official, CHAT) > timedelta(days=100 * 365)
    official.generate(CHAT, "Hi", options={"num_predict": 1})
    assert timedelta(minutes=4) < left(official, CHAT) < timedelta(minutes=6)


def left(official, name: str) -> timedelta:
    expires = {model.model: model.expires_at for model in official.ps().models}
    return expires[name] - datetime.now(UTC)


def names(official) -> set[str]:
    return {model.model for model in official.ps().models}


def test_load_and_unload(official):
    assert official.generate(CHAT, "").done_reason == "load"
    assert CHAT in names(official)
    assert official.chat(CHAT, [], keep_alive=0).done_reason == "unload"
    assert CHAT not in names(official)
    assert official.chat(CHAT, []).done_reason == "load"
    official.embed(EMBED, "x", keep_alive=0)
    assert names(official) == {CHAT}


def test_keep_alive_of_nothing_unloads_after_the_answer(official):
    assert official.generate(CHAT, "Hi", keep_alive=0, options={"num_predict": 1}).response
    assert CHAT not in names(official)


def test_a_model_goes_when_its_time_is_up(official, http):
    official.embed(EMBED, "x", keep_alive=0.05)
    wait_until(lambda: EMBED not in names(official))


def wait_until(condition) -> None:
    async def poll() -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    asyncio.run(poll())


def test_num_ctx_is_what_is_loaded_up_to_a_limit(official):
    for asked, got in ((512, 512), (4096, 4096), (10**6, 8192), (None, 2048)):
        options = {"num_predict": 1} | ({"num_ctx": asked} if asked else {})
        official.generate(CHAT, "Hi", options=options)
        assert {m.model: m.context_length for m in official.ps().models}[CHAT] == got


def words(count: int) -> str:
    return " ".join(f"w{number % 10}" for number in range(count))


def test_a_larger_window_holds_what_a_smaller_refused(http):
    def send(num_ctx: int):
        options = {"num_ctx": num_ctx, "num_predict": 1}
        ask = {"model": CHAT, "prompt": words(150), "truncate": False, "stream": False, "options": options}
        return http.post("/api/generate", json=ask)

    refused = send(256)
    inner = json.loads(json.loads(refused.text)["error"])["error"]
    assert (refused.status_code, inner["n_ctx"]) == (400, 256)
    fits = send(512)
    assert fits.json()["prompt_eval_count"] == inner["n_prompt_tokens"] > 256


def test_a_long_prompt_is_cut_in_the_middle_unless_refused(http):
    ask = {
        "model": CHAT,
        "prompt": words(400),
        "stream": False,
        "options": {"num_ctx": 256, "num_predict": 1},
    }
    # num_ctx - (num_ctx - 4) // 2, as in the recordings.
    assert http.post("/api/generate", json=ask).json()["prompt_eval_count"] == 130


def test_old_messages_are_dropped_until_the_rest_fits(http):
    talk = [{"role": "system", "content": "Be short."}]
    for number in range(20):
        talk += [
            {"role": "user", "content": f"{number} {words(20)}"},
            {"role": "assistant", "content": "noted"},
        ]
    talk.append({"role": "user", "content": "What was the first?"})
    ask = {"model": CHAT, "messages": talk, "stream": False, "options": {"num_ctx": 256, "num_predict": 1}}
    assert 150 < http.post("/api/chat", json=ask).json()["prompt_eval_count"] < 256


def test_an_answer_ends_where_the_window_ends(http):
    options = {"num_ctx": 256, "num_predict": 1000, "temperature": 0, "stop": []}
    ask = {"model": CHAT, "prompt": f"1 2 3 {words(80)}", "raw": True, "stream": False, "options": options}
    answer = http.post("/api/generate", json=ask).json()
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] <= 257


@pytest.mark.anyio
async def test_the_asynchronous_client(engine):
    client = ollama.AsyncClient(engine.url, timeout=60)
    try:
        parts = [part async for part in await client.chat(CHAT, HI, stream=True, options=QUIET)]
        assert parts[-1].done
    finally:
        await client._client.aclose()
