"""Whether an answer fits a schema, judged where a schema that never ends can be ended.

A `pattern` with nested repetition, or references that double, keep Python's regular expressions and
jsonschema busy for hours with the whole interpreter held. Schemas that could do that are judged by a
child process, which is killed when its time is up or its call is cancelled.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any, cast

import anyio

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.replies.schema import violations

_LIMIT_S = 5.0
_WILD = frozenset({"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef"})
_TAME_SIZE = 64 * 1024
"""Characters of schema and answer that are judged here, on the event loop."""


async def judge(text: str, schema: Mapping[str, Any]) -> list[str]:
    """What keeps an answer from fitting a checked schema, as `schema.violations` says it.

    Raises:
        InvalidArgument: The schema takes too long to check.
    """
    if len(text) <= _TAME_SIZE and is_tame(schema):
        return violations(text, schema)
    question = json.dumps([text, schema]).encode()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        verdict, _ = await asyncio.wait_for(child.communicate(question), _LIMIT_S)
    except TimeoutError:
        raise InvalidArgument(
            f"the answer could not be checked against the schema in {_LIMIT_S:g} s",
            "Simplify its patterns and references.",
        ) from None
    finally:
        await _end(child)
    return cast("list[str]", json.loads(verdict))


async def _end(child: asyncio.subprocess.Process) -> None:
    """Kill it if it still runs, and wait until its pipes are closed."""
    if child.returncode is None:
        child.kill()
        with anyio.CancelScope(shield=True):
            await child.communicate()


def is_tame(schema: Mapping[str, Any]) -> bool:
    """Whether checking takes no longer than reading.

    >>> is_tame({"type": "object", "required": ["a"]}), is_tame({"items": [{"pattern": "^(a+)+$"}]})
    (True, False)
    """
    return len(json.dumps(schema)) <= _TAME_SIZE and not _names(schema) & _WILD


def _names(value: Any) -> frozenset[str]:
    """Every name in a schema; one that only looks like a keyword costs a child, no more."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return frozenset(table).union(*map(_names, table.values()))
    if isinstance(value, list):
        return frozenset[str]().union(*map(_names, cast("list[Any]", value)))
    return frozenset()


def _main() -> None:
    text, schema = json.load(sys.stdin)
    json.dump(violations(text, schema), sys.stdout)


if __name__ == "__main__":
    _main()
