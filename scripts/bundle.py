"""What tells others how to install the server, from its settings; scripts/docs.py writes and checks it.

python scripts/bundle.py dist    # pack dist/ollama-mcp-VERSION.mcpb, the bundle for Claude Desktop
"""

from __future__ import annotations

import base64
import json
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ollama_mcp import __version__
from ollama_mcp.settings import FIELDS
from ollama_mcp.settings.declaration import HTTP, Field

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REPOSITORY: str = PROJECT["urls"]["Repository"]  # the one place that has the owner's name
OWNER = REPOSITORY.removeprefix("https://github.com/").partition("/")[0]
REGISTRY_NAME = f"io.github.{OWNER}/ollama-mcp"
COMMAND, ARGS = "uvx", ["ollama-mcp"]

# What an owner of Claude Desktop is asked for; the others have defaults that fit a desktop.
_ASKED = {
    "OLLAMA_HOST": "Address of Ollama", "OLLAMA_MCP_CHAT_MODEL": "Chat model",
    "OLLAMA_MCP_EMBEDDING_MODEL": "Embedding model", "OLLAMA_MCP_TOOLSETS": "Toolsets",
    "OLLAMA_MCP_READ_ONLY": "Read-only",
}  # fmt: skip


def registry_entry() -> dict[str, Any]:
    """Return server.json of the MCP registry, which asks a client's user for the settings of stdio."""

    def variable(entry: Field) -> dict[str, Any]:
        found: dict[str, Any] = {"name": entry.variable, "description": entry.description}
        if entry.default and entry.variable != "OLLAMA_MCP_CACHE":  # its default depends on the system
            found["default"] = entry.default
        return {**found, "isSecret": True} if entry.secret else found

    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": REGISTRY_NAME,
        "title": "ollama-mcp",
        "description": PROJECT["description"],
        "repository": {"url": REPOSITORY, "source": "github"},
        "version": __version__,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": PROJECT["name"],
                "version": __version__,
                "runtimeHint": COMMAND,
                "transport": {"type": "stdio"},
                "environmentVariables": [variable(entry) for entry in FIELDS if entry.group != HTTP],
            }
        ],
    }


def manifest() -> dict[str, Any]:
    """Return the manifest of the bundle: uv installs the source that the bundle has."""
    fields = {entry.variable: entry for entry in FIELDS}
    asked = {
        fields[variable].key: {
            "type": "boolean" if fields[variable].default == "0" else "string",
            "title": title,
            "description": fields[variable].description,
            "required": False,
            "default": False if fields[variable].default == "0" else fields[variable].default,
        }
        for variable, title in _ASKED.items()
    }
    env = {variable: f"${{user_config.{fields[variable].key}}}" for variable in _ASKED}
    return {
        "manifest_version": "0.4",
        "name": PROJECT["name"],
        "display_name": "Ollama",
        "version": __version__,
        "description": PROJECT["description"],
        "author": {"name": "The ollama-mcp authors"},
        "repository": {"type": "git", "url": REPOSITORY},
        "license": PROJECT["license"],
        "keywords": PROJECT["keywords"],
        "server": {
            "type": "uv",
            "entry_point": "src/ollama_mcp/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "--no-dev", "ollama-mcp"],
                "env": env,
            },
        },
        "tools_generated": True,
        "prompts_generated": True,
        "compatibility": {
            "platforms": ["darwin", "win32", "linux"],
            "runtimes": {"python": PROJECT["requires-python"]},
        },
        "user_config": asked,
    }


def install_links() -> dict[str, str]:
    """Return a link for each client that installs a server by one."""
    program = {"command": COMMAND, "args": ARGS}
    config = base64.b64encode(json.dumps(program).encode()).decode()
    vscode = urlencode(
        {"name": "ollama", "config": json.dumps({"type": "stdio", **program})}, quote_via=quote
    )
    about = {"id": "ollama", "name": "Ollama", "description": "Local models of Ollama"}
    goose = {"cmd": COMMAND, "arg": ARGS[0], **about}
    return {
        "VS Code": f"https://insiders.vscode.dev/redirect/mcp/install?{vscode}",
        "Cursor": f"https://cursor.com/en/install-mcp?{urlencode({'name': 'ollama', 'config': config})}",
        "LM Studio": f"https://lmstudio.ai/install-mcp?{urlencode({'name': 'ollama', 'config': config})}",
        "Goose": f"https://block.github.io/goose/extension?{urlencode(goose, quote_via=quote)}",
    }


FILES = {ROOT / "server.json": registry_entry, ROOT / "packaging" / "manifest.json": manifest}
"""Files that are JSON as a whole, with what makes them."""


def pack(folder: Path) -> Path:
    """Write the bundle; the same source gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / f"ollama-mcp-{__version__}.mcpb"
    sources = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    sources += [
        path for path in sorted((ROOT / "src").rglob("*")) if path.suffix == ".py" or path.name == "py.typed"
    ]
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        named = {path.relative_to(ROOT).as_posix(): path for path in sources}
        for name, path in {"manifest.json": ROOT / "packaging" / "manifest.json", **named}.items():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return bundle


if __name__ == "__main__":
    print(pack(Path(sys.argv[1])))
