"""Our tools on somebody else's server, and called without any."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from ollama_mcp import App, ollama_chat, ollama_embeddings, ollama_generate, ollama_list_models, register
from ollama_mcp.errors import CapabilityMissing, InvalidArgument, ModelNotFound
from ollama_mcp.settings import Settings, load
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools import TOOLSETS

pytestmark = pytest.mark.anyio
CHAT = [tool.name for tool in TOOLSETS["chat"]]
HANDLES = ["ollama_continue", "ollama_cancel"]
EMBEDDINGS = [tool.name for tool in TOOLSETS["embeddings"]]
MODELS = [tool.name for tool in TOOLSETS["models"]]
BY_DEFAULT = Settings()
OURS = [t.name for name in BY_DEFAULT.toolsets for t in TOOLSETS[name] if t.is_there(BY_DEFAULT)]
Talk = Callable[[MCPServer], AbstractAsyncContextManager[Client]]


def hosts_own(host: MCPServer) -> None:
    @host.tool()
    def shout(word: str, times: int = 1) -> str:
        """Say it loudly."""
        if not word:
            raise RuntimeError("there is nothing to shout")
        return word.upper() * times


@pytest.fixture
def host() -> MCPServer:
    return MCPServer("theirs")


@pytest.fixture
def talk(mode: str) -> Talk:
    @asynccontextmanager
    async def talk(host: MCPServer) -> AsyncIterator[Client]:
        with anyio.fail_after(10):
            async with Client(host, mode=mode) as client:
                yield client

    return talk


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("order", ["ours first", "ours last"])
async def test_our_tools_stand_beside_those_of_the_host(host, talk, app, order):
    if order == "ours first":
        register(host, app)
        hosts_own(host)
    else:
        hosts_own(host)
        register(host, app)
    async with talk(host) as client:
        assert sorted(await names(client)) == sorted([*OURS, "shout"])
        answer = await client.call_tool("ollama_chat", {"prompt": "hi", "wait_for_previous": True})
        assert answer.content[0].text == "You said: hi"
        refused = await client.call_tool("ollama_chat", {"promt": "hi"})
        assert refused.content[0].text.startswith("INVALID_ARGUMENT: ")


async def test_the_tools_of_the_host_behave_as_they_did(host, talk, app):
    plain = MCPServer("plain")
    hosts_own(plain)
    hosts_own(host)
    register(host, app)
    calls: list[dict[str, Any]] = [
        {"word": "ah"}, {"word": "a", "times": "3"}, {"word": ""}, {"wrod": "a"}, {},
        {"word": "a", "extra": 1}, {"word": 5},
    ]  # fmt: skip
    async with talk(plain) as before, talk(host) as after:
        for arguments in calls:
            old, new = [await client.call_tool("shout", arguments) for client in (before, after)]
            assert (new.content, new.is_error, new.structured_content) == (
                old.content, old.is_error, old.structured_content,
            )  # fmt: skip


async def test_an_unknown_tool_is_answered_as_the_sdk_does(host, talk, app):
    plain = MCPServer("plain")
    register(host, app)

    async def answer(client: Client) -> Any:
        try:
            return (await client.call_tool("ollama_chatt", {})).content
        except MCPError as error:
            return error.error.code

    async with talk(plain) as before, talk(host) as after:
        assert await answer(after) == await answer(before)


async def test_a_host_that_calls_its_tools_itself_gets_our_check_too(host, app):
    register(host, app)
    refused = await host.call_tool("ollama_chat", {"promt": "hi"})
    assert refused.content[0].text.startswith("INVALID_ARGUMENT: ")
    taken = await host.call_tool("ollama_embeddings", {"input": "one text"})
    assert taken.structured_content["count"] == 1


async def test_the_hosts_lifespan_and_middleware_are_left_alone(talk, app):
    seen: list[Any] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[str]:
        seen.append("entered")
        yield "theirs"
        seen.append("left")

    host = MCPServer("theirs", lifespan=lifespan)
    before = list(host.middleware)
    register(host, app)
    assert host.middleware == before
    async with talk(host) as client:
        assert not (await client.call_tool("ollama_chat", {"prompt": "x"})).is_error
    assert seen == ["entered", "left"]


async def test_a_name_that_is_taken_is_refused_and_nothing_is_added(host, talk, app):
    host.add_tool(lambda: "theirs", name="ollama_generate")
    with pytest.raises(ValueError, match="ollama_generate"):
        register(host, app)
    async with talk(host) as client:
        assert await names(client) == ["ollama_generate"]


async def test_registering_twice_needs_a_prefix(host, talk, app):
    register(host, app)
    with pytest.raises(ValueError, match="prefix"):
        register(host, app)
    register(host, app, prefix="other_")
    async with talk(host) as client:
        assert await names(client) == [*OURS, *(f"other_{name}" for name in OURS)]
        refused = await client.call_tool("other_ollama_chat", {"promt": "x"})
        assert refused.content[0].text.startswith("INVALID_ARGUMENT: ")
        assert not (await client.call_tool("other_ollama_chat", {"prompt": "x"})).is_error


@pytest.mark.parametrize("prefix", ["x y", "ä_", "a/", "x" * 65])
def test_a_prefix_that_no_name_may_have_is_refused(host, prefix):
    with pytest.raises(ValueError, match="begin a tool's name") as caught:
        register(host, App.create(), prefix=prefix)
    if len(prefix) > 64:
        assert "at most 64 characters" in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"toolsets": ["chat"]}, CHAT),
        ({"tools": ["ollama_embeddings"]}, ["ollama_embeddings"]),
        ({"toolsets": ["models"], "tools": ["ollama_chat"]}, ["ollama_chat", *HANDLES, *MODELS]),
        ({"toolsets": "embeddings"}, [*HANDLES, *EMBEDDINGS]),
        ({"toolsets": []}, []),
    ],
)
async def test_toolsets_and_tools_can_be_chosen(host, talk, app, chosen, expected):
    register(host, app, **chosen)
    async with talk(host) as client:
        assert await names(client) == expected


@pytest.mark.parametrize(("setting", "argument"), [("1", False), ("0", True)])
async def test_read_only_beats_whatever_else_is_said(host, talk, setting, argument):
    app = App.create(load({"OLLAMA_HOST": "127.0.0.1:1", "OLLAMA_MCP_READ_ONLY": setting}))
    register(host, app, toolsets="all", tools=["ollama_delete_model"], read_only=argument)
    async with talk(host) as client:
        assert all(tool.annotations.read_only_hint for tool in (await client.list_tools()).tools)


@pytest.mark.parametrize("chosen", [{"toolsets": ["chatt"]}, {"tools": ["chat"]}])
def test_a_choice_that_does_not_exist_is_refused(host, chosen):
    with pytest.raises(ValueError, match="there are "):
        register(host, App.create(), **chosen)


async def test_two_apps_on_one_host_do_not_mix(host, talk, app, fake):
    elsewhere = App.create(app.settings)
    register(host, app, tools=["ollama_list_models"])
    register(host, elsewhere, tools=["ollama_list_models"], prefix="b_")
    async with talk(host) as client:
        await client.call_tool("b_ollama_list_models", {})
    assert not app.client._pools
    await elsewhere.aclose()


# --- without MCP -------------------------------------------------------------------------------


async def test_a_tool_called_directly_returns_what_it_is_about(app):
    answer = await ollama_chat(app, prompt="hi")
    assert isinstance(answer, str)
    assert answer == "You said: hi"
    assert answer.stats.model == "llama3.2:3b"
    assert await ollama_chat(app, "hi") == answer
    assert len(await ollama_embeddings(app, ["a", "b"])) == 2
    assert len(await ollama_embeddings(app, "one text")) == 1  # pyright: ignore[reportArgumentType]
    assert [row.info.name for row in await ollama_list_models(app, "embedding")] == [
        "nomic-embed-text:latest"
    ]


async def test_a_tool_called_directly_raises(app):
    with pytest.raises(ModelNotFound):
        await ollama_chat(app, prompt="hi", model="nobody")
    with pytest.raises(CapabilityMissing):
        await ollama_embeddings(app, ["a"], model="llama3.2:3b")


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (ollama_chat, {"prompt": 5}, "prompt"),
        (ollama_chat, {"prompt": "x", "model": None}, "model"),
        (ollama_chat, {"messages": "x"}, "messages"),
        (ollama_chat, {"messages": [5]}, "messages[0]"),
        (ollama_chat, {"prompt": "x", "options": "x"}, "options"),
        (ollama_chat, {"prompt": "x", "options": {5: 1}}, "5"),
        (ollama_chat, {"prompt": "x", "schema": [1]}, "schema"),
        (ollama_chat, {"prompt": "x", "format": 1}, "format"),
        (ollama_chat, {"prompt": "x", "truncate": "maybe"}, "truncate"),
        (ollama_chat, {"prompt": "x", "tools": {"name": "x"}}, "tools"),
        (ollama_generate, {"prompt": None}, "prompt"),
        (ollama_generate, {"prompt": "x", "images": [b"x"]}, "images[0]"),
        (ollama_generate, {"prompt": "x", "raw": "maybe"}, "raw"),
        (ollama_embeddings, {"input": [1]}, "input[0]"),
        (ollama_embeddings, {"input": 1}, "input"),
        (ollama_embeddings, {"input": ["x"], "dimensions": "8"}, "dimensions"),
        (ollama_embeddings, {"input": ["x"], "vectors": "fulll"}, "vectors"),
        (ollama_list_models, {"capability": None}, "capability"),
    ],
)
async def test_a_value_of_the_wrong_kind_is_told_to_a_program_too(app, fake, function, arguments, named):
    with pytest.raises(InvalidArgument) as caught:
        await function(app, **arguments)
    assert named in str(caught.value)
    assert fake.requests == []


def test_an_app_works_in_one_loop_after_another():
    with FakeOllama.in_thread() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url}))

        async def once() -> str:
            answer = await ollama_chat(app, prompt="hi")
            await app.aclose()
            return answer

        assert [anyio.run(once) for _ in range(2)] == ["You said: hi"] * 2


async def test_cancelling_a_direct_call_stops_ollama(app, fake):
    fake.script(Script(tokens=["a"] * 10, hold_after_tokens=3))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(ollama_chat, app, "hi")
            await fake.wait_for(lambda fake: fake.asked("/api/chat"))
            group.cancel_scope.cancel()
        await fake.wait_for(lambda fake: fake.disconnects)
