"""Completion: names of models while somebody types one."""

from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import (
    Completion,
    CompletionArgument,
    PromptReference,
    ResourceTemplateReference,
)

from ollama_mcp import App, complete_models, offer, register
from ollama_mcp.services import installed_names
from ollama_mcp.settings import load
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

PROMPT = PromptReference(type="ref/prompt", name="delegate")
TEMPLATE = ResourceTemplateReference(type="ref/resource", uri="ollama://models/{name}")
DEFAULT = ["llama3.2:3b", "nomic-embed-text:latest"]


async def typed(client: Client, text: str, ref: Any = TEMPLATE, name: str = "") -> list[str]:
    argument = {"name": name or ("name" if ref is TEMPLATE else "model"), "value": text}
    with anyio.fail_after(10):
        return (await client.complete(ref, argument)).completion.values


async def test_names_that_begin_so_come_first_and_then_those_that_have_it_inside(client, fake):
    for name in ("llava:7b", "codellama:13b"):
        fake.add_model(Model(name))
    found = await typed(client, "LLA")
    assert found[-1] == "codellama:13b"
    assert sorted(found[:-1]) == ["llama3.2:3b", "llava:7b"]
    assert await typed(client, "nobody") == []


async def test_a_prompt_is_offered_models_that_write(client):
    assert sorted(await typed(client, "")) == DEFAULT
    assert await typed(client, "", PROMPT) == ["llama3.2:3b"]


async def test_other_arguments_are_not_completed(client, fake):
    assert await typed(client, "", PROMPT, "task") == []
    assert await typed(client, "", TEMPLATE, "id") == []
    embeddings = ResourceTemplateReference(type="ref/resource", uri="ollama://embeddings/{id}")
    assert await typed(client, "", embeddings, "id") == []
    assert not fake.asked("/api/tags")


async def test_cloud_models_are_named_where_they_are_allowed(connect, fake):
    fake.add_model(Model("gpt-oss:120b-cloud"))
    fake.add_model(Model("far", remote_host="https://ollama.com:443"))
    async with connect() as client:
        assert sorted(await typed(client, "")) == DEFAULT
    async with connect(OLLAMA_MCP_CLOUD="1") as client:
        assert {"gpt-oss:120b-cloud", "far:latest"} < set(await typed(client, ""))


async def test_at_most_a_hundred_names_are_sent(client, fake):
    for number in range(120):
        fake.add_model(Model(f"many:{number}"))
    with anyio.fail_after(10):
        found = (await client.complete(TEMPLATE, {"name": "name", "value": "many"})).completion
    assert (len(found.values), found.total, found.has_more) == (100, 120, True)


async def test_while_somebody_types_ollama_is_asked_once(client, fake):
    for end in range(5):
        await typed(client, "llama"[:end])
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(typed, client, "x")
    assert len(fake.asked("/api/tags")) == 1


async def test_many_at_once_ask_once(client, fake):
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(typed, client, "x")
    assert len(fake.asked("/api/tags")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Script(status=500, body={"error": "x"}),
        Script(raw=b"HTTP/1.1 200 OK\r\n\r\n<html>"),
        Script(status=404, body="no such page"),
    ],
)
async def test_an_ollama_that_fails_is_no_names_and_no_error(client, fake, answer):
    fake.script(answer, path="/api/tags")
    assert await typed(client, "") == []


async def test_an_ollama_that_is_not_there_is_no_names_and_no_error(connect):
    async with connect(OLLAMA_HOST="127.0.0.1:1") as client:
        assert await typed(client, "") == []


async def test_an_ollama_that_is_slow_is_not_waited_for_and_its_answer_serves_the_next_key(
    client, fake, monkeypatch
):
    monkeypatch.setattr(installed_names, "PATIENCE_S", 0.05)
    fake.script(Script(hold_after_tokens=0), path="/api/tags")
    assert await typed(client, "") == []
    fake.release()
    with anyio.fail_after(5):
        while not await typed(client, ""):
            pass
    assert len(fake.asked("/api/tags")) == 1


# --- on a host ---------------------------------------------------------------------------------


async def test_a_host_delegates_to_us_and_keeps_its_own_handler(app, mode):
    host = MCPServer("theirs")

    @host.completion()
    async def theirs(ref: Any, argument: CompletionArgument, context: Any) -> Completion | None:
        ours = await complete_models(app, ref, argument)
        return ours or Completion(values=["theirs"])

    register(host, app)
    offer(host, app, prefix="local_")
    async with Client(host, mode=mode) as client:
        template = ResourceTemplateReference(type="ref/resource", uri="ollama://local_models/{name}")
        assert await typed(client, "nomic", template, "name") == ["nomic-embed-text:latest"]
        assert await typed(client, "", PROMPT, "colour") == ["theirs"]


async def test_what_is_no_models_name_is_none_of_ours():
    app = App.create(load({"OLLAMA_HOST": "127.0.0.1:1"}))
    for ref, name in (
        (PROMPT, "colour"),
        (TEMPLATE, "model"),
        (ResourceTemplateReference(type="ref/resource", uri="shop://models/{name}"), "name"),
    ):
        assert await complete_models(app, ref, CompletionArgument(name=name, value="")) is None
