"""A rate limit is told as a failure that says when to call again."""

import anyio
import pytest
from mcp.client import Client

from ollama_mcp import App, create_server, ollama_chat
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama

pytestmark = pytest.mark.anyio


@pytest.fixture
async def limited():
    with anyio.fail_after(20):
        async with FakeOllama() as fake:
            rate = {"OLLAMA_MCP_RATE": "ollama_chat=1/h", "OLLAMA_MCP_BURST": "2"}
            async with App.create(load({"OLLAMA_HOST": fake.url, **rate})) as app:
                yield app


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_one_call_too_many_is_told_when_it_fits(limited, mode):
    async with Client(create_server(limited), mode=mode) as client:
        results = [await client.call_tool("ollama_chat", {"prompt": "x"}) for _ in range(3)]
        assert [result.is_error for result in results] == [False, False, True]
        assert results[2].content[0].text.startswith("RATE_LIMITED: ")
        error = results[2].meta["ollama-mcp/error"]
        assert 3500 < error["retry_after_s"] <= 3600
        assert error["retryable"]
        assert not (await client.call_tool("ollama_generate", {"prompt": "x"})).is_error


async def test_arguments_that_are_refused_are_not_counted(limited):
    async with Client(create_server(limited)) as client:
        for _ in range(5):
            refused = await client.call_tool("ollama_chat", {"promt": "x"})
            assert refused.content[0].text.startswith("INVALID_ARGUMENT: ")
        assert not (await client.call_tool("ollama_chat", {"prompt": "x"})).is_error


async def test_what_is_answered_at_once_is_not_counted(limited):
    limited.limit.admit("ollama_chat")
    limited.limit.admit("ollama_chat")
    async with Client(create_server(limited)) as client:
        assert (await client.call_tool("ollama_chat", {"prompt": "x"})).is_error
        for _ in range(5):
            assert not (await client.call_tool("ollama_status", {})).is_error
            unknown = await client.call_tool("ollama_continue", {"handle": "0" * 32})
            assert unknown.content[0].text.startswith("UNKNOWN_HANDLE: ")


async def test_a_direct_call_is_the_authors_own(limited):
    for _ in range(5):
        assert await ollama_chat(limited, "x")


@pytest.mark.parametrize("name", ["ollama_chta", "ollama_status"])
def test_a_tool_that_does_not_exist_or_is_not_counted_is_refused_at_the_start(name):
    app = App.create(load({"OLLAMA_MCP_RATE": f"{name}=1/s"}))
    with pytest.raises(ValueError, match=rf"{name}.*there are ollama_chat"):
        create_server(app)
