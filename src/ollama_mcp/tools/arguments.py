"""Arguments as real callers send them, put right or refused before the SDK sees them.

The SDK ignores unknown names, reads free text as JSON, and refuses in its own words. Hosts inject
names of theirs, and language models put options at the top level and numbers into strings. What
can be meant in one way only is taken so; the rest is refused in our words.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter
from types import UnionType
from typing import Any, Literal, cast, get_args, get_origin

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.options import option_names
from ollama_mcp.settings import Settings
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits, check_length
from ollama_mcp.tools.toolset import Tool

_INJECTED = frozenset({"wait_for_previous", "toolCallId", "sessionId"})
"""What Gemini CLI and n8n add to every call: nobody needs to hear of it."""


_MOST_ARGUMENTS = 200
"""In one call; the unknown ones are looked up and told one by one."""


@dataclass(frozen=True)
class ArgumentCheck:
    """The arguments that one tool takes with some settings."""

    tool: Tool
    settings: Settings

    @cached_property
    def _parameters(self) -> dict[str, Parameter]:
        found = self.tool.parameters(self.settings)
        return {name: p for name, p in found.items() if name not in {"app", "ctx"}}

    @cached_property
    def _misplaced(self) -> Mapping[str, str]:
        return {**self.tool.misplaced_arguments, **self.tool.switched_off(self.settings)}

    def check(self, raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the arguments that the tool gets, and notes on what was ignored.

        Raises:
            InvalidArgument: A name that nearly is one of ours, a value of the wrong kind, a
                required argument that is missing; in this order.
            TooLarge: A list with too many items, before any of them is read.
        """
        if len(raw) > _MOST_ARGUMENTS:
            raise InvalidArgument(
                f"the call has {len(raw)} arguments", f"Send only {', '.join(self._parameters)}."
            )
        given = {n: v for n, v in raw.items() if n not in _INJECTED and not self._is_absent(n, v)}
        known = {name: value for name, value in given.items() if name in self._parameters}
        notes = self._place_strangers({n: v for n, v in given.items() if n not in known}, known)
        self._move_schema(known)
        checked = {n: _converted(n, value, self._kind(n), self.settings.limits) for n, value in known.items()}
        self._complete(checked, given.keys() - self._names())
        return checked, notes

    def _is_absent(self, name: str, value: Any) -> bool:
        """Null says that there is no argument, and so does an empty text where no text belongs."""
        return value is None or (value == "" and name in self._parameters and self._kind(name) is not str)

    def _move_schema(self, known: dict[str, Any]) -> None:
        """Ollama's own API takes a schema as the format."""
        if "schema" in self._parameters and isinstance(known.get("format"), dict):
            schema = known.pop("format")
            known.setdefault("schema", schema)

    def _kind(self, name: str) -> Any:
        annotation = self._parameters[name].annotation
        return _published(get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation)

    def _place_strangers(self, strangers: dict[str, Any], known: dict[str, Any]) -> list[str]:
        """Put options among the options, refuse near misses, note the rest."""
        notes: list[str] = []
        options = (
            {n: v for n, v in strangers.items() if n in option_names()}
            if "options" in self._parameters
            else {}
        )
        for name in [name for name in strangers if name not in options]:
            self._refuse_misplaced(name)
            self._refuse_near_miss(name)
            notes.append(f"argument {_one_line(name)} was ignored: {self.tool.name} has none of that name")
        if options:
            own = _converted("options", known.get("options", {}), dict)
            known["options"] = {**options, **own}
        return sorted(notes)

    def _refuse_misplaced(self, name: str) -> None:
        """Refuse an argument of another place: dropped, it would give the answer to another question."""
        if name in self._misplaced:
            raise InvalidArgument(f'{self.tool.name} has no argument "{name}"', self._misplaced[name])

    def _refuse_near_miss(self, name: str) -> None:
        close = difflib.get_close_matches(_plain(name), [_plain(n) for n in self._names()], n=1, cutoff=0.8)
        if not close:
            return
        meant = next(n for n in self._names() if _plain(n) == close[0])
        place = "" if meant in self._parameters else " in options"
        raise InvalidArgument(
            f'{self.tool.name} has no argument "{_one_line(name)}"', f'Send it as "{meant}"{place}.'
        )

    def _names(self) -> list[str]:
        options = sorted(option_names()) if "options" in self._parameters else []
        return [*self._parameters, *options]

    def _complete(self, checked: Mapping[str, Any], strangers: Collection[str]) -> None:
        """Tell what is missing; a name that is none of ours is told with it, for it may be what was meant."""
        for name, parameter in self._parameters.items():
            if parameter.default is Parameter.empty and name not in checked:
                wanted = _wanted(name, self._kind(name))
                raise InvalidArgument(f'"{name}" is missing{_beside(strangers)}', f'Send "{name}", {wanted}.')


def _beside(strangers: Collection[str]) -> str:
    names = ", ".join(f'"{_one_line(name)}"' for name in sorted(strangers)[:3])
    return f", and {names} is no argument" if names else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _one_line(text: str) -> str:
    return " ".join(text[:60].split())


# --- values ------------------------------------------------------------------------------------


def _converted(name: str, value: Any, kind: Any, limits: Limits = DEFAULT_LIMITS) -> Any:
    try:
        converted = _converter(kind)(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidArgument(
            f'"{name}" is {_shown(value)}', f'Send "{name}" as {_wanted(name, kind)}.'
        ) from None
    if get_origin(kind) is list:
        check_length(limits, name, converted)
        (item,) = get_args(kind)
        return [_converted(f"{name}[{place}]", entry, item) for place, entry in enumerate(converted)]
    return converted


def _published(kind: Any) -> Any:
    """Return the first kind of a union, which is what the schema says; the others are for Python callers."""
    return get_args(kind)[0] if get_origin(kind) is UnionType else kind


def _converter(kind: Any) -> Callable[[Any], Any]:
    kind = _published(kind)
    origin = get_origin(kind) or kind
    if origin is Literal:
        return lambda value: _choice(value, get_args(kind))
    if origin is list:
        return lambda value: _list(value, get_args(kind)[0])
    return {str: _text, bool: _boolean, int: _integer, float: _number, dict: _object, Any: _item}[origin]


def _text(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise TypeError
    return value


def _item(value: Any) -> Any:
    """Return a text or an object, of a list that has either."""
    if not isinstance(value, str | dict):
        raise TypeError
    return cast("Any", value)


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in {"true", "false", "1", "0"}:
        raise ValueError
    return text in {"true", "1"}


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = value if isinstance(value, int) else float(value)
    if not float(number).is_integer():
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise TypeError
    return number


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    text = str(value).strip().lower()
    if text not in choices:
        raise ValueError
    return text


def _object(value: Any) -> dict[str, Any]:
    """An object, or JSON text of one, which some clients send for nested arguments."""
    value = json.loads(value) if isinstance(value, str) and value.strip() else value or {}
    if not isinstance(value, dict):
        raise TypeError
    return cast("dict[str, Any]", value)


def _list(value: Any, item: Any) -> list[Any]:
    """A list, JSON text of one, or a single one of what is wanted."""
    if isinstance(value, list):
        return cast("list[Any]", value)
    if not isinstance(value, str):
        return [_single(value, item)]
    parsed = _parsed(value, "{[" if item is not str else "[")
    if isinstance(parsed, list):
        return cast("list[Any]", parsed)
    return [_single(value if parsed is None else parsed, item)]


def _single(value: Any, item: Any) -> Any:
    wanted: Any = {str: str, Any: str | dict}.get(item, dict)
    if not isinstance(value, wanted):
        raise TypeError
    return value


def _parsed(text: str, openings: str) -> Any:
    """The value of a JSON text that begins so; None for any other text."""
    try:
        return json.loads(text) if text.lstrip()[:1] in tuple(openings) else None
    except (ValueError, RecursionError):
        return None


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"  # Python refuses to print those of thousands of digits
    return repr(value)[:60]


_FORMS = {
    "messages": '{"role": "user", "content": "…"}',
    "context_tools": '{"tool": "search", "arguments": {"q": "$query"}}',
    "documents": '{"text": "…", "title": "…"}',
    "tools": '{"type": "function", "function": {"name", "description", "parameters"}}',
}
"""What the objects look like, by the argument that takes them."""


def _wanted(name: str, kind: Any) -> str:
    form = _FORMS.get(name.partition("[")[0])
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(kind))
    if get_origin(kind) is list:
        items = {str: "strings", Any: "strings or objects"}.get(get_args(kind)[0], "objects")
        return f"a list of {items}" + (f" such as {form}" if form else "")
    plain = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}.get(
        kind, "an object"
    )
    return plain + (f" such as {form}" if form else "")
