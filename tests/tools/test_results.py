"""What comes back: words, facts, vectors and failures, and nothing that can break a serialiser."""

import base64
import json
import struct
from typing import Any

import jsonschema
import pytest

from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

STATS = "ollama-mcp/stats"
ERROR = "ollama-mcp/error"
LONE = "\\ud800"
"""A lone surrogate, as upstream writes it in JSON."""


def chat_lines(*messages: str, final: str = "") -> list[bytes]:
    """Lines of /api/chat with these messages, given as JSON text, and the last one."""
    lines = [f'{{"model":"llama3.2:3b","message":{message},"done":false}}' for message in messages]
    last = f'{{"model":"llama3.2:3b","message":{{"role":"assistant","content":""}},"done":true{final}}}'
    return [line.encode() for line in [*lines, last]]


async def schema_of(client: Any, tool: str) -> Any:
    return next(t.output_schema for t in (await client.list_tools()).tools if t.name == tool)


# --- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["ollama_chat", "ollama_generate"])
@pytest.mark.real_time  # an answer in no time has no speed
async def test_words_are_one_text_block_with_the_statistics_beside_it(client, call, tool):
    result = await call(tool, prompt="hello there")
    [block] = result.content
    assert (block.type, block.text) == ("text", "You said: hello there")
    assert result.structured_content is None
    assert not result.is_error
    assert await schema_of(client, tool) is None
    stats = result.meta[STATS]
    assert (stats["model"], stats["done_reason"]) == ("llama3.2:3b", "stop")
    assert stats["prompt_tokens"] + stats["output_tokens"] == stats["context_used"]
    assert stats["context_window"] == 4096
    assert stats.keys() >= {"tokens_per_s", "load_s", "first_token_s", "total_s", "chunks", "thinking_chars"}


async def test_thinking_stands_beside_the_answer(call, fake):
    fake.script(Script(thinking=["hm", "m"], tokens=["yes"]))
    result = await call("ollama_chat", prompt="x")
    assert result.content[0].text == "yes"
    assert result.meta["ollama-mcp/thinking"] == "hmm"
    assert result.meta[STATS]["thinking_chars"] == 3


# --- facts -------------------------------------------------------------------------------------


async def test_the_list_is_a_table_and_the_same_as_data(client, call, fake):
    fake.add_model(Model("qwen3:8b", capabilities=("completion", "thinking"), loaded=True))
    fake.add_model(Model("big:cloud", remote_host="https://ollama.com"))
    result = await call("ollama_list_models")
    jsonschema.validate(result.structured_content, await schema_of(client, "ollama_list_models"))
    [block] = result.content
    header, *rows = block.text.splitlines()
    entries = result.structured_content["models"]
    assert header.split()[0] == "name"
    assert [row.split()[0] for row in rows] == [entry["name"] for entry in entries]
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["qwen3:8b"]["loaded"] is True
    assert by_name["qwen3:8b"]["capabilities"] == ["completion", "thinking"]
    assert by_name["big:cloud"]["location"] == "cloud"
    assert len(by_name["llama3.2:3b"]["digest"]) == 64


async def test_the_list_can_be_narrowed_to_a_capability(call):
    result = await call("ollama_list_models", capability=" Embedding ")
    assert [entry["name"] for entry in result.structured_content["models"]] == ["nomic-embed-text:latest"]


@pytest.mark.parametrize(
    ("capability", "how"),
    [
        ("vision", "ollama pull gemma3`"),
        ("thinking", "ollama pull qwen3`"),
        ("insert", "ollama pull qwen2.5-coder:1.5b-base`"),
        ("audio", "https://ollama.com/search"),
    ],
)
async def test_a_list_of_nothing_says_how_to_install_a_model_that_has_it(call, capability, how):
    result = await call("ollama_list_models", capability=capability)
    assert result.structured_content == {"models": []}
    assert f"No model that has {capability} is installed." in result.content[0].text
    assert how in result.content[0].text


async def test_a_list_of_nothing_at_all_says_how_to_install_a_model(call, fake):
    fake.models.clear()
    result = await call("ollama_list_models")
    assert result.content[0].text == "No model is installed. Install one with `ollama pull llama3.2`."


async def test_a_list_with_holes_in_it_is_a_list(client, call, fake):
    fake.script(Script(body={"models": [{"name": "a:b"}, {}, {"name": None, "size": "x"}]}), path="/api/tags")
    result = await call("ollama_list_models")
    assert not result.is_error
    jsonschema.validate(result.structured_content, await schema_of(client, "ollama_list_models"))


# --- vectors -----------------------------------------------------------------------------------


async def test_vectors_are_summed_up_unless_asked_for(client, call):
    result = await call("ollama_embeddings", input=["a", "b", "a"], dimensions=8)
    data = result.structured_content
    jsonschema.validate(data, await schema_of(client, "ollama_embeddings"))
    assert (data["count"], data["dimensions"], data["norms"]) == (3, 8, [1.0, 1.0, 1.0])
    assert data["similarity"][0][2] == 1.0
    assert "vectors" not in data
    assert result.content[0].text.startswith("3 vectors of 8 dimensions by nomic-embed-text:latest")
    assert result.meta[STATS]["count"] == 3


async def test_a_summary_of_many_vectors_is_short(call):
    result = await call("ollama_embeddings", input=[f"text {n}" for n in range(100)])
    assert result.structured_content["count"] == 100
    assert len(result.content[0].text) < 1000
    assert len(result.structured_content["similarity"]) == 8


@pytest.mark.parametrize("form", ["full", "base64"])
async def test_too_many_numbers_for_one_result_are_a_resource(call, form):
    texts = [f"text {place}" for place in range(200)]
    result = await call("ollama_embeddings", input=texts, vectors=form)
    assert "vectors" not in result.structured_content
    assert result.structured_content["vectors_uri"] in result.content[0].text
    few = await call("ollama_embeddings", input=texts[:100], vectors=form)
    assert len(few.structured_content["vectors"]) == 100


async def test_vectors_come_in_full_and_packed_in_the_order_of_the_texts(client, call):
    texts = [f"text {n}" for n in range(40)]  # more than one batch
    full = await call("ollama_embeddings", input=texts, vectors="full", dimensions=4)
    packed = await call("ollama_embeddings", input=texts, vectors="base64", dimensions=4)
    for result in (full, packed):
        jsonschema.validate(result.structured_content, await schema_of(client, "ollama_embeddings"))
        assert len(result.content) == 1
    unpacked = [struct.unpack("<4f", base64.b64decode(v)) for v in packed.structured_content["vectors"]]
    assert unpacked == [pytest.approx(vector, abs=1e-6) for vector in full.structured_content["vectors"]]
    [alone] = (
        await call("ollama_embeddings", input=texts[37], vectors="full", dimensions=4)
    ).structured_content["vectors"]
    assert alone == full.structured_content["vectors"][37]


@pytest.mark.parametrize("number", [b"NaN", b"1e999", b"-1e999", b'"x"', b"null", b"{}"])
async def test_vectors_that_are_no_numbers_are_an_error(call, fake, number):
    body = b'{"embeddings":[[0.5,' + number + b"]]}"
    fake.script(Script(body=body, headers={"Content-Type": "application/json"}), path="/api/embed")
    result = await call("ollama_embeddings", input=["a"], vectors="base64")
    assert result.meta[ERROR]["code"] == "BAD_UPSTREAM"


async def test_numbers_too_large_for_the_packed_form_are_an_error_not_a_crash(call, fake):
    fake.script(Script(body={"embeddings": [[1e300, 0.5]]}), path="/api/embed")
    for form in ("base64", "summary", "full"):
        result = await call("ollama_embeddings", input=["a"], vectors=form)
        assert not result.is_error or result.meta[ERROR]["code"] == "BAD_UPSTREAM"


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("ollama_chat", {}, "INVALID_ARGUMENT"),
        ("ollama_chat", {"prompt": "x", "model": "nobody"}, "MODEL_NOT_FOUND"),
        ("ollama_chat", {"prompt": "x", "model": "nomic-embed-text"}, "CAPABILITY"),
        ("ollama_chat", {"prompt": "x", "model": "glm:cloud"}, "FORBIDDEN"),
        ("ollama_generate", {"prompt": "x", "suffix": "y"}, "MODEL_NOT_FOUND"),
        ("ollama_embeddings", {"input": ["x"], "model": "llama3.2:3b"}, "CAPABILITY"),
    ],
)
async def test_a_failure_is_one_text_and_the_same_as_data(call, tool, arguments, code):
    result = await call(tool, arguments)
    [block] = result.content
    error = result.meta[ERROR]
    assert result.is_error
    assert result.structured_content is None
    assert error["code"] == code
    assert block.text == f"{code}: {error['message']}. {error['remedy']}"
    assert error.keys() >= {"retryable", "retry_after_s", "upstream_status", "partial_text", "error_id"}


async def test_a_failure_in_the_middle_keeps_what_was_written(call, fake):
    fake.script(Script(tokens=["half ", "an ", "answer"], cut_after_tokens=2, how="reset"))
    error = (await call("ollama_chat", prompt="x")).meta[ERROR]
    assert (error["code"], error["partial_text"], error["retryable"]) == ("STREAM_BROKEN", "half an ", True)


async def test_a_long_cause_gives_way_to_the_remedy(call):
    [block] = (await call("ollama_chat", prompt="x", model="m" * 70 + "/" + "n" * 70)).content
    assert len(block.text) <= 400
    assert "ollama pull" in block.text


async def test_every_failure_of_upstream_is_told_in_400_characters(call, fake):
    fake.script(Script(status=500, body={"error": "é" * 5000}), path="/api/chat")
    assert len((await call("ollama_chat", prompt="x")).content[0].text) <= 400


# --- what cannot be serialised -----------------------------------------------------------------


def whole(result: Any) -> str:
    """The result as JSON in UTF-8, which a lone surrogate or a NaN would not survive."""
    text = json.dumps(result.model_dump(by_alias=True, mode="json"), ensure_ascii=False, allow_nan=False)
    return text.encode().decode()


async def test_a_lone_surrogate_in_text_thinking_and_tool_calls_is_replaced(call, fake):
    call_json = f'{{"function":{{"name":"f{LONE}","arguments":{{"k{LONE}":["v{LONE}"]}}}}}}'
    lines = chat_lines(
        f'{{"role":"assistant","content":"","thinking":"t{LONE}"}}',
        f'{{"role":"assistant","content":"a{LONE}b"}}',
        f'{{"role":"assistant","content":"","tool_calls":[{call_json}]}}',
        final=f',"done_reason":"st{LONE}op"',
    )
    fake.script(Script(lines=lines), path="/api/chat")
    result = await call("ollama_chat", prompt="x")
    assert not result.is_error, result.content
    assert result.content[0].text.startswith("a�b")
    assert result.meta["ollama-mcp/thinking"] == "t�"
    assert whole(result).count("�") >= 5


def names_with_surrogates(version: str) -> Script:
    details = f'"details":{{"parameter_size":"{LONE}","context_length":1}},"capabilities":["{LONE}"]'
    known = details if version == "0.33.0" else ""
    body = f'{{"models":[{{"name":"m{LONE}:1"{"," + known if known else ""}}}]}}'
    return Script(body=body.encode(), headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("version", ["0.33.0", "0.6.0"])
async def test_lone_surrogates_in_model_names_are_replaced(call, fake, version):
    fake.script(names_with_surrogates(version), path="/api/tags")
    assert "m�:1" in whole(await call("ollama_list_models"))


async def test_lone_surrogates_in_errors_are_replaced(call, fake):
    error = Script(status=500, body=f'{{"error":"broken {LONE}"}}'.encode())
    fake.script(error, path="/api/chat")
    assert "broken �" in whole(await call("ollama_chat", prompt="x", model="llama3.2:3b"))


async def test_lone_surrogates_in_a_model_name_of_the_caller_can_be_told(call):
    assert "INVALID_ARGUMENT" in whole(await call("ollama_chat", prompt="x", model="a\ud800"))


async def test_lone_surrogates_of_the_caller_do_no_harm(call):
    assert "You said" in whole(await call("ollama_chat", prompt="x\ud800"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_number_that_is_none_is_an_error_or_null(call, fake, number):
    arguments = f'{{"function":{{"name":"f","arguments":{{"n":{number}}}}}}}'
    lines = chat_lines(f'{{"role":"assistant","content":"a","tool_calls":[{arguments}]}}')
    fake.script(Script(lines=lines), path="/api/chat")
    result = await call("ollama_chat", prompt="x")
    assert number not in whole(result)
    assert result.is_error or '"n": null' in result.content[0].text or '"n":null' in result.content[0].text
