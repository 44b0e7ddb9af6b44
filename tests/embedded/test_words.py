"""The pure rooms: names, Go's words, options, prompts, requests."""

import contextlib
import doctest
import importlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.gowords import FOREVER, SECOND, check_base64, dump, keep_alive, parse_object
from ollama_mcp.embedded.names import parse_name
from ollama_mcp.embedded.options import MOST_TOKENS, check_options, sampling
from ollama_mcp.embedded.prompts import chatml, cut_middle, droppable, wanted_schema, without_oldest
from ollama_mcp.embedded.requests import read_ask
from ollama_mcp.embedded.vectors import read_texts, shortened

ROOMS = ["names", "gowords", "prompts", "vectors", "convert", "catalog"]


@pytest.mark.parametrize("room", ROOMS)
def test_examples_in_docstrings_are_true(room):
    result = doctest.testmod(importlib.import_module(f"ollama_mcp.embedded.{room}"))
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("smollm2", "registry.ollama.ai/library/smollm2:latest"),
        ("SmolLM2:135M", "registry.ollama.ai/library/smollm2:135m"),
        ("me/x:1", "registry.ollama.ai/me/x:1"),
        ("h:5000/me/x", "h:5000/me/x:latest"),
        ("https://h/me/x:t", "h/me/x:t"),
    ],
)
def test_names_are_read_as_ollama_reads_them(text, full):
    name = parse_name(text)
    assert name is not None
    assert name.full == full


@pytest.mark.parametrize(
    "text", ["", ":", "x:", "a b", "../../etc/passwd", "x" * 81, "a/b/c/d/../x", "x:y/z w"]
)
def test_names_that_are_none(text):
    assert parse_name(text) is None


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (0, 0),
        (5, 5 * SECOND),
        ("0", 0),
        ("5m", 300 * SECOND),
        ("1h1m1.5s", 3661 * SECOND + SECOND // 2),
        ("100ms", SECOND // 10),
        ("-1s", FOREVER),
        (-1, FOREVER),
        (1e300, FOREVER),
        ("99999999h", FOREVER),
    ],
)
def test_keep_alive(value, nanoseconds):
    assert keep_alive(value) == nanoseconds


@pytest.mark.parametrize("value", ["1x", ".", "5", "m", "5m ", "1h-3m", True, [], {}])
def test_keep_alive_that_is_none(value):
    with pytest.raises(Refused) as caught:
        keep_alive(value)
    assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_any_body_is_read_or_refused(body):
    with contextlib.suppress(Refused):
        assert isinstance(parse_object(body, "ChatRequest"), dict)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_what_goes_out_as_json_comes_back(value):
    assert json.loads(dump(value)) == json.loads(json.dumps(value).encode("utf-8", "replace"))


@pytest.mark.parametrize(
    "body",
    [b'{"a": "\\ud800"}', b'{"a": "x\\udc00y", "b": "\\ud83d\\ude00"}'],
)
def test_half_a_surrogate_pair_becomes_a_mark(body):
    dump(parse_object(body, "ChatRequest")).decode()


def test_a_body_nested_too_deep_is_refused():
    with pytest.raises(Refused):
        parse_object(b'{"a":' * 100_000, "ChatRequest")


def test_json_is_escaped_as_go_escapes_it():
    assert dump({"a": "<b>&\u2028\u0085é"}) == '{"a":"\\u003cb\\u003e\\u0026\\u2028\u0085é"}'.encode()


@pytest.mark.parametrize(
    ("text", "place"), [("data:image", 4), ("a", 1), ("ab=c", 2), ("iVBOR w0KGgo", 5), ("é", 0)]
)
def test_wrong_base64_is_told_with_its_place(text, place):
    with pytest.raises(Refused, match=f"illegal base64 data at input byte {place}$"):
        check_base64(text)


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
    with pytest.raises(Refused, match=where) as caught:
        read_ask(json.dumps(fields).encode(), "ChatRequest")
    assert caught.value.status == 400


def test_null_is_absent():
    ask = read_ask(
        b'{"model":"m","messages":null,"stream":null,"options":null,"keep_alive":null}', "ChatRequest"
    )
    assert (ask.messages, ask.stream, ask.options, ask.truncate, ask.thinks) == ([], True, {}, True, False)


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
    with pytest.raises(Refused) as caught:
        check_options(options)
    assert (caught.value.status, caught.value.text) == (500, words)


def test_unknown_and_null_options_are_ignored():
    assert check_options({"temprature": "hot", "seed": None}) == {"temprature": "hot"}


@pytest.mark.parametrize(
    ("asked", "got"), [(5, 5), (0, MOST_TOKENS), (-1, MOST_TOKENS), (10**6, MOST_TOKENS), (None, MOST_TOKENS)]
)
def test_the_length_of_an_answer_is_capped(asked, got):
    options = {} if asked is None else {"num_predict": asked}
    assert sampling(options, ())["n_predict"] == got


@pytest.mark.parametrize(("seed", "sent"), [(7, 7), (7.9, 7), (-1, 0xFFFFFFFF), (2**40 + 1, 1)])
def test_a_seed_fits_into_32_bits(seed, sent):
    assert sampling({"seed": seed}, ())["seed"] == sent


def test_stops_of_the_request_replace_those_of_the_model():
    assert sampling({}, ("<end>",))["stop"] == ["<end>"]
    assert sampling({"stop": ["x"]}, ("<end>",))["stop"] == ["x"]


def test_neighbours_of_one_role_become_one_turn():
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert chatml(turns) == "<|im_start|>user\na\n\nb<|im_end|>\n<|im_start|>assistant\n"


def test_the_system_and_the_last_message_are_never_dropped():
    talk = [{"role": role} for role in ("system", "user", "assistant", "system", "user")]
    assert droppable(talk) == [1, 2]
    assert [m["role"] for m in without_oldest(talk, 1)] == ["system", "assistant", "system", "user"]
    assert [m["role"] for m in without_oldest(talk, 9)] == ["system", "system", "user"]


@given(st.integers(0, 3000), st.integers(4, 2048), st.integers(-5, 4000))
def test_cut_tokens_fit_and_keep_both_ends(count, window, keep):
    tokens = list(range(count))
    cut = cut_middle(tokens, window, keep)
    assert len(cut) == count if count < window else 0 < len(cut) < window
    assert cut[-1:] == tokens[-1:]
    assert cut == sorted(set(cut))


@pytest.mark.parametrize(
    ("wanted", "shown"), [("yaml", r'"\"yaml\""'), (5, '"5"'), ([1], '"[1]"'), (True, '"true"')]
)
def test_a_format_that_is_none_is_quoted(wanted, shown):
    with pytest.raises(Refused) as caught:
        wanted_schema(wanted)
    assert caught.value.text == f'invalid format: {shown}; expected "json" or a valid JSON Schema object'


@pytest.mark.parametrize(
    ("value", "texts"), [(None, []), ("", []), ("a", ["a"]), ([], []), (["", "a"], ["", "a"])]
)
def test_an_empty_text_alone_is_none_and_in_a_list_it_is_one(value, texts):
    assert read_texts(value) == texts


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.integers(-3, 30))
def test_a_shortened_vector_has_the_length_asked_for(vector, dimensions):
    assert len(shortened(vector, dimensions)) == (dimensions if 0 < dimensions < len(vector) else len(vector))
