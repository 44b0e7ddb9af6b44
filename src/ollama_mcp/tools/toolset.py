"""Toolsets: groups of tools that are switched on or off as one, and the decorator that fills them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from inspect import Parameter, signature
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

from mcp_types import CallToolResult, ToolAnnotations
from pydantic import BaseModel, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from ollama_mcp.settings import Settings

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True)
class Tool:
    """Declaration of a tool: an async function whose first parameter is the App, and how it is published.

    Attributes:
        function: Works the same when it is called directly.
        title: For people.
        render: Turns what the function returns into an MCP result.
        returns: The published return type: CallToolResult, annotated with a model for structured data.
        annotations: Hints for the client.
        toolset: Name of its toolset.
        example: Arguments of a call, for docs/tools.md and for tests that call every tool.
        misplaced_arguments: Names that callers put here and that belong elsewhere, with where.
        bypasses_queue: Whether it never waits for a model's turn: its calls may pass those that do.
        only_with: Attribute of the settings without which it is not there; "" for always.
    """

    function: Callable[..., Awaitable[Any]]
    title: str
    render: Callable[[Any], CallToolResult]
    returns: Any
    annotations: ToolAnnotations
    toolset: str
    example: Mapping[str, Any]
    misplaced_arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    bypasses_queue: bool = False
    only_with: str = ""

    @property
    def placeholders(self) -> dict[str, Any] | None:
        """Values that a result without an answer needs by the output schema; None without a schema."""
        reports: tuple[type[Any], ...] = get_args(self.returns)[1:]
        if not reports:
            return None
        report = reports[0]
        if is_dataclass(report):
            kinds = get_type_hints(report)
        else:
            fields = cast("type[BaseModel]", report).model_fields
            kinds = {name: one.annotation for name, one in fields.items() if one.is_required()}
        return {name: _EMPTY.get(kind, []) for name, kind in kinds.items() if NoneType not in get_args(kind)}

    @property
    def name(self) -> str:
        """Name of the function, and of the tool on our own server."""
        return self.function.__name__

    @property
    def may_return_handle(self) -> bool:
        """True if a call may return a handle while its job goes on."""
        return not self.bypasses_queue and "wait_s" in self.parameters()

    def is_there(self, settings: Settings) -> bool:
        """Return whether it is there with these settings."""
        return not self.only_with or bool(getattr(settings, self.only_with))

    @property
    def is_read_only(self) -> bool:
        """True if it changes nothing."""
        return self.annotations.read_only_hint is True

    def parameters(self, settings: Settings | None = None) -> dict[str, Parameter]:
        """Return the function's parameters, without those that `settings` switch off."""
        found = _parameters(self.function)
        if settings is None:
            return dict(found)
        return {
            name: parameter
            for name, parameter in found.items()
            if all(getattr(settings, mark.setting) for mark in _marks(parameter))
        }

    def switched_off(self, settings: Settings) -> dict[str, str]:
        """Return the parameters that these settings switch off, each with the remedy for who sends it."""
        gone = self.parameters().keys() - self.parameters(settings).keys()
        return {name: mark.remedy for name in gone for mark in _marks(self.parameters()[name])}


@cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, Parameter]:
    return signature(function, eval_str=True).parameters


_EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}


@dataclass(frozen=True)
class OnlyWith:
    """Mark of a parameter that exists only where the operator has allowed it.

    Attributes:
        setting: Attribute of the settings that allows it.
        remedy: Remedy for a caller who sends it all the same.
    """

    setting: str
    remedy: str


def _marks(parameter: Parameter) -> list[OnlyWith]:
    return [mark for mark in get_args(parameter.annotation)[1:] if isinstance(mark, OnlyWith)]


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
        example: Mapping[str, Any],
        hints: ToolAnnotations | None = None,
        misplaced_arguments: Mapping[str, str] | None = None,
        bypasses_queue: bool = False,
        only_with: str = "",
    ) -> Callable[[Function], Function]:
        """Add the decorated function to this toolset; without `hints` it reads and changes nothing."""

        def add(function: Function) -> Function:
            tool = Tool(
                function, title, render, returns, hints or READS, self.name, example,
                misplaced_arguments or {}, bypasses_queue, only_with,
            )  # fmt: skip
            self.tools.append(tool)
            return function

        return add

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)


def describe(description: str) -> FieldInfo:
    """Describe a parameter; the text names its default, since some clients drop it from the schema."""
    return Field(description=description)


Files = Annotated[
    list[str],
    describe("Paths of text files and images here, put before the prompt. Default []."),
    OnlyWith("roots", "Send their content; the operator has allowed no folders (OLLAMA_MCP_ROOTS)."),
]
TEXTS = WithJsonSchema({"type": "array", "items": {"type": "string"}})
"""What language models write; programs may send objects, too, which no client's schema can say simply."""
ConversationName = Annotated[
    str, describe('Name, chosen by you, under which turns are remembered. Default "": none.')
]
WaitS = Annotated[
    float,
    describe("Seconds until a handle comes (0: never). Default: by client."),
]


def slim_output(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a result without definitions, descriptions and titles, which clients do not show.

    What is required is said of the result, not of the objects inside it.

    >>> slim_output({"$defs": {"R": {"type": "string"}}, "items": {"$ref": "#/$defs/R"}})
    {'items': {'type': 'string'}}
    """
    definitions = schema.get("$defs", {})

    def inlined(value: Any) -> Any:
        match value:
            case {"$ref": str(reference)}:
                return inlined(definitions[reference.rpartition("/")[2]])
            case {"anyOf": [one, {"type": "null"}], **rest}:  # what is not known is not in the result
                return inlined(rest) | inlined(one)
            case dict():
                table = cast("dict[str, Any]", value)
                gone = ("$defs", "description", *_REPEATED, *(() if table is schema else ("required",)))
                kept = {k: v for k, v in table.items() if k not in gone and v != {}}
                return {k: _each(v, inlined) if k == "properties" else inlined(v) for k, v in kept.items()}
            case list():
                return [inlined(item) for item in cast("list[Any]", value)]
            case _:
                return value

    return inlined(schema)


def _each(named: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(value) for name, value in named.items()}


def slim(schema: dict[str, Any]) -> dict[str, Any]:
    """A published schema without what repeats a name or says that anything goes; half the tokens.

    >>> slim({"title": "T", "properties": {"a": {"title": "A", "type": "object", "default": {}}}})
    {'properties': {'a': {'type': 'object'}}}
    """
    kept = {key: value for key, value in schema.items() if key not in _REPEATED}
    if isinstance(kept.get("items"), dict):
        kept["items"] = slim(kept["items"])
    if "properties" in kept:
        kept["properties"] = _each(kept["properties"], slim)
    return kept


_REPEATED = ("title", "default", "additionalProperties")
