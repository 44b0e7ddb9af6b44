"""Answers that must fit a JSON Schema: checked here, since a small model and a cut answer do not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ollama_mcp.errors import InvalidArgument

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_MOST_NAMED = 3


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema, before a model works for it.

    Raises:
        InvalidArgument: With what is wrong and where.
    """
    from jsonschema import exceptions  # noqa: PLC0415 - 60 ms that only such calls pay
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as above

    try:
        _dialect(schema).check_schema(dict(schema))
        for resolver, reference in _references(schema):
            resolver.lookup(reference)
    except exceptions.SchemaError as error:
        raise InvalidArgument(
            f"schema is not a JSON Schema at {error.json_path[:60]}: {error.message[:120]}",
            'Send an object such as {"type": "object", "properties": {…}}.',
        ) from None
    except RecursionError:
        raise InvalidArgument("schema is nested too deeply", "Send a flatter one.") from None
    except (Unresolvable, ValueError):  # ValueError: an address that is none
        raise InvalidArgument(
            "schema has a reference that cannot be followed",
            "Put every definition into the schema itself, under $defs.",
        ) from None


def violations(text: str, schema: Mapping[str, Any]) -> list[str]:
    """What keeps an answer from fitting a checked schema; [] if it fits. At most three are named."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return ["the answer is not JSON"]
    try:
        found = sorted(_validator(schema).iter_errors(value), key=lambda error: error.json_path)
    except ArithmeticError:
        return ["the answer has a number that is too large"]
    except RecursionError:
        return ["the answer is nested too deeply, or the schema refers to itself"]
    return [f"{error.json_path[:60]}: {error.message[:120]}" for error in found[:_MOST_NAMED]]


def _no_number(constant: str) -> NoReturn:
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(constant)


def _validator(schema: Mapping[str, Any]) -> Validator:
    from referencing import Registry  # noqa: PLC0415 - as above

    # An empty registry: without one, jsonschema would fetch a $ref that is an address.
    registry: Registry[Any] = Registry()
    return _dialect(schema)(schema, registry=registry)


def _dialect(schema: Mapping[str, Any]) -> type[Validator]:
    """The draft that the schema names; the newest where it names none that is known."""
    from jsonschema import validators  # noqa: PLC0415 - as above

    drafts = (
        validators.Draft4Validator,
        validators.Draft6Validator,
        validators.Draft7Validator,
        validators.Draft201909Validator,
    )
    known = {_plain(draft.ID_OF(draft.META_SCHEMA)): draft for draft in drafts}
    return known.get(_plain(schema.get("$schema")), validators.Draft202012Validator)


def _plain(address: Any) -> str:
    return str(address).rstrip("#")


def _references(schema: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Every $ref with what resolves it, found without following any."""
    from referencing import Registry, Resource, jsonschema  # noqa: PLC0415 - as above

    root: Resource[Any] = Resource.from_contents(schema, jsonschema.DRAFT202012)
    registry: Registry[Any] = Registry()
    waiting = [(registry.resolver_with_root(root), root)]
    while waiting:
        resolver, resource = waiting.pop()
        match resource.contents:
            case {"$ref": str(reference)}:
                yield resolver, reference
            case _:
                pass
        waiting += [(resolver.in_subresource(inner), inner) for inner in resource.subresources()]


def repair_request(found: list[str], schema: Mapping[str, Any]) -> str:
    """What the model is told when its answer does not fit; an empty schema is that of any JSON."""
    wrong = (
        "does not fit the JSON Schema that was asked for: " + "; ".join(found) if schema else "is not JSON"
    )
    return f"Your answer {wrong}. Answer again with only the corrected JSON."
