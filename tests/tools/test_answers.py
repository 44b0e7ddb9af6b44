"""Whether there is an answer: an empty, cut or malformed one never looks like a success."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from mcp.client import Client

from ollama_mcp import App, create_server
from ollama_mcp.errors import ARGUMENTS
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model, Script
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.binding import bind

pytestmark = pytest.mark.anyio

ERROR = "ollama-mcp/error"
THINKER = Model("qwen3:8b", capabilities=("completion", "thinking"))
WORDS = ["ollama_chat", "ollama_generate"]


@pytest.fixture
def connect_to(mode: str) -> Callable[..., AbstractAsyncContextManager[tuple[Client, FakeOllama]]]:
    """A client of a server whose Ollama has these models."""

    @asynccontextmanager
    async def connect_to(*models: Model, version: str = "0.33.0") -> AsyncIterator[tuple[Client, FakeOllama]]:
        async with FakeOllama(list(models), version=version) as fake:
            app = App.create(load({"OLLAMA_HOST": fake.url}))
            async with Client(create_server(app), mode=mode) as client:
                yield client, fake

    return connect_to


def text(result):
    (block,) = result.content
    return block.text


def failed(result, code, *parts, retryable=False):
    """Check a failure: its code, what its text says, that trying again is not advised."""
    assert result.is_error
    assert text(result).startswith(f"{code}: ")
    assert all(part in text(result) for part in parts), text(result)
    assert result.meta[ERROR]["retryable"] is retryable
    return True


# --- nothing was written -----------------------------------------------------------------------


@pytest.mark.parametrize("tool", WORDS)
@pytest.mark.parametrize("blank", [[], [" \n"]], ids=["nothing", "blanks"])
async def test_a_budget_that_went_into_thinking_is_an_error(connect_to, tool, blank):
    async with connect_to(THINKER) as (client, fake):
        fake.script(Script(thinking=["Hm. "] * 5, tokens=blank, done_reason="length"))
        result = await client.call_tool(tool, {"prompt": "x", "options": {"num_predict": 5}})
    assert failed(result, "TRUNCATED", "all 5 tokens went into thinking", '"num_predict"', 'think="false"')


async def test_thinking_that_leaked_into_the_text_is_no_answer_either(connect_to):
    async with connect_to(THINKER) as (client, fake):
        fake.script(Script(tokens=["<think>", "The answer is 4.", "</think>"]))
        result = await client.call_tool("ollama_chat", {"prompt": "x"})
    assert failed(result, "BAD_UPSTREAM", "stopped after its thinking, which ends: The answer is 4.")


@pytest.mark.parametrize(("reason", "says"), [("load", "only loaded"), ("stop", "stopped at once")])
@pytest.mark.parametrize("tool", WORDS)
async def test_a_model_that_generates_nothing_has_not_answered(call, fake, tool, reason, says):
    fake.script(Script(tokens=[], done_reason=reason))
    assert failed(await call(tool, prompt="x"), "BAD_UPSTREAM", "no answer", says)


async def test_a_remedy_names_no_argument_that_the_tool_lacks(connect_to):
    async with connect_to(THINKER) as (client, fake):
        fake.script(Script(thinking=["Hm."], tokens=[], done_reason="length"))
        result = await client.call_tool("ollama_compare", {"prompt": "x", "models": ["qwen3:8b"]})
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert "think" not in tools["ollama_compare"].input_schema["properties"]
    assert "think=" not in text(result)
    assert '"num_predict"' in text(result)
    assert text(result).startswith("FAILED: no answer from qwen3:8b.")


async def test_who_continues_is_told_the_same(call, fake):
    fake.script(Script(tokens=[], done_reason="load", delay_first=2))
    first = text(await call("ollama_chat", prompt="x", wait_s=1))
    handle = first.partition('handle="')[2].partition('"')[0]
    assert failed(await call("ollama_continue", handle=handle), "BAD_UPSTREAM", "only loaded")


# --- something was cut off ---------------------------------------------------------------------


@pytest.mark.parametrize("tool", WORDS)
async def test_a_cut_answer_says_so_in_its_last_line(call, fake, tool):
    result = await call(tool, prompt="one two three four", options={"num_predict": 2})
    assert not result.is_error
    assert text(result).splitlines()[-1] == "[cut off at 2 tokens (num_predict)]"


async def test_a_window_that_is_full_is_told_as_such(call, fake):
    fake.script(Script(tokens=["word "] * 60, done_reason="length"))
    said = text(await call("ollama_chat", prompt="one two three", options={"num_ctx": 64})).splitlines()[-1]
    assert said == "[cut off at 60 tokens: the context window of 64 tokens is full]"


async def test_a_cut_answer_in_a_comparison_and_behind_a_handle_says_so_too(call, fake):
    fake.script(Script(tokens=["Half"], done_reason="length"))
    compared = text(await call("ollama_compare", prompt="x", models=["llama3.2:3b"]))
    assert "Half\n[cut off at 1 token (num_predict)]" in compared
    fake.script(Script(tokens=["Half"], done_reason="length", delay_first=2))
    first = text(await call("ollama_chat", prompt="x", wait_s=1))
    handle = first.partition('handle="')[2].partition('"')[0]
    assert text(await call("ollama_continue", handle=handle)).endswith("[cut off at 1 token (num_predict)]")


async def test_no_line_is_added_to_the_json_of_a_tool_call(call, fake):
    calls = [{"name": "add", "arguments": {"a": 1}}]
    fake.script(Script(tokens=["So:"], tool_calls=calls, done_reason="length"))
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    said = text(await call("ollama_chat", prompt="x", tools=[tool]))
    assert json.loads(said.partition("\n\n")[2])[0]["function"]["name"] == "add"


# --- the form that was asked for ---------------------------------------------------------------

FORMS = [{"format": "json"}, {"schema": {"type": "object", "required": ["age"]}}]


@pytest.mark.parametrize("form", FORMS, ids=["format", "schema"])
async def test_json_that_was_cut_off_is_an_error_and_what_was_written_is_kept(call, fake, form):
    fake.script(Script(tokens=['{"age": 5, "name": "Bo'], done_reason="length"))
    result = await call("ollama_chat", prompt="x", **form)
    assert failed(result, "TRUNCATED", "not complete", '"num_predict"')
    handle = result.meta[ERROR]["handle"]
    assert '"name": "Bo' in text(await call("ollama_continue", handle=handle, partial=True))


@pytest.mark.parametrize("form", FORMS, ids=["format", "schema"])
@pytest.mark.parametrize("tool", WORDS)
async def test_prose_where_json_was_asked_for_gets_one_more_turn(call, fake, form, tool):
    fake.script(Script(tokens=["Sure, he is five."]), Script(tokens=['{"age": 5}']))
    result = await call(tool, prompt="x", **form)
    assert not result.is_error
    assert text(result) == '{"age": 5}'


async def test_prose_twice_is_an_error(call, fake):
    fake.script(Script(tokens=["Sure, he is five."]))
    result = await call("ollama_chat", prompt="x", format="json")
    assert failed(result, "UPSTREAM", "is not JSON twice", retryable=True)


async def test_a_schema_that_is_none_is_refused_before_a_model_works(call, fake):
    assert failed(await call("ollama_chat", prompt="x", schema={"type": "strin"}), "INVALID_ARGUMENT")
    assert not fake.asked("/api/chat")


@pytest.mark.parametrize("whole", ['{"a": 1}', "[1]", '"yes"'])
@pytest.mark.parametrize("tool", WORDS)
async def test_json_that_was_whole_when_the_budget_ran_out_is_passed_on_as_it_is(call, fake, tool, whole):
    fake.script(Script(tokens=[whole], done_reason="length"))
    assert text(await call(tool, prompt="x", format="json")) == whole


@pytest.mark.parametrize("half", ['[{"a": 1}, {"b": 2}', '{"a": "b"', "12"])
async def test_json_that_ends_like_a_whole_one_and_is_not_is_told_as_cut(call, fake, half):
    fake.script(Script(tokens=[half], done_reason="length"))
    assert failed(await call("ollama_chat", prompt="x", format="json"), "TRUNCATED", "not complete")


async def test_a_server_that_gives_no_reason_has_cut_what_is_as_long_as_allowed(call, fake):
    fake.script(Script(tokens=["a", "b"], final={"done_reason": ""}))
    said = text(await call("ollama_chat", prompt="x", options={"num_predict": 2}))
    assert said == "ab\n[cut off at 2 tokens (num_predict)]"


async def test_what_was_sent_is_not_advised_again(connect_to):
    async with connect_to(THINKER, Model("plain")) as (client, fake):
        fake.script(Script(tokens=["<think>", "Hm.", "</think>"], done_reason="length"))
        for arguments in ({"model": "qwen3:8b", "think": False}, {"model": "plain"}):
            result = await client.call_tool("ollama_chat", {"prompt": "x", **arguments})
            assert failed(result, "TRUNCATED", '"num_predict"')
            assert "think=" not in text(result)


async def test_blanks_can_be_what_fills_a_gap(connect_to):
    async with connect_to(Model("coder", ("completion", "insert"))) as (client, fake):
        fake.script(Script(tokens=["\n"]))
        gap = {"prompt": "def f():", "suffix": "    pass", "model": "coder"}
        assert text(await client.call_tool("ollama_generate", gap)) == "\n"
        assert failed(await client.call_tool("ollama_chat", {"prompt": "x"}), "BAD_UPSTREAM", "at once")


# --- remedies and silence ----------------------------------------------------------------------

LONG = "word " * 9000


@pytest.mark.parametrize(
    ("tool", "arguments", "place"),
    [
        ("ollama_rank", {"query": "fruit", "candidates": ["apple", LONG]}, "candidates[1]"),
        ("ollama_rank", {"query": LONG, "candidates": ["apple"]}, "query"),
        ("ollama_embeddings", {"input": ["apple", LONG]}, "input[1]"),
    ],
)
async def test_a_text_that_is_too_long_is_named_as_its_caller_names_it(client, call, tool, arguments, place):
    result = await call(tool, arguments)
    assert failed(result, "CONTEXT_OVERFLOW", f"{place}, the longest text, does not fit")
    takes = next(t for t in (await client.list_tools()).tools if t.name == tool).input_schema["properties"]
    assert ("truncate" in text(result)) == ("truncate" in takes)


async def test_a_remedy_names_a_model_as_the_tool_takes_it(call):
    result = await call("ollama_compare", prompt="x", models=["llama3.2:4b"])
    assert failed(result, "MODEL_NOT_FOUND", 'Send "llama3.2:3b" in models')
    result = await call("ollama_chat", prompt="x", model="llama3.2:4b")
    assert failed(result, "MODEL_NOT_FOUND", 'Send model="llama3.2:3b"')


async def test_what_the_tool_takes_is_forgotten_with_its_call(app):
    """A host's own tool may call one of ours, and then fail in a way of its own."""
    (status,) = [tool for tool in TOOLSETS["models"] if tool.name == "ollama_status"]
    await bind(status, app)()
    assert ARGUMENTS.get() is None


async def test_who_sent_truncate_is_not_told_to_send_it(call, fake):
    refusal = Script(status=400, body={"error": "the input length exceeds the context length"})
    fake.script(refusal, path="/api/embed")
    fake.script(refusal, path="/api/chat")
    for tool, arguments in (("ollama_embeddings", {"input": [LONG]}), ("ollama_chat", {"prompt": LONG})):
        assert "truncate" not in text(await call(tool, {**arguments, "truncate": True}))


COMPOSING = [
    {"tools": [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}]},
    {"format": "json"},
    {"schema": {"type": "object"}},
]


@pytest.mark.parametrize("what", COMPOSING, ids=["tools", "format", "schema"])
async def test_silence_while_something_is_composed_is_as_long_as_before_the_first_byte(connect, fake, what):
    fake.script(Script(tokens=['{"a": ', "1}"], delay=90))
    async with connect() as client:
        result = await client.call_tool("ollama_chat", {"prompt": "x", "wait_s": 0, **what})
        assert text(result) == '{"a": 1}'
        fake.script(Script(tokens=["a", "b"], delay=90))
        result = await client.call_tool("ollama_chat", {"prompt": "x", "wait_s": 0})
        assert failed(result, "TIMEOUT", "idle clock", retryable=True)


# --- servers that speak a part of Ollama's API ---------------------------------------------------


def without(path: str, status: int) -> tuple[Script, str]:
    """A router's answer that there is no such endpoint, in one of the ways that there are."""
    if status == 501:
        return Script(status=404, body={"error": {"code": 404, "message": "File Not Found"}}), path
    return Script(status=status, body=b"no such page", headers={"Content-Type": "text/plain"}), path


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_without_show_a_chat_works_and_its_capabilities_are_not_judged(connect_to, status):
    async with connect_to(Model("kobold"), version="0.7.0") as (client, fake):
        script, path = without("/api/show", status)
        fake.script(script, path=path)
        result = await client.call_tool("ollama_chat", {"prompt": "hi", "model": "kobold", "think": "false"})
        assert text(result) == "You said: hi"
        assert "/api/show" in str(result.meta["ollama-mcp/notes"])
        assert failed(await client.call_tool("ollama_chat", {"prompt": "x", "model": "no:1b"}), "NOT_OLLAMA")


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_without_ps_the_list_and_the_status_do_without_what_is_loaded(call, fake, status):
    script, path = without("/api/ps", status)
    fake.script(script, path=path)
    listed = await call("ollama_list_models")
    assert "loaded" not in text(listed)
    assert not any("loaded" in row for row in listed.structured_content["models"])
    told = await call("ollama_status")
    assert text(told).endswith("answers. It does not say which models are loaded.")
    assert told.structured_content["reachable"]
    assert text(await call("ollama_chat", prompt="hi there")) == "You said: hi there"


async def test_without_version_the_status_says_what_it_knows(call, fake):
    script, path = without("/api/version", 404)
    fake.script(script, path=path)
    told = await call("ollama_status")
    assert told.structured_content["reachable"]
    assert text(told).startswith("Ollama answers.")
