"""Our resources and prompts on somebody else's server."""

from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer

from ollama_mcp import App, offer, register
from ollama_mcp.settings import load

pytestmark = pytest.mark.anyio

RESOURCES = ["ollama://models", "ollama://status"]
TEMPLATES = ["ollama://models/{name}", "ollama://conversations/{name}", "ollama://embeddings/{id}"]
PROMPTS = ["delegate", "summarise", "second_opinion", "commit_message"]


def theirs() -> str:
    """Something of the host's."""
    return "theirs"


def theirs_of(name: str) -> str:
    """Something of the host's."""
    return name


@pytest.fixture
def host() -> MCPServer:
    return MCPServer("theirs")


async def offered(host: MCPServer) -> tuple[list[str], list[str], list[str]]:
    return (
        [str(one.uri) for one in await host.list_resources()],
        [one.uri_template for one in await host.list_resource_templates()],
        [one.name for one in await host.list_prompts()],
    )


def templates_with(prefix: str) -> list[str]:
    return [uri.replace("://", f"://{prefix}") for uri in TEMPLATES]


async def test_register_adds_tools_and_nothing_else(host, app):
    register(host, app)
    assert await offered(host) == ([], [], [])


async def test_offer_adds_the_rest_beside_what_the_host_has(host, app):
    host.resource("their://x")(theirs)
    host.prompt("theirs")(theirs)
    register(host, app)
    before = list(host.middleware)
    offer(host, app)
    found = await offered(host)
    assert found == (["their://x", *RESOURCES], TEMPLATES, ["theirs", *PROMPTS])
    assert host.middleware == before


async def test_with_prefixes_two_apps_stand_side_by_side(host, app, mode):
    other = App.create(app.settings)
    register(host, app)
    offer(host, app)
    register(host, other, prefix="b_")
    with pytest.raises(ValueError, match="ollama://models"):
        offer(host, other)
    offer(host, other, prefix="b_")
    resources, templates, prompts = await offered(host)
    assert resources == [*RESOURCES, "ollama://b_models", "ollama://b_status"]
    assert templates == [*TEMPLATES, *templates_with("b_")]
    assert prompts == [*PROMPTS, *(f"b_{name}" for name in PROMPTS)]
    async with other, Client(host, mode=mode) as client:
        with anyio.fail_after(10):
            (text,) = (await client.get_prompt("b_delegate", {"task": "x"})).messages
            assert "b_ollama_chat" in text.content.text
            result = await client.call_tool("b_ollama_embeddings", {"input": ["a"]})
            uri = result.structured_content["vectors_uri"]
            assert uri.startswith("ollama://b_embeddings/")
            assert (await client.read_resource(uri)).contents


async def test_vectors_have_no_address_on_a_host_that_does_not_offer_it(host, app, mode):
    register(host, app)
    async with Client(host, mode=mode) as client:
        result = await client.call_tool("ollama_embeddings", {"input": ["a"]})
        assert "vectors_uri" not in result.structured_content
    assert not app.jobs._held.here().kept


@pytest.mark.parametrize(
    "take",
    [
        lambda host: host.resource("ollama://status")(theirs),
        lambda host: host.resource("ollama://models/{name}")(theirs_of),
        lambda host: host.prompt("summarise")(theirs),
    ],
)
async def test_a_name_that_is_taken_is_refused_and_nothing_is_added(host, app, take):
    take(host)
    register(host, app)
    before = await offered(host)
    with pytest.raises(ValueError, match=r"already has .*; give offer\(\) a prefix"):
        offer(host, app)
    assert await offered(host) == before


async def test_only_what_belongs_to_the_tools_that_are_there_is_added(host, app):
    register(host, app, toolsets=["models"])
    offer(host, app)
    assert await offered(host) == (RESOURCES, TEMPLATES[:1], [])


def test_without_tools_of_that_app_there_is_nothing_to_offer(host):
    app, other = (App.create(load({"OLLAMA_HOST": "127.0.0.1:1"})) for _ in range(2))
    register(host, other)
    with pytest.raises(ValueError, match=r"call register\(\) first"):
        offer(host, app)


@pytest.mark.parametrize("prefix", ["x y", "a/", "{a}", "x" * 65])
def test_a_prefix_that_no_name_may_have_is_refused(host, app_alone, prefix):
    with pytest.raises(ValueError, match="begin a prompt's name"):
        offer(host, app_alone, prefix=prefix)


@pytest.fixture
def app_alone() -> App:
    return App.create(load({"OLLAMA_HOST": "127.0.0.1:1"}))


def test_what_is_no_server_of_mcp_2_is_refused(app_alone):
    nothing: Any = object()
    with pytest.raises(TypeError, match="MCPServer"):
        offer(nothing, app_alone)
