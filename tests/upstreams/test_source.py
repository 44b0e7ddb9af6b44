"""Tools of upstreams: names, permissions, failures as rows, one retry; and as ollama_rag_query asks them."""

import asyncio
import logging

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from ollama_mcp import create_server, ollama_rag_query, register
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.services.upstream_pool import UpstreamPool
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError
from ollama_mcp.tools.upstreams.source import Upstreams, public_name

from .servers import PARKING, Connections, MortalConnections, add_tools, make_server

pytestmark = pytest.mark.anyio
QUESTION = "Where do visitors park their cars?"
SECRET = "hunter2-secret"
READING = {"rows", "fails", "hangs", "asks", "reports", "refused", "links", "images"}


def upstreams(connections, *servers, **fields):
    servers = servers or (UpstreamServer("up", command="x", **fields),)
    return Upstreams(UpstreamPool(servers), connections)


async def names(source, wanted=None):
    return {tool.name for tool in await source.tools(wanted)}


async def test_by_default_those_may_be_called_that_only_read_and_not_from_the_open_world():
    source = upstreams(Connections())
    assert await names(source) == {f"up__{name}" for name in READING}
    await source._pool.aclose()


@pytest.mark.parametrize("listed", [False, True])
async def test_a_tool_of_another_ollama_mcp_must_be_listed(listed):
    server = make_server()

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def ollama_chat(prompt: str) -> str:
        return "hello"

    source = upstreams(Connections(server), tools=("ollama_*",) if listed else None)
    assert ("up__ollama_chat" in await names(source)) is listed
    await source._pool.aclose()


@pytest.mark.parametrize(
    ("listed", "allowed"),
    [
        (["*"], READING | {"web", "writes"}),
        (["w*", "destroys"], {"web", "writes"}),
        (["nothing"], set()),
        ([], set()),
    ],
)
async def test_listed_tools_may_be_called_and_never_what_destroys(listed, allowed):
    source = upstreams(Connections(), tools=tuple(listed))
    found = {tool.name for tool in await source.tools() if tool.is_allowed([])}
    assert found == {f"up__{name}" for name in allowed}
    await source._pool.aclose()


async def test_of_a_remote_server_only_listed_tools_may_be_called():
    source = upstreams(Connections(), url="https://docs.example/mcp")
    assert await names(source) == set()
    await source._pool.aclose()
    source = upstreams(Connections(), url="https://user:pw@docs.example/mcp?k=v", tools=("rows",))
    (tool,) = await source.tools()
    assert (tool.name, tool.destination) == ("up__rows", "docs.example")
    await source._pool.aclose()


async def test_only_servers_that_may_have_the_tool_are_connected():
    connections = Connections()
    source = upstreams(connections, UpstreamServer("a", command="x"), UpstreamServer("b", command="x"))
    assert await names(source, ["b__rows"]) == {f"b__{name}" for name in READING}
    assert connections.begun == {"b": 1}
    await names(source, ["*__rows"])
    assert connections.begun == {"a": 1, "b": 1}
    await source._pool.aclose()


async def test_a_server_that_cannot_be_reached_is_a_reason_and_the_others_are_listed():
    connections = Connections()
    source = upstreams(connections, UpstreamServer("a", command="x"), UpstreamServer("b", command="x"))
    await names(source, ["a__rows"])
    connections.trouble = OSError("no route")
    listed = await source.tools()
    assert len(listed) == len(READING)
    assert listed.failures == {"b__": "upstream b: no route"}
    assert "no route" in (await source.tools()).failure_of("b__*")
    assert connections.begun == {"a": 1, "b": 1}
    await source._pool.aclose()


@pytest.mark.parametrize("others", [0, 1])
async def test_a_server_that_stops_answering_is_given_up_unless_it_is_busy_with_another_call(others):
    connections = Connections()
    source = upstreams(connections)
    opened = await source._pool.client("up", connections)

    async def never(**_):
        await anyio.sleep(3600)

    listing, opened.client.list_tools = opened.client.list_tools, never
    opened.in_flight += others
    listed = await source.tools()
    assert listed.failures == {"up__": "upstream up: it did not list its tools within 5 s"}
    await anyio.sleep(1)
    assert connections.open == others
    opened.client.list_tools = listing
    assert bool(await names(source)) == bool(others)  # one that was given up is not begun again at once
    await source._pool.aclose()


@pytest.mark.parametrize(("deaths", "begun"), [(1, 2), (2, 2)])
async def test_a_call_whose_server_died_is_made_once_more_if_it_only_reads(deaths, begun):
    connections = MortalConnections(deaths)
    source = upstreams(connections)
    await source.tools()
    if deaths == 1:
        assert (await source.call("up__rows", {"query": "x"}))[0].text == PARKING
    else:
        with pytest.raises(SourceError, match="it has ended"):
            await source.call("up__rows", {"query": "x"})
    assert connections.begun == {"up": begun}
    await source._pool.aclose()


async def test_a_call_that_may_change_something_is_never_made_twice():
    connections = MortalConnections(1)
    source = upstreams(connections, tools=("writes",))
    await source.tools()
    with pytest.raises(SourceError, match="it has ended"):
        await source.call("up__writes", {"query": "x"})
    assert connections.begun == {"up": 1}
    await source._pool.aclose()


async def test_a_secret_that_a_server_says_is_in_no_result_error_or_log(caplog):
    caplog.set_level(logging.DEBUG, "ollama_mcp")
    source = upstreams(Connections(make_server(secret=SECRET)), secrets=(SECRET,))
    await source.tools()
    found = await source.call("up__rows", {"query": "x"})
    assert found[0].uri == "note://***"
    with pytest.raises(SourceError, match=r"no such database \*\*\*$"):
        await source.call("up__fails", {"query": "x"})
    assert "hunter2" not in caplog.text
    await source._pool.aclose()


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_any_tool_has_a_name_that_apis_take_and_no_other_tool_has(server, one, other):
    names = [public_name(UpstreamServer(server[:40], command="x"), tool) for tool in (one, other)]
    assert all(len(name) <= 64 and name.replace("-", "_").isascii() for name in names)
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for name in names
    )
    assert (names[0] == names[1]) == (one == other)


# --- as ollama_rag_query asks them --------------------------------------------------------------


async def ask(host, mode="auto", **arguments):
    with anyio.fail_after(300):
        async with Client(host, mode=mode) as client:
            return await client.call_tool("ollama_rag_query", {"query": QUESTION, **arguments})


def foreign(app):
    host = MCPServer("host", log_level="CRITICAL")
    add_tools(host)
    register(host, app)
    return host


@pytest.mark.parametrize("make_host", [create_server, foreign])
async def test_an_answer_cites_an_upstream_on_our_server_and_on_anybodys(
    make_host, make_app, connections, mode
):
    result = await ask(make_host(make_app(notes={"command": "x"})), mode, context_tools=["notes__rows"])
    assert result.content[0].text == (
        "Behind the museum [1].\n\nSources:\n[1] Parking · note://1 · from notes__rows"
    )


async def test_siblings_and_upstreams_are_asked_together(make_app, connections):
    host = create_server(make_app(notes={"command": "x"}))
    add_tools(host)
    result = await ask(host, context_tools=["rows", "notes__rows"])
    tools = result.meta["ollama-mcp/context"]["tools"]
    assert [(row["source"], row["passages"]) for row in tools] == [("rows", 2), ("notes__rows", 2)]


async def test_the_answer_says_where_the_question_went(make_app, connections):
    remote = {"url": "https://docs.example/mcp", "tools": ["rows"]}
    app = make_app(docs=remote, local={"command": "x", "tools": ["web", "rows"]})
    result = await ask(create_server(app), context_tools=["docs__rows", "local__web", "local__rows"])
    assert result.content[0].text.endswith(
        "\n\nThe question was sent to: docs__rows (docs.example), local__web (the open world)."
    )
    sent = [row["sent_to"] for row in result.meta["ollama-mcp/context"]["tools"]]
    assert sent == ["docs.example", "the open world", ""]


async def test_an_upstream_that_is_down_is_a_row_and_an_unknown_name_lists_the_others(make_app, connections):
    host = create_server(make_app(notes={"command": "x"}, down={"command": "x"}))
    async with Client(host) as client:
        await client.call_tool("ollama_rag_query", {"query": QUESTION, "context_tools": ["notes__rows"]})
        connections.trouble = OSError("no route")
        both = {"query": QUESTION, "context_tools": ["notes__rows", "down__*"]}
        result = await client.call_tool("ollama_rag_query", both)
        assert "No answer from: down__* (upstream down: no route" in result.content[0].text
        begun = asyncio.get_running_loop().time()
        unknown = {"query": QUESTION, "context_tools": ["notes__nothing"]}
        result = await client.call_tool("ollama_rag_query", unknown)
    assert asyncio.get_running_loop().time() - begun < 5
    assert result.is_error
    assert "There are notes__asks, notes__fails" in result.content[0].text


async def test_upstreams_can_be_asked_from_python_without_a_server(make_app, connections):
    answer = await ollama_rag_query(make_app(notes={"command": "x"}), QUESTION, context_tools=["notes__rows"])
    assert answer.context_sources[0]["source"] == "notes__rows"
    with pytest.raises(InvalidArgument, match="there is no context tool"):
        await ollama_rag_query(make_app(notes={"command": "x"}), QUESTION, context_tools=["rows"])


async def test_status_shows_each_upstream(make_app, connections):
    host = create_server(make_app(notes={"command": "x"}, down={"command": "x"}))
    async with Client(host) as client:
        before = await client.call_tool("ollama_status", {})
        await client.call_tool("ollama_rag_query", {"query": QUESTION, "context_tools": ["notes__rows"]})
        connections.trouble = OSError("no route")
        await client.call_tool("ollama_rag_query", {"query": QUESTION, "context_tools": ["down__rows"]})
        after = await client.call_tool("ollama_status", {})
    assert before.content[0].text.endswith("\n\nUpstream notes: not started.\nUpstream down: not started.")
    assert after.content[0].text.endswith(
        "\n\nUpstream notes: running, 8 tools may be asked.\nUpstream down: failed: no route."
    )
    assert after.structured_content["upstreams"] == {
        "notes": {"state": "running", "error": "", "tools": 8},
        "down": {"state": "failed", "error": "no route"},
    }
