"""What clients see of every tool before they call one."""

import inspect
import json
import re
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import Tool

from ollama_mcp import App, create_server
from ollama_mcp.server import INSTRUCTIONS
from ollama_mcp.settings import Settings, load
from ollama_mcp.tools import TOOLSETS

pytestmark = pytest.mark.anyio

STORE = {"OLLAMA_MCP_STORE": str(Path(__file__).parent / "none")}
"""A store that nothing opens: without one some tools are not there."""
PARAMETERS = {
    tool.name: tool.parameters(Settings(store="none")) for toolset in TOOLSETS.values() for tool in toolset
}
EXPLAINED = ("ollama_chat", "ollama_generate", "ollama_continue", "ollama_embeddings", "ollama_list_models")
FUNCTIONS = {tool.name: tool.function for toolset in TOOLSETS.values() for tool in toolset}
SNAPSHOTS = runpy.run_path(str(Path(__file__).parent.parent / "snapshots" / "accept.py"))
_DEFAULT = re.compile(r'(?P<before>\S+) \(default\)|Default (?P<after>""|\{\}|\[\]|[\w-]+)')


@pytest.fixture
async def offline(mode: str) -> AsyncIterator[Client]:
    """A client of a server that has every tool, and behind which there is nothing."""
    async with client_of("all", mode) as client:
        yield client


@asynccontextmanager
async def client_of(toolsets: str, mode: str, store: dict[str, str] = STORE) -> AsyncIterator[Client]:
    app = App.create(load(store | {"OLLAMA_HOST": "127.0.0.1:1", "OLLAMA_MCP_TOOLSETS": toolsets}))
    async with Client(create_server(app), mode=mode) as client:
        yield client


@pytest.fixture
async def tools(offline: Client) -> list[Tool]:
    return (await offline.list_tools()).tools


def default_in(description: str) -> Any:
    found = _DEFAULT.search(description)
    assert found, f"no default in {description!r}"
    text = found["before"] or found["after"]
    try:
        return json.loads(text)
    except ValueError:
        return text


def keys_of(value: Any) -> set[str]:
    """Every key of a schema that is not itself the name of a property."""
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if not isinstance(value, dict):
        return set()
    properties = value.get("properties", {})
    inner = [v for k, v in value.items() if k != "properties"] + list(properties.values())
    return set(value) | set().union(*map(keys_of, inner))


async def test_names_titles_and_hints_are_what_every_client_can_take(tools: list[Tool]):
    for tool in tools:
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,36}", tool.name)
        assert tool.title
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is not None
        assert tool.annotations.open_world_hint is not None
        assert tool.annotations.read_only_hint or tool.annotations.destructive_hint is not None


async def test_a_description_is_one_short_paragraph(tools: list[Tool]):
    for tool in tools:
        text = tool.description or ""
        assert 20 < len(text) <= 300
        assert "\n" not in text
        assert text == text.strip()


async def test_help_tells_python_callers_what_comes_back_and_what_is_raised(tools: list[Tool]):
    for tool in [tool for tool in tools if tool.name in EXPLAINED]:
        doc = inspect.getdoc(FUNCTIONS[tool.name]) or ""
        assert " ".join(doc.partition("\n\n")[0].split()) == tool.description
        assert "\nReturns:\n" in doc
        assert "\nRaises:\n" in doc
        assert "`ctx`" in doc


async def test_every_parameter_is_described_with_the_default_that_it_has(tools: list[Tool]):
    for tool in tools:
        parameters = signature(FUNCTIONS[tool.name]).parameters
        for name, schema in tool.input_schema["properties"].items():
            assert schema["description"], (tool.name, name)
            assert schema["type"], (tool.name, name)
            default = parameters[name].default
            if name == "wait_s":  # whose default is the client's, and none at all for a direct call
                assert "Default: " in schema["description"]
            elif default is not Parameter.empty:
                assert default_in(schema["description"]) == default, (tool.name, name)
            assert (name in tool.input_schema.get("required", [])) == (default is Parameter.empty)


async def test_no_parameter_is_hidden_but_app_and_ctx_and_what_the_operator_has_not_allowed(
    tools: list[Tool],
):
    for tool in tools:
        published = ["app", *tool.input_schema["properties"], "ctx"]
        assert published == list(PARAMETERS[tool.name])
        hidden = signature(FUNCTIONS[tool.name]).parameters.keys() - set(published)
        assert hidden <= {"files", "output", "collection"}


async def test_schemas_are_plain_objects_without_what_clients_strip_or_refuse(tools: list[Tool]):
    for tool in tools:
        for schema in filter(None, [tool.input_schema, tool.output_schema]):
            assert schema["type"] == "object"
            assert not keys_of(schema) & {"title", "default", "anyOf", "oneOf", "allOf", "$ref", "$defs"}


async def test_only_tools_that_return_facts_publish_an_output_schema(tools: list[Tool]):
    words = {tool.name for tool in tools if tool.output_schema is None}
    chats = ("chat", "generate", "compare", "continue", "cancel")
    others = ("agent", "rag_query", "web_search", "web_fetch", "conversations", "forget")
    assert words == {f"ollama_{name}" for name in (*chats, *others)}
    for tool in tools:
        if tool.output_schema is not None:
            assert tool.output_schema["required"]


async def test_the_list_is_the_same_for_every_server_and_every_time(offline: Client, tools: list[Tool]):
    assert (await offline.list_tools()).tools == tools
    assert list(await SNAPSHOTS["definitions"]("auto")) == [tool.name for tool in tools]


# Every client sends them with every turn. There is room for a few tools; who needs more says why.
@pytest.mark.parametrize(
    ("toolsets", "store", "most"),
    [("", {}, 2800), ("", STORE, 3300), ("all", STORE, 4800)],
    ids=["default", "with a store", "all"],
)
async def test_the_tools_together_cost_few_tokens(toolsets: str, store: dict[str, str], most: int, mode: str):
    async with client_of(toolsets, mode, store) as client:
        tools = (await client.list_tools()).tools
    shown = [{"name": t.name, "description": t.description, "inputSchema": t.input_schema} for t in tools]
    tokens = len(json.dumps(shown, ensure_ascii=False, separators=(",", ":"))) / 4
    costs = {
        tool["name"]: len(json.dumps(tool, ensure_ascii=False, separators=(",", ":"))) // 4 for tool in shown
    }
    assert tokens <= most, f"{tokens:.0f} tokens: {costs}"


async def test_the_schemas_of_results_cost_few_tokens(mode: str):
    async with client_of("", mode, {}) as client:
        tools = (await client.list_tools()).tools
    schemas = [tool.output_schema for tool in tools if tool.output_schema is not None]
    assert len(json.dumps(schemas, ensure_ascii=False, separators=(",", ":"))) / 4 <= 900


async def test_the_list_may_be_cached_since_it_never_changes(offline: Client, mode: str):
    if mode == "auto":  # the older protocols have no such hint
        assert (await offline.list_tools()).ttl_ms >= 60 * 60 * 1000


async def test_every_definition_is_the_accepted_one(mode: str):
    published = await SNAPSHOTS["definitions"](mode)
    assert published == SNAPSHOTS["accepted"](), "look at it, then run tests/snapshots/accept.py"


async def test_the_server_says_who_it_is_and_when_to_use_it(offline: Client):
    assert offline.server_info.name == "ollama-mcp"
    assert offline.server_info.version
    assert offline.instructions == INSTRUCTIONS
    assert len(INSTRUCTIONS) <= 1500
