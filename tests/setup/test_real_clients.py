"""What `ollama-mcp setup` writes is read by the clients themselves, which start the server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.real_time]

CLIENTS = Path(__file__).parent / "clients"
COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
FOLDERS = {
    "claude-code": ".claude",
    "copilot-cli": ".copilot",
    "codex": ".codex",
    "gemini": ".gemini",
    "opencode": ".config/opencode",
}
LISTS = {
    "copilot-cli": ("copilot mcp list --json", '"enabled": true'),
    "claude-code": ("claude mcp list", "Connected"),
    "codex": ("codex mcp list", "enabled"),  # it starts no server before a session
    "gemini": ("gemini mcp list", "Connected"),
    "opencode": ("opencode mcp list", "connected"),
}


@pytest.fixture(scope="session")
def programs() -> Path:
    """The clients, in the versions of package.json; npm cannot lock opencode's for other systems."""
    npm = shutil.which("npm")
    assert npm, "Node is needed"
    install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(install, cwd=CLIENTS, check=True, timeout=300, stdin=subprocess.DEVNULL)
    return CLIENTS / "node_modules" / ".bin"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of a user with these clients, whom no proxy lets out."""
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir(parents=True)
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return {
        "HOME": str(tmp_path), "PATH": os.environ["PATH"], "GEMINI_CLI_TRUST_WORKSPACE": "true", **proxies
    }  # fmt: skip


def said(*command: str, home: dict[str, str]) -> str:
    """What a program prints in that home."""
    done = subprocess.run(
        command, cwd=home["HOME"], env=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("client", LISTS)
def test_a_client_lists_the_server_until_it_is_removed(client: str, programs: Path, home: dict[str, str]):
    (program, *words), state = LISTS[client][0].split(), LISTS[client][1]
    said(COMMAND, "setup", "--yes", client, home=home)
    listed = said(str(programs / program), *words, home=home)
    assert COMMAND in listed, listed
    assert state in listed, listed
    said(COMMAND, "setup", "--yes", "--remove", client, home=home)
    assert COMMAND not in said(str(programs / program), *words, home=home)
