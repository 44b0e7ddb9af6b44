"""No request at all breaks the fake."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_mcp.ollama_server import go_values as go
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.testing import FakeOllama
from ollama_mcp.testing.fake_endpoints import ROUTES, respond
from ollama_mcp.testing.scripted_backend import sample

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
