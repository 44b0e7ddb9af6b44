"""A call that the client gives up stops the model, and leaves nothing behind."""

from typing import Any

import anyio
import pytest

from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio


@pytest.fixture
def give_up(client, fake):
    """Call, cancel once the fake is where it should be, and wait for the socket to close."""

    async def give_up(tool: str, path: str, sent: str = "", **arguments: Any) -> None:
        before = fake.disconnects
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, tool, {"prompt": "x", "input": ["x"]} | arguments)
                await fake.wait_for(lambda fake: fake.asked(path))
                await wait_until_read(client, fake)
                group.cancel_scope.cancel()
            await fake.wait_for(lambda fake: fake.disconnects > before)

    return give_up


async def wait_until_read(client: Any, fake: Any) -> None:
    """Let the server take in what the fake has sent so far: another call goes the same way."""
    await client.call_tool("ollama_list_models", {})


@pytest.mark.parametrize("tokens", [0, 1, 5], ids=lambda n: f"after {n} tokens")
@pytest.mark.parametrize(
    ("tool", "path"), [("ollama_chat", "/api/chat"), ("ollama_generate", "/api/generate")]
)
async def test_a_cancelled_generation_closes_its_socket(give_up, app, fake, tool, path, tokens):
    fake.script(Script(tokens=["a "] * 20, hold_after_tokens=tokens))
    await give_up(tool, path)
    assert not app.jobs.in_flight


async def test_a_cancelled_call_closes_its_socket_while_the_model_loads(give_up, fake):
    fake.script(Script(tokens=["a"], load_delay=30))
    await give_up("ollama_chat", "/api/chat")


@pytest.mark.parametrize("path", ["/api/ps", "/api/tags", "/api/show"])
async def test_a_call_can_be_cancelled_while_it_looks_for_a_model(client, fake, path):
    fake.version = "0.6.4"  # whose list does not have what a model can do
    rule = fake.script(Script(delay_first=30), path=path)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "ollama_chat", {"prompt": "x"})
            await fake.wait_for(lambda _: rule.used)
            group.cancel_scope.cancel()
        await fake.wait_for(lambda fake: fake.disconnects)
    assert not fake.asked("/api/chat")


async def test_cancelled_embeddings_close_their_socket_and_send_no_other_batch(give_up, fake):
    fake.script(Script(delay_first=30), path="/api/embed")
    await give_up("ollama_embeddings", "/api/embed", input=[f"text {n}" for n in range(100)])
    assert len(fake.asked("/api/embed")) == 1


async def test_the_next_call_is_answered(give_up, call, fake):
    fake.script(Script(tokens=["a "] * 20, hold_after_tokens=3), times=1)
    await give_up("ollama_chat", "/api/chat")
    assert (await call("ollama_chat", prompt="hi")).content[0].text == "You said: hi"


async def test_a_call_whose_read_timeout_has_passed_stops_the_model(client, fake):
    with anyio.fail_after(10):
        await client.call_tool("ollama_chat", {"prompt": "x"})  # so that the next one asks the model at once
        fake.script(Script(tokens=["a "] * 20, hold_after_tokens=3))
        with pytest.raises(Exception, match=r"(?i)timed out"):
            await client.call_tool("ollama_chat", {"prompt": "x"}, read_timeout_seconds=0.5)
        await fake.wait_for(lambda fake: fake.disconnects)


async def test_the_server_that_ends_stops_what_is_in_flight(connect, fake):
    fake.script(Script(tokens=["a "] * 20, hold_after_tokens=3))
    with anyio.fail_after(10):
        async with connect() as client, anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "ollama_chat", {"prompt": "x"})
            await fake.wait_for(lambda fake: fake.asked("/api/chat"))
            group.cancel_scope.cancel()
        await fake.wait_for(lambda fake: fake.disconnects and not fake.open_connections)
