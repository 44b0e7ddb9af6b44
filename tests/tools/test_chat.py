"""What ollama_chat and ollama_generate put on the wire, and what they make of the answer."""

import base64
import json
from typing import Any

import pytest

from ollama_mcp import App, ollama_chat
from ollama_mcp.ollama.api_models import Message
from ollama_mcp.ollama.options import Options
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model, Script

pytestmark = pytest.mark.anyio

STATS = "ollama-mcp/stats"
ERROR = "ollama-mcp/error"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + 2 * b"\0\0\0\1").decode()
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def body(fake):
    """The last request for an answer."""
    return lambda path="/api/chat": fake.asked(path)[-1].json


# --- the conversation --------------------------------------------------------------------------


async def test_system_comes_first_then_the_messages_then_the_prompt(chat, body):
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
    ]
    await chat(prompt="three", messages=turns, system="be brief")
    assert body()["messages"] == [
        {"role": "system", "content": "be brief"}, *turns, {"role": "user", "content": "three"},
    ]  # fmt: skip


async def test_images_go_with_their_message_without_the_head_of_a_data_url(chat, body, fake):
    fake.add_model(Model("see:1", capabilities=("completion", "vision")))
    turn = {"role": "user", "content": "what is it?", "images": [f"data:image/png;base64,{PNG}"]}
    await chat(model="see:1", messages=[turn])
    assert body()["messages"] == [{**turn, "images": [PNG]}]


async def test_the_parts_of_other_apis_become_text_and_images(chat, body, fake):
    fake.add_model(Model("see:1", capabilities=("completion", "vision")))
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    await chat(model="see:1", messages=[{"role": "user", "content": parts}])
    assert body()["messages"] == [{"role": "user", "content": "what is it?", "images": [PNG]}]


@pytest.mark.parametrize(
    "image",
    ["/home/me/a.png", "https://example.com/a.png", "", "/etc/passwd"],
)
async def test_an_image_is_base64_never_a_path_or_an_address(call, fake, image):
    fake.add_model(Model("see:1", capabilities=("completion", "vision")))
    result = await call("ollama_generate", model="see:1", prompt="x", images=[image])
    assert result.meta[ERROR]["code"] == "INVALID_ARGUMENT"
    assert not fake.asked("/api/generate")


async def test_an_image_for_a_model_that_cannot_see_is_told_before_the_call(call, fake):
    fake.add_model(Model("see:1", capabilities=("completion", "vision")))
    turn = {"role": "user", "content": "what is it?", "images": [PNG]}
    result = await call("ollama_chat", model="llama3.2:3b", messages=[turn])
    assert result.meta[ERROR]["code"] == "CAPABILITY"
    assert 'Send model="see:1"' in result.content[0].text
    assert not fake.asked("/api/chat")


async def test_tools_go_to_the_model_and_its_calls_come_back_as_json(call, body, fake):
    fake.script(Script(tool_calls=[{"name": "weather", "arguments": {"place": "Köln"}, "id": "c1"}]))
    result = await call("ollama_chat", prompt="weather?", tools=[WEATHER])
    assert body()["tools"] == [WEATHER]
    [made] = json.loads(result.content[0].text)
    assert made["function"]["name"] == "weather"
    assert made["function"]["arguments"] == {"place": "Köln"}
    assert result.meta["ollama-mcp/tool_calls"] == [made]


async def test_calls_of_tools_and_their_results_go_back_as_they_came(call, chat, body, fake):
    fake.script(Script(tool_calls=[{"name": "weather", "arguments": {"a": [1, {"b": None}]}}]), times=1)
    calls = json.loads((await call("ollama_chat", prompt="weather?", tools=[WEATHER])).content[0].text)
    turns = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "sunny", "tool_name": "weather"},
    ]
    await chat(messages=turns, tools=[WEATHER])
    assert body()["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"a": [1, {"b": None}]}
    assert body()["messages"][2] == turns[2]


async def test_what_the_model_says_before_its_calls_stands_before_them(call, fake):
    lines = [
        b'{"message":{"role":"assistant","content":"Let me look."}}',
        b'{"message":{"role":"assistant","tool_calls":[{"function":{"name":"weather","arguments":{}}}]}}',
        b'{"message":{"role":"assistant","content":""},"done":true}',
    ]
    fake.script(Script(lines=lines), path="/api/chat")
    text = (await call("ollama_chat", prompt="x", tools=[WEATHER])).content[0].text
    said, _, calls = text.partition("\n\n")
    assert said == "Let me look."
    assert json.loads(calls)[0]["function"]["name"] == "weather"


@pytest.mark.parametrize("form", ["openai", "mcp", "text arguments"])
async def test_tools_and_calls_are_taken_in_the_forms_of_other_apis(chat, body, form):
    if form == "text arguments":
        made = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}]
        await chat(messages=[{"role": "assistant", "tool_calls": made}], prompt="x", tools=[WEATHER])
        assert body()["messages"][0]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
        return
    schema = {"type": "object", "properties": {}}
    tool = WEATHER if form == "openai" else {"name": "weather", "description": "Now", "inputSchema": schema}
    await chat(prompt="x", tools=[tool])
    assert body()["tools"] == [WEATHER]


# --- format and schema -------------------------------------------------------------------------


async def test_format_json_is_sent(chat, body):
    assert json.loads(await chat(prompt="x", format=" JSON ")) is not None
    assert body()["format"] == "json"


async def test_another_format_is_refused(call):
    result = await call("ollama_chat", prompt="x", format="yaml")
    assert 'Send format="json"' in result.content[0].text


async def test_a_schema_is_sent_as_the_format_and_the_answer_fits(chat, body):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert isinstance(json.loads(await chat(prompt="x", schema=schema))["n"], int)
    assert body()["format"] == schema


async def test_an_answer_that_does_not_fit_is_repaired_once_and_then_an_error(call, fake):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    fake.script(Script(tokens=['{"n": "x"}']), Script(tokens=['{"n": 1}']))
    result = await call("ollama_chat", prompt="x", schema=schema)
    assert result.content[0].text == '{"n": 1}'
    assert result.meta[STATS]["repaired"] is True
    fake.script(Script(tokens=['{"n": "x"}']))
    error = (await call("ollama_chat", prompt="x", schema=schema)).meta[ERROR]
    assert (error["code"], error["partial_text"]) == ("UPSTREAM", '{"n": "x"}')


async def test_a_schema_that_is_none_is_refused_before_the_call(call, fake):
    result = await call("ollama_chat", prompt="x", schema={"type": "objekt"})
    assert result.meta[ERROR]["code"] == "INVALID_ARGUMENT"
    assert not fake.asked("/api/chat")


# --- think, keep_alive, truncate ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("think", "sent"),
    [("", None), ("true", True), (True, True), ("false", False), (False, False), ("High", "high"),
     ("low", "low"), ("medium", "medium"), ("max", "max"), ("off", False)],
)  # fmt: skip
async def test_think_goes_to_a_model_that_can(chat, body, fake, think, sent):
    fake.add_model(Model("deep:1", capabilities=("completion", "thinking")))
    await chat(model="deep:1", prompt="x", think=think)
    assert body().get("think") == sent


async def test_thinking_is_not_asked_of_a_model_that_cannot(call, chat, body):
    result = await call("ollama_chat", model="llama3.2:3b", prompt="x", think="true")
    assert result.meta[ERROR]["code"] == "CAPABILITY"
    await chat(model="llama3.2:3b", prompt="x", think="false")
    assert "think" not in body()


async def test_a_think_that_is_no_level_is_refused(call):
    assert "INVALID_ARGUMENT: think" in (await call("ollama_chat", prompt="x", think="hard")).content[0].text


@pytest.mark.parametrize(
    ("keep_alive", "sent"),
    [("", None), ("10m", "10m"), (300, 300), ("300", 300), ("-1", -1), (0, 0), ("2d", "48h")],
)
async def test_keep_alive_is_taken_in_every_form(connect, body, keep_alive, sent):
    async with connect(OLLAMA_MCP_MAX_KEEP_ALIVE="forever") as client:
        await client.call_tool("ollama_chat", {"prompt": "x", "keep_alive": keep_alive})
    assert body().get("keep_alive") == sent


async def test_a_keep_alive_that_is_no_time_is_refused(call):
    assert "keep_alive" in (await call("ollama_chat", prompt="x", keep_alive="a while")).content[0].text


@pytest.mark.parametrize(
    ("tool", "path"),
    [("ollama_chat", "chat"), ("ollama_generate", "generate"), ("ollama_embeddings", "embed")],
)
async def test_cutting_the_prompt_is_forbidden_unless_asked_for(call, body, tool, path):
    await call(tool, {"prompt": "x", "input": ["x"]})
    assert body(f"/api/{path}")["truncate"] is False
    await call(tool, {"prompt": "x", "input": ["x"], "truncate": True})
    assert body(f"/api/{path}")["truncate"] is True


# --- generate ----------------------------------------------------------------------------------


async def test_generate_sends_all_that_it_takes(call, body, fake):
    fake.add_model(Model("all:1", capabilities=("completion", "vision", "insert", "thinking")))
    given = {"model": "all:1", "prompt": "a", "system": "b", "suffix": "c", "template": "{{ .Prompt }}"}
    result = await call("ollama_generate", {**given, "images": [PNG], "think": "low", "keep_alive": "1m"})
    assert not result.is_error
    assert body("/api/generate").items() >= given.items()
    assert body("/api/generate")["images"] == [PNG]


async def test_raw_takes_the_prompt_alone(call, body):
    assert (await call("ollama_generate", prompt="x", raw=True, system="y")).is_error
    assert not (await call("ollama_generate", prompt="x", raw=True)).is_error
    assert body("/api/generate")["raw"] is True


# --- defaults of the operator, and the choice of a model ---------------------------------------


async def test_defaults_of_the_settings_are_sent_where_the_caller_is_silent(connect, body, tmp_path):
    config = tmp_path / "ollama-mcp.toml"
    config.write_text(
        'options = {temperature = 0.1, top_k = 5}\nsystem = "for all"\n'
        '[models."llama3.2:3b"]\noptions = {top_k = 7}\nsystem = "for one"\nkeep_alive = "9m"\n'
    )
    async with connect(OLLAMA_MCP_CONFIG=str(config)) as client:
        await client.call_tool("ollama_chat", {"prompt": "x", "options": {"temperature": 0.9}})
    assert body()["options"] == {"temperature": 0.9, "top_k": 7}
    assert body()["keep_alive"] == "9m"
    assert body()["messages"][0] == {"role": "system", "content": "for one"}


async def test_a_system_prompt_of_the_caller_replaces_that_of_the_settings(connect, body):
    async with connect(OLLAMA_MCP_SYSTEM="operator") as client:
        await client.call_tool("ollama_chat", {"prompt": "x", "system": "caller"})
        assert [m["content"] for m in body()["messages"]] == ["caller", "x"]
        await client.call_tool("ollama_generate", {"prompt": "x"})
        assert body("/api/generate")["system"] == "operator"


async def chosen(client: Any, **arguments: Any) -> tuple[str, str]:
    stats = (await client.call_tool("ollama_chat", {"prompt": "x", **arguments})).meta[STATS]
    return stats["model"], stats.get("chosen", "")


async def test_the_choice_of_a_model_is_told_with_its_reason(connect, fake):
    fake.add_model(Model("newest:1", modified_at="2027-01-01T00:00:00Z"))
    fake.add_model(Model("newer:cloud", modified_at="2028-01-01T00:00:00Z", remote_host="https://ollama.com"))
    async with connect() as client:
        assert await chosen(client, model="llama3.2:3b") == ("llama3.2:3b", "")
        fake.models["llama3.2:3b"].keep(0)
        assert await chosen(client) == ("newest:1", "installed last")
        fake.models["newest:1"].keep(0)
        fake.models["llama3.2:3b"].load(4096)
        fake.models["llama3.2:3b"].keep(300)
        assert await chosen(client) == ("llama3.2:3b", "loaded")
    async with connect(OLLAMA_MCP_CHAT_MODEL="newest:1") as client:
        assert await chosen(client) == ("newest:1", "configured")


async def test_a_loaded_model_without_the_capability_is_not_chosen(connect, fake):
    fake.models["nomic-embed-text:latest"].load(2048)
    async with connect() as client:
        assert await chosen(client) == ("llama3.2:3b", "installed last")


async def test_a_result_from_the_cloud_says_so(connect, fake):
    fake.add_model(Model("big:cloud", remote_host="https://ollama.com"))
    async with connect(OLLAMA_MCP_CLOUD="1") as client:
        result = await client.call_tool("ollama_chat", {"prompt": "x", "model": "big:cloud"})
    assert result.meta[STATS]["cloud"] is True


async def test_python_callers_use_types_of_python():
    async with FakeOllama([Model("qwen3:8b", capabilities=("completion", "thinking"))]) as fake:
        async with App.create(load({"OLLAMA_HOST": fake.url})) as app:
            await ollama_chat(
                app,
                "hi",
                messages=[Message(role="system", content="Be brief.")],
                options=Options(temperature=0.5, num_predict=8),
                think=True,
                keep_alive=300,
            )
        sent = fake.asked("/api/chat")[-1].json
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent["options"] == {"temperature": 0.5, "num_predict": 8}
    assert (sent["think"], sent["keep_alive"]) == (True, 300)


@pytest.mark.parametrize("tool", ["ollama_chat", "ollama_generate"])
async def test_log_probabilities_come_beside_the_text_where_they_are_asked_for(call, fake, tool):
    result = await call(tool, prompt="hi", logprobs=2)
    body = fake.asked("/api/chat" if tool == "ollama_chat" else "/api/generate")[-1].json
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    found = result.meta["ollama-mcp/logprobs"]
    assert "".join(row["token"] for row in found) == result.content[0].text
    assert all(row["logprob"] <= 0 and len(row["top_logprobs"]) <= 2 for row in found)
    plain = await call(tool, prompt="hi")
    assert "ollama-mcp/logprobs" not in plain.meta
    refused = await call(tool, prompt="hi", logprobs=21)
    assert refused.content[0].text.startswith('INVALID_ARGUMENT: "logprobs" is 21')
