"""Toolsets: groups of tools that are switched on or off as one, and the decorator that fills them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from inspect import Parameter, signature
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

from mcp_types import CallToolResult, ToolAnnotations
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from ollama_mcp.settings import Settings

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

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
        toolset: Name of its toolset.
        example: Arguments of a call, for docs/tools.md and for tests that call every tool.
        misplaced_arguments: Names that callers put here and that belong elsewhere, with where.
        bypasses_queue: Whether it never waits for a model's turn: its calls may pass those that do.
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

    @property
    def placeholders(self) -> dict[str, Any] | None:
        """What its output schema requires also of a result that is a handle; None without a schema."""
        told: tuple[type[Any], ...] = get_args(self.returns)[1:]
        if not told:
            return None
        kinds = get_type_hints(told[0]) if is_dataclass(told[0]) else _required(told[0])
        return {name: _EMPTY.get(kind, []) for name, kind in kinds.items() if NoneType not in get_args(kind)}

    @property
    def name(self) -> str:
        """The name under which it is called."""
        return self.function.__name__

    @property
    def may_return_handle(self) -> bool:
        """Whether its calls may return a handle, and go on."""
        return not self.bypasses_queue and "wait_s" in self.parameters()

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.annotations.read_only_hint is True

    def parameters(self, settings: Settings | None = None) -> dict[str, Parameter]:
        """Those of the function, without what these settings switch off; all of them without settings."""
        found = _parameters(self.function)
        return {name: p for name, p in found.items() if settings is None or not _is_off(p, settings)}

    def off(self, settings: Settings) -> dict[str, str]:
        """The parameters that these settings switch off, each with what a caller is told who sends it."""
        gone = self.parameters().keys() - self.parameters(settings).keys()
        return {name: mark.remedy for name in gone for mark in _marks(self.parameters()[name])}


@cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, Parameter]:
    return signature(function, eval_str=True).parameters


def _required(report: type[BaseModel]) -> dict[str, Any]:
    return {name: one.annotation for name, one in report.model_fields.items() if one.is_required()}


_EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}


@dataclass(frozen=True)
class OnlyWith:
    """Metadata of a parameter that is there only where the operator has allowed it.

    Attributes:
        setting: Attribute of the settings that says so.
        remedy: What a caller is told who sends it all the same.
    """

    setting: str
    remedy: str


def _marks(parameter: Parameter) -> list[OnlyWith]:
    return [mark for mark in get_args(parameter.annotation)[1:] if isinstance(mark, OnlyWith)]


def _is_off(parameter: Parameter, settings: Settings) -> bool:
    return any(not getattr(settings, mark.setting) for mark in _marks(parameter))


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
    ) -> Callable[[Function], Function]:
        """Add the decorated function to this toolset; without `hints` it reads and changes nothing."""

        def add(function: Function) -> Function:
            tool = Tool(
                function, title, render, returns, hints or READS, self.name, example,
                misplaced_arguments or {}, bypasses_queue,
            )  # fmt: skip
            self.tools.append(tool)
            return function

        return add

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)


def says(description: str) -> FieldInfo:
    """The description of a parameter, with its default, which some clients drop where it stands alone."""
    return Field(description=description)


Files = Annotated[
    list[str],
    says("Paths of text files and images here, put before the prompt. Default []."),
    OnlyWith("takes_files", "Send their content; the operator has allowed no folders (OLLAMA_MCP_ROOTS)."),
]
WaitS = Annotated[
    float,
    says("Seconds until a handle comes (0: never). Default: by client."),
]


def slim_output(schema: dict[str, Any]) -> dict[str, Any]:
    """As `slim`, for the schema of a result: without definitions and words, which clients do not show.

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
                gone = ("$defs", "description", *_REPEATED)
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
