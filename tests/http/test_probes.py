"""What monitoring asks, and how little it is told."""

import pytest

from ollama_mcp.testing import Script

TOKEN = "a-token-of-at-least-32-characters-0001"


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_probe_needs_no_token_and_no_name_and_learns_a_status(serve, path):
    response = serve(OLLAMA_MCP_TOKEN=TOKEN).ask(path=path, headers={"host": "10.0.0.7:1"})
    assert (response.status_code, response.text) == (200, "ok\n")


def test_without_ollama_it_is_healthy_and_not_ready(serve):
    served = serve(OLLAMA_HOST="127.0.0.1:1")
    assert served.ask(path="/health").status_code == 200
    assert served.ask(path="/ready").status_code == 503


def test_metrics_are_behind_the_token(serve):
    served = serve(OLLAMA_MCP_TOKEN=TOKEN)
    assert served.ask(path="/metrics").status_code == 401
    assert served.ask(path="/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_metrics_count_calls_by_tool_and_how_they_ended(serve, ollama):
    served = serve()
    ollama.script(Script(tokens=["hello"]))
    served.call("ollama_chat", prompt="x")
    served.call("ollama_chat", promt="x")
    served.call("ollama_chat", prompt="x", model="no-such-model")
    lines = served.ask(path="/metrics").text.splitlines()
    assert 'ollama_mcp_calls_total{tool="ollama_chat",code="OK"} 1' in lines
    assert 'ollama_mcp_calls_total{tool="ollama_chat",code="INVALID_ARGUMENT"} 1' in lines
    assert 'ollama_mcp_calls_total{tool="ollama_chat",code="MODEL_NOT_FOUND"} 1' in lines
    assert any(line.startswith('ollama_mcp_model_admitted_total{model="') for line in lines)
    assert "# TYPE ollama_mcp_http_responses_total counter" in lines
