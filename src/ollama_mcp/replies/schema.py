"""Answers that must fit a JSON Schema: checked here, since a small model and a cut answer do not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ollama_mcp.errors import InvalidArgument

_MOST_NAMED = 3


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema, before a model works for it.

    Raises:
        InvalidArgument: With what is wrong and where.
    """
    from jsonschema import exceptions, validators  # noqa: PLC0415 - 60 ms that only such calls pay

    try:
        validators.validator_for(dict(schema)).check_schema(dict(schema))
    except exceptions.SchemaError as error:
        raise InvalidArgument(
            f"schema is not a JSON Schema at {error.json_path}: {error.message[:120]}",
            'Send an object such as {"type": "object", "properties": {…}}.',
        ) from None


def violations(text: str, schema: Mapping[str, Any]) -> list[str]:
    """What keeps an answer from fitting the schema; [] if it fits. At most three are named."""
    from jsonschema import validators  # noqa: PLC0415 - as above
    from referencing import Registry, exceptions  # noqa: PLC0415 - as above

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ["the answer is not JSON"]
    # An empty registry: without one, jsonschema would fetch a $ref that is an address.
    registry: Registry[Any] = Registry()
    validator = validators.validator_for(dict(schema))(dict(schema), registry=registry)
    try:
        found = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
    except (exceptions.Unresolvable, RecursionError):
        raise InvalidArgument(
            "schema has a reference that cannot be followed",
            "Put every definition into the schema itself, under $defs.",
        ) from None
    return [f"{error.json_path}: {error.message[:120]}" for error in found[:_MOST_NAMED]]


def repair_request(found: list[str]) -> str:
    """What the model is told when its answer does not fit."""
    return (
        "Your answer does not fit the JSON Schema that was asked for: "
        + "; ".join(found)
        + ". Answer again with only the corrected JSON."
    )
