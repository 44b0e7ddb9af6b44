"""Upstreams: the other MCP servers that we call, read from an mcp.json as MCP clients have it.

    {"mcpServers": {"notes": {"command": "npx", "args": ["notes-server"], "env": {"KEY": "${NOTES_KEY}"}}}}

What is wrong in the file is named by server and key, never by a value: any of them may be a secret.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from ollama_mcp.settings.readers import read_headers

DEPTH = "OLLAMA_MCP_DEPTH"
"""Variable that an upstream gets: one that is ollama-mcp, too, starts no upstreams in its turn."""
_SHORTEST_SECRET = 6
"""Characters of a secret; `true`, `debug` and `8080` are values of an environment, too."""
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_URLS = ("url", "serverUrl", "httpUrl")
"""Names that clients have for the address."""
_LONGEST_NAME = 40
"""Characters of a server's name: its tools are `name__tool`, of 64 characters at most."""


@dataclass(frozen=True)
class UpstreamServer:
    """An MCP server that we call: a command to run, or an address over Streamable HTTP.

    Attributes:
        name: Name in the file.
        command: Program to run; "" for a server over HTTP.
        args: Arguments of the program.
        env: Variables of the program, beside PATH, HOME and the like.
        cwd: Folder in which it runs; "" for ours.
        url: Address; "" for a program.
        headers: HTTP headers of every request.
        tools: Names or patterns of the tools that may be called, without the server's name. None: those
            whose hints say that they only read, and not from the open world; of an address none.
        secrets: Texts that must be in no log, result or error.
    """

    name: str
    command: str = field(default="", repr=False)
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    cwd: str = field(default="", repr=False)
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tools: tuple[str, ...] | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def prefix(self) -> str:
        """What its tools' names begin with.

        >>> UpstreamServer("git hub").prefix
        'git_hub__'
        """
        return f"{as_name(self.name)}__"

    @property
    def remote_host(self) -> str:
        """Host of its address, without user, path and query; "" for a program of this machine."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def redact(self, text: str) -> str:
        """Return a text with *** for each of its secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def as_name(text: str) -> str:
    """Return a text with _ for each character that a tool's name cannot have."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def read_upstreams(
    path: str, variables: Mapping[str, str], problems: list[str]
) -> tuple[UpstreamServer, ...]:
    """Read an mcp.json.

    Args:
        path: The file; it has servers under `mcpServers` or `servers`.
        variables: Environment, for `${VAR}`, `${VAR:-default}` and `${env:VAR}`.
        problems: Gets a line for everything that is wrong.
    """
    place = f"OLLAMA_MCP_UPSTREAM: {path[:200]}"
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        line = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        problems.append(f"{place} is not JSON{line}; correct it")
        return ()
    except OSError as error:
        problems.append(f"{place} cannot be read ({error.strerror}); name a file that can")
        return ()
    file = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    servers = file.get("mcpServers", file.get("servers"))
    if not isinstance(servers, dict):
        problems.append(f'{place} has no servers; write {{"mcpServers": {{"notes": {{"command": "…"}}}}}}')
        return ()
    found: dict[str, UpstreamServer] = {}
    for name, entry in cast("dict[str, Any]", servers).items():
        here = f'{place}: server "{name[:80]}"'
        if not isinstance(entry, dict):
            problems.append(f"{here} is no object; write an object with command or url")
            continue
        table = cast("dict[str, Any]", entry)
        if table.get("disabled") is True:
            continue
        try:
            server = _server(name, table, variables)
        except ValueError as error:
            problems.append(f"{here}: {error}")
            continue
        if server.prefix in found:
            problems.append(f'{here}: its tools have the names of "{found[server.prefix].name}"; rename it')
        found[server.prefix] = server
    return tuple(found.values())


def _server(name: str, table: Mapping[str, Any], variables: Mapping[str, str]) -> UpstreamServer:
    """Read one server.

    Raises:
        ValueError: Something is wrong; the text names the key, and what to write.
    """
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise ValueError(f"its name is empty or too long; write 1 to {_LONGEST_NAME} characters")
    entry = _Entry(table, variables)
    address_key = next((key for key in _URLS if table.get(key)), "url")
    command, url = entry.text("command"), entry.text(address_key)
    if bool(command) == bool(url):
        raise ValueError("it needs one of command and url; write the command to run, or the address to call")
    if url and table.get("type") == "sse":
        raise ValueError('"type" is sse, which is not spoken; write the address of its Streamable HTTP')
    env, headers, args, cwd = (
        entry.pairs("env"),
        entry.pairs("headers"),
        entry.texts("args"),
        entry.text("cwd"),
    )
    if any(not variable or "=" in variable or "\0" in variable for variable in env):
        raise ValueError('"env" has a name that no variable can have; write names such as API_KEY')
    try:
        read_headers(headers)
    except ValueError:
        raise ValueError('"headers" has what HTTP does not allow; write printable ASCII') from None
    secrets = {value for value in (*entry.values, *env.values()) if not _is_place(value)}
    secrets.update(headers.values(), *(_parts_of(*header) for header in headers.items()))
    if url:
        secrets.update(_secrets_in(address_key, url))
    tools = entry.texts("tools") if "tools" in table else None
    known = {part for secret in secrets for part in (secret, json.dumps(secret)[1:-1])}
    hidden = sorted((one for one in known if len(one) >= _SHORTEST_SECRET), key=lambda one: (-len(one), one))
    return UpstreamServer(name, command, args, env, cwd, url, headers, tools, tuple(hidden))


class _Entry:
    """The object of a server in the file, with the values of variables put in.

    Attributes:
        values: Values that came from variables.
    """

    def __init__(self, table: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self._table = table
        self._variables = variables
        self.values: set[str] = set()

    def text(self, key: str) -> str:
        return self._filled(key, self._table.get(key, ""))

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key, [])
        if not isinstance(value, list):
            raise ValueError(f'"{key}" is no list; write a list of strings')  # noqa: TRY004 - a wrong value
        return tuple(self._filled(f"{key}[{n}]", one) for n, one in enumerate(cast("list[Any]", value)))

    def pairs(self, key: str) -> dict[str, str]:
        value = self._table.get(key, {})
        if not isinstance(value, dict):
            raise ValueError(f'"{key}" is no object; write an object of strings')  # noqa: TRY004 - as above
        table = cast("dict[str, Any]", value)
        return {name: self._filled(f"{key}.{name}", one) for name, one in table.items()}

    def _filled(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f'"{key[:80]}" is no text; write a string')

        def value_of(match: re.Match[str]) -> str:
            variable, default = match.groups()
            found = self._variables.get(variable)
            if found is None and sys.platform == "win32":  # names have no case there, and are upper case here
                found = self._variables.get(variable.upper())
            if not found and default is not None:  # as in a shell, `:-` holds for an empty one, too
                return default
            if found is None:
                raise ValueError(
                    f'"{key[:80]}" wants the variable {variable}, which is not set; set it, or write a '
                    f"default: ${{{variable}:-…}}"
                )
            self.values.add(found)
            return found

        return _VARIABLE.sub(value_of, value)


def _parts_of(header: str, value: str) -> list[str]:
    """Return the parts of a header that are secret by themselves: the token, and not the word Bearer."""
    words = value.split()
    is_scheme = header.lower() in {"authorization", "proxy-authorization"} and len(words) > 1
    return words[1:] if is_scheme else words


def _is_place(value: str) -> bool:
    """Return whether a value is a path or a plain address: passages have it, and must keep it."""
    if value.startswith(("http://", "https://")):
        return "@" not in value and "?" not in value
    path = Path(value)
    try:
        return path.is_absolute() and (path.exists() or (len(path.parts) > 2 and path.parent.is_dir()))
    except OSError:  # too long for a path
        return False


def _secrets_in(key: str, url: str) -> Iterator[str]:
    """Yield password, user and query of an address.

    Raises:
        ValueError: It is none that can be called.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(f'"{key}" is no address; write one such as https://example.com/mcp')
    parts = urlsplit(url)
    yield from filter(None, (parts.username, parts.password, parts.query))
    yield from (value for _, value in parse_qsl(parts.query))
