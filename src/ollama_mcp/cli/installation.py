"""How this program was installed, and the commands that work on such an installation."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ollama_mcp.settings.machine import Machine

_EXTRAS = {"rag": "numpy", "ingest": "pypdf", "postgres": "psycopg"}
"""Extras of what a server may be asked for, each with a library of its own."""


@dataclass(frozen=True)
class Installation:
    """An installation of ollama-mcp.

    Attributes:
        kind: pipx, pipx run, uv tool, uvx, uv venv, venv, or system. uvx and `pipx run` are caches.
        python: Its interpreter.
        program: Path of its command; "" where there is none.
        origin: Address that it was installed from (PEP 610); "" for PyPI.
        extras: Extras whose libraries are there, of those that the tools of a server need.
    """

    kind: str
    python: str = sys.executable
    program: str = ""
    origin: str = ""
    extras: tuple[str, ...] = ()

    @classmethod
    def find(cls, prefix: Path | None = None) -> Installation:
        """Return that of this process.

        Args:
            prefix: Its environment, instead of `sys.prefix`.
        """
        prefix = Path(sys.prefix) if prefix is None else prefix
        program = Path(sys.executable).with_name(f"ollama-mcp{'.exe' if sys.platform == 'win32' else ''}")
        extras = tuple(extra for extra, module in _EXTRAS.items() if find_spec(module))
        path = str(program) if program.exists() else ""
        return cls(_kind(prefix), sys.executable, path, _origin(), extras)

    def command(self, arguments: str) -> str:
        """Return a command of this program as it works in a shell.

        Args:
            arguments: Such as "demo".
        """
        found = shutil.which("ollama-mcp")
        if self._runner:
            start = shlex.join(self._runner)
        elif found and self.program and Path(found).resolve() == Path(self.program).resolve():
            start = "ollama-mcp"
        else:
            start = _quoted(self.program) if self.program else f"{_quoted(self.python)} -m ollama_mcp"
        return f"{start} {arguments}"

    def server_command(self) -> list[str]:
        """Return the command by which another program starts this one, with an absolute path.

        uvx and `pipx run` install into a cache that they clean: then it is their own command again.
        """
        if self._runner:
            name, *rest = self._runner
            uv = Machine().variables.get("UV", "")  # uv names itself to what it runs
            path = shutil.which(name) or (str(Path(uv).with_name(name)) if uv and name == "uvx" else "")
            if path:
                return [path, *rest]
        return [self.program] if self.program else [self.python, "-m", "ollama_mcp"]

    @property
    def _runner(self) -> list[str]:
        """The command that runs this program out of a cache, with its extras; empty where it is installed."""
        start = {"uvx": ["uvx", "--from"], "pipx run": ["pipx", "run", "--spec"]}.get(self.kind, [])
        if not start:
            return []
        source = self.origin.removeprefix("file://")
        if self.extras:
            named = f"ollama-mcp[{','.join(self.extras)}]"
            source = f"{named} @ {self.origin}" if self.origin else named
        return [*start, source, "ollama-mcp"] if source else [*start[:-1], "ollama-mcp"]

    def in_its_commands(self, text: str) -> str:
        """Return a text whose commands of this program, and those that install an extra, work here."""
        text = text.replace("that ollama_list_models has", "of `ollama-mcp models`")
        text = re.sub(r"`ollama-mcp ([^`]*)`", lambda found: f"`{self.command(found[1])}`", text)
        extra = r"""[Ii]nstall ["'`]*ollama-mcp\[(\w+)\]["'`]*( where the server is;.*)?"""
        return re.sub(extra, lambda found: f"Run `{self.install(found[1])}`", text)

    def install(self, extra: str) -> str:
        """Return the command that installs an extra."""
        what = f"ollama-mcp[{extra}]"
        what = _word(f"{what} @ {self.origin}" if self.origin else what)
        return {
            "pipx": f"pipx install --force {what}",
            "uv tool": f"uv tool install --force {what}",
            "uvx": f"uvx --from {what} ollama-mcp",
            "pipx run": f"pipx run --spec {what} ollama-mcp",
            "uv venv": f"uv pip install --python {_quoted(self.python)} {what}",
        }.get(self.kind, f"{_quoted(self.python)} -m pip install {what}")


def _kind(prefix: Path) -> str:
    if "archive-v0" in prefix.parts or "environments-v2" in prefix.parts:  # uv's cache
        return "uvx"
    if ".cache" in prefix.parts and "pipx" in prefix.parts:
        return "pipx run"
    if (prefix / "pipx_metadata.json").exists():
        return "pipx"
    if (prefix / "uv-receipt.toml").exists():
        return "uv tool"
    try:
        config = (prefix / "pyvenv.cfg").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return "system"
    return "uv venv" if "\nuv = " in f"\n{config}" else "venv"


def _origin() -> str:
    try:
        told: dict[str, Any] = json.loads(distribution("ollama-mcp").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    url = str(told.get("url", ""))
    if vcs := told.get("vcs_info"):
        revision = vcs.get("requested_revision")
        return f"{vcs['vcs']}+{url}{f'@{revision}' if revision else ''}"
    return url


def _quoted(path: str) -> str:
    home = os.path.expanduser("~")
    if path.startswith(f"{home}{os.sep}") and " " not in path and sys.platform != "win32":
        return f"~{path[len(home) :]}"
    return _word(path)


def _word(text: str) -> str:
    """Return a word of a command, quoted where its shell needs that."""
    if sys.platform != "win32":
        return shlex.quote(text)
    return f'"{text}"' if " " in text else text
