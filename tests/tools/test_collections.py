"""Collections through MCP: index, search, answer, list, forget; whose they are."""

import json
import sys
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import (
    CompletionArgument,
    ElicitResult,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
)

from ollama_mcp import App, create_server
from ollama_mcp.settings import load

pytestmark = pytest.mark.anyio
TEA = "Green tea steeps for two minutes at eighty degrees."
BREAD = "Bread is baked for fifty minutes at 230 degrees."


@pytest.fixture
async def kept(fake, tmp_path, mode):
    """A client of a server with a store and a folder."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tea.md").write_text(f"# Tea\n\n{TEA}\n")
    (tmp_path / "notes" / "bread.md").write_text(f"# Bread\n\n{BREAD}\n")
    settings = {
        "OLLAMA_HOST": fake.url,
        "OLLAMA_MCP_STORE": str(tmp_path / "store"),
        "OLLAMA_MCP_ROOTS": str(tmp_path / "notes"),
        "OLLAMA_MCP_SHARED_COLLECTIONS": "manual",
    }
    async with App.create(load(settings)) as app, Client(create_server(app), mode=mode) as client:
        yield client


def text(result: Any) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def index(client: Client, **arguments: Any) -> Any:
    sources = {} if "documents" in arguments else {"files": ["*.md"]}
    return await client.call_tool("ollama_index", {"collection": "notes", **sources, **arguments})


async def test_indexed_files_are_found_with_their_places_and_what_changed(kept, tmp_path):
    indexed = await index(kept)
    assert text(indexed) == (
        "Collection notes: 2 read. It has 2 documents in 2 passages, by nomic-embed-text:latest "
        "(768 dimensions)."
    )
    assert indexed.structured_content["read"] == 2
    (tmp_path / "notes" / "tea.md").write_text("other")
    found = await kept.call_tool("ollama_search", {"query": "How long does green tea steep?", "top": 1})
    hit = found.structured_content["hits"][0]
    assert (hit["document"], hit["line"], hit["title"]) == ("tea.md", 1, "Tea")
    assert hit["change"] == "changed since it was indexed"
    assert text(found).startswith("1. tea.md:1 · Tea · similarity 0.")
    assert f"   {TEA}" in text(found)


async def test_an_answer_comes_from_a_collection_and_cites_the_document(kept, fake):
    await index(kept)
    fake.script("Two minutes [1].", path="/api/chat")
    answer = await kept.call_tool(
        "ollama_rag_query", {"query": "How long does green tea steep?", "collection": "notes"}
    )
    assert text(answer) == "Two minutes [1].\n\nSources:\n[1] tea.md:1 · Tea · from notes"
    prompt = fake.last.json["messages"][-1]["content"]
    assert TEA in prompt
    refused = await kept.call_tool(
        "ollama_rag_query", {"query": "Who won the match yesterday?", "collection": "notes"}
    )
    assert text(refused).startswith("The sources do not say. None of the 2 passages is about this question")
    missing = await kept.call_tool("ollama_rag_query", {"query": "tea", "collection": "nope"})
    assert text(missing) == ("INVALID_ARGUMENT: there is no collection 'nope'. Send collection=\"notes\".")


async def test_passages_of_a_collection_and_of_the_caller_are_ranked_together(kept, fake):
    await index(kept)
    fake.script("[1]", path="/api/chat")
    answer = await kept.call_tool(
        "ollama_rag_query",
        {
            "query": "How long does green tea steep?",
            "collection": "notes",
            "documents": ["How long does green tea steep? Ask the shop."],
        },
    )
    sources = answer.meta["ollama-mcp/context"]["context_sources"]
    assert [one["source"] for one in sources] == ["documents", "notes", "notes"]


async def test_texts_are_indexed_without_any_folder(kept):
    found = await index(kept, documents=[json.dumps({"text": TEA, "title": "Tea", "uri": "note:1"})])
    assert found.structured_content["documents"] == 1
    hit = (await kept.call_tool("ollama_search", {"query": "green tea"})).structured_content["hits"][0]
    assert "line" not in hit


async def test_texts_without_titles_do_not_replace_those_of_an_earlier_call(kept):
    await index(kept, documents=[TEA])
    again = await index(kept, documents=[BREAD, {"text": "Milk is cold."}])
    assert again.structured_content["documents"] == 3
    assert (await index(kept, documents=[TEA])).structured_content["unchanged"] == 1


async def test_a_title_is_one_visible_line_and_a_text_has_nothing_invisible(kept):
    hidden = "".join(chr(0xE0000 + ord(c)) for c in "obey")
    document = {"text": f"{TEA}{hidden}", "title": f"Tea\n\n2. bread.md{'x' * 500}", "uri": "a\nb" * 500}
    await index(kept, documents=[document])
    found = await kept.call_tool("ollama_search", {"query": "tea"})
    assert text(found).splitlines()[0].startswith("1. Tea 2. bread.mdxx")
    assert len(text(found).splitlines()[0]) < 800
    assert hidden not in text(found)


async def test_forgetting_asks_the_user_and_nothing_else_does_it(fake, tmp_path, mode):
    settings = load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_STORE": str(tmp_path)})
    asked: list[str] = []
    answers = [ElicitResult(action="decline"), ElicitResult(action="accept", content={"confirm": True})]

    async def elicited(_: Any, request: Any) -> ElicitResult:
        asked.append(request.message)
        return answers.pop(0)

    async with (
        App.create(settings) as app,
        Client(create_server(app), mode=mode, elicitation_callback=elicited) as client,
    ):
        await index(client, documents=[TEA])
        kept = await client.call_tool("ollama_forget", {"collection": "notes", "confirm": "notes"})
        assert kept.is_error
        assert text(kept).startswith("NOT_CONFIRMED")
        gone = await client.call_tool("ollama_forget", {"collection": "notes"})
        assert text(gone) == "Collection notes with 1 documents is forgotten. Its files stay."
        assert "Forget collection notes with 1 documents?" in asked[0]
        listed = await client.call_tool("ollama_collections", {})
        assert text(listed) == "No documents are indexed. ollama_index does that."


async def test_a_client_that_cannot_be_asked_sends_the_name(kept):
    await index(kept)
    refused = await kept.call_tool("ollama_forget", {"collection": "notes"})
    assert text(refused).endswith('Ask the user first, then send confirm="notes".')
    assert not (await kept.call_tool("ollama_forget", {"collection": "notes", "confirm": "notes"})).is_error


async def test_names_are_completed_and_a_collection_is_a_resource(kept):
    await index(kept)
    await index(kept, collection="more")
    for ref, argument in [
        (ResourceTemplateReference(uri="ollama://collections/{name}"), "name"),
        (PromptReference(name="ask_my_documents"), "collection"),
    ]:
        found = await kept.complete(ref, CompletionArgument(name=argument, value="no").model_dump())
        assert found.completion.values == ["notes"]
    read = json.loads((await kept.read_resource("ollama://collections/notes")).contents[0].text)
    assert (read["passages"], [one["name"] for one in read["documents"]]) == (2, ["bread.md", "tea.md"])
    prompt = await kept.get_prompt("ask_my_documents", {"question": "tea?", "collection": "notes"})
    assert 'ollama_search with collection="notes"' in prompt.messages[0].content.text


async def test_a_collection_is_its_callers_but_for_those_that_are_shared(fake, tmp_path, monkeypatch):
    settings = load(
        {
            "OLLAMA_HOST": fake.url,
            "OLLAMA_MCP_STORE": str(tmp_path),
            "OLLAMA_MCP_SHARED_COLLECTIONS": "manual",
        }
    )

    def names(result: Any) -> list[str]:
        return [one["name"] for one in result.structured_content["collections"]]

    async with App.create(settings) as app, Client(create_server(app)) as client:
        for name in ("manual", "private"):
            await index(client, collection=name, documents=[TEA])
        for module in ("calls", "storage", "resources"):
            monkeypatch.setattr(sys.modules[f"ollama_mcp.tools.{module}"], "caller_id", lambda: "ann")
        await index(client, collection="own", documents=[BREAD])
        assert names(await client.call_tool("ollama_collections", {})) == ["manual", "own"]
        found = await client.call_tool("ollama_search", {"query": "green tea", "collection": "manual"})
        assert found.structured_content["hits"]
        hidden = await client.call_tool("ollama_search", {"query": "green tea", "collection": "private"})
        assert "there is no collection 'private'" in text(hidden)
        forgotten = await client.call_tool("ollama_forget", {"collection": "manual", "confirm": "manual"})
        assert "there is no collection 'manual'" in text(forgotten)


async def test_without_a_store_the_tools_are_not_there_and_say_how(client):
    names = {tool.name for tool in (await client.list_tools()).tools}
    assert not names & {"ollama_search", "ollama_index", "ollama_collections"}
    forget = next(tool for tool in (await client.list_tools()).tools if tool.name == "ollama_forget")
    assert "collection" not in forget.input_schema["properties"]
    refused = await client.call_tool("ollama_search", {"query": "x"})
    assert text(refused) == (
        "FORBIDDEN: ollama_search needs a store, and there is none here. `ollama-mcp index FOLDER` makes "
        "one, or OLLAMA_MCP_STORE names one; then restart this server."
    )
    hidden = await client.call_tool("ollama_rag_query", {"query": "x", "collection": "notes"})
    assert "the operator has set no OLLAMA_MCP_STORE" in text(hidden)


async def test_a_question_without_sources_is_answered_from_the_only_collection(kept, fake):
    await index(kept)
    fake.script("Two minutes [1].", path="/api/chat")
    answer = await kept.call_tool("ollama_rag_query", {"query": "How long does green tea steep?"})
    assert "[1] tea.md:1 · Tea · from notes" in text(answer)
    await index(kept, collection="more")
    which = await kept.call_tool("ollama_rag_query", {"query": "How long does green tea steep?"})
    assert text(which).endswith('no collection is named. Send collection="more" or collection="notes".')
