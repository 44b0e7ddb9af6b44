"""`ollama-mcp setup` on samples of every client's settings, in a home of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ollama_mcp.cli import main
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.setup import config_text, first_models, jsonc
from ollama_mcp.cli.setup.clients import CLIENT_CONFIGS, ClientConfig, Server
from ollama_mcp.settings import load
from ollama_mcp.settings.machine import Machine
from ollama_mcp.testing import FakeOllama, Model

PLAIN = """{
  "mcpServers": {
    "files": { "command": "npx", "args": ["-y", "server-filesystem"], "env": {"TOKEN": "secret"} }
  },
  "theme": "dark"
}
"""
COMMENTS = """// settings of mine
{
\t/* first */ "theme": "One Dark", // not Light
\t"%s": {
\t\t// the files
\t\t"files": {
\t\t\t"command": "npx",
\t\t\t"args": [], // none
\t\t}, // kept
\t},
\t"last": [1, 2,],
}
"""
SAMPLES = {
    "claude-desktop": PLAIN,
    "claude-code": '{"numStartups": 41, "projects": {"/a": {"mcpServers": {}}}, "mcpServers": {}}',
    "vscode": COMMENTS % "servers",
    "copilot-cli": PLAIN.replace("\n", "\r\n"),
    "cursor": '\ufeff{"mcpServers": {"a": {"url": "http://b"}}}',
    "windsurf": "",
    "zed": COMMENTS % "context_servers",
    "codex": """# mine
model = "gpt-5"   # the large one

[mcp_servers.files]
command = "npx"  # kept
env = { A = "1" }

[projects."/home/ann"]
trust_level = "trusted"
""",
    "gemini": PLAIN.replace("  ", "    "),
    "opencode": '{\n  "$schema": "https://opencode.ai/config.json"\n}\n',
    "lm-studio": '{\n  "mcpServers": {}\n}',
    "cline": PLAIN,
    "continue": """name: Local
version: 1.0.0
mcpServers:   # of mine
- name: files
  command: npx
  args:
  - "-y"   # yes
models: []
""",
    "goose": """GOOSE_MODEL: qwen3:8b   # local
extensions:
  # built in
  developer:
    enabled: true
    type: builtin
    text: |
      two
      lines

  memory: {enabled: false, type: builtin}
GOOSE_MODE: auto
""",
}
"""A file of every client that has one; JetBrains has none."""


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put files of clients into a new home, which is the user's for the test."""
    elsewhere = {"XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME"}
    for name in [name for name in os.environ if name.startswith("OLLAMA_") or name in elsewhere]:
        monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(first_models, "offer_models", lambda *_, **__: None)  # its tests are below
    machine = Machine()

    def put(client: ClientConfig, text: str | None = None) -> Path:
        path = client.path(machine)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((SAMPLES[client.id] if text is None else text).encode())
        return path

    return put


FILES = [pytest.param(client, id=client.id) for client in CLIENT_CONFIGS if client.files]
BY_ID = {client.id: client for client in CLIENT_CONFIGS}


def parsed(client: ClientConfig, text: str) -> dict[str, Any]:
    """Read a file with the library of its syntax, where it has comments by ours."""
    text = text.removeprefix("\ufeff")
    if client.format == "toml":
        return tomllib.loads(text)
    if client.format == "yaml":
        return YAML(typ="safe", pure=True).load(text)
    return jsonc.parse(text).value if "//" in text else json.loads(text or "{}")


@pytest.mark.parametrize("client", FILES)
def test_setup_adds_the_server_keeps_the_rest_and_remove_undoes_it_exactly(client: ClientConfig, homes: Any):
    path = homes(client)
    before = path.read_bytes().decode()
    assert main(["setup", "--yes"]) == 0
    after = path.read_bytes().decode()
    table = parsed(client, after)
    entry = config_text.find(client, table, "ollama")
    assert json.dumps(Installation.find().server_command()[0])[1:-1] in json.dumps(entry)
    assert Path(Installation.find().server_command()[0]).is_absolute()
    assert "http://127.0.0.1:11434" in json.dumps(entry)
    kept = [
        line.strip().rstrip(",") for line in before.splitlines() if "{}" not in line and line.strip() != "{"
    ]
    assert all(line in after for line in kept if line != before)
    assert ("\r\n" in after) is ("\r\n" in before)
    assert after.startswith("\ufeff") is before.startswith("\ufeff")
    assert path.with_name(path.name + ".ollama-mcp.bak").read_bytes().decode() == before

    assert main(["setup", "--yes", client.id]) == 0
    assert path.read_bytes().decode() == after, "a second time changes nothing"
    assert main(["setup", "--remove", "--yes"]) == 0
    assert path.read_bytes().decode() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("client", FILES)
def test_a_file_that_setup_made_is_gone_after_remove(client: ClientConfig, homes: Any):
    path = homes(client)
    path.unlink()
    assert main(["setup", "--yes", client.id]) == 0
    assert config_text.find(client, parsed(client, path.read_text()), "ollama")
    assert main(["setup", "--remove", "--yes", client.id]) == 0
    assert not path.exists()


@pytest.mark.parametrize("client", FILES)
def test_remove_leaves_what_others_wrote_meanwhile(client: ClientConfig, homes: Any):
    path = homes(client)
    assert main(["setup", "--yes"]) == 0
    other = {"name": "other", "command": "x"} if client.is_list else {"command": "x"}
    more = config_text.put(client, path.read_bytes().decode().removeprefix("\ufeff"), "other", other)
    path.write_bytes(more.encode())
    assert main(["setup", "--remove", "--yes"]) == 0
    table = parsed(client, path.read_bytes().decode())
    assert config_text.find(client, table, "ollama") is None
    assert config_text.find(client, table, "other") == other


@pytest.mark.parametrize("client", [pytest.param(client, id=client.id) for client in CLIENT_CONFIGS])
def test_print_shows_a_file_that_has_the_entry_alone(client: ClientConfig, homes: Any, capsys: Any):
    assert main(["setup", "--print", client.id, "--env", "OLLAMA_MCP_TOOLSETS=chat"]) == 0
    table = parsed(client, capsys.readouterr().out)
    assert list(table) == [client.key]
    entry = config_text.find(client, table, "ollama")
    assert any("OLLAMA_MCP_TOOLSETS" in value for value in entry.values() if isinstance(value, dict))
    status = main(["setup", "--print", client.id, "--http", "http://127.0.0.1:8000/mcp"])
    assert status == (0 if client.takes_http else 2)
    if client.takes_http:
        entry = config_text.find(client, parsed(client, capsys.readouterr().out), "ollama")
        assert "http://127.0.0.1:8000/mcp" in entry.values()
        assert not {"command", "cmd"} & entry.keys()


def test_without_a_yes_nothing_is_written(homes: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    path = homes(BY_ID["cursor"], PLAIN)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    assert main(["setup"]) == 0
    assert path.read_text() == PLAIN
    assert len(asked) == 1
    shown = capsys.readouterr().out
    assert '+    "ollama": {' in shown
    assert "theme" not in shown


@pytest.mark.parametrize("text", ['{"mcpServers": {', "[]", '{"mcpServers": []}', "\xff", "{'a': 1}"])
def test_a_file_that_is_not_understood_stays_and_the_snippet_is_shown(text: str, homes: Any, capsys: Any):
    path = homes(BY_ID["cursor"], "")
    path.write_bytes(text.encode("latin-1"))
    assert main(["setup", "--yes"]) == 1
    assert path.read_bytes() == text.encode("latin-1")
    assert os.listdir(path.parent) == [path.name]
    shown = capsys.readouterr().out
    assert "stays as it is" in shown
    assert '"ollama": {' in shown


def test_without_the_extra_toml_and_yaml_are_printed(
    homes: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    paths = [homes(BY_ID[name]) for name in ("codex", "goose", "cursor")]
    for module in ("tomlkit", "ruamel.yaml"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["setup", "--yes"]) == 1
    assert [path.read_bytes().decode() for path in paths[:2]] == [SAMPLES["codex"], SAMPLES["goose"]]
    assert "ollama" in paths[2].read_text()
    assert capsys.readouterr().out.count("pip install 'ollama-mcp[cli]'") == 2


def test_another_server_of_that_name_is_left_alone(homes: Any, capsys: Any):
    theirs = '{"mcpServers": {"ollama": {"command": "npx", "args": ["other"]}}}'
    path = homes(BY_ID["cursor"], theirs)
    assert main(["setup", "--yes"]) == 1
    assert main(["setup", "--yes", "--remove"]) == 1
    assert path.read_text() == theirs
    assert "--name" in capsys.readouterr().out
    assert main(["setup", "--yes", "--name", "local"]) == 0
    assert json.loads(path.read_text())["mcpServers"].keys() == {"ollama", "local"}


def test_what_the_client_added_to_the_entry_stays(homes: Any):
    path = homes(BY_ID["cline"], PLAIN)
    assert main(["setup", "--yes", "--env", "OLLAMA_HOST=gpu:1"]) == 0
    table = json.loads(path.read_text())
    table["mcpServers"]["ollama"] |= {"disabled": True, "autoApprove": ["ollama_chat"]}
    path.write_text(json.dumps(table))
    assert main(["setup", "--yes", "--env", "OLLAMA_MCP_READ_ONLY=1"]) == 0
    entry = json.loads(path.read_text())["mcpServers"]["ollama"]
    assert (entry["disabled"], entry["autoApprove"]) == (True, ["ollama_chat"])
    assert entry["env"] == {"OLLAMA_HOST": "gpu:1", "OLLAMA_MCP_READ_ONLY": "1"}
    assert main(["setup", "--yes", "--ollama-host", "gpu:2"]) == 0  # said now, it wins
    entry = json.loads(path.read_text())["mcpServers"]["ollama"]
    assert entry["env"] == {"OLLAMA_HOST": "http://gpu:2", "OLLAMA_MCP_READ_ONLY": "1"}
    assert main(["setup", "--yes", "--http", "http://127.0.0.1:8000/mcp"]) == 0
    assert "command" not in json.loads(path.read_text())["mcpServers"]["ollama"]


def test_an_edit_by_somebody_else_meanwhile_is_kept(homes: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    path = homes(BY_ID["cursor"], PLAIN)

    def edit(_: str) -> str:
        path.write_text("{}")
        return "y"

    monkeypatch.setattr("builtins.input", edit)
    assert main(["setup"]) == 1
    assert path.read_text() == "{}"
    assert "changed meanwhile" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="links and permissions are those of POSIX")
def test_links_and_permissions_stay(homes: Any, tmp_path: Path):
    path = homes(BY_ID["cursor"], PLAIN)
    real = tmp_path / "dotfiles" / "mcp.json"
    real.parent.mkdir()
    path.rename(real)
    real.chmod(0o640)
    path.symlink_to(real)
    assert main(["setup", "--yes"]) == 0
    assert path.is_symlink()
    assert "ollama" in real.read_text()
    backup = real.with_name("mcp.json.ollama-mcp.bak")
    assert [one.stat().st_mode & 0o777 for one in (real, backup)] == [0o640, 0o640]


@pytest.mark.parametrize(
    "flags",
    [
        ["netscape"], ["--print", "x"], ["--env", "OLLAMA_MCP_TOOLSET=chat"], ["--env", "A"],
        ["--env", "OLLAMA_MCP_MAX_CONTEXT=x"], ["--http", "localhost:8000"], ["--name", "a b"],
    ],
)  # fmt: skip
def test_bad_usage_is_named_and_changes_nothing(flags: list[str], homes: Any, capsys: Any):
    path = homes(BY_ID["cursor"], PLAIN)
    assert main(["setup", "--yes", *flags]) == 2
    assert capsys.readouterr().err.startswith("ollama-mcp: ")
    assert path.read_text() == PLAIN


def test_a_machine_without_clients_says_how_to_name_one(homes: Any, capsys: Any):
    assert main(["setup", "--yes"]) == 1
    assert "claude-desktop" in capsys.readouterr().out


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_each_system_has_its_places(system: str):
    home = Path("/home/ann")
    machine = Machine(
        system, home, {"APPDATA": "/roaming", "LOCALAPPDATA": "/local"} if system == "win32" else {}
    )
    desktop = {
        "linux": "/home/ann/.config",
        "darwin": "/home/ann/Library/Application Support",
        "win32": "/roaming",
    }[system]
    assert BY_ID["vscode"].path(machine) == Path(desktop, "Code/User/mcp.json")
    assert BY_ID["claude-desktop"].path(machine) == Path(desktop, "Claude/claude_desktop_config.json")
    goose = "/roaming/Block/goose/config" if system == "win32" else "/home/ann/.config/goose"
    assert BY_ID["goose"].path(machine) == Path(goose, "config.yaml")
    moved = Machine(system, home, {"CODEX_HOME": "/srv/codex", "CLAUDE_CONFIG_DIR": "/srv/claude"})
    assert BY_ID["codex"].path(moved) == Path("/srv/codex/config.toml")
    assert BY_ID["claude-code"].path(moved) == Path("/srv/claude/.claude.json")
    assert BY_ID["claude-code"].path(machine) == home / ".claude.json"


# --- any text ------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
spaces = st.sampled_from(["", " ", "\n", "\n  ", " // a {\n", "/* } */", "\r\n\t"])


@st.composite
def json_texts(draw: st.DrawFn, value: Any) -> str:
    """Write a value with any spaces, comments and trailing commas."""
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key)}{draw(spaces)}:{draw(spaces)}{draw(json_texts(v))}" for key, v in value.items()
        ]
    elif isinstance(value, list):
        parts = [draw(json_texts(v)) for v in value]
    else:
        return json.dumps(value)
    spaced = [f"{draw(spaces)}{part}{draw(spaces)}" for part in parts]
    tail = draw(st.sampled_from(["", ","])) if parts else ""
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{','.join(spaced)}{tail}{draw(spaces)}{closing}"


@given(st.data(), st.dictionaries(st.text(max_size=3), values, max_size=4))
def test_any_json_takes_the_entry_and_gives_it_back(data: st.DataObject, value: dict[str, Any]):
    text = data.draw(spaces) + data.draw(json_texts(value)) + data.draw(spaces)
    assert jsonc.parse(text).value == value
    in_lines = "\n" in text.strip()
    if isinstance(value.get("s", {}), dict):
        path = ["s", "ollama"] if data.draw(st.booleans()) else ["ollama"]
        added = jsonc.put(text, path, {"a": [1]})
        table = jsonc.parse(added).value
        inner = table["s"] if path[1:] else table
        assert inner["ollama"] == {"a": [1]}
        assert in_lines or not value or "\n" not in added.strip()
        assert jsonc.parse(jsonc.put(added, path, 5)).value != table
        removed = jsonc.parse(jsonc.drop(added, path)).value
        value.setdefault("s", {})
        removed.setdefault("s", {})
        (value["s"] if path[1:] else value).pop("ollama", None)
        assert removed == value


@given(st.text(alphabet='{}[]",:/* \n1a\\', max_size=30))
def test_any_text_is_parsed_or_refused(text: str):
    client, entry = BY_ID["cursor"], {"command": "c"}
    try:
        new = config_text.put(client, text, "ollama", entry)
    except config_text.NotEditable:
        return
    assert config_text.find(client, jsonc.parse(new).value, "ollama") == entry


UVX = "/home/ann/.cache/uv/archive-v0/x1/bin/python"
PIPX = "/home/ann/.local/pipx/.cache/a2/bin/python"
GIT = {"url": "https://github.com/x/y", "vcs_info": {"vcs": "git", "requested_revision": "v1"}}


@pytest.mark.parametrize(
    ("python", "origin", "libraries", "command"),
    [
        (UVX, None, [], ["/bin/uvx", "ollama-mcp"]),
        (UVX, None, ["numpy", "pypdf"], ["/bin/uvx", "--from", "ollama-mcp[rag,ingest]", "ollama-mcp"]),
        (UVX, GIT, [], ["/bin/uvx", "--from", "git+https://github.com/x/y@v1", "ollama-mcp"]),
        (
            UVX, GIT, ["numpy"],
            ["/bin/uvx", "--from", "ollama-mcp[rag] @ git+https://github.com/x/y@v1", "ollama-mcp"],
        ),
        (PIPX, None, [], ["/bin/pipx", "run", "ollama-mcp"]),
        (
            PIPX, {"url": "file:///home/ann/src", "dir_info": {}}, [],
            ["/bin/pipx", "run", "--spec", "/home/ann/src", "ollama-mcp"],
        ),
        ("/opt/python/bin/python", None, ["numpy"], ["/opt/python/bin/python", "-m", "ollama_mcp"]),
    ],
)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")
def test_what_a_runner_cached_is_started_by_the_runner(
    python: str, origin: Any, libraries: list[str], command: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("ollama_mcp.cli.installation.find_spec", lambda name: name in libraries)
    told = json.dumps(origin) if origin else None
    monkeypatch.setattr("importlib.metadata.PathDistribution.read_text", lambda _, name: told)
    assert Installation.find(Path(python).parents[1]).server_command() == command


def test_an_entry_for_stdio_has_an_absolute_command() -> None:
    server = Server("/bin/ollama-mcp", ("--read-only",), {"A": "b"})
    for client in CLIENT_CONFIGS:
        assert "/bin/ollama-mcp" in json.dumps(client.entry(server))


# --- models --------------------------------------------------------------------------------------


@pytest.mark.real_time
@pytest.mark.parametrize(("memory", "chat"), [(4e9, "qwen3:0.6b"), (8.2e9, "qwen3:4b"), (64e9, "qwen3:14b")])
def test_a_model_that_fits_the_memory_is_pulled_after_a_yes(
    memory: float, chat: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "yes")
    monkeypatch.setattr(first_models, "_memory", lambda: memory)
    with FakeOllama.in_thread([]) as fake:
        settings = load(
            {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_MAX_PULL_GB": "0"}
        )  # what larger ones need is a yes
        first_models.offer_models(settings, asks=False)
        assert f"`ollama pull {chat}`" in capsys.readouterr().out
        assert not asked
        first_models.offer_models(settings, asks=True)
        pulled = [request.json["model"] for request in fake.requests if request.path == "/api/pull"]
        assert pulled == [chat, "nomic-embed-text"]
        assert f"{chat} is there" in capsys.readouterr().out
    assert [chat in question or "nomic" in question for question in asked] == [True, True]


@pytest.mark.real_time
def test_nothing_is_offered_where_both_models_are(capsys: Any):
    models = [Model("a", capabilities=("completion",)), Model("b", capabilities=("embedding",))]
    with FakeOllama.in_thread(models) as fake:
        first_models.offer_models(load({"OLLAMA_HOST": fake.url}), asks=True)
    assert capsys.readouterr().out == ""


@pytest.mark.real_time
def test_an_ollama_that_is_down_is_said(capsys: Any):
    first_models.offer_models(load({"OLLAMA_HOST": "127.0.0.1:9", "OLLAMA_MCP_RETRIES": "0"}), asks=True)
    assert "`ollama-mcp doctor`" in capsys.readouterr().out
