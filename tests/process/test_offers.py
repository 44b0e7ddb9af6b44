"""Resources, prompts, completion and warm-up over real pipes."""

import json
from typing import Any

import pytest

from ollama_mcp.testing import FakeOllama, Model, Script

VERSIONS = ["2025-06-18", "2025-11-25", "2026-07-28"]
LISTS = ["tools/list", "resources/list", "resources/templates/list", "prompts/list"]
GENERATE = "/api/generate"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def asked(child: Any, method: str, **params: Any) -> dict[str, Any]:
    child.request(method, method, **params)
    message = child.answer_to(method).message
    return message.get("result") or message["error"]


def test_every_list_is_there_and_may_be_remembered(serve: Any, version: str):
    child = serve(version)
    for method in LISTS:
        found = asked(child, method)
        assert any(isinstance(value, list) and value for value in found.values())
        if version == "2026-07-28":
            assert found["ttlMs"] == 24 * 60 * 60 * 1000
    assert child.finish() == 0


def test_what_is_offered_can_be_had(serve: Any, version: str, fake: FakeOllama):
    fake.add_model(Model("hf.co/me/Some-GGUF:Q4_K_M"))
    child = serve(version)
    uri = "ollama://models/hf.co/me/Some-GGUF:Q4_K_M"
    (content,) = asked(child, "resources/read", uri=uri)["contents"]
    assert content["uri"] == uri
    assert json.loads(content["text"])["name"] == "hf.co/me/Some-GGUF:Q4_K_M"
    (message,) = asked(child, "prompts/get", name="summarise", arguments={"text": "Ünïcode \ud83e\udd99"})[
        "messages"
    ]
    assert "Ünïcode 🦙" in message["content"]["text"]
    argument = {"name": "model", "value": "lla"}
    ref = {"type": "ref/prompt", "name": "summarise"}
    found = asked(child, "completion/complete", ref=ref, argument=argument)
    assert found["completion"]["values"] == ["llama3.2:3b"]
    assert child.finish() == 0


def test_vectors_are_read_by_the_address_that_the_tool_names(serve: Any, version: str):
    child = serve(version)
    child.request("v", "tools/call", name="ollama_embeddings", arguments={"input": ["a", "b"], "model": ""})
    uri = child.result_of("v")["structuredContent"]["vectors_uri"]
    (content,) = asked(child, "resources/read", uri=uri)["contents"]
    assert [len(vector) for vector in json.loads(content["text"])["vectors"]] == [768, 768]
    assert child.finish() == 0


@pytest.mark.parametrize("name", ["\ud800", "a b", "nobody"])
def test_failures_are_told_and_the_server_goes_on(serve: Any, version: str, name: str):
    child = serve(version)
    for method, params in (
        ("resources/read", {"uri": f"ollama://models/{name}"}),
        ("prompts/get", {"name": "delegate", "arguments": {"model": name}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": name},
                                 "argument": {"name": "model", "value": name}}),
    ):  # fmt: skip
        child.request(method, method, **params)
        answer = child.answer_to(method).message
        assert "error" in answer or answer["result"]["completion"]["values"] == []
    assert asked(child, "prompts/list")["prompts"]
    assert child.finish() == 0


# --- warm-up -----------------------------------------------------------------------------------


def test_the_first_answer_comes_before_anything_is_loaded_or_asked(
    start: Any, version: str, fake: FakeOllama
):
    child = start(OLLAMA_MCP_WARM="llama3.2:3b,nobody", OLLAMA_MCP_LOG_LEVEL="INFO")
    child.open(version)
    first = child.out.seen[0]
    child.err.wait_for(lambda line: "warm-up of nobody: MODEL_NOT_FOUND" in line)
    assert fake.models["llama3.2:3b"].running
    assert fake.requests[0].at > first.at
    assert len(child.out.seen) == 1
    assert child.finish() == 0


def test_a_load_that_hangs_holds_nothing_up_and_ends_with_the_process(
    start: Any, version: str, fake: FakeOllama
):
    fake.script(Script(load_delay=60), path=GENERATE, times=1)
    child = start(OLLAMA_MCP_WARM="llama3.2:3b")
    child.open(version)
    fake.wait_for_sync(lambda fake: fake.asked(GENERATE))
    assert asked(child, "tools/list")["tools"]
    child.call("a")
    child.cancel("a")
    assert asked(child, "prompts/list")["prompts"]
    assert child.finish() == 0
    assert len(fake.asked(GENERATE)) == 1
