"""Real servers of npm and PyPI as upstreams: started, listed, asked, ended."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import ElicitResult

from ollama_mcp.services.upstream_pool import UpstreamPool
from ollama_mcp.settings.upstreams import read_upstreams
from ollama_mcp.testing import FakeOllama, Script, tool_call
from ollama_mcp.tools.upstreams.source import Upstreams

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]
NPM = ["server-filesystem", "server-memory", "server-everything"]
PARKING = "Visitors park behind the museum."
PYPI = ["mcp-server-git", "mcp-server-time"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the servers, and a repository for them to read."""
    folder = tmp_path_factory.mktemp("servers")
    for command in (
        ["npm", "install", "--no-audit", "--no-fund", *(f"@modelcontextprotocol/{name}" for name in NPM)],
        [sys.executable, "-m", "venv", "python"],
        ["python/bin/pip", "install", "--quiet", *PYPI],
        ["git", "init", "-q", "repository"],
        [
            *[
                "git",
                "-C",
                "repository",
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
            ],
            PARKING,
        ],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    (folder / "notes.txt").write_text(PARKING, "utf-8")
    return folder


def servers(folder: Path) -> dict[str, Any]:
    node, python = folder / "node_modules" / ".bin", folder / "python" / "bin"
    memory = {"MEMORY_FILE_PATH": str(folder / "memory.json")}
    listed = ["echo", "get-structured-content"]
    return {
        "fs": {"command": str(node / "mcp-server-filesystem"), "args": [str(folder)]},
        "memory": {"command": str(node / "mcp-server-memory"), "env": memory},
        "everything": {"command": str(node / "mcp-server-everything"), "tools": listed},
        "git": {"command": str(python / "mcp-server-git"), "args": ["--repository", "${HERE}/repository"]},
        "time": {"command": str(python / "mcp-server-time"), "args": ["--local-timezone=Europe/Rome"]},
    }


@pytest.fixture
def pool(installed: Path) -> UpstreamPool:
    file = installed / "mcp.json"
    file.write_text(json.dumps({"mcpServers": servers(installed)}), "utf-8")
    problems: list[str] = []
    pool = UpstreamPool(read_upstreams(str(file), {"HERE": str(installed)}, problems))
    assert not problems
    return pool


async def test_real_servers_are_listed_asked_and_ended(installed: Path, pool: UpstreamPool):
    source = Upstreams(pool)
    try:
        listed = await source.tools()
        for name, server in pool.servers.items():
            offered = await source.offered(server)
            opened = await pool.client(name, source._connect)
            allowed = [tool.name for tool in offered if tool.is_permitted]
            version = opened.client.protocol_version
            print(f"{name:10} {version}: {len(allowed)} of {len(offered)} tools may be asked")
        assert not listed.failures
        names = {tool.name for tool in listed}
        assert {
            "fs__read_text_file",
            "memory__search_nodes",
            "git__git_log",
            "time__get_current_time",
        } <= names
        assert not {"fs__write_file", "fs__edit_file", "memory__create_entities", "git__git_commit"} & names
        assert {name for name in names if name.startswith("everything")} == {
            "everything__echo", "everything__get-structured-content"
        }  # fmt: skip
        asked = {
            "fs__read_text_file": ({"path": str(installed / "notes.txt")}, "behind the museum"),
            "memory__search_nodes": ({"query": "museum"}, ""),
            "everything__echo": ({"message": "hello"}, "hello"),
            "everything__get-structured-content": ({"location": "New York"}, "temperature"),
            "git__git_log": (
                {"repo_path": str(installed / "repository"), "max_count": 1},
                "behind the museum",
            ),
            "time__get_current_time": ({"timezone": "Europe/Rome"}, "Europe/Rome"),
        }
        for name, (arguments, said) in asked.items():
            assert said in " ".join(passage.text for passage in await source.call(name, arguments)), name
    finally:
        await pool.aclose()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agent_works_with_real_servers_and_asks_before_it_writes(installed: Path, mode: str):
    served = servers(installed)
    file, note = installed / "agent.json", installed / f"{mode}.txt"
    file.write_text(json.dumps({"mcpServers": {"fs": served["fs"] | {"tools": ["*"]}, "git": served["git"]}}))
    asked: list[str] = []

    async def answer(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"confirm": True})

    repository = str(installed / "repository")
    reads = [
        {"name": "fs__read_text_file", "arguments": {"path": str(installed / "notes.txt")}},
        {"name": "git__git_log", "arguments": {"repo_path": repository, "max_count": "1"}},
    ]
    async with FakeOllama() as fake:
        write = tool_call("fs__write_file", path=str(note), content="They park behind it.")
        fake.script(Script(tool_calls=reads), write, "Noted.", path="/api/chat")
        command = StdioServerParameters(
            command=str(Path(sys.executable).with_name("ollama-mcp")),
            env={
                "PATH": os.environ["PATH"],
                "HERE": str(installed),
                "OLLAMA_HOST": fake.url,
                "OLLAMA_MCP_UPSTREAM": str(file),
            },
        )
        with anyio.fail_after(120):
            async with Client(stdio_client(command), mode=mode, elicitation_callback=answer) as client:
                arguments = {"task": "Note where visitors park.", "tools": ["fs__*", "git__*"]}
                result = await client.call_tool("ollama_agent", arguments)
    calls = result.meta["ollama-mcp/agent"]["calls"]
    assert [call["outcome"] for call in calls] == ["ok", "ok", "ok"], calls
    assert all("behind the museum" in call["result"] for call in calls[:2])
    assert note.read_text("utf-8") == "They park behind it."
    assert len(asked) == 1
    assert asked[0].startswith("May the local model call fs__write_file with ")
