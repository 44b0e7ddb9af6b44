"""Go's words, and that no request at all breaks the fake."""

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_mcp.ollama_server import go_values as go
from ollama_mcp.ollama_server import installed_models as models
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.testing import FakeOllama
from ollama_mcp.testing.fake_endpoints import ROUTES, respond
from ollama_mcp.testing.scripted_backend import sample


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        *[(None, 300), (0, 0), (5, 5), (1.5, 1.5), (-1, math.inf), ("5m", 300), ("1h30m", 5400)],
        *[("-1s", math.inf), ("0", 0), ("1.5s", 1.5), (".5s", 0.5), ("250ms", 0.25), ("+2s", 2), ("0s", 0)],
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
        (True, "Unsupported type: 'bool'"),
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


@pytest.mark.parametrize(
    ("name", "short", "full"),
    [
        ("llama3.2", "llama3.2:latest", "registry.ollama.ai/library/llama3.2:latest"),
        ("library/x:1b", "x:1b", "registry.ollama.ai/library/x:1b"),
        ("me/x", "me/x:latest", "registry.ollama.ai/me/x:latest"),
        ("hf.co/me/x:Q4_K_M", "hf.co/me/x:Q4_K_M", "hf.co/me/x:Q4_K_M"),
        ("http://127.0.0.1:5/library/x:1", "127.0.0.1:5/library/x:1", "127.0.0.1:5/library/x:1"),
    ],
)
def test_names_have_a_short_and_a_full_form(name, short, full):
    assert models.is_valid(name)
    assert (models.short_name(name), models.full_name(name)) == (short, full)


@pytest.mark.parametrize("name", ["", "a b", "../x", "../../etc/passwd", "x:", "/x", "a//b", "x\n"])
def test_names_that_are_none_are_invalid(name):
    assert not models.is_valid(name)


# What the endpoints look at, so that random bodies reach more than the first check.
FIELDS = st.sampled_from(
    re.findall(
        r"\S+",
        """model name messages role content images tool_calls function arguments options num_ctx num_predict
        stop format type properties items $ref enum anyOf minItems keep_alive think prompt suffix input
        dimensions truncate stream from files system template parameters license source destination raw
        logprobs""",
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    path=st.sampled_from([path for path, methods in ROUTES.items() if "POST" in methods]),
    body=st.dictionaries(FIELDS, JSON, max_size=6),
    installed=st.booleans(),
)
@pytest.mark.long
def test_no_request_breaks_the_fake(path, body, installed):
    if installed:
        body |= {"model": "llama3.2:3b"}
    request = Request("POST", path, {}, json.dumps(body).encode(), 0.0, 1)
    assert list(respond(FakeOllama(), request, close=False))


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_no_schema_breaks_the_sample(schema):
    go.dump(sample(schema))
