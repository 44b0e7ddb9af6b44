"""Model options, and the other values that language models send in many forms."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_mcp.errors import InvalidArgument, OllamaError, UnknownOption
from ollama_mcp.ollama.api_models import ChatRequest
from ollama_mcp.ollama.model_names import canonical, check_name, is_cloud_name, nearest
from ollama_mcp.ollama.options import ALIASES, RETIRED, Options, option_names, parse_options
from ollama_mcp.ollama.parameters import check_image, parse_keep_alive, parse_think

DOCUMENTED = [
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
]
FLOATS = {
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
}
INTEGERS = set(DOCUMENTED) - FLOATS - {"stop", "use_mmap"}
HUGE = 10**400
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(),
        st.text(),
        st.sampled_from([HUGE, -HUGE]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def given_back(raw):
    return parse_options(raw)[0].model_dump(exclude_none=True)


def test_the_options_are_those_of_ollama():
    assert list(Options.model_fields) == DOCUMENTED
    assert option_names() == {*DOCUMENTED, *ALIASES, *RETIRED}
    assert set(ALIASES.values()) <= set(DOCUMENTED)
    assert not RETIRED & {*DOCUMENTED, *ALIASES}


@pytest.mark.parametrize("name", sorted(FLOATS))
def test_a_number_is_taken_and_everything_else_refused(name):
    assert given_back({name: 0.5}) == {name: 0.5}
    assert given_back({name: 1}) == {name: 1.0}
    assert given_back({name: "0.5"}) == {name: 0.5}
    for wrong in (
        True,
        False,
        float("nan"),
        float("inf"),
        float("-inf"),
        "nan",
        "inf",
        "1e999",
        HUGE,
        1e300,
        "warm",
        [],
        {},
        [1],
    ):
        with pytest.raises(InvalidArgument, match=f"option {name} .* a finite number"):
            parse_options({name: wrong})


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_an_integer_is_taken_and_everything_else_refused(name):
    assert given_back({name: 5}) == {name: 5}
    assert given_back({name: 5.0}) == {name: 5}
    assert given_back({name: "-1"}) == {name: -1}
    for wrong in (True, False, float("nan"), float("inf"), 0.5, HUGE, 2**63, "many", "1e999", [], {}, [1]):
        with pytest.raises(InvalidArgument, match=f"option {name} .* an integer"):
            parse_options({name: wrong})


def test_a_switch_and_stop_words_are_of_their_types():
    assert given_back({"use_mmap": False, "stop": "###"}) == {"use_mmap": False, "stop": ["###"]}
    assert given_back({"stop": []}) == {"stop": []}
    assert (
        given_back({"stop": ""}) == given_back({"stop": [""]}) == {}
    )  # an answer would end before it begins
    assert given_back({"stop": ["", "x"]}) == {"stop": ["x"]}
    for wrong in (
        {"use_mmap": "perhaps"},
        {"use_mmap": 2},
        {"stop": 5},
        {"stop": [5]},
        {"stop": {}},
        {"stop": [None]},
    ):
        with pytest.raises(InvalidArgument):
            parse_options(wrong)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_other_apis_names_are_understood(alias, name):
    assert list(given_back({alias: 8 if name != "stop" else ["x"]})) == [name]


@pytest.mark.parametrize("name", sorted(RETIRED))
def test_a_retired_option_is_dropped_with_a_note(name):
    options, notes = parse_options({name: 2, "seed": 1})
    assert options.model_dump(exclude_none=True) == {"seed": 1}
    assert len(notes) == 1
    assert name in notes[0]


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("temprature", "temperature"),
        ("Temperature", "temperature"),
        ("topk", "top_k"),
        ("num_context", "num_ctx"),
        ("max_token", "num_predict"),
        ("numpredict", "num_predict"),
        ("repetition_penalty", "repeat_penalty"),
        ("stops", "stop"),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest_one(misspelt, meant):
    with pytest.raises(UnknownOption) as caught:
        parse_options({misspelt: 1})
    assert misspelt in caught.value.cause
    assert f'"{meant}"' in caught.value.remedy


def test_an_option_that_is_like_no_other_is_answered_with_all_of_them():
    with pytest.raises(UnknownOption) as caught:
        parse_options({"zzz": 1})
    assert all(name in str(caught.value) for name in DOCUMENTED)


def test_null_is_an_absent_option():
    assert given_back(dict.fromkeys(DOCUMENTED)) == {}


@given(
    st.dictionaries(st.sampled_from([*sorted(option_names()), "temprature"]) | st.text(), JSON, max_size=4)
)
@example({"num_ctx": "9" * 5000})
@example({"x\n\ud800" * 1000: 1})
def test_options_are_read_or_refused_by_an_error_that_can_be_told(raw):
    try:
        options, _ = parse_options(raw)
    except OllamaError as error:
        assert len(str(error)) <= 400  # noqa: PT017
        return
    sent = json.loads(ChatRequest(model="m", options=options).to_json())["options"]
    assert set(sent) <= set(DOCUMENTED)


def test_a_number_too_large_for_python_to_write_is_refused_as_any_other():
    for raw in ({"temperature": 10**5000}, {"stop": [10**5000]}, {"num_ctx": 10**5000}):
        with pytest.raises(InvalidArgument):
            parse_options(raw)
    assert parse_keep_alive(10**5000) == -1
    with pytest.raises(InvalidArgument):
        parse_think(10**5000)


# --- keep_alive, think, images -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (300, 300),
        (0, 0),
        (-1, -1),
        (1.5, 1.5),
        ("300", 300),
        ("-1", -1),
        ("-1s", "-1s"),
        ("0", 0),
        ("5m", "5m"),
        ("5M", "5m"),
        ("1h30m", "1h30m"),
        ("1.5h", "1.5h"),
        (".5h", ".5h"),
        ("2d", "48h"),
        ("1w", "168h"),
        ("0.5d", "12h"),
        ("forever", -1),
        ("infinite", -1),
        ("", None),
        ("null", None),
        (None, None),
        (" 10m ", "10m"),
        (10**400, -1),
        ("9999999999999h", -1),
        ("123456789d", -1),
        (1e300, -1),
        ("-2d", "-48h"),
        ("100µs", "100µs"),
    ],
)
def test_a_keep_alive_becomes_what_ollama_takes(value, read):
    assert parse_keep_alive(value) == read


@pytest.mark.parametrize(
    "value",
    [True, False, float("nan"), "nan", "soon", "5 parsecs", "١m", "m", "1e3d", "1_0", [], {}, "d", "--1"],
)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(InvalidArgument, match="keep_alive"):
        parse_keep_alive(value)


@given(JSON)
def test_parameters_are_read_or_refused_by_an_error_that_can_be_told(value):
    for read in (parse_keep_alive, parse_think):
        try:
            read(value)
        except OllamaError as error:
            assert len(str(error)) <= 400  # noqa: PT017


@given(st.from_regex(r"[+-]?([0-9]{1,25}(\.[0-9]{0,5})?|\.[0-9]{1,5})(ns|us|ms|s|m|h|d|w)?", fullmatch=True))
def test_a_keep_alive_that_is_a_duration_is_one_for_go(text):
    read = parse_keep_alive(text)
    assert read is None or isinstance(read, int | float) or _go_seconds(read) < 2**63 / 1e9


def _go_seconds(text: str) -> float:
    units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
    number = text.rstrip("nusmh")
    return abs(float(number)) * units[text[len(number) :]]


@pytest.mark.parametrize("value", ["lots", "2", 5, [], {}, 1.5])
def test_a_think_that_is_no_level_is_refused(value):
    with pytest.raises(InvalidArgument, match="think"):
        parse_think(value)


@pytest.mark.parametrize(
    "value",
    ["/etc/passwd", "", "data:image/png;base64,", "http://x/y.png", "é", "\ud800", "a", "====", "a=b="],
)
def test_an_image_that_is_not_base64_is_refused_and_not_read(value):
    with pytest.raises(InvalidArgument, match="base64"):
        check_image(value)


@given(st.binary(min_size=1).filter(lambda data: data[0] < 0xFC or data.startswith(b"\xff\xd8\xff")))
def test_an_image_keeps_its_bytes(data):
    for text in (
        base64.b64encode(data).decode(),
        "data:image/png;base64," + base64.encodebytes(data).decode(),
    ):
        assert base64.b64decode(check_image(text), validate=True) == data


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "qwen3",
        "qwen3:8b",
        "a/b",
        "a/b:c",
        "h/a/b:c",
        "localhost:5000/a/b:c",
        "hf.co/u/Q-GGUF:Q4_K_M",
        "_x",
        "x" * 80,
    ],
)
def test_a_name_of_ollamas_grammar_is_taken(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a:",
        ":a",
        "/a",
        "a/",
        "a//b",
        "a:b:c",
        "a/b/c/d",
        "../a",
        "a\nb",
        "a?b",
        "é",
        "x" * 81,
        "-a",
        "a\x00",
    ],
)
def test_another_name_is_refused(name):
    with pytest.raises(InvalidArgument):
        check_name(name)


@given(st.text())
def test_any_text_is_a_name_or_refused(text):
    try:
        name = check_name(text)
    except InvalidArgument:
        return
    assert canonical(canonical(name)) == canonical(name)
    assert isinstance(is_cloud_name(name), bool)


def test_the_nearest_names_keep_their_spelling():
    assert nearest("QWEN3:8B", ["Qwen3:8b", "zzz"]) == ["Qwen3:8b"]
    assert nearest("x", []) == []
