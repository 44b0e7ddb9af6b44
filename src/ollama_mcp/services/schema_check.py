"""JSON Schemas and answers checked where that can neither hold the event loop up nor go on for ever.

Checking a legal schema of 58 KB takes most of a second; a `pattern` with nested repetition, or
references that double, keep Python's regular expressions and jsonschema busy for hours, with the whole
interpreter held. So all but small and plain ones are checked by one child process, which lives as long
as its `SchemaValidator`, and is killed when its time is up or its call is cancelled.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, cast

import anyio

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.services.schema import check_schema, violations

_LIMIT_S = 5.0
_START_S = 20.0
"""For a child that has yet to start, on a machine that is busy with a model."""
_PLAIN = frozenset(
    {"type", "properties", "required", "items", "additionalProperties", "description", "title", "default"}
)
"""Keywords whose checking takes no longer than reading."""
_SMALL_SCHEMA, _SMALL_TEXT = 512, 8 * 1024
"""Characters that are checked here, on the event loop, within some milliseconds."""
_CLOSE_S = 1.0
_FORGET_S = 60.0


class SchemaValidator:
    """Checks schemas, and answers against them."""

    def __init__(self) -> None:
        self._children: PerLoop[_Child] = PerLoop(_Child)

    async def check(self, schema: Mapping[str, Any]) -> None:
        """Refuse what is no JSON Schema, before a model works for it.

        Raises:
            InvalidArgument: With what is wrong and where, or that it takes too long to check.
        """
        if len(json.dumps(schema)) <= _SMALL_SCHEMA:
            check_schema(schema)
        elif found := await self._children.here().ask(None, schema):
            raise InvalidArgument(*found)

    async def violations(self, text: str, schema: Mapping[str, Any]) -> list[str]:
        """What keeps an answer from fitting a checked schema, as `schema.violations` says it.

        Raises:
            InvalidArgument: It takes too long to check.
        """
        if len(text) <= _SMALL_TEXT and is_plain(schema):
            return violations(text, schema)
        return await self._children.here().ask(text, schema)

    async def aclose(self) -> None:
        """End the child of this event loop; a later check starts another."""
        child = self._children.pop()
        if child is not None:
            await child.end()


class _Child:
    """The process of one event loop: a line of JSON in, a line out, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._endless = (0, -math.inf)
        """The hash of the schema that took too long last, and when."""

    async def ask(self, text: str | None, schema: Mapping[str, Any]) -> list[str]:
        written = json.dumps(schema)
        question, which = f"[{json.dumps(text)}, {written}]\n".encode(), hash(written)
        async with self._turn:
            endless, at = self._endless
            if which == endless and time.monotonic() - at < _FORGET_S:  # others wait for their turn
                raise _too_long()
            is_answered = False
            try:
                verdict = await self._answer(question)
                is_answered = True
            except (TimeoutError, ConnectionError, json.JSONDecodeError):
                self._endless = which, time.monotonic()
                raise _too_long() from None
            finally:
                if not is_answered:  # what it says next would belong to this question
                    await self.end()
        return verdict

    async def _answer(self, question: bytes) -> list[str]:
        process = self._process
        if process is None or process.returncode is not None:  # it may have died while nobody asked
            process = await self._start()
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - pipes, as `_start` asked for
        async with asyncio.timeout(_LIMIT_S):
            stdin.write(question)
            await stdin.drain()
            return cast("list[str]", json.loads(await stdout.readline()))

    async def _start(self) -> asyncio.subprocess.Process:
        # -P: no module of the working directory; not `anyio.to_process`, which runs the host's __main__ again
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _program(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - as above
        async with asyncio.timeout(_START_S):
            if not await process.stdout.readline():
                raise RuntimeError("the process that checks schemas did not start")
        return process

    async def end(self) -> None:
        """Kill it if it still runs, and wait until its pipes are closed."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
            await process.communicate()


def _too_long() -> InvalidArgument:
    return InvalidArgument(
        f"the schema could not be checked in {_LIMIT_S:g} s", "Simplify its patterns and references."
    )


def is_plain(schema: Mapping[str, Any]) -> bool:
    """Whether checking takes no longer than reading: it is small, and has only plain keywords.

    >>> is_plain({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    True
    >>> is_plain({"items": {"pattern": "^(a+)+$"}}), is_plain({"uniqueItems": True})
    (False, False)
    """
    return len(json.dumps(schema)) <= _SMALL_SCHEMA and _has_only_plain(schema)


def _has_only_plain(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return isinstance(schema, bool)
    table = cast("Mapping[str, Any]", schema)
    inner = [*dict(table.get("properties") or {}).values(), table.get("items", True)]
    return table.keys() <= _PLAIN and all(map(_has_only_plain, inner))


def _program() -> str:
    """What the child runs: this very package, wherever the host has it and its libraries from."""
    path = [entry for entry in sys.path if entry]
    return f"import sys; sys.path[:] = {path!r}; from {__name__} import main; main()"


def _verdict(text: str | None, schema: Mapping[str, Any]) -> list[str]:
    """Violations of a text; of a schema alone the cause and the remedy, [] if it is one."""
    if text is not None:
        return violations(text, schema)
    try:
        check_schema(schema)
    except InvalidArgument as error:
        return [error.cause, error.remedy]
    return []


def main() -> None:
    """Answer questions on the standard streams, as the child of a `SchemaValidator`."""
    check_schema({})  # loads jsonschema before it says that it is there
    print(flush=True)  # noqa: T201 - the parent waits for it
    for line in sys.stdin.buffer:
        _end_in(math.ceil(2 * _LIMIT_S))  # where the parent was killed, too
        print(json.dumps(_verdict(*json.loads(line))), flush=True)  # noqa: T201 - the answer
        _end_in(0)


def _end_in(seconds: int) -> None:
    """Have the system end this process after so many seconds; 0 is never."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)
