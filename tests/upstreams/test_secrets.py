"""Secrets of upstreams are in no log, result or error, whatever the log level and the upstream say."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp.cli import main
from ollama_mcp.testing import FakeOllama

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
MARK = "c4n4ry"


@pytest.fixture
def upstreams(tmp_path):
    """An mcp.json with a secret wherever one can stand, before servers that work, fail and repeat it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = subprocess.Popen(
        [sys.executable, str(HERE / "child.py"), "normal", str(port)], stderr=subprocess.DEVNULL
    )
    child = {"command": sys.executable, "env": {"KEY": f"{MARK}-env"}}
    query, headers = f"key={MARK}-query", {"Authorization": f"Bearer {MARK}-header"}
    servers = {
        "works": child | {"args": [str(HERE / "child.py"), "normal", "0", "${TOKEN}"]},
        "exits": child | {"args": [str(HERE / "child.py"), "exits"]},
        "web": {
            "url": f"http://u:{MARK}-pass@127.0.0.1:{port}/mcp?{query}",
            "headers": headers,
            "tools": ["*"],
        },
        "missing": {"url": f"http://127.0.0.1:{port}/{MARK[:3]}?{query}", "headers": headers, "tools": ["*"]},
        "down": {"url": f"http://u:{MARK}-pass@127.0.0.1:9/mcp?{query}", "headers": headers, "tools": ["*"]},
    }
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": servers}), "utf-8")
    patience = time.monotonic() + 60
    while time.monotonic() < patience:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    yield {"OLLAMA_MCP_UPSTREAM": str(file), "TOKEN": f"{MARK}-token"}
    served.terminate()
    served.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_no_secret_of_an_upstream_is_in_a_log_or_a_result(upstreams, mode, tmp_path):
    log, texts = tmp_path / "log", []
    async with FakeOllama() as fake:
        fake.script("Behind the museum [1].", path="/api/chat")
        environment = {**upstreams, "OLLAMA_HOST": fake.url, "OLLAMA_MCP_LOG_LEVEL": "DEBUG"}
        server = StdioServerParameters(command=COMMAND, env={**environment, "OLLAMA_MCP_LOG_FILE": str(log)})
        with anyio.fail_after(120), Path(os.devnull).open("w") as nowhere:
            async with Client(stdio_client(server, errlog=nowhere), mode=mode) as client:
                for tool in ("environment", "rows", "fails", "web", "dies"):
                    named = [f"{name}__{tool}" for name in ("works", "exits", "web", "missing", "down")]
                    arguments = {"query": "Where do visitors park?", "context_tools": named}
                    result = await client.call_tool("ollama_rag_query", arguments)
                    texts.append(result.model_dump_json())
                texts.append((await client.call_tool("ollama_status", {})).model_dump_json())
    assert "note://1" in texts[1]
    assert "no such database: ***" in texts[0]
    assert "works__dies: it has ended; it said: I die of it" in texts[4]
    written = log.read_text("utf-8")
    assert "upstream exits: no such database: ***" in written
    assert MARK not in "".join(texts)
    assert MARK not in written


def test_doctor_says_what_each_upstream_offers_or_why_not(upstreams, monkeypatch, capsys):
    with FakeOllama.in_thread() as fake:
        for name, value in {**upstreams, "OLLAMA_HOST": fake.url}.items():
            monkeypatch.setenv(name, value)
        status = main(["doctor"])
    out = capsys.readouterr().out
    assert status == 0
    assert "works: 11 of 14 tools may be asked: works__rows, works__fails" in out
    assert "✗ exits: it has ended; it said: no such database: ***\n    -> Correct its entry" in out
    assert "web: 13 of 14 tools may be asked: web__rows" in out
    assert "✗ down: it cannot be reached (ConnectError)" in out
    assert MARK not in out
