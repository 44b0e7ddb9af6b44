"""Whatever a caller sends, it reads an answer or an error that says what to do."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.client import Client

from ollama_mcp.settings import Settings
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.arguments import ArgumentCheck

pytestmark = pytest.mark.anyio

Connect = Callable[..., Any]

PARAMETERS = {
    tool.name: sorted(ArgumentCheck(tool, Settings())._parameters)
    for toolset in TOOLSETS.values()
    for tool in toolset
}
WORDS = [
    *["", "json", "true", "low", "10m", "-1", "full", "llama3.2:3b", "nomic-embed-text", "[1]", "{}", "a/b"],
    *["user", "tool", "object", "string"],
]
KEYS = [
    *["role", "content", "images", "tool_calls", "function", "name", "arguments", "type", "properties"],
    *["temperature", "num_ctx", "num_predict", "stop", "seed", "$ref", "required", "enum", "items"],
]

texts = st.sampled_from(WORDS) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | values},
        optional=dict.fromkeys(("content", "images", "tool_calls", "tool_name", "thinking"), values),
    ),
    max_size=2,
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    tool = draw(st.sampled_from(sorted(PARAMETERS)))
    names = st.sampled_from([*PARAMETERS[tool], "handle"]) | st.sampled_from(KEYS) | st.text(max_size=8)
    arguments = draw(st.dictionaries(names, values, max_size=4))
    if draw(st.booleans()):
        arguments |= {"prompt": "hi", "input": ["hi"]}
    if tool == "ollama_chat" and draw(st.booleans()):
        arguments["messages"] = draw(messages)
    return tool, arguments


@pytest.fixture
async def everything(connect: Connect) -> AsyncIterator[Client]:
    """A client of every tool."""
    async with connect(OLLAMA_MCP_TOOLSETS="all") as client:
        yield client


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=calls())
async def test_any_arguments_get_an_answer_or_an_error_with_a_remedy(everything: Client, made):
    tool, arguments = made
    with anyio.fail_after(10):
        result = await everything.call_tool(tool, arguments)
    assert result.is_error in {True, False}
    text = result.content[0].text
    assert "Error executing tool" not in text
    if result.is_error:
        assert re.match(r"[A-Z_]+: .+\. .+", text, re.DOTALL), text
        assert len(text) <= 400
        assert result.meta["ollama-mcp/error"]["code"] != "INTERNAL", (tool, arguments)
        assert result.structured_content is None
