"""Arguments as real callers send them."""

import json
import re
from math import inf, nan
from typing import Any

import anyio
import pytest

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.settings import Settings
from ollama_mcp.testing import FakeOllama
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.arguments import ArgumentCheck

pytestmark = pytest.mark.anyio

NOTES = "ollama-mcp/notes"
ERROR = "ollama-mcp/error"
HELLO = [{"role": "user", "content": "hello"}]


def text_of(result: Any) -> str:
    return result.content[0].text


def sent(fake: FakeOllama, path: str = "/api/chat") -> dict[str, Any]:
    return fake.asked(path)[-1].json


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "wrong", "right"),
    [
        ("ollama_chat", "promt", '"prompt"'),
        ("ollama_chat", "Prompt", '"prompt"'),
        ("ollama_chat", "keepAlive", '"keep_alive"'),
        ("ollama_chat", "temprature", '"temperature" in options'),
        ("ollama_chat", "num_ctxt", '"num_ctx" in options'),
        ("ollama_generate", "sufix", '"suffix"'),
        ("ollama_embeddings", "inputs", '"input"'),
        ("ollama_embeddings", "vector", '"vectors"'),
        ("ollama_list_models", "capabilities", '"capability"'),
    ],
)
async def test_a_near_miss_of_a_name_is_told_with_the_name_that_is_meant(call, tool, wrong, right):
    result = await call(tool, {"prompt": "x", "input": ["x"], wrong: "x"})
    assert result.is_error
    assert text_of(result).startswith("INVALID_ARGUMENT: ")
    assert f"Send it as {right}." in text_of(result)


async def test_an_unknown_name_is_told_before_a_missing_one(call):
    assert '"promt"' in text_of(await call("ollama_generate", promt="x"))
    assert '"prompt" is missing' in text_of(await call("ollama_generate"))


@pytest.mark.parametrize(("tool", "name"), [("ollama_generate", "prompt"), ("ollama_embeddings", "input")])
async def test_a_required_argument_that_is_missing_is_named(call, tool, name):
    result = await call(tool)
    assert text_of(result).startswith(f'INVALID_ARGUMENT: "{name}" is missing. Send "{name}", ')
    assert result.meta[ERROR]["code"] == "INVALID_ARGUMENT"


async def test_a_name_that_is_like_none_of_ours_is_told_with_the_one_that_is_missing(call):
    said = text_of(await call("ollama_embeddings", texts=["a"]))
    assert said.startswith('INVALID_ARGUMENT: "input" is missing, and "texts" is no argument. Send "input", ')


async def test_a_required_argument_that_is_null_is_missing(call):
    assert '"prompt" is missing' in text_of(await call("ollama_generate", prompt=None))


async def test_what_hosts_inject_is_ignored_without_a_word(call, fake):
    result = await call("ollama_chat", prompt="x", wait_for_previous=True, toolCallId="1", sessionId="s")
    assert not result.is_error
    assert NOTES not in result.meta


async def test_another_stranger_is_ignored_with_a_note(call):
    result = await call("ollama_chat", prompt="x", reason_for_calling="why not", zzz={"a": 1})
    assert not result.is_error
    assert result.meta[NOTES] == [
        "argument reason_for_calling was ignored: ollama_chat has none of that name",
        "argument zzz was ignored: ollama_chat has none of that name",
    ]


async def test_notes_on_arguments_stand_beside_those_of_the_call(call):
    result = await call("ollama_chat", prompt="x", zzz=1, options={"mirostat": 2})
    assert len(result.meta[NOTES]) == 2


async def test_names_with_line_ends_and_surrogates_stay_in_one_readable_line(call):
    error = await call("ollama_chat", {"promp\nt": "x"})
    assert text_of(error).count("\n") == 0
    noted = await call("ollama_chat", {"prompt": "x", "z\n\ud800z": 1})
    [note] = noted.meta[NOTES]
    assert "\n" not in note
    assert note.encode()


# --- options -----------------------------------------------------------------------------------


async def test_options_at_the_top_level_are_options(call, fake):
    options = {"temperature": 0.5, "max_tokens": 9, "num_ctx": 2048, "stop": "END", "seed": 3}
    result = await call("ollama_chat", {"prompt": "x", **options})
    assert not result.is_error
    assert NOTES not in result.meta
    assert sent(fake)["options"] == {
        "temperature": 0.5, "num_predict": 9, "num_ctx": 2048, "stop": ["END"], "seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize("top", ["max_tokens", "num_predict"])
async def test_explicit_options_win_over_those_at_the_top_level(call, fake, top):
    arguments = {"prompt": "x", "temperature": 1, top: 5, "seed": 7}
    await call("ollama_chat", {**arguments, "options": {"temperature": 0, "num_predict": 6}})
    assert sent(fake)["options"] == {"temperature": 0.0, "num_predict": 6, "seed": 7}


async def test_an_option_without_a_place_is_a_stranger(call):
    result = await call("ollama_list_models", temperature=1)
    assert not result.is_error
    assert result.meta[NOTES]


async def test_a_misspelt_option_is_told_with_the_nearest_name(call):
    text = text_of(await call("ollama_chat", prompt="x", options={"temperatur": 1}))
    assert text.startswith("UNKNOWN_OPTION: ")
    assert '"temperature"' in text


@pytest.mark.parametrize("options", [{"temperature": True}, {"seed": "many"}, {"num_ctx": 0.5}, {"stop": {}}])
async def test_an_option_of_the_wrong_kind_is_told_with_the_right_one(call, options):
    text = text_of(await call("ollama_chat", prompt="x", options=options))
    assert text.startswith("INVALID_ARGUMENT: option ")


# --- values ------------------------------------------------------------------------------------


async def test_numbers_and_booleans_in_strings_are_understood(call, fake):
    result = await call("ollama_embeddings", input=["a"], dimensions="4", truncate="True", vectors="FULL")
    assert not result.is_error
    assert sent(fake, "/api/embed")["dimensions"] == 4
    assert sent(fake, "/api/embed")["truncate"] is True
    assert len(result.structured_content["vectors"][0]) == 4


async def test_numbers_and_booleans_are_understood_where_texts_are_wanted(call, fake):
    await call("ollama_chat", prompt=5, keep_alive=300, think=False)
    assert sent(fake)["messages"][-1]["content"] == "5"
    assert sent(fake)["keep_alive"] == 300


async def test_json_text_is_understood_for_lists_and_objects(call, fake):
    await call("ollama_chat", messages='[{"role":"user","content":"hi"}]', options='{"seed": 1}')
    assert sent(fake)["messages"] == [{"role": "user", "content": "hi"}]
    assert sent(fake)["options"] == {"seed": 1}


async def test_json_text_of_an_object_is_understood_inside_a_list(call, fake):
    await call("ollama_chat", messages=['{"role":"user","content":"hi"}'])
    assert sent(fake)["messages"] == [{"role": "user", "content": "hi"}]


async def test_a_bare_string_is_one_input(call, fake):
    await call("ollama_embeddings", input="just this")
    assert sent(fake, "/api/embed")["input"] == ["just this"]


async def test_json_text_of_a_list_is_several_inputs(call, fake):
    await call("ollama_embeddings", input='["a", "b"]')
    assert sent(fake, "/api/embed")["input"] == ["a", "b"]


@pytest.mark.parametrize("text", ["[not a list", "[1, 2", '{"a": 1}'])
async def test_what_only_looks_like_json_is_one_input(call, fake, text):
    await call("ollama_embeddings", input=text)
    assert sent(fake, "/api/embed")["input"] == [text]


async def test_null_means_absent(call, fake):
    names = "model prompt system options format schema tools think keep_alive truncate temperature zzz"
    result = await call("ollama_chat", dict.fromkeys(names.split()) | {"messages": HELLO})
    assert not result.is_error
    assert NOTES not in result.meta
    assert sent(fake)["messages"] == HELLO
    assert not sent(fake).keys() & {"options", "format", "tools", "think", "keep_alive"}


async def test_an_empty_text_where_no_text_belongs_means_absent(call, fake):
    names = "messages options schema tools truncate"
    assert not (await call("ollama_chat", dict.fromkeys(names.split(), "") | {"prompt": "x"})).is_error
    assert not (await call("ollama_generate", prompt="x", images="", raw="")).is_error
    empty = {"dimensions": "", "truncate": "", "vectors": ""}
    assert not (await call("ollama_embeddings", {"input": ["x"], **empty})).is_error
    assert '"input" is missing' in text_of(await call("ollama_embeddings", input=""))


@pytest.mark.parametrize("message", [HELLO[0], json.dumps(HELLO[0])])
async def test_one_object_is_a_list_of_one(call, fake, message):
    await call("ollama_chat", messages=message)
    assert sent(fake)["messages"] == HELLO


async def test_a_schema_in_the_place_where_ollamas_own_api_has_it_is_taken(call, fake):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert not (await call("ollama_chat", prompt="x", format=schema)).is_error
    assert sent(fake)["format"] == schema
    assert not (await call("ollama_chat", prompt="x", format={"type": "array"}, schema=schema)).is_error
    assert sent(fake)["format"] == schema


@pytest.mark.parametrize(("capability", "meant"), [("visoin", '"vision"'), ("chat", '"completion"')])
async def test_a_capability_that_does_not_exist_is_told_with_those_that_do(call, capability, meant):
    result = await call("ollama_list_models", capability=capability)
    assert text_of(result).startswith(f'INVALID_ARGUMENT: no model can have the capability "{capability}"')
    assert meant in text_of(result)


async def test_a_misspelt_capability_is_told_before_ollama_is_asked(connect):
    async with connect(OLLAMA_HOST="127.0.0.1:1", OLLAMA_MCP_RETRIES="0") as client:
        with anyio.fail_after(5):
            result = await client.call_tool("ollama_list_models", {"capability": "vison"})
    assert text_of(result) == 'INVALID_ARGUMENT: no model can have the capability "vison". Send "vision".'


async def test_no_texts_to_embed_are_refused(call):
    assert text_of(await call("ollama_embeddings", input=[])).startswith("INVALID_ARGUMENT: ")


A_MESSAGE = 'such as {"role": "user", "content": "…"}'


@pytest.mark.parametrize("prompt", ['{"a":1}', "null", "[1]", "5", "true", '"quoted"', '["a"]', " x \n"])
async def test_a_prompt_that_looks_like_json_arrives_as_it_was_written(call, fake, prompt):
    await call("ollama_chat", prompt=prompt, system=prompt)
    assert [message["content"] for message in sent(fake)["messages"]] == [prompt, prompt]
    await call("ollama_generate", prompt=prompt)
    assert sent(fake, "/api/generate")["prompt"] == prompt


@pytest.mark.parametrize(
    ("tool", "name", "value", "wanted"),
    [
        ("ollama_chat", "prompt", {"a": 1}, "a string"),
        ("ollama_chat", "prompt", ["a"], "a string"),
        ("ollama_chat", "messages", "hello", "a list of objects " + A_MESSAGE),
        ("ollama_chat", "messages", '["a"', "a list of objects " + A_MESSAGE),
        ("ollama_chat", "messages", [["a"]], "an object " + A_MESSAGE),
        ("ollama_chat", "messages", 5, "a list of objects " + A_MESSAGE),
        ("ollama_chat", "options", "hot", "an object"),
        ("ollama_chat", "options", [1], "an object"),
        ("ollama_chat", "truncate", "maybe", "true or false"),
        ("ollama_chat", "truncate", 2, "true or false"),
        ("ollama_chat", "schema", "[1]", "an object"),
        ("ollama_generate", "images", {"a": 1}, "a list of strings"),
        ("ollama_embeddings", "input", {"a": 1}, "a list of strings"),
        ("ollama_embeddings", "input", ["a", {"a": 1}], "a string"),
        ("ollama_embeddings", "dimensions", "many", "a whole number"),
        ("ollama_embeddings", "dimensions", 1.5, "a whole number"),
        ("ollama_embeddings", "dimensions", True, "a whole number"),
        pytest.param("ollama_embeddings", "dimensions", 10**400, "a whole number", id="large integer"),
        pytest.param("ollama_embeddings", "dimensions", 10**5000, "a whole number", id="huge integer"),
        pytest.param("ollama_embeddings", "dimensions", "9" * 5000, "a whole number", id="huge digits"),
        ("ollama_embeddings", "dimensions", [], "a whole number"),
        ("ollama_embeddings", "vectors", "all", 'one of "summary", "full", "base64"'),
        ("ollama_embeddings", "vectors", 7, 'one of "summary", "full", "base64"'),
        ("ollama_list_models", "capability", ["vision"], "a string"),
        pytest.param("ollama_list_models", "capability", 10**5000, "a string", id="huge integer for text"),
    ],
)
async def test_a_value_of_the_wrong_kind_is_told_with_the_right_one(call, tool, name, value, wanted):
    result = await call(tool, {"prompt": "x", "input": ["x"], name: value})
    assert result.is_error
    place = r"(\[\d\])?"
    said = rf'INVALID_ARGUMENT: "{name}{place}" is .+\. Send "{name}{place}" as {re.escape(wanted)}\.'
    assert re.fullmatch(said, text_of(result))


@pytest.mark.parametrize(
    ("tool", "name", "way"),
    [
        ("ollama_chat", "images", "messages="),
        ("ollama_chat", "message", '"prompt"'),
        ("ollama_chat", "suffix", "ollama_generate"),
        ("ollama_generate", "messages", "ollama_chat"),
        ("ollama_generate", "tools", "ollama_chat"),
    ],
)
async def test_what_belongs_elsewhere_is_not_dropped_but_refused_with_the_way(call, fake, tool, name, way):
    text = text_of(await call(tool, {"prompt": "x", name: ["x"]}))
    assert text.startswith(f'INVALID_ARGUMENT: {tool} has no argument "{name}". ')
    assert way in text
    assert not fake.requests


@pytest.mark.parametrize(
    "message", [{"role": "user"}, {"role": "user", "text": "x"}, {"role": "tool", "content": None}]
)
async def test_a_message_that_says_nothing_is_refused(call, message):
    text = text_of(await call("ollama_chat", messages=[message]))
    assert text == 'INVALID_ARGUMENT: messages[0] says nothing. Send its text as "content".'


async def test_a_whole_number_is_not_rounded(call, fake):
    await call("ollama_embeddings", input=["x"], dimensions=2**53 + 1)
    assert sent(fake, "/api/embed")["dimensions"] == 2**53 + 1


async def test_what_json_can_say_only_by_accident_is_refused_like_any_wrong_value():
    tool = next(iter(TOOLSETS["embeddings"]))
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    for name, value in [("dimensions", inf), ("dimensions", nan), ("truncate", deep), ("vectors", deep)]:
        with pytest.raises(InvalidArgument):
            ArgumentCheck(tool, Settings()).check({"input": ["x"], name: value})


async def test_a_text_of_many_brackets_is_a_text(call):
    assert not (await call("ollama_embeddings", input="[" * 100_000)).is_error
