"""What README says is executed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def servers() -> list[dict[str, Any]]:
    """The server entries of every client's configuration."""
    found: list[dict[str, Any]] = []
    for block in blocks("json"):
        table = json.loads(block)
        found.extend((table.get("mcpServers") or table["servers"]).values())
    found.extend(
        entry for block in blocks("toml") for entry in tomllib.loads(block).get("mcp_servers", {}).values()
    )
    words = next(block for block in blocks("sh") if block.startswith("claude mcp add")).split()
    name, _, value = words[words.index("--env") + 1].partition("=")
    return [*found, {"command": words[words.index("--") + 1], "env": {name: value}}]


def test_there_is_a_configuration_for_each_of_the_six_clients() -> None:
    for client in ("Copilot CLI", "VS Code", "Claude Desktop", "Claude Code", "Codex", "Gemini CLI"):
        assert f"**{client}**" in README
    assert len(servers()) == 6


@pytest.mark.anyio
@pytest.mark.parametrize("entry", servers())
async def test_a_configuration_starts_a_server_that_reaches_its_ollama(entry: dict[str, Any]) -> None:
    assert entry["command"].startswith("/"), "hosts have a foreign working directory"
    assert entry["command"].endswith("/ollama-mcp")
    async with FakeOllama() as fake:
        environment = {**entry["env"], "OLLAMA_HOST": fake.url}
        assert environment.keys() == entry["env"].keys()
        server = StdioServerParameters(command=COMMAND, args=entry.get("args", []), env=environment, cwd="/")
        with anyio.fail_after(30):
            async with Client(stdio_client(server)) as client:
                result = await client.call_tool("ollama_list_models", {})
        assert "llama3.2:3b" in result.content[0].text


@pytest.mark.parametrize("program", blocks("python"), ids=["server", "client", "pytest"])
def test_a_program_in_readme_runs(program: str, tmp_path: Path) -> None:
    with FakeOllama.in_thread() as fake:
        file = tmp_path / "program.py"
        file.write_text(program.replace("http://127.0.0.1:11434", fake.url), encoding="utf-8")
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_settings_file_in_readme_is_one(tmp_path: Path) -> None:
    text = next(block for block in blocks("toml") if "[models." in block)
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    settings = load({"OLLAMA_MCP_CONFIG": str(file)})
    assert settings.chat_model == "qwen3:8b"
    assert settings.defaults_for("qwen3:8b").think is False
    assert settings.defaults_for("qwen3:8b").options == {"temperature": 0.2, "num_ctx": 16384}


def test_the_generated_tables_are_what_the_code_says() -> None:
    check = [sys.executable, ROOT / "scripts" / "docs.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example: Path) -> None:
    done = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr


def test_the_two_commands_are_one_line_each() -> None:
    for name in ("demo", "test"):
        found = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)```", README, flags=re.DOTALL)
        assert found
        assert len(found[1].strip().splitlines()) == 1


def test_every_file_that_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_agents_md_is_at_most_80_lines() -> None:
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) <= 80
