"""Write what derives from declarations, or check it: tables of docs/*.md, names of the package, server.json.

python scripts/docs.py            # write
python scripts/docs.py --check    # exit 1 if they differ
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import bundle

from ollama_mcp import App, create_server
from ollama_mcp.cli.setup.clients import CLIENT_CONFIGS, ClientConfig, Server
from ollama_mcp.cli.setup.config_text import snippet
from ollama_mcp.settings import FIELDS, Settings
from ollama_mcp.settings.declaration import Field
from ollama_mcp.settings.limits import Limits, setting_of, shown_size
from ollama_mcp.settings.machine import Machine
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.client_profiles import CLIENTS, DEFAULT_PROFILE, PageSize
from ollama_mcp.tools.toolset import Tool

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "src/ollama_mcp/__init__.py"]
_SETTING = ("variable", "in the file", "default", "meaning")


def tools_table() -> str:
    """Return every tool with its parameters."""
    server = create_server(App.create(Settings(toolsets=("all",), store="store")))
    published = {tool.name: tool for tool in asyncio.run(server.list_tools())}
    rows: list[Iterable[str]] = []
    for toolset in TOOLSETS.values():
        for tool in toolset:
            entry = published[tool.name]
            names = ", ".join(f"`{name}`" for name in entry.input_schema["properties"])
            rows.append((toolset.name, f"`{tool.name}`", entry.description or "", names))
    return _table(("toolset", "tool", "what it does", "parameters"), rows)


def toolsets_table() -> str:
    """Return every toolset with the names of its tools."""
    usual = Settings().toolsets
    rows = [
        (name, "on" if name in usual else "off", ", ".join(f"`{tool.name}`" for tool in tools))
        for name, tools in TOOLSETS.items()
    ]
    return _table(("toolset", "default", "tools"), rows)


def examples_table() -> str:
    """Return the arguments of an example call of every tool."""
    rows = [(f"`{tool.name}`", f"`{json.dumps(tool.example)}`") for tool in _every_tool()]
    return _table(("tool", "arguments"), rows)


def _every_tool() -> list[Tool]:
    return [tool for toolset in TOOLSETS.values() for tool in toolset]


def _per_tool(line: str, end: str = "") -> str:
    """Return a line for each tool with its name and the module of its function, in their order."""
    modules = {tool.name: tool.function.__module__.removeprefix("ollama_mcp.") for tool in _every_tool()}
    lines = sorted("    " + line.format(name=name, module=module) for name, module in modules.items())
    return "\n".join(lines) + end


_FIRST = (
    "host",
    "chat_model",
    "embedding_model",
    "keep_alive",
    "max_context",
    "toolsets",
    "roots",
    "upstream",
)


def first_settings() -> str:
    """Return the eight settings that matter first."""
    entries = {entry.key: entry for entry in FIELDS}
    return _table(_SETTING, [_setting(entries[key]) for key in _FIRST])


def settings_table() -> str:
    """Return every setting with its name in the file and its default, in sections."""
    lines: list[str] = []
    for group, entries in itertools.groupby(FIELDS, key=lambda entry: entry.group):
        rows = [_setting(entry) for entry in entries]
        lines += ["", f"### {group}", "", _table(_SETTING, rows)]
    return "\n".join([*lines, ""])


def _setting(entry: Field) -> Iterable[str]:
    return (f"`{entry.variable}`", _code(entry.key), _code(entry.default), entry.description)


def clients_table() -> str:
    """Return every known client with its deadlines and how much of a result its model sees."""
    rows = [
        (
            f"`{client.name}`" if client.name else "any other",
            f"{client.silent_s:g} s",
            f"{client.reported_s:g} s",
            _page(client.page),
        )
        for client in (*CLIENTS, DEFAULT_PROFILE)
    ]
    return _table(("client", "deadline", "with progress", "page size"), rows)


def _page(page: PageSize) -> str:
    sizes = [(page.chars, "characters"), (page.bytes, "bytes")]
    return ", ".join(f"{size:,} {unit}" for size, unit in sizes if size < sys.maxsize)


def setup_table() -> str:
    """Return every client that `ollama-mcp setup` knows, with its page and its syntax."""
    rows = [
        (f"[{client.title}](clients/{client.id}.md)", f"`{client.id}`", client.format.upper())
        for client in CLIENT_CONFIGS
    ]
    return _table(("client", "name", "syntax"), rows)


def client_text(client: ClientConfig) -> str:
    """Return a client's file on each system, and its entries for stdio and HTTP."""
    places = [
        (system, f"`{place.as_posix()}`")
        for system, (platform, data) in _SYSTEMS.items()
        for place in client.places(Machine(platform, Path("~"), {"APPDATA": data}))[:1]
    ]
    parts = [_table(("system", "file"), places)] if places else []
    parts += ["## Entry", _entry(client, Server(*_PROGRAM))]
    if client.takes_http:
        parts += ["## Entry for a server over HTTP", _entry(client, Server(url=_URL))]
    return "\n" + "\n\n".join(parts) + "\n"


_SYSTEMS = {
    "Linux": ("linux", "~/.config"),
    "macOS": ("darwin", "~/Library/Application Support"),
    "Windows": ("win32", "%APPDATA%"),
}
_PROGRAM = ("/home/me/.local/bin/ollama-mcp", (), {"OLLAMA_HOST": "http://127.0.0.1:11434"})
_URL = "http://127.0.0.1:8000/mcp"


def _entry(client: ClientConfig, server: Server) -> str:
    return f"```{client.format}\n{snippet(client, 'ollama', client.entry(server))}```"


def install_text() -> str:
    """Return the commands and links that install the server; the marker is for the MCP registry."""
    links = ", ".join(f"[{client}]({link})" for client, link in bundle.install_links().items())
    return f"""
```sh
uvx ollama-mcp setup
uvx --from git+{bundle.REPOSITORY} ollama-mcp setup    # until the first release
```

Links install it without a terminal: {links}.

<!-- mcp-name: {bundle.REGISTRY_NAME} -->
"""


def limits_table() -> str:
    """Return the size limits of one call with the settings that raise them."""
    rows: list[Iterable[str]] = []
    for limit in dataclasses.fields(Limits):
        if unit := limit.metadata.get("unit"):
            shown = shown_size(limit.default) if unit == "bytes" else str(limit.default)
            rows.append((limit.name.replace("_", " "), shown, _code(setting_of(limit.name)) or "fixed"))
    return _table(("limit of one call", "default", "setting"), rows)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(map(_row, (head, ["---"] * len(head), *rows)))


TABLES: dict[str, Callable[[], str]] = {
    "tools": tools_table,
    "toolsets": toolsets_table,
    "examples": examples_table,
    "first-settings": first_settings,
    "settings": settings_table,
    "clients": clients_table,
    "limits": limits_table,
    "setup": setup_table,
    **{client.id: functools.partial(client_text, client) for client in CLIENT_CONFIGS},
    "install": install_text,
    "imports": lambda: _per_tool("from ollama_mcp.{module} import {name} as {name}", "\n"),
    "modules": lambda: _per_tool('"{name}": "{module}",'),
    "names": lambda: _per_tool('"{name}",'),
}


def generated(text: str) -> str:
    """Return the text of a page with its tables made anew."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}{TABLES[found[2]]()}\n{found[3]}"

    text = re.sub(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", table, text, flags=re.DOTALL)
    return re.sub(r"( *# generated: (\w+)\n).*?( *# end\n)", table, text, flags=re.DOTALL)


def main() -> int:
    """Do what argv says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = 0
    for page in (*PAGES, *bundle.FILES):
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        made = bundle.FILES.get(page)
        wanted = json.dumps(made(), indent=2, ensure_ascii=False) + "\n" if made else generated(text)
        if wanted != text and check:
            stale = 1
            print(f"{page.relative_to(ROOT)} is not what the code says: run python scripts/docs.py",
                  file=sys.stderr)  # fmt: skip
        elif wanted != text:
            page.write_text(wanted, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
