"""The entry of a server in the text of a client's settings: found, put in, taken out, written as a snippet.

Everything else stays as it is. Each edit is checked: the new text has to mean what the old one did, with the
one entry changed. What cannot be edited so is refused, and the user gets the snippet.
"""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping
from io import StringIO
from typing import Any, cast

from ollama_mcp.cli.setup import jsonc
from ollama_mcp.cli.setup.clients import ClientConfig

Table = dict[str, Any]


class NotEditable(Exception):
    """A text that setup leaves alone. The message says why."""


def read(client: ClientConfig, text: str) -> Table:
    """Return what a client's settings say.

    Raises:
        NotEditable: The text has another syntax, or no table at its top.
    """
    try:
        if client.format == "toml":
            found: Any = tomllib.loads(text)
        elif not text.strip():
            found = {}  # as some clients leave it
        elif client.format == "json":
            found = jsonc.parse(text).value
        else:
            found = _yaml().load(text)
            found = {} if found is None else found
    except ImportError as error:
        raise NotEditable(_NEEDS_EXTRA) from error
    except Exception as error:  # each library has errors of its own
        raise NotEditable(f"it cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise NotEditable("it has no table at its top")
    return cast("Table", found)


def find(client: ClientConfig, table: Mapping[str, Any], name: str) -> Table | None:
    """Return a server's entry; None if it has none."""
    servers = table.get(client.key)
    if client.is_list and isinstance(servers, list):
        rows = [cast("Table", row) for row in cast("list[Any]", servers) if isinstance(row, dict)]
        return next((row for row in rows if row.get("name") == name), None)
    found = cast("Table", servers).get(name) if isinstance(servers, dict) else None
    return cast("Table", found) if isinstance(found, dict) else None


def put(client: ClientConfig, text: str, name: str, entry: Table) -> str:
    """Return the text with a server's entry; unchanged if it is there already.

    Raises:
        NotEditable: This text cannot be edited without changing more.
    """
    before = read(client, text)
    entry = {"name": name, **entry} if client.is_list else entry
    if find(client, before, name) == entry:
        return text
    return _checked(client, text, name, entry, before)


def drop(client: ClientConfig, text: str, name: str) -> str:
    """Return the text without a server's entry; unchanged if there is none.

    Raises:
        NotEditable: This text cannot be edited without changing more.
    """
    before = read(client, text)
    if find(client, before, name) is None:
        return text
    return _checked(client, text, name, None, before)


def snippet(client: ClientConfig, name: str, entry: Table) -> str:
    """Return a whole settings file with nothing but a server's entry, to be pasted.

    Raises no error: it needs no library.
    """
    if client.format == "json":
        return json.dumps({client.key: {name: entry}}, indent=2, ensure_ascii=False) + "\n"
    if client.format == "toml":
        lines = [f"{key} = {_inline(value)}" for key, value in entry.items()]
        return "\n".join([f"[{client.key}.{name}]", *lines, ""])
    return f"{client.key}:\n{_yaml_entry(client, name, entry, '  ')}"


def _checked(client: ClientConfig, text: str, name: str, entry: Table | None, before: Table) -> str:
    if not text.strip() and client.head:
        text, before = client.head, read(client, client.head)
    try:
        if client.format == "json":
            path = (client.key, name)
            new = jsonc.drop(text, path) if entry is None else jsonc.put(text, path, entry)
        elif client.format == "toml":
            new = _edit_toml(client, text, name, entry)
        else:
            new = _edit_yaml(client, text, name, entry)
    except ImportError as error:
        raise NotEditable(_NEEDS_EXTRA) from error
    except Exception as error:  # a library's own error is as good a reason as ours
        raise NotEditable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if _rest(client, read(client, new), name) != _rest(client, before, name):
        raise NotEditable("the edit would change more than the one entry")
    if find(client, read(client, new), name) != entry:
        raise NotEditable("the entry would not be read back")
    return new


_NEEDS_EXTRA = "editing it needs a library that keeps comments: pip install 'ollama-mcp[cli]'"


def _rest(client: ClientConfig, table: Table, name: str) -> Table:
    """Return what others have in the settings; an empty table of servers is as good as none."""
    rest = copy.deepcopy(table)
    servers = rest.get(client.key)
    if isinstance(servers, dict):
        cast("Table", servers).pop(name, None)
    elif client.is_list and isinstance(servers, list):
        rows = cast("list[Any]", servers)
        rest[client.key] = [
            row for row in rows if not (isinstance(row, dict) and cast("Table", row).get("name") == name)
        ]
    if not rest.get(client.key):
        rest.pop(client.key, None)
    return rest


def _edit_toml(client: ClientConfig, text: str, name: str, entry: Table | None) -> str:
    import tomlkit  # noqa: PLC0415 - of the extra `cli`

    document = tomlkit.parse(text)
    if client.key not in document:
        document[client.key] = tomlkit.table(is_super_table=True)
    servers: Any = document[client.key]
    if entry is None:
        del servers[name]
        if not servers:
            del document[client.key]
        return tomlkit.dumps(document)  # pyright: ignore[reportUnknownMemberType]
    new = tomlkit.table()
    for key, value in entry.items():
        if isinstance(value, dict):
            inner: Any = tomlkit.inline_table()
            inner.update(cast("Table", value))
            new[key] = inner
        else:
            new[key] = value
    servers[name] = new
    return tomlkit.dumps(document)  # pyright: ignore[reportUnknownMemberType]


def _yaml(kind: str = "safe") -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - of the extra `cli`

    return YAML(typ=kind, pure=True)


def _edit_yaml(client: ClientConfig, text: str, name: str, entry: Table | None) -> str:
    """Edit whole lines where the parser says that the entry is: ruamel.yaml would write the file anew."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"{line}{newline}" for line in text.splitlines()]
    root: Any = _yaml("rt").compose(StringIO(text))
    pairs: list[Any] = root.value if root is not None else []
    found = next((pair for pair in pairs if pair[0].value == client.key), None)
    if found is None:
        lines.append(f"{client.key}:{newline}")
        place, indent = len(lines), "  "
    else:
        key, servers = found
        head: int = key.end_mark.line  # the line of `extensions:`
        place, indent = head + 1, "  "
        children: list[Any] = servers.value if servers.id != "scalar" else []
        if not children:  # nothing, or {}, [], ~ or null
            start, end = servers.start_mark, servers.end_mark
            if start.line == end.line == head:
                line = lines[head]
                lines[head] = line[: int(start.column)].rstrip() + line[int(end.column) :]
        elif servers.flow_style:
            raise ValueError(f"`{client.key}` is not written as a block")
        else:
            indent = " " * servers.start_mark.column
        for child in children:
            first, last = (child, child) if client.is_list else child
            if _yaml_name(child, client) == name:
                place = first.start_mark.line
                del lines[place : _last_line(last) + 1]
                if entry is None and len(children) == 1:
                    empty = "[]" if client.is_list else "{}"
                    colon = int(key.end_mark.column) + 1  # a comment may stand behind it
                    lines[head] = f"{lines[head][:colon]} {empty}{lines[head][colon:]}"
                break
    if entry is not None:
        lines.insert(place, _yaml_entry(client, name, entry, indent).replace("\n", newline))
    return "".join(lines)


def _yaml_name(child: Any, client: ClientConfig) -> str:
    """Return the name of an entry: its key, or in a list what `name` says inside."""
    if not client.is_list:
        return child[0].value
    rows: list[Any] = child.value if child.id == "mapping" else []
    return next((value.value for key, value in rows if key.value == "name"), "")


def _last_line(node: Any) -> int:
    """Return the last line of a node: a block ends for the parser only where the next token begins."""
    if node.id != "scalar" and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if node.id == "mapping" else last)
    return node.end_mark.line - (node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line)


def _yaml_entry(client: ClientConfig, name: str, entry: Table, indent: str) -> str:
    """Write an entry as a block; JSON's strings, numbers and lists are YAML's, too."""
    rows: list[str] = []
    for key, value in ({"name": name, **entry} if client.is_list else entry).items():
        if isinstance(value, dict) and value:
            rows += [f"{key}:", *(f"  {inner}: {json.dumps(v)}" for inner, v in cast("Table", value).items())]
        else:
            rows.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    if client.is_list:
        rows = [f"{'  ' if place else '- '}{row}" for place, row in enumerate(rows)]
    else:
        rows = [f"{name}:", *(f"  {row}" for row in rows)]
    return "".join(f"{indent}{row}\n" for row in rows)


def _inline(value: Any) -> str:
    """Write a value of TOML in one line; its strings and lists are JSON's."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_inline(one)}" for key, one in cast("Table", value).items())
        return f"{{ {inner} }}" if inner else "{}"
    return json.dumps(value, ensure_ascii=False)
