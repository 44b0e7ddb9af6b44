"""Conversations through MCP: remembered, listed, read, forgotten; whose they are."""

import json
import sys
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import CompletionArgument, ElicitResult, ResourceTemplateReference, TextContent

from ollama_mcp import create_server
from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio


def text(result: Any) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def say(client: Client, prompt: str, **more: Any) -> Any:
    return await client.call_tool("ollama_chat", {"prompt": prompt, "conversation": "tea"} | more)


async def test_a_chat_goes_on_under_its_name(client, fake):
    fake.script("Green.", path="/api/chat")
    await say(client, "Which tea?")
    await say(client, "With milk?")
    assert [one["content"] for one in fake.last.json["messages"]] == ["Which tea?", "Green.", "With milk?"]
    listed = await client.call_tool("ollama_conversations", {})
    assert text(listed).splitlines()[1].startswith("tea   4")
    one = await client.call_tool("ollama_conversations", {"name": "tea"})
    assert text(one).startswith("tea: 4 messages, the newest 4 of them:\n\nuser:\n  Which tea?")


async def test_a_grounded_answer_is_remembered_with_its_sources_and_not_its_passages(client, fake):
    fake.script("Behind the house [1].", path="/api/chat")
    asked = {"query": "Where do visitors park?", "documents": ["Visitors park behind the house."]}
    await client.call_tool("ollama_rag_query", {**asked, "conversation": "tea"})
    await say(client, "And bicycles?")
    assert [one["content"] for one in fake.last.json["messages"]] == [
        "Where do visitors park?",
        "Behind the house [1].\n\nSources:\n[1] document 1",
        "And bicycles?",
    ]
    await client.call_tool("ollama_rag_query", {**asked, "conversation": "tea"})
    messages = fake.last.json["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant"] * 2 + ["user"]
    assert "Between the marks" in messages[-1]["content"]


async def test_passages_do_not_make_a_conversation_seem_longer(client, app, fake):
    fake.script("Behind the house [1].", path="/api/chat")
    asked = {"query": "Where do visitors park?", "documents": ["Visitors park behind the house. " * 20]}
    await client.call_tool("ollama_rag_query", {**asked, "conversation": "tea"})
    assert (await app.conversations.read("", "tea")).conversation.per_token == 0


async def test_forgetting_a_conversation_asks_first(app, mode, fake):
    fake.script("ok", path="/api/chat")
    asked: list[str] = []

    async def elicited(_: Any, request: Any) -> ElicitResult:
        asked.append(request.message)
        return ElicitResult(action="accept", content={"confirm": True})

    async with Client(create_server(app), mode=mode, elicitation_callback=elicited) as client:
        await say(client, "hi")
        gone = await client.call_tool("ollama_forget", {"conversation": "tea"})
        assert text(gone) == "Conversation tea with 2 messages is forgotten."
        assert asked == ["Forget conversation tea with 2 messages? (They cannot be had back.)"]
        for arguments in ({}, {"conversation": "a", "collection": "b"}):
            assert (await client.call_tool("ollama_forget", arguments)).is_error


async def test_a_conversation_is_a_resource_and_its_name_is_completed(client, fake):
    fake.script(Script("Green.", thinking="hm"), path="/api/chat")
    await say(client, "Which tea?")
    read = json.loads((await client.read_resource("ollama://conversations/tea")).contents[0].text)
    assert read["messages"] == [
        {"role": "user", "content": "Which tea?"},
        {"role": "assistant", "content": "Green."},
    ]
    ref = ResourceTemplateReference(uri="ollama://conversations/{name}")
    found = await client.complete(ref, CompletionArgument(name="name", value="t").model_dump())
    assert found.completion.values == ["tea"]


async def test_callers_do_not_see_the_conversations_of_others(client, fake, monkeypatch):
    fake.script("ok", path="/api/chat")
    await say(client, "mine")
    for module in ("calls", "storage", "resources"):
        monkeypatch.setattr(sys.modules[f"ollama_mcp.tools.{module}"], "caller_id", lambda: "ann")
    listed = await client.call_tool("ollama_conversations", {})
    assert text(listed).startswith("There are no conversations.")
    await say(client, "hers")
    assert [one["content"] for one in fake.last.json["messages"]] == ["hers"]
