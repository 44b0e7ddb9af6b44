"""Bodies of requests and responses: strict in what goes out, tolerant in what comes in.

Requests: what Ollama would refuse or ignore is told before it is sent. Responses: unknown fields
are ignored, and a missing or null field has its zero value, because Go leaves zero values out. A
field of the wrong type counts as missing, too, unless it is one of a model's `essential` fields: an
answer whose text is not text is not an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import pydantic_core
from pydantic import BaseModel, ConfigDict, ValidationError

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.sanitize import sanitize


class _Body(BaseModel):
    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Say in the docstring which fields there are: `help()` shows those of pydantic as noise."""
        fields = "\n".join(f"    {name}: {_field(cls, name)}" for name in cls.model_fields)
        if fields:
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nFields:\n{fields}"


def _field(model: type[BaseModel], name: str) -> str:
    """A field as it was written, with its default: `bool = True`.

    >>> class Pull(Request):
    ...     model: str
    ...     stream: bool = True
    >>> _field(Pull, "model"), _field(Pull, "stream")
    ('str', 'bool = True')
    """
    written = next(found[name] for base in model.__mro__ if name in (found := inspect.get_annotations(base)))
    kind = written if isinstance(written, str) else getattr(written, "__name__", str(written))
    field = model.model_fields[name]
    return kind if field.is_required() or field.default_factory else f"{kind} = {field.default!r}"


class Request(_Body):
    """Body of a request. Fields that are None are left out, so that the server's own default holds."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", defer_build=True, allow_inf_nan=False)

    def to_json(self) -> bytes:
        """The body as JSON, UTF-8; lone surrogates, which UTF-8 does not have, become U+FFFD.

        Raises:
            InvalidArgument: It holds what JSON cannot, or is nested too deeply.
        """
        try:
            return self.model_dump_json(exclude_none=True, by_alias=True).encode()
        except ValueError:
            pass
        try:
            return pydantic_core.to_json(sanitize(self.model_dump(exclude_none=True, by_alias=True)))
        except (ValueError, RecursionError):
            raise InvalidArgument(
                "the request cannot be written as JSON", "Send it with less nesting, and plain values only."
            ) from None


@dataclass(frozen=True)
class Upload:
    """Bytes that are sent as they come: `chunks`, which are `size` bytes together."""

    chunks: AsyncIterable[bytes]
    size: int


class Response(_Body):
    """Body of a response."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", defer_build=True)

    essential: ClassVar[frozenset[str]] = frozenset()
    """Fields that, when present and not null, must be of their type."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an object, leaving out what is null or of the wrong type (in a list: the item).

        Raises:
            ValueError: An essential field is of the wrong type.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            faults = _faults(error, cls.essential)
        pruned: Any = dict(raw)
        for path in reversed(faults):  # the last item of a list first, so that the others keep their places
            pruned = _without(pruned, path) if path[0] in pruned else pruned
        try:
            return cls.model_validate(pruned)
        except ValidationError:
            faulty = {path[0] for path in faults}
            return cls.model_validate({name: raw[name] for name in raw if name not in faulty})


class Line(Response):
    """A line of a response that streams."""

    @property
    def is_last(self) -> bool:
        """True if the response is complete with this line."""
        raise NotImplementedError


Path = tuple[int | str, ...]


def _faults(error: ValidationError, essential: frozenset[str]) -> list[Path]:
    faults = error.errors(include_url=False, include_context=False)
    for fault in faults:
        path = fault["loc"]
        field = [step for step in path if isinstance(step, str)][-1]
        is_null = fault["input"] is None and path[-1] == field  # a null item of a list is no zero value
        if field in essential and not is_null:
            raise ValueError(f"{'.'.join(map(str, path))} is of the wrong type")
    return [fault["loc"] for fault in faults]


_GONE = object()


def _without(value: Any, path: Path) -> Any:
    """A copy without what `path` names; where it goes on into the arms of a union, that whole value goes.

    >>> _without({"a": [1, {"b": 2, "c": 3}], "d": 4}, ("a", 1, "b"))
    {'a': [1, {'c': 3}], 'd': 4}
    >>> _without({"a": 1, "d": 4}, ("a", "str"))
    {'d': 4}
    """
    if not path or not _holds(value, path[0]):
        return _GONE
    inner = _without(value[path[0]], path[1:])
    copy = value.copy()
    if inner is _GONE:
        del copy[path[0]]
    else:
        copy[path[0]] = inner
    return copy


def _holds(value: Any, step: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(cast("list[Any]", value))
    return isinstance(value, dict) and step in value
