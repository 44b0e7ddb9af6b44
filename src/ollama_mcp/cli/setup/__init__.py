"""`ollama-mcp setup`: put this server into the settings of this machine's MCP clients, or take it out."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import confirmed, warn
from ollama_mcp.cli.setup.clients import CLIENT_CONFIGS, ClientConfig, Server
from ollama_mcp.cli.setup.config_file import ChangedMeanwhile, ConfigFile
from ollama_mcp.cli.setup.config_text import NotEditable, drop, find, put, read, snippet
from ollama_mcp.settings import FIELDS, Settings, SettingsError, load
from ollama_mcp.settings.machine import Machine

_BY_ID = {client.id: client for client in CLIENT_CONFIGS}


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        clients: Clients to change; none: those found on this machine.
        shown: Client whose snippet is printed, instead of any change.
        removes: Whether the entry is taken out.
        env: Variables for the server, as NAME=VALUE.
        url: Address of a server over HTTP; "" for a program on stdio.
        name: Name of the entry.
        says_yes: Whether files are written without a question.
    """

    clients: Sequence[str] = ()
    shown: str = ""
    removes: bool = False
    env: Sequence[str] = ()
    url: str = ""
    name: str = "ollama"
    says_yes: bool = False


def setup(settings: Settings, options: Options) -> int:
    """Do what the options say; returns 0 if each client is as wanted, 1 if not, 2 for bad usage."""
    named = [*options.clients, *([options.shown] if options.shown else [])]
    if unknown := [name for name in named if name not in _BY_ID]:
        return _refuse(f"unknown client {', '.join(unknown)}; the clients are {', '.join(_BY_ID)}")
    try:
        given = _environment(options.env)
    except ValueError as error:
        return _refuse(str(error))
    if options.url and (
        urlsplit(options.url).scheme not in {"http", "https"} or not urlsplit(options.url).netloc
    ):
        return _refuse("--http takes the address of the server, such as http://127.0.0.1:8000/mcp")
    if not re.fullmatch(r"[A-Za-z][\w-]*", options.name, re.ASCII):
        return _refuse("--name takes letters, digits, _ and -, and begins with a letter")
    command, *args = Installation.find().server_command()
    env = {"OLLAMA_HOST": settings.backend.host.url, **given}
    server = Server(url=options.url) if options.url else Server(command, tuple(args), env)
    if options.shown:
        client = _BY_ID[options.shown]
        if options.url and not client.takes_http:
            return _refuse(f"{client.title} only starts programs: leave --http out")
        print(snippet(client, options.name, _entry(client, server, options.name)), end="")
        return 0
    chosen = [_BY_ID[name] for name in dict.fromkeys(options.clients)] or [
        client for client in CLIENT_CONFIGS if client.files and client.is_installed(Machine())
    ]
    if not chosen:
        print(f"No MCP client was found here. `ollama-mcp setup CLIENT` takes {', '.join(_BY_ID)}.")
        return 1
    elsewhere = [
        entry.variable
        for entry in FIELDS
        if Machine().variables.get(entry.variable) and entry.variable not in env
    ]
    if elsewhere and not (options.url or options.removes):
        print(f"  Clients do not pass on {', '.join(elsewhere)}, set here. --env NAME=VALUE does.")
    works = [_configure(client, server, given, options) for client in chosen]
    if not (options.removes or options.url):
        from ollama_mcp.cli.setup.first_models import offer_models  # noqa: PLC0415 - it imports the whole app

        # The Ollama that the server will use. A yes to files is none to gigabytes.
        offer_models(load({**env}), asks=not options.says_yes)
    return 0 if all(works) else 1


def _refuse(problem: str) -> int:
    print(f"ollama-mcp: {problem}", file=sys.stderr)
    return 2


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    """Return variables as the server will read them.

    Raises:
        ValueError: One is no setting, or has a wrong value.
    """
    given = dict[str, str]()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise ValueError(f"--env takes NAME=VALUE, such as OLLAMA_HOST=gpu:11434; {name!r} is none")
        given[name] = value
    try:
        unknown = load(given).unknown
    except SettingsError as error:
        raise ValueError("; ".join(error.problems)) from error
    if unknown:
        raise ValueError("; ".join(unknown))
    return given


def _configure(client: ClientConfig, server: Server, given: Mapping[str, str], options: Options) -> bool:
    """Change one client's settings after a yes; returns whether they are as wanted, or left by choice."""
    path = client.path(Machine())
    entry = _entry(client, server, options.name)
    if server.url and not client.takes_http:
        warn(f"{client.title} only starts programs: it needs an entry without --http.")
        return False
    if path is None:
        if not options.removes:
            print(f"  {client.title} takes this. {client.hint}\n\n{snippet(client, options.name, entry)}")
        else:
            print(f"  {client.title}: remove `{options.name}` there. {client.hint}")
        return True
    try:
        file = ConfigFile.read(path)
        old = find(client, read(client, file.content), options.name)
        if old is not None and not _is_ours(old):
            warn(
                f"{client.title}: `{options.name}` in {path} is another server. "
                "`--name` gives this one another name."
            )
            return False
        if options.removes:
            return _remove(client, file, old, options)
        new = put(client, file.content, options.name, _merged(old, entry, given))
        if new == file.content:
            print(f"  {client.title}: {path} has it already.")
            return True
        if not _agreed(client, file, new, options):
            return True
        file.write(new, keeps_backup=old is not None)
    except (NotEditable, OSError, UnicodeDecodeError, ChangedMeanwhile) as error:
        warn(f"{client.title}: {path} stays as it is: {_reason(error)}.")
        if not options.removes:
            print(f"    -> Put this in by hand:\n\n{snippet(client, options.name, entry)}")
        return False
    kept = f" {file.backup} has what was there before." if file.text is not None else ""
    print(f"  {client.title}: {path} is written.{kept} {client.hint}".rstrip())
    return True


def _remove(client: ClientConfig, file: ConfigFile, old: dict[str, Any] | None, options: Options) -> bool:
    """Take the entry out; a file that nobody else has changed becomes what it was, or goes."""
    if old is None:
        print(f"  {client.title}: {file.path} has no `{options.name}`.")
        return True
    before: str | None = drop(client, file.content, options.name)
    backup = ConfigFile.read(file.backup)
    own = {key: value for key, value in old.items() if not (client.is_list and key == "name")}
    try:
        if put(client, backup.content, options.name, own) == file.content:
            before = None if backup.text is None else backup.content
    except NotEditable:
        pass  # the backup is of another time
    if not _agreed(client, file, before or "", options):
        return True
    if before is None:
        file.delete()
    else:
        file.write(before, keeps_backup=True)
        if before == backup.content:
            backup.path.unlink(missing_ok=True)
    print(f"  {client.title}: `{options.name}` is removed from {file.path}. {client.hint}".rstrip())
    return True


def _entry(client: ClientConfig, server: Server, name: str) -> dict[str, Any]:
    """Return the entry for a server; some clients have its name inside, too."""
    entry = client.entry(server)
    return {**entry, "name": name} if "name" in entry else entry


def _is_ours(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry starts this program, or names a server over HTTP."""
    text = json.dumps(entry)
    has_program = "ollama-mcp" in text or "ollama_mcp" in text
    return has_program or not any(key in entry for key in ("command", "cmd"))


def _merged(
    old: Mapping[str, Any] | None, entry: Mapping[str, Any], given: Mapping[str, str]
) -> dict[str, Any]:
    """Return an entry with what the user, or the client, has added to the old one."""
    addresses = {"url", "httpUrl", "serverUrl", "uri"}
    if old is None or bool(addresses & old.keys()) != bool(addresses & entry.keys()):
        return dict(entry)
    found = {**old, **entry}
    for key, value in entry.items():
        there = old.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            found[key] = {**value, **cast("dict[str, str]", there), **given}
    return found


def _agreed(client: ClientConfig, file: ConfigFile, new: str, options: Options) -> bool:
    """Show a change, and ask for it."""
    print(f"\n{client.title}: {file.path}")
    # One line around: the neighbours may hold keys of other servers.
    lines = difflib.unified_diff(
        file.content.splitlines(), new.splitlines(), "before", "after", lineterm="", n=1
    )
    print("\n".join(lines))
    return options.says_yes or confirmed("Write it?")


def _reason(error: Exception) -> str:
    if isinstance(error, ChangedMeanwhile):
        return "it was changed meanwhile; run setup again"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
