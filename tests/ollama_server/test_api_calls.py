"""Requests as Ollama reads them: field types, options, formats, texts to embed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.ollama.options import Options
from ollama_mcp.ollama_server.api_calls import OPTION_TYPES, Call, check_format, check_options, read_body
from ollama_mcp.ollama_server.go_values import Refusal
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.ollama_server.installed_models import Model
from ollama_mcp.ollama_server.routes import Embedding

PLAIN = Model("m:latest")


def read(path: str, body: bytes) -> Call:
    return Call(Request("POST", path, {}, body, 0.0, 1), read_body(path, body))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"model": 5}, "cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        ({"messages": {}}, "cannot unmarshal object into Go struct field ChatRequest.messages of type"),
        ({"messages": ["hi"]}, "cannot unmarshal string into Go struct field ChatRequest.messages of type"),
        (
            {"messages": [{"content": []}]},
            "array into Go struct field ChatRequest.messages.content of type string",
        ),
        ({"stream": "no"}, "cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
        ({"options": []}, "cannot unmarshal array into Go struct field ChatRequest.options of type map"),
        (
            {"top_logprobs": 1.5},
            "cannot unmarshal number into Go struct field ChatRequest.top_logprobs of type",
        ),
        ({"messages": [{"images": [5]}]}, "cannot unmarshal number"),
    ],
)
def test_a_field_of_a_wrong_type_is_named_in_gos_words(fields, where):
    with pytest.raises(Refusal, match=where) as caught:
        read("/api/chat", json.dumps(fields).encode())
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"keep_alive": "2d"}, 'time: unknown unit "d" in duration "2d"'),
        (
            {"think": "much"},
            'invalid think value: "much" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ({"think": 1}, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ({"messages": [{"images": ["data:x"]}]}, "illegal base64 data at input byte 4"),
        (
            {"messages": [{"tool_calls": [{"function": {"arguments": "{}"}}]}]},
            "Value looks like object, but can't find closing '}' symbol",
        ),
    ],
)
def test_values_that_read_themselves_refuse_in_words_of_their_own(fields, words):
    with pytest.raises(Refusal) as caught:
        read("/api/chat", json.dumps(fields).encode())
    assert (caught.value.status, caught.value.text) == (400, words)


def test_a_body_that_is_no_object_is_refused():
    with pytest.raises(
        Refusal, match=r"^json: cannot unmarshal array into Go value of type api.ChatRequest$"
    ):
        read("/api/chat", b"[]")


def test_null_is_absent():
    body = b'{"model":"m","messages":null,"stream":null,"options":null,"keep_alive":null,"think":null}'
    call = read("/api/chat", body)
    assert (call.messages, call.streams, call.options, call.truncates) == ([], True, {}, True)
    assert (call.keep_alive, call.images, call.name) == (300, [], "m")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"seed": "x"}, 'option "seed" must be of type integer'),
        ({"top_k": True}, 'option "top_k" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
    ],
)
def test_an_option_of_a_wrong_type_is_status_500(options, words):
    with pytest.raises(Refusal) as caught:
        check_options(PLAIN, options)
    assert (caught.value.status, caught.value.text) == (500, words)


def test_the_server_knows_the_options_that_the_client_sends():
    assert set(OPTION_TYPES) == set(Options.model_fields)


def test_unknown_and_null_options_are_ignored():
    assert check_options(PLAIN, {"temprature": "hot", "seed": None}) == {"temprature": "hot"}


def test_a_models_own_parameters_lie_below_the_options():
    model = Model("m", parameters={"stop": ["<end>"], "seed": 1})
    assert check_options(model, {"stop": None}) == {"stop": ["<end>"], "seed": 1}
    assert check_options(model, {"stop": ["x"]}) == {"stop": ["x"], "seed": 1}


@pytest.mark.parametrize(
    ("wanted", "shown"), [("yaml", r'"\"yaml\""'), (5, '"5"'), ([1], '"[1]"'), (True, '"true"')]
)
def test_a_format_that_is_none_is_quoted(wanted, shown):
    with pytest.raises(Refusal) as caught:
        check_format(wanted)
    assert caught.value.text == f'invalid format: {shown}; expected "json" or a valid JSON Schema object'


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.integers(-3, 30))
def test_a_shortened_vector_has_the_length_asked_for(vector, dimensions):
    call = read("/api/embed", json.dumps({"model": "m", "dimensions": dimensions}).encode())
    made = Embedding(call, PLAIN, {}, ["x"]).record([vector], tokens=1, total_ns=1, load_ns=1)
    (shown,) = made["embeddings"]
    assert len(shown) == (dimensions if 0 < dimensions < len(vector) else len(vector))
