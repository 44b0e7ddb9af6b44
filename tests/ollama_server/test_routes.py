"""Who may call: the checks of Host and Origin that keep web pages out."""

import pytest

from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.testing import FakeOllama
from ollama_mcp.testing.fake_endpoints import respond


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:11434"}, b"200"),
        ({"host": "attacker.example"}, b"403"),
        ({"host": "localhost:5", "origin": "http://localhost:3000"}, b"200"),
        ({"host": "gpu.local:5", "origin": "http://gpu.local:5"}, b"200"),
        ({"host": "localhost:5", "origin": "vscode-webview://x"}, b"200"),
        ({"host": "localhost:5", "origin": "https://attacker.example"}, b"403"),
        ({"host": "localhost:5", "origin": "null"}, b"403"),
        ({"host": "localhost:5", "origin": "http://["}, b"403"),
    ],
)
def test_a_page_of_elsewhere_is_refused_with_an_empty_body(headers, status):
    request = Request("GET", "/api/version", headers, b"", 0.0, 1)
    (answer,) = (step for step in respond(FakeOllama(), request, close=True) if isinstance(step, bytes))
    assert answer.split(b" ")[1] == status
    assert answer.endswith(b"\r\n\r\n") == (status == b"403")
