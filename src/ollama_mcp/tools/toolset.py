"""Toolsets: groups of tools that are switched on or off as one, and the decorator that fills them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field
from pydantic.fields import FieldInfo

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True)
class Tool:
    """One tool: a plain async function whose first parameter is the App, and how it is published.

    Attributes:
        function: Works the same when it is called directly.
        title: For people.
        render: Turns what the function returns into an MCP result.
        returns: The published return type: CallToolResult, annotated with a model for structured data.
        annotations: Hints for the client.
        elsewhere: Names that callers put here and that belong elsewhere, with where.
    """

    function: Callable[..., Awaitable[Any]]
    title: str
    render: Callable[[Any], CallToolResult]
    returns: Any
    annotations: ToolAnnotations
    elsewhere: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """The name under which it is called."""
        return self.function.__name__


@dataclass(frozen=True)
class Toolset:
    """A named group of tools."""

    name: str
    tools: list[Tool] = field(default_factory=list[Tool])

    def tool(
        self,
        title: str,
        render: Callable[[Any], CallToolResult],
        returns: Any = CallToolResult,
        *,
        elsewhere: Mapping[str, str] | None = None,
    ) -> Callable[[Function], Function]:
        """Add the decorated function, which reads and changes nothing, to this toolset."""

        def add(function: Function) -> Function:
            hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
            self.tools.append(Tool(function, title, render, returns, hints, elsewhere or {}))
            return function

        return add

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)


def says(description: str) -> FieldInfo:
    """The description of a parameter, with its default, which some clients drop where it stands alone."""
    return Field(description=description)


def slim(schema: dict[str, Any]) -> dict[str, Any]:
    """A published schema without what repeats a name or says that anything goes; half the tokens.

    >>> slim({"title": "T", "properties": {"a": {"title": "A", "type": "object", "default": {}}}})
    {'properties': {'a': {'type': 'object'}}}
    """
    kept = {key: value for key, value in schema.items() if key not in _REPEATED}
    if isinstance(kept.get("items"), dict):
        kept["items"] = slim(kept["items"])
    if "properties" in kept:
        kept["properties"] = {name: slim(entry) for name, entry in kept["properties"].items()}
    return kept


_REPEATED = ("title", "default", "additionalProperties")
