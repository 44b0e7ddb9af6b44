"""MCP clients: where each keeps its settings, and what an entry for a server looks like there.

The one table to mend when a client changes. `ollama-mcp setup`, the entries of docs/clients/*.md and the
install links derive from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ollama_mcp.settings.machine import Machine

Format = Literal["json", "toml", "yaml"]


@dataclass(frozen=True)
class Server:
    """The server of an entry.

    Attributes:
        command: Absolute path of the program: clients start servers with a nearly empty environment.
        args: Its arguments.
        env: Its environment variables.
        url: Address of Streamable HTTP; "" for a program on stdio.
    """

    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str = ""

    @property
    def program(self) -> dict[str, Any]:
        """The three keys that most clients have in common."""
        return {"command": self.command, "args": list(self.args), "env": dict(self.env)}


Entry = Callable[[Server], dict[str, Any]]


@dataclass(frozen=True)
class ClientConfig:
    """The configuration file of an MCP client.

    Attributes:
        id: Its name on the command line.
        title: Its name.
        entry: Returns the entry for a server.
        files: Places of the file below `{home}` and other folders of `Machine.folder`; the first that is
            there counts. Empty: only the client itself writes its settings.
        windows: The same on Windows, where it differs.
        format: Syntax of the file. JSON may have comments and trailing commas.
        key: Name of the table of servers.
        is_list: Whether that is a list of entries with their names inside.
        sign: Folder that shows that the client is installed; "" for the folder of its file.
        takes_http: Whether it connects to a server over HTTP.
        head: What a new file needs beside the entry.
        hint: What to do after a change.
    """

    id: str
    title: str
    entry: Entry
    files: tuple[str, ...]
    windows: tuple[str, ...] = ()
    format: Format = "json"
    key: str = "mcpServers"
    is_list: bool = False
    sign: str = ""
    takes_http: bool = True
    head: str = ""
    hint: str = ""

    def places(self, machine: Machine) -> list[Path]:
        """Return where the file may be on a machine, the likeliest first."""
        files = self.windows if self.windows and machine.system == "win32" else self.files
        return [_path(file, machine) for file in files if "{local}" not in file or machine.system == "win32"]

    def path(self, machine: Machine) -> Path | None:
        """Return the file to edit, which need not exist yet; None if there is none."""
        places = self.places(machine)
        there = [place for place in places if place.exists()]
        return next(iter([*there, *(place for place in places if place.parent.is_dir()), *places]), None)

    def is_installed(self, machine: Machine) -> bool:
        """Return whether the client, or its file, is on a machine."""
        signs = [_path(self.sign, machine)] if self.sign else [place.parent for place in self.places(machine)]
        return any(place.exists() for place in (*signs, *self.places(machine)))


def _path(template: str, machine: Machine) -> Path:
    folder, _, rest = template.removeprefix("{").partition("}/")
    return machine.folder(folder.removesuffix("}")) / rest


def _common(server: Server) -> dict[str, Any]:
    return {"url": server.url} if server.url else server.program


def _typed(server: Server) -> dict[str, Any]:
    return {"type": "http", "url": server.url} if server.url else {"type": "stdio", **server.program}


def _copilot(server: Server) -> dict[str, Any]:
    found = _typed(server) if server.url else {"type": "local", **server.program}
    return {**found, "tools": ["*"]}


def _windsurf(server: Server) -> dict[str, Any]:
    return {"serverUrl": server.url} if server.url else server.program


def _codex(server: Server) -> dict[str, Any]:
    # Codex ends a call after tool_timeout_sec, and without `required` its first turn has no tools.
    waits = {"tool_timeout_sec": 1200, "required": True}
    if server.url:
        return {"url": server.url, **waits}
    return {**server.program, "env": {**server.env, "OLLAMA_MCP_SOFT_DEADLINE": "1170"}, **waits}


def _gemini(server: Server) -> dict[str, Any]:
    return {**({"httpUrl": server.url} if server.url else server.program), "timeout": 1_200_000}


def _opencode(server: Server) -> dict[str, Any]:
    if server.url:
        return {"type": "remote", "url": server.url, "enabled": True}
    command = [server.command, *server.args]
    return {"type": "local", "command": command, "environment": dict(server.env), "enabled": True}


def _cline(server: Server) -> dict[str, Any]:
    return {"type": "streamableHttp", "url": server.url} if server.url else server.program


def _continue(server: Server) -> dict[str, Any]:
    return {"type": "streamable-http", "url": server.url} if server.url else server.program


def _goose(server: Server) -> dict[str, Any]:
    head = {"enabled": True, "name": "ollama", "description": "Local models of Ollama", "timeout": 1200}
    if server.url:
        return {**head, "type": "streamable_http", "uri": server.url}
    return {
        **head,
        "type": "stdio",
        "cmd": server.command,
        "args": list(server.args),
        "envs": dict(server.env),
    }


_CODE = "{data}/Code/User"
_CLINE = "settings/cline_mcp_settings.json"
_STORE_APP = (
    "{local}/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming"  # where Windows keeps a Store app's files
)
_RESTART = "Restart it."

CLIENT_CONFIGS = (
    ClientConfig(
        "claude-desktop", "Claude Desktop", _common,
        ("{data}/Claude/claude_desktop_config.json", f"{_STORE_APP}/Claude/claude_desktop_config.json"),
        takes_http=False, hint=_RESTART,
    ),
    ClientConfig(
        "claude-code", "Claude Code", _typed, ("{CLAUDE_CONFIG_DIR:}/.claude.json",),
        sign="{CLAUDE_CONFIG_DIR:.claude}", hint="Start a new session.",
    ),
    ClientConfig("vscode", "VS Code", _typed, (f"{_CODE}/mcp.json",), key="servers"),
    ClientConfig("copilot-cli", "Copilot CLI", _copilot, ("{COPILOT_HOME:.copilot}/mcp-config.json",)),
    ClientConfig("cursor", "Cursor", _common, ("{home}/.cursor/mcp.json",)),
    # docs.windsurf.com/windsurf/cascade/mcp: `url` does not connect, `serverUrl` does.
    ClientConfig("windsurf", "Windsurf", _windsurf, ("{home}/.codeium/windsurf/mcp_config.json",)),
    # zed.dev/docs/ai/mcp; ~/.config on macOS, too.
    ClientConfig(
        "zed", "Zed", _common, ("{xdg}/zed/settings.json",), ("{data}/Zed/settings.json",),
        key="context_servers",
    ),
    ClientConfig(
        "codex", "Codex", _codex, ("{CODEX_HOME:.codex}/config.toml",), format="toml", key="mcp_servers",
    ),
    ClientConfig("gemini", "Gemini CLI", _gemini, ("{home}/.gemini/settings.json",)),
    # opencode.ai/docs/config: ~/.config on every system.
    ClientConfig(
        "opencode", "opencode", _opencode, ("{xdg}/opencode/opencode.json", "{xdg}/opencode/opencode.jsonc"),
        key="mcp",
    ),
    # lmstudio.ai/docs/app/mcp; the second one: lmstudio-ai/lmstudio-bug-tracker#1371.
    ClientConfig(
        "lm-studio", "LM Studio", _common, ("{home}/.lmstudio/mcp.json", "{home}/.cache/lm-studio/mcp.json")
    ),
    # docs.cline.bot/mcp: the extension of VS Code, and the command line.
    ClientConfig(
        "cline", "Cline", _cline,
        (f"{_CODE}/globalStorage/saoudrizwan.claude-dev/{_CLINE}", "{home}/.cline/data/" + _CLINE),
    ),
    # docs.continue.dev/reference
    ClientConfig(
        "continue", "Continue", _continue, ("{home}/.continue/config.yaml",), format="yaml", is_list=True,
        head="name: Local Config\nversion: 1.0.0\nschema: v1\n",
    ),
    # aaif-goose/goose, documentation/docs/guides/config-files.md
    ClientConfig(
        "goose", "Goose", _goose, ("{xdg}/goose/config.yaml",), ("{data}/Block/goose/config/config.yaml",),
        format="yaml", key="extensions",
    ),
    ClientConfig(
        "jetbrains", "JetBrains", _common, (),
        hint="Settings | Tools | AI Assistant | Model Context Protocol (MCP) takes it.",
    ),
)  # fmt: skip
"""Every client that `ollama-mcp setup` knows."""
