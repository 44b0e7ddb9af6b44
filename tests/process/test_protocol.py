"""Both eras of the protocol over real pipes."""

from typing import Any

import pytest

import ollama_mcp
from ollama_mcp.settings import Settings
from ollama_mcp.testing import Script
from ollama_mcp.tools import TOOLSETS

VERSIONS = ["2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_every_version_is_served(start: Any, fake: Any, version: str):
    child = start()
    said = child.open(version)
    child.request("list", "tools/list")
    listed = child.result_of("list")
    assert fake.connections == 0, "nothing may touch Ollama before a call"

    info = said.get("serverInfo") or said["_meta"]["io.modelcontextprotocol/serverInfo"]
    assert (info["name"], info["version"]) == ("ollama-mcp", ollama_mcp.__version__)
    assert 200 < len(said["instructions"]) <= 1500
    assert version in said.get("supportedVersions", [said.get("protocolVersion")])
    settings = Settings()
    usual = [tool.name for name in settings.toolsets for tool in TOOLSETS[name] if tool.is_there(settings)]
    assert [tool["name"] for tool in listed["tools"]] == usual

    child.call(1, prompt="hi", wait_for_previous=True)
    child.call(2, "ollama_list_models", prompt=None)
    child.call(3, promt="hi")
    child.call(4, model="nobody")
    child.request(5, "tools/call", name="nothing", arguments={})
    child.request(6, "tools/call", name="ollama_chat", arguments="x")
    answer, models, refused, missing = (child.result_of(call_id) for call_id in (1, 2, 3, 4))
    assert answer["content"] == [{"type": "text", "text": "You said: hi"}]
    assert "structuredContent" not in answer
    assert len(models["structuredContent"]["models"]) == 2
    assert refused["content"][0]["text"].startswith("INVALID_ARGUMENT: ")
    assert missing["content"][0]["text"].startswith("MODEL_NOT_FOUND: ")
    for result in (answer, models, refused, missing):
        assert result["isError"] is (result in (refused, missing))
        assert (result.get("resultType") == "complete") is (version == "2026-07-28")
        assert ("io.modelcontextprotocol/serverInfo" in result.get("_meta", {})) is (version == "2026-07-28")
    unknown = child.answer_to(5).message
    assert unknown["result"]["isError"] if "result" in unknown else unknown["error"]["code"] == -32602
    assert child.answer_to(6).message["error"]["code"] == -32602

    assert child.finish() == 0
    for line in child.out.rest():
        assert line.message["jsonrpc"] == "2.0"
    assert not child.err.rest()


@pytest.mark.parametrize("version", VERSIONS[-2:])
def test_the_last_report_and_the_result_lie_apart_on_the_wire(serve: Any, fake: Any, version: str):
    child = serve(version)
    fake.script(Script(tokens=["word "] * 40, delay=0.012))
    ids = range(10)
    for call_id in ids:
        child.call(call_id, progress=True, options={"num_predict": 100})
    child.call("silent")
    assert not child.result_of("silent")["isError"]
    gaps = [child.answer_to(call_id).at - child.progress_of(call_id)[-1].at for call_id in ids]
    print(f"\n{version}: gap between the last report and the result {min(gaps) * 1000:.0f} ms at least")
    assert min(gaps) >= 0.05
    for call_id in ids:
        reports = child.progress_of(call_id)
        values = [line.message["params"]["progress"] for line in reports]
        assert values == sorted(set(values))
        assert all(len(line.message["params"]["message"]) <= 160 for line in reports)
        assert len(reports) <= 2 + (reports[-1].at - reports[0].at) / 0.1
    assert not child.progress_of("silent")


def test_a_hundred_calls_at_once_are_all_answered(serve: Any, fake: Any):
    child = serve(OLLAMA_MCP_PARALLEL="128")
    fake.script(Script(tokens=["a "] * 5, hold_after_tokens=2))
    ids = range(100)
    for call_id in ids:
        child.call(call_id, ["ollama_chat", "ollama_generate"][call_id % 2], progress=call_id % 3 == 0)
    fake.wait_for_sync(lambda fake: fake.in_flight == 100, timeout=10)
    child.call("meanwhile", "ollama_list_models", prompt=None)
    child.call("also", "ollama_embeddings", input=["a"])
    assert not any(child.result_of(call_id)["isError"] for call_id in ("meanwhile", "also"))
    fake.release()
    assert not any(child.result_of(call_id)["isError"] for call_id in ids)
    answered = [line.message["id"] for line in child.out.seen if line.message.get("id") in ids]
    assert sorted(answered) == list(ids)


def test_lookups_pass_calls_that_wait_for_ollama(serve: Any, fake: Any):
    child = serve(OLLAMA_MCP_PARALLEL="40")
    fake.script(Script(tokens=["a "] * 5, hold_after_tokens=2))
    ids = range(40)
    for call_id in ids:
        child.call(call_id, "ollama_chat")
    fake.wait_for_sync(lambda fake: fake.in_flight == 40, timeout=10)
    child.call("meanwhile", "ollama_list_models", prompt=None)
    assert not child.result_of("meanwhile")["isError"]
    fake.release()
    assert not any(child.result_of(call_id)["isError"] for call_id in ids)


@pytest.mark.parametrize("version", VERSIONS[-2:])
def test_a_message_over_the_limit_of_the_operator_is_answered_and_the_next_one_is_read(
    start: Any, version: str
):
    child = start(OLLAMA_MCP_MAX_LINE="4 KiB", OLLAMA_MCP_MAX_PROMPT="2 KiB")
    child.open(version)
    child.call(1, prompt="x" * 5000)
    child.call(2, prompt="x" * 2500)
    child.call(3, prompt="x" * 2000)
    error = child.answer_to(1).message["error"]
    assert error["code"] == -32600
    assert "4096 bytes, which is OLLAMA_MCP_MAX_LINE" in error["message"]
    assert child.result_of(2)["content"][0]["text"].startswith('TOO_LARGE: "prompt" has 2500 bytes; ')
    assert not child.result_of(3)["isError"]
    assert child.finish() == 0


def test_what_no_json_can_say_does_not_end_the_server(serve: Any, fake: Any):
    child = serve()
    body = {"Content-Type": "application/json"}
    token = b'{"message":{"role":"assistant","content":"a\\ud800","thinking":"\\udfff"}}'
    calls = b'{"function":{"name":"f\\ud800","arguments":{"\\udc00":1e300}}}'
    lines = [*[token] * 15, b'{"message":{"tool_calls":[' + calls + b'],"content":""},"done":true}']
    fake.script(Script(lines=lines, delay=0.02), path="/api/chat")
    fake.script(Script(body=b'{"embeddings":[[NaN,1]]}', headers=body), path="/api/embed")
    fake.script(Script(status=500, body=b'{"error":"\\ud800"}'), path="/api/generate")
    known = b'"capabilities":["\\ud800"],"details":{"context_length":1}'
    names = b'{"models":[{"name":"m\\ud800",' + known + b"}]}"
    child.call(1, progress=True)
    child.call(2, "ollama_embeddings", input=["a"])
    child.call(3, "ollama_generate", model="llama3.2:3b")
    child.call(4, prompt="x\ud800", model="\ud800")
    texts = [child.result_of(call_id)["content"][0]["text"] for call_id in (1, 2, 3, 4)]
    assert texts[0].startswith("a�a�")
    assert "NaN" not in texts[0]
    assert all("a�" in line.message["params"]["message"] for line in child.progress_of(1)[1:])
    assert texts[1].startswith("BAD_UPSTREAM: ")
    assert texts[3].startswith("INVALID_ARGUMENT: ")
    fake.script(Script(body=names, headers=body), path="/api/tags")
    child.call(5, "ollama_list_models")
    assert "m�" in child.result_of(5)["content"][0]["text"]
    assert child.finish() == 0
    assert not [line for line in child.err.rest() if "Traceback" in line.message]
