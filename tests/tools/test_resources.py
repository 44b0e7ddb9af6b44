"""Resources: what a client can read instead of calling a tool."""

import json
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from ollama_mcp import App, create_server
from ollama_mcp.jobs.store import Retention
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model, Script
from ollama_mcp.tools.resource_uris import VECTORS

pytestmark = pytest.mark.anyio

DAY_MS = 24 * 60 * 60 * 1000


async def read(client: Client, uri: str) -> Any:
    with anyio.fail_after(10):
        (content,) = (await client.read_resource(uri)).contents
    assert content.uri == uri
    assert content.mime_type == "application/json"
    return json.loads(content.text)


async def refused(client: Client, uri: str) -> tuple[int, str]:
    with pytest.raises(MCPError) as failure:
        await read(client, uri)
    return failure.value.error.code, failure.value.error.message


async def embedded(call: Any, **arguments: Any) -> dict[str, Any]:
    result = await call("ollama_embeddings", {"input": ["a", "b"]} | arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def test_what_there_is_is_listed_with_descriptions_and_may_be_remembered(client):
    fixed = await client.list_resources()
    templates = await client.list_resource_templates()
    assert [str(one.uri) for one in fixed.resources] == ["ollama://models", "ollama://status"]
    assert [one.uri_template for one in templates.resource_templates] == [
        "ollama://models/{name}", "ollama://conversations/{name}", "ollama://embeddings/{id}",
    ]  # fmt: skip
    for one in (*fixed.resources, *templates.resource_templates):
        assert all([one.name, one.title, one.description])
        assert one.mime_type == "application/json"
    if client.protocol_version == "2026-07-28":
        assert [fixed.ttl_ms, templates.ttl_ms] == [DAY_MS, DAY_MS]


async def test_the_models_are_what_the_tool_lists(client, call):
    listed = await call("ollama_list_models")
    assert await read(client, "ollama://models") == listed.structured_content


async def test_the_status_is_what_the_tool_says(client, call):
    status = await read(client, "ollama://status")
    assert status == (await call("ollama_status")).structured_content
    assert status["reachable"] is True


@pytest.mark.parametrize("name", ["llama3.2:3b", "hf.co/me/Some-GGUF:Q4_K_M", "me/mine:v1", "c:8b"])
@pytest.mark.parametrize("encode", [False, True])
async def test_a_model_is_found_by_its_name_with_all_its_slashes_and_colons(client, call, fake, name, encode):
    if name not in fake.models:
        fake.add_model(Model(name))
    inside = name.replace("/", "%2F").replace(":", "%3A") if encode else name
    found = await read(client, f"ollama://models/{inside}")
    assert found == (await call("ollama_show_model", model=name)).structured_content
    assert found["name"] == name


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("ollama://models/nobody", "MODEL_NOT_FOUND"),
        ("ollama://models/", "INVALID_ARGUMENT"),
        ("ollama://models/a%20b", "INVALID_ARGUMENT"),
        ("ollama://models/..%2F..%2Fetc", "INVALID_ARGUMENT"),
        ("ollama://models/a%00b", "INVALID_ARGUMENT"),
        ("ollama://models/%ED%A0%80", "INVALID_ARGUMENT"),
        ("ollama://embeddings/0123456789abcdef", "UNKNOWN_HANDLE"),
        ("ollama://embeddings/", "UNKNOWN_HANDLE"),
    ],
)
async def test_what_is_not_there_is_told_in_our_words(client, uri, code):
    number, message = await refused(client, uri)
    assert (number, message.partition(":")[0]) == (-32602, code)


async def test_a_failure_of_the_server_is_told_in_our_words(client, fake):
    fake.script(Script(status=500, body={"error": "disk on \ud800fire"}), path="/api/tags")
    number, message = await refused(client, "ollama://models")
    assert number == -32603
    assert message.startswith("UPSTREAM: ")


async def test_an_ollama_that_is_not_there_is_told_and_the_status_says_so(connect):
    async with connect(OLLAMA_HOST="127.0.0.1:1", OLLAMA_MCP_RETRIES="0") as client:
        assert (await refused(client, "ollama://models"))[1].startswith("UNREACHABLE: ")
        assert (await read(client, "ollama://status"))["reachable"] is False


async def test_a_defect_of_ours_is_an_id_and_nothing_more(client, app, monkeypatch, caplog):
    async def fail() -> None:
        raise ValueError("secret")

    monkeypatch.setattr(app.catalog, "listed", fail)
    number, message = await refused(client, "ollama://models")
    assert (number, message.partition(":")[0]) == (-32603, "INTERNAL")
    assert "secret" not in message
    assert "secret" in caplog.text


async def test_what_the_server_says_is_mended_before_it_leaves(client, fake):
    body = (
        b'{"models":[{"name":"a\\ud800","model":"a","modified_at":"","size":1,"digest":"","capabilities":'
        b'["completion"],"details":{"context_length":5,"family":"x\\udfff"}}]}'
    )
    fake.script(Script(body=body, headers={"Content-Type": "application/json"}), path="/api/tags")
    assert (await read(client, "ollama://models"))["models"][0]["name"] == "a\N{REPLACEMENT CHARACTER}"


async def test_reading_counts_as_a_call_of_the_tool_that_tells_the_same(connect):
    async with connect(OLLAMA_MCP_RATE="1/min", OLLAMA_MCP_BURST="1") as client:
        await read(client, "ollama://models/llama3.2:3b")
        for uri in ("ollama://models", "ollama://status"):
            await read(client, uri)
        assert (await refused(client, "ollama://models/llama3.2:3b"))[1].startswith("RATE_LIMITED: ")


# --- vectors -----------------------------------------------------------------------------------


async def test_the_numbers_of_vectors_can_be_had_without_a_model_reading_them(client, call):
    result = await call("ollama_embeddings", input=["a", "b"])
    uri = result.structured_content["vectors_uri"]
    assert uri in result.content[0].text
    found = await read(client, uri)
    full = await embedded(call, vectors="full")
    assert found == {"model": full["model"], "count": 2, "dimensions": 768, "vectors": full["vectors"]}


async def test_vectors_that_are_in_the_result_are_not_kept_as_well(call, app):
    for form in ("full", "base64"):
        assert "vectors_uri" not in await embedded(call, vectors=form)
    assert not app.jobs._held.here().kept


async def test_a_long_list_of_vectors_is_a_line_for_each(client, call):
    data = await embedded(call, input=[f"text {n}" for n in range(50)])
    (content,) = (await client.read_resource(data["vectors_uri"])).contents
    assert len(content.text.splitlines()) == 52


async def test_vectors_that_came_late_have_their_address_too(client, call, fake):
    fake.script(Script(hold_after_tokens=0), path="/api/embed", times=1)
    late = await embedded(call, wait_s=0.05)
    assert "vectors_uri" not in late
    fake.release()
    result = await call("ollama_continue", handle=late["handle"])
    assert len((await read(client, result.structured_content["vectors_uri"]))["vectors"]) == 2


async def test_an_answer_that_is_no_vectors_is_not_read_as_some(client, call, fake):
    fake.script(Script(tokens=["a"] * 5, hold_after_tokens=1))
    handle = (await call("ollama_chat", prompt="x", wait_s=0.05)).meta["ollama-mcp/reply"]["handle"]
    assert (await refused(client, f"ollama://embeddings/{handle}"))[1].startswith("UNKNOWN_HANDLE: ")
    fake.release()
    await call("ollama_continue", handle=handle)
    assert (await refused(client, f"ollama://embeddings/{handle}"))[1].startswith("UNKNOWN_HANDLE: ")


async def test_vectors_of_others_and_of_nobody_are_the_same_riddle(client, call, monkeypatch):
    uri = (await embedded(call))["vectors_uri"]
    monkeypatch.setattr("ollama_mcp.tools.resources.caller_id", lambda: "somebody else")
    theirs = await refused(client, uri)
    assert theirs == await refused(client, "ollama://embeddings/" + "0" * 32)
    monkeypatch.undo()
    assert (await read(client, uri))["count"] == 2


@pytest.mark.parametrize("room", [Retention(most=0), Retention(most_bytes=1000)])
async def test_without_room_the_vectors_have_no_address(call, app, monkeypatch, room):
    monkeypatch.setattr(app.jobs, "_retention", room)
    assert "vectors_uri" not in await embedded(call)


async def test_vectors_have_an_address_only_where_it_can_be_read(connect):
    models = ["ollama://models/{name}"]
    for tools, more in (("ollama_embeddings", ["ollama://embeddings/{id}"]), ("ollama_continue", [])):
        async with connect(OLLAMA_MCP_TOOLSETS="models", OLLAMA_MCP_TOOLS=tools) as client:
            listed = (await client.list_resource_templates()).resource_templates
            assert sorted(one.uri_template for one in listed) == sorted([*models, *more])
            if more:
                result = await client.call_tool("ollama_embeddings", {"input": ["a"]})
                assert result.structured_content["vectors_uri"] in result.content[0].text


# --- what is switched off ----------------------------------------------------------------------


async def test_what_belongs_to_a_toolset_goes_with_it(connect):
    async with connect(OLLAMA_MCP_TOOLSETS="chat,embeddings") as client:
        assert (await client.list_resources()).resources == []
        (only,) = (await client.list_resource_templates()).resource_templates
        assert only.name == VECTORS
        assert (await refused(client, "ollama://models"))[0] == -32602


async def test_a_host_that_reads_itself_gets_the_same(fake: FakeOllama):
    app = App.create(load({"OLLAMA_HOST": fake.url}))
    async with app:
        (content,) = list(await create_server(app).read_resource("ollama://models/llama3.2:3b"))
    assert json.loads(content.content)["name"] == "llama3.2:3b"
