"""A call over HTTP with the SDK's own client, in every era and transport."""

import anyio
import httpx
import pytest
from mcp import ClientSession
from mcp.client import Client
from mcp.client.sse import sse_client

from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio


@pytest.fixture
def served(serve):
    return serve(OLLAMA_MCP_SSE="1")


@pytest.mark.gate
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_answer_streams_as_progress_and_comes_whole(served, ollama, mode):
    ollama.script(Script(tokens=["a "] * 40, delay=0.01))
    seen = []

    async def on_progress(value, _total, message):
        seen.append((value, message))

    with anyio.fail_after(10):
        async with Client(served.url, mode=mode) as client:
            result = await client.call_tool("ollama_chat", {"prompt": "x"}, progress_callback=on_progress)
    assert result.content[0].text == "a " * 40
    values = [value for value, _ in seen]
    assert len(values) > 1
    assert values == sorted(set(values))


async def test_a_call_over_the_transport_of_2024(served, ollama):
    ollama.script(Script(tokens=["hello"]))
    with anyio.fail_after(10):
        async with sse_client(served.root + "/sse") as streams, ClientSession(*streams) as session:
            await session.initialize()
            result = await session.call_tool("ollama_chat", {"prompt": "x"})
        while served.open_requests.in_flight:  # cut at the server's end, the SDK leaves its streams open
            await anyio.sleep(0.01)
    assert result.content[0].text == "hello"


async def test_without_the_flag_there_is_no_such_transport(serve):
    assert serve().ask(path="/sse").status_code == 404


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_is_abandoned_closes_ollamas_socket(served, ollama, mode):
    ollama.script(Script(tokens=["a "] * 10, hold_after_tokens=3))
    before = ollama.disconnects
    with anyio.fail_after(10):
        async with Client(served.url, mode=mode) as client:
            with anyio.move_on_after(0.5):
                await client.call_tool("ollama_chat", {"prompt": "x"})
            await ollama.wait_for(lambda fake: fake.disconnects == before + 1)


async def test_a_client_of_2025_that_vanishes_is_waited_for_until_the_clock_runs_out(serve, ollama):
    """Its protocol says that it may come back for the answer."""
    served = serve(OLLAMA_MCP_SOFT_DEADLINE="1", OLLAMA_MCP_UNCLAIMED_TIMEOUT="0.5")
    ollama.script(Script(tokens=["a "] * 10, hold_after_tokens=3))
    before = ollama.disconnects
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, Client(served.url, mode="legacy") as client:
            tasks.start_soon(client.call_tool, "ollama_chat", {"prompt": "x"})
            await ollama.wait_for(lambda fake: fake.open_connections)
            tasks.cancel_scope.cancel()
        await ollama.wait_for(lambda fake: fake.disconnects == before + 1)


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
async def test_half_an_emoji_from_a_client_is_mended(served, ollama, era):
    """Clients cut texts in the middle of one; the SDK refuses such a message, and stdio mends it."""
    ollama.script(Script(tokens=["hello"]))
    asked = len(ollama.asked("/api/chat"))
    result = served.result_of("ollama_chat", era, prompt="half \ud83d of it")
    assert result["content"][0]["text"] == "hello"
    assert ollama.asked("/api/chat")[asked].json["messages"][-1]["content"] == "half \ufffd of it"


def test_a_stream_that_is_to_go_on_behind_an_event_begins_anew(serve):
    served = serve()
    headers = {**served.opened(), "accept": "text/event-stream", "last-event-id": "7"}
    with (
        httpx.Client(trust_env=False, verify=False, timeout=10) as client,
        client.stream("GET", served.url, headers=headers) as stream,
    ):
        assert stream.status_code == 200
