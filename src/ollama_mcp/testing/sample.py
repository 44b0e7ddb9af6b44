"""The smallest JSON value that fits a schema: what the fake answers to a call with `format`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_mcp.testing import go

_DEPTH = 16  # what is deeper is null
_REFERENCE = 4  # a reference counts as so many levels: a schema may refer to itself, and more than once
_SIMPLE: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}


def sample(wanted: object) -> Any:
    """A value for `format`: an object for "json", and for a JSON Schema the first value that fits.

    Objects get all their properties, arrays as many items as they must have (or one). Patterns and
    the like are not looked at.
    """
    if not isinstance(wanted, dict):
        return {"answer": "fake"}
    schema = go.as_object(wanted)
    return _sample(schema, schema, _DEPTH)


def _sample(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if depth <= 0:
        return None
    if "const" in schema:
        return schema["const"]
    for first in go.as_list(schema.get("enum")):
        return first
    inner = _inner(schema, root)
    if inner is not None:
        return _sample(inner, root, depth - _REFERENCE)
    return _of_type(schema, root, depth)


def _inner(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any] | None:
    if "$ref" in schema:
        return _resolve(str(schema["$ref"]), root)
    for name in ("anyOf", "oneOf", "allOf"):
        for first in go.as_list(schema.get(name)):
            return go.as_object(first)
    return None


def _resolve(reference: str, root: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = go.as_object(found).get(part) if part else found
    return go.as_object(found)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    given = schema.get("type", "object" if "properties" in schema else "string")
    kind = str(next(iter(go.as_list(given)), given))
    if kind == "object":
        fields = go.as_object(schema.get("properties"))
        return {name: _sample(go.as_object(inner), root, depth - 1) for name, inner in fields.items()}
    if kind == "array":
        item = _sample(go.as_object(schema.get("items")), root, depth - 1)
        return [item] * min(go.as_int(schema.get("minItems"), 1), 1000)
    return _bounded(schema, kind)


def _bounded(schema: Mapping[str, Any], kind: str) -> Any:
    if kind in {"integer", "number"} and "minimum" in schema:
        return schema["minimum"]
    if kind == "string":
        return "fake".ljust(min(go.as_int(schema.get("minLength"), 0), 100_000), "-")
    return _SIMPLE.get(kind)
