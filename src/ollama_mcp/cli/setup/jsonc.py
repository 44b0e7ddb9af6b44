"""Edits of JSON text that keep everything else: comments, order, indentation, trailing commas.

The text is not written anew: a member is spliced in or cut out at its place. Of the libraries on PyPI, those
that edit either need Node (jsonc-edit) or have had no release for years (json-five, json5kit).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_ATOM = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")


@dataclass
class Node:
    """A value with its place in the text, `start` to `end`; members of an object, or the items of a list."""

    start: int
    end: int = 0
    value: Any = None
    is_object: bool = False
    members: list[Member] = field(default_factory=list["Member"])

    def member(self, name: str) -> Member | None:
        """Return the last member of a name: the one that counts."""
        return next((member for member in reversed(self.members) if member.name == name), None)


@dataclass
class Member:
    """A member of an object; `comma` is the place of the comma behind it, or -1."""

    name: str
    start: int
    node: Node
    comma: int = -1


def parse(text: str) -> Node:
    """Parse JSON with comments and trailing commas.

    Raises:
        ValueError: It is none; says in which line.
    """
    try:
        node = _value(text, _skip(text, 0))
    except (IndexError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError("it ends too early, or is nested too deep") from error
    if (rest := _skip(text, node.end)) != len(text):
        raise _wrong(text, rest)
    return node


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _wrong(text: str, at: int) -> ValueError:
    return ValueError(f"line {text.count(chr(10), 0, at) + 1} is not JSON")


def _string(text: str, at: int) -> tuple[str, int]:
    found = _STRING.match(text, at)
    if found is None:
        raise _wrong(text, at)
    return json.loads(found[0]), found.end()


def _value(text: str, at: int) -> Node:
    opening = text[at]
    node = Node(at, is_object=opening == "{")
    if opening == '"':
        node.value, node.end = _string(text, at)
    elif opening in "{[":
        closing = {"{": "}", "[": "]"}[opening]
        at = _skip(text, at + 1)
        while text[at] != closing:
            name, start = "", at
            if node.is_object:
                if text[at] != '"':
                    raise _wrong(text, at)
                name, at = _string(text, at)
                at = _skip(text, at)
                if text[at] != ":":
                    raise _wrong(text, at)
                at = _skip(text, at + 1)
            member = Member(name, start, _value(text, at))
            node.members.append(member)
            at = _skip(text, member.node.end)
            if text[at] == ",":
                member.comma = at
                at = _skip(text, at + 1)
            elif text[at] != closing:
                raise _wrong(text, at)
        values = [member.node.value for member in node.members]
        node.value = {member.name: member.node.value for member in node.members} if opening == "{" else values
        node.end = at + 1
    elif found := _ATOM.match(text, at):
        node.value, node.end = json.loads(found[0]), found.end()
    else:
        raise _wrong(text, at)
    return node


def put(text: str, path: Sequence[str], value: Any) -> str:
    r"""Return the text with a value at a path of names; objects that lack are made.

    >>> print(put('{\n  "a": 1 // one\n}', ["b", "c"], 2))
    {
      "a": 1, // one
      "b": {
        "c": 2
      }
    }
    """
    if not _SPACE.sub("", text):
        text = "{}\n" if not text else text + "{}\n"
    node, rest = parse(text), list(path)
    in_line = bool(node.members) and "\n" not in text[node.start : node.end]
    while rest and (member := node.member(rest[0])):
        in_line = "\n" not in text[node.start : node.end]
        node = member.node
        rest.pop(0)
        if rest and node.value is not None and not node.is_object:
            raise ValueError(f"`{member.name}` is not an object")
    if not rest or node.value is None:
        for outer in reversed(rest):
            value = {outer: value}
        indent = None if in_line else _indent(text, node.start)
        return text[: node.start] + _dump(text, value, indent) + text[node.end :]
    if not node.is_object:
        raise ValueError("it is not an object")
    name = rest.pop(0)
    for outer in reversed(rest):
        value = {outer: value}
    written = f"{json.dumps(name, ensure_ascii=False)}: "
    last = node.members[-1] if node.members else None
    if last is None and in_line:
        return text[: node.start + 1] + written + _dump(text, value, None) + text[node.start + 1 :]
    if last is not None and "\n" not in text[node.start : node.end]:
        tail = last.node.end if last.comma < 0 else last.comma + 1
        comma = ", " if last.comma < 0 else " "
        return text[:tail] + comma + written + _dump(text, value, None) + text[tail:]
    own = _indent(text, node.start)
    inner = _indent(text, node.members[0].start) if node.members else own + _unit(text)
    # After what stands last, a comment or a member, and before the closing brace.
    place = len(text[: node.end - 1].rstrip())
    new = f"{_newline(text)}{inner}{written}{_dump(text, value, inner)}"
    if last is None:
        return text[:place] + new + _newline(text) + own + text[node.end - 1 :]
    if last.comma >= 0:
        return text[:place] + new + "," + text[place:]
    return text[: last.node.end] + "," + text[last.node.end : place] + new + text[place:]


def drop(text: str, path: Sequence[str]) -> str:
    r"""Return the text without the member at a path of names; unchanged if there is none.

    >>> print(drop('{\n  "a": 1, // one\n  "b": 2\n}', ["b"]))
    {
      "a": 1 // one
    }
    """
    node = parse(text)
    for name in path[:-1]:
        member = node.member(name)
        if member is None:
            return text
        node = member.node
    member = node.member(path[-1])
    if member is None:
        return text
    place = node.members.index(member)
    start = len(text[: member.start].rstrip())
    end = member.node.end if member.comma < 0 else member.comma + 1
    if (
        len(node.members) == 1
        and not text[node.start + 1 : start].strip()
        and not text[end : node.end - 1].strip()
    ):
        return text[: node.start] + "{}" + text[node.end :]
    if member.comma < 0 and place:
        comma = node.members[place - 1].comma
        return text[:comma] + text[comma + 1 : start] + text[end:]
    return text[:start] + text[end:]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _unit(text: str) -> str:
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _indent(text: str, at: int) -> str:
    """Return the indentation of the line of a place."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _dump(text: str, value: Any, indent: str | None) -> str:
    """Write a value in the style of the text, with `indent` before its further lines; None: in one line."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    written = json.dumps(value, indent=_unit(text), ensure_ascii=False)
    return written.replace("\n", _newline(text) + indent)
