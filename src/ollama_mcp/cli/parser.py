"""Parser of the command line: help in groups with examples, and a guess at what was misspelt."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import NoReturn

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Serve MCP": ("serve", "setup"),
    "See what works": ("doctor", "demo", "status"),
    "Models": ("models", "pull", "embedded"),
    "Documents and conversations": ("index", "ask", "conversations"),
}
"""Headings of the help, with their commands."""

COMMON: Mapping[str, tuple[str, str]] = {
    "ollama-host": ("ADDRESS", "Ollama server, instead of OLLAMA_HOST"),
    "config": ("FILE", "settings file (TOML), instead of OLLAMA_MCP_CONFIG"),
    "log-level": ("LEVEL", "DEBUG, INFO, WARNING or ERROR, on stderr"),
}
"""Flags of every command, each of which stands for a setting: its value's name, and its help."""

EXAMPLES = (
    ("ollama-mcp setup", "put this server into your MCP clients"),
    ("ollama-mcp doctor", "find out why something does not work"),
    ("ollama-mcp pull qwen3:4b", "install a model"),
    ("ollama-mcp index ~/notes", "index a folder, for the next line"),
    ('ollama-mcp ask "What did we agree on?"', "answer from it, with sources"),
    ("ollama-mcp serve --http 127.0.0.1:8000", "serve several clients"),
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says what may have been meant. Its commands have it as their class, too."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and what is like it; ends the process with 2."""
        if found := re.search(r"invalid choice: '?([^' ]*)'? \(", message):
            message = f"unknown command {found[1]}{_meant(found[1], _choices(self))}"
        elif found := re.match(r"unrecognized arguments: (-\S+)", message):
            flags = [option for action in self._actions for option in action.option_strings]
            for command in _choices(self).values():
                flags += [option for action in command._actions for option in action.option_strings]  # noqa: SLF001
            message = f"unknown flag {found[1]}{_meant(found[1].partition('=')[0], flags)}"
        self.exit(2, f"ollama-mcp: {message[0].lower()}{message[1:]}\nSee `{self.prog} --help`.\n")


class MainParser(Parser):
    """The parser of the command itself: its help lists the commands by groups, and has examples."""

    def format_help(self) -> str:
        """Return the help; at most 100 columns wide."""
        width = min(shutil.get_terminal_size().columns, 100) - 2
        commands = _choices(self)
        lines = ["Usage: ollama-mcp [COMMAND] [FLAGS]", "", *textwrap.wrap(self.description or "", width)]
        for title, names in GROUPS.items():
            rows = [(name, commands[name].description or "") for name in names if name in commands]
            lines += ["", title, *_rows(rows, 20, width)]
        flags = [(f"--{name} {value}", text) for name, (value, text) in COMMON.items()]
        flags += [("-V, --version", "version of this program"), ("-h, --help", "this; also behind a command")]
        lines += ["", "Flags of every command", *_rows(flags, 24, width)]
        lines += ["", "Examples", *_rows(EXAMPLES, 42, width)]
        lines += ["", *textwrap.wrap(self.epilog or "", width)]
        return "\n".join(lines) + "\n"


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands of a parser."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            return action.choices  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return {}


def _meant(word: str, known: Iterable[str]) -> str:
    """Return a question for the word that is most like another one.

    >>> _meant("docter", ["demo", "doctor"]), _meant("x", ["demo"])
    ('. Did you mean doctor?', '')
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f". Did you mean {close[0]}?" if close else ""


def _rows(rows: Iterable[tuple[str, str]], column: int, width: int) -> list[str]:
    lines: list[str] = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(width - column, 20)) or [""]
        if len(name) + 4 > column:
            lines.append(f"  {name}")
            name = ""  # noqa: PLW2901
        lines.append(f"{f'  {name}':<{column}}{wrapped[0]}")
        lines += [" " * column + more for more in wrapped[1:]]
    return lines
