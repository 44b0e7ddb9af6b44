"""What a caller sends is put into Ollama's words or refused in ours, before anything runs."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import InvalidArgument, UnknownOption
from ollama_mcp.services.specs import build_chat, build_generate

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="


def sent(**arguments):
    return build_chat(**arguments).request.model_dump(exclude_none=True)


def test_system_messages_and_prompt_come_in_this_order():
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    body = sent(model=" m ", system="s", messages=messages, prompt="c")
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]
    assert (body["model"], body["stream"], body["truncate"]) == ("m", True, False)


def test_calls_and_results_of_tools_make_the_round_trip():
    call = {"id": "7", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "ok", "name": "f", "tool_call_id": "7"},
    ]
    body = sent(messages=messages, tools=[{"type": "function", "function": {"name": "f"}}])
    assert body["messages"][1]["tool_calls"] == [
        {"id": "7", "function": {"name": "f", "arguments": {"a": 1}}}
    ]
    assert body["messages"][2] == {"role": "tool", "content": "ok", "tool_name": "f", "tool_call_id": "7"}


def test_tools_of_mcp_are_taken_too():
    tool = {"name": "f", "description": "d", "inputSchema": {"type": "object", "properties": {"a": {}}}}
    (made,) = sent(prompt="?", tools=[tool])["tools"]
    assert made == {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": tool["inputSchema"]},
    }


def test_content_in_parts_is_joined_and_its_images_are_taken_out():
    parts = [
        {"type": "text", "text": "what"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image", "data": PIXEL},
        {"type": "text", "text": "is it?"},
    ]
    ask = build_chat(messages=[{"role": "user", "content": parts, "images": [PIXEL]}])
    (message,) = ask.request.messages
    assert message.content == "what\nis it?"
    assert message.images == [PIXEL] * 3
    assert "vision" in ask.needs


@pytest.mark.parametrize("images", [PIXEL, f"data:image/png;base64,{PIXEL}"])
def test_a_single_image_is_a_list_of_one(images: str):
    (message,) = build_chat(messages=[{"role": "user", "content": "?", "images": images}]).request.messages
    assert message.images == [PIXEL]


@pytest.mark.parametrize(
    "images", [5, {"a": "b"}, [5], [None], [[PIXEL]], ["/etc/passwd"], ["not base64!"], ["ab\ud800"]]
)
def test_images_that_are_none_are_refused(images):
    with pytest.raises(InvalidArgument):
        build_chat(messages=[{"role": "user", "content": "?", "images": images}])


def test_fields_that_nobody_knows_are_named_once_and_briefly():
    stranger = "x" * 5000
    messages = [{"role": "user", "content": "a", "id": place, stranger: 1} for place in range(200)]
    notes = build_chat(messages=messages).notes
    assert len(notes) == 2
    assert all("ignored" in note and len(note) < 160 for note in notes)


def test_of_many_fields_that_nobody_knows_some_are_named_and_the_rest_is_counted():
    messages = [{"role": "user", "content": "a", f"x{place}": 1} for place in range(500)]
    notes = build_chat(messages=messages).notes
    assert len(notes) == 21
    assert notes[-1] == "480 more fields in messages were ignored"


def test_a_message_of_a_hundred_fields_and_more_is_refused():
    fields = {f"x{place}": 1 for place in range(99)}
    assert build_chat(messages=[{"content": "a", "role": "user", **dict(list(fields.items())[:98])}])
    with pytest.raises(InvalidArgument, match=r"messages\[0\].*Send role, content"):
        build_chat(messages=[{"content": "a", "role": "user", **fields}])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"prompt": ""},
        {"messages": ["hi"]},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": [{"content": "a"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        {"messages": [{"role": "user", "content": ["a"]}]},
        {"messages": [{"role": "assistant", "tool_calls": "f()"}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}
            ]
        },
        {"messages": [{"role": "assistant", "tool_calls": [5]}]},
        {"messages": [{"role": "user", "content": "a", 5: "b", "thinking": 7}]},
        {"prompt": "a", "tools": ["f"]},
        {"prompt": "a", "tools": [{"type": "function"}]},
        {"prompt": "a", "tools": [{"name": 5}]},
        {"prompt": "a", "format": "yaml"},
        {"prompt": "a", "think": "lots"},
        {"prompt": "a", "keep_alive": "soon"},
        {"prompt": "a", "keep_alive": True},
        {"prompt": "a", "keep_alive": math.nan},
        {"prompt": "a", "options": {"temperature": "hot"}},
        {"prompt": "a", "options": {"temperature": math.inf}},
        {"prompt": "a", "options": {"top_k": True}},
    ],
)
def test_what_ollama_would_refuse_or_misread_is_refused(arguments: dict):
    with pytest.raises(InvalidArgument) as caught:
        build_chat(**arguments)
    assert len(str(caught.value)) <= 400


def test_a_misspelt_option_is_refused_with_the_right_name():
    with pytest.raises(UnknownOption, match="temperature"):
        build_chat(prompt="a", options={"temprature": 1})


def test_an_option_that_ollama_retired_is_dropped_with_a_note():
    ask = build_chat(prompt="a", options={"mirostat": 2, "max_tokens": 5})
    assert ask.request.options.model_dump(exclude_none=True) == {"num_predict": 5}
    assert [note for note in ask.notes if "mirostat" in note] == list(ask.notes) != []


def test_generate_has_a_prompt_or_a_gap_to_fill():
    with pytest.raises(InvalidArgument):
        build_generate(prompt="")
    assert build_generate(prompt="", suffix="}").needs == ("completion", "insert")
    assert build_generate(prompt="a", images=[PIXEL]).needs == ("completion", "vision")


@pytest.mark.parametrize("extra", [{"system": "s"}, {"template": "t"}])
def test_a_raw_prompt_goes_alone(extra: dict):
    with pytest.raises(InvalidArgument, match="raw"):
        build_generate(prompt="a", raw=True, **extra)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["role", "content", "images", "tool_calls", "thinking", "name", "tool_name", "id"])
ROLES = st.just({"role": "user"}) | st.just({})


@given(
    st.lists(st.builds(lambda role, rest: {**rest, **role}, ROLES, st.dictionaries(NAMES, JSON, max_size=4)))
)
def test_no_message_gives_anything_but_a_request_or_a_failure_of_ours(messages: list):
    with suppress(InvalidArgument):
        assert build_chat(messages=messages).request.to_json()
