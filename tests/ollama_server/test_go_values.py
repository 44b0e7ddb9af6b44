"""Go's JSON, durations and base64."""

import contextlib
import json
import math

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from ollama_mcp.ollama_server import go_values as go


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        *[(None, 300), (0, 0), (5, 5), (1.5, 1.5), (-1, math.inf), ("5m", 300), ("1h30m", 5400)],
        *[
            ("-1s", math.inf),
            (1e300, math.inf),
            ("99999999h", math.inf),
            ("0", 0),
            ("1.5s", 1.5),
            (".5s", 0.5),
            ("250ms", 0.25),
            ("+2s", 2),
            ("0s", 0),
        ],
    ],
)
def test_keep_alive_is_seconds_or_a_duration(given, seconds):
    assert go.keep_alive(given) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("", 'time: invalid duration ""'),
        ("forever", 'time: invalid duration "forever"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("2d", 'time: unknown unit "d" in duration "2d"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("1hx", 'time: unknown unit "hx" in duration "1hx"'),
        (".s", 'time: invalid duration ".s"'),
        ("m", 'time: invalid duration "m"'),
        ("5m ", 'time: unknown unit "m " in duration "5m "'),
        ("1h-3m", 'time: unknown unit "h-" in duration "1h-3m"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_a_keep_alive_that_is_none_is_refused_in_gos_words(given, text):
    with pytest.raises(go.Refusal) as caught:
        go.keep_alive(given)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b'{"model":', "unexpected EOF"),
        (b'{"model": "x', "unexpected EOF"),
        (b"{'a'}", "invalid character '\\'"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b'{"a": NaN}', "invalid character 'N' looking for beginning of value"),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_a_body_that_is_not_json_is_refused(body, text):
    with pytest.raises(go.Refusal) as caught:
        go.load(body)
    assert str(caught.value).startswith(text[:19])


def test_json_is_written_as_go_writes_it():
    assert go.dump({"a": "<&>\u2028\u0085 é\ud800"}) == (
        '{"a":"\\u003c\\u0026\\u003e\\u2028\u0085 é\ufffd"}'.encode()
    )


@pytest.mark.parametrize("body", [b'{"a": 1} and more', b' \n{"a": 1}'])
def test_what_stands_around_the_first_value_is_ignored(body):
    assert go.load(body) == {"a": 1}


@any_of(st.binary(max_size=60))
def test_any_body_is_read_or_refused(body):
    with contextlib.suppress(go.Refusal):
        json.dumps(go.load(body))


def test_a_number_too_long_for_python_is_refused():
    with pytest.raises(go.Refusal):
        go.load(b"1" * 5000)


@any_of(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_what_goes_out_as_json_comes_back(value):
    assert json.loads(go.dump(value)) == value


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"a": "\\ud800"}', {"a": "\ufffd"}),
        (b'{"a": "x\\udc00y", "b": "\\ud83d\\ude00"}', {"a": "x\ufffdy", "b": "\U0001f600"}),
    ],
)
def test_half_a_surrogate_pair_becomes_a_mark(body, read):
    assert go.load(body) == read


@pytest.mark.parametrize(
    ("text", "place"), [("data:image", 4), ("a", 1), ("ab=c", 2), ("iVBOR w0KGgo", 5), ("é", 0)]
)
def test_wrong_base64_is_told_with_its_place(text, place):
    with pytest.raises(go.Refusal, match=f"illegal base64 data at input byte {place}$"):
        go.check_base64(text)
