"""What others install the server by says what the package does: server.json, the bundle, links, Docker."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ollama_mcp import __version__
from ollama_mcp.settings import load
from ollama_mcp.transports.http import access_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
REGISTRY = json.loads((ROOT / "server.json").read_text("utf-8"))
MANIFEST = json.loads((ROOT / "packaging" / "manifest.json").read_text("utf-8"))
TEXT = (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_registry_finds_its_name_in_readme_and_the_limits_are_kept():
    assert re.fullmatch(r"io\.github\.[\w-]+/ollama-mcp", REGISTRY["name"])
    assert f"<!-- mcp-name: {REGISTRY['name']} -->" in README
    assert len(REGISTRY["description"]) <= 100
    package = REGISTRY["packages"][0]
    assert package["identifier"] == tomllib.loads(TEXT)["project"]["name"]
    assert REGISTRY["version"] == package["version"] == MANIFEST["version"] == __version__
    secret = {one["name"] for one in package["environmentVariables"] if one.get("isSecret")}
    assert secret == {"OLLAMA_API_KEY", "OLLAMA_MCP_HEADERS"}


def test_the_defaults_of_the_registry_and_the_bundle_are_settings():
    variables = REGISTRY["packages"][0]["environmentVariables"]
    defaults = load({one["name"]: one["default"] for one in variables if "default" in one})
    asked = {
        name: json.dumps(MANIFEST["user_config"][place[len("${user_config.") : -1]]["default"]).strip('"')
        for name, place in MANIFEST["server"]["mcp_config"]["env"].items()
    }
    bundled = load(asked)
    for settings in (defaults, bundled):
        assert settings.unknown == ()
        assert settings.backend.host == load({}).backend.host
        assert settings.toolsets == load({}).toolsets
        assert not settings.read_only


def test_the_links_start_the_command_of_the_package():
    links = re.findall(r"\]\((https://(?:insiders|cursor|lmstudio|block)\.[^)]+)\)", README)
    assert len(links) == 4
    for link in links:
        query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
        if "cmd" in query:
            assert (query["cmd"], query["arg"]) == ("uvx", "ollama-mcp")
            continue
        text = query["config"] if "vscode" in link else base64.b64decode(query["config"])
        config = json.loads(text)
        assert (query["name"], config["command"], config["args"]) == ("ollama", "uvx", ["ollama-mcp"])


def test_the_owner_is_written_in_one_place_and_a_release_needs_it():
    assert TEXT.count("github.com/") == 1
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    assert workflow.index("github.com/OWNER/") < workflow.index("python -m build")


def test_the_names_in_compose_are_those_of_the_server():
    compose = (ROOT / "compose.yaml").read_text("utf-8")
    names = re.search(r"OLLAMA_MCP_ALLOW_HOSTS: (\S+)", compose)[1]
    settings = load(
        {"OLLAMA_MCP_ALLOW_HOSTS": names, "OLLAMA_MCP_HTTP": "0.0.0.0:8000", "OLLAMA_MCP_TOKEN": "x" * 32}
    )
    access = access_of(settings)
    for name in ("127.0.0.1:8000", "localhost:8000", "ollama-mcp:8000"):
        assert access.names.has_host(name, ("172.17.0.2", 8000))
