"""JSON Schemas, and answers that must fit one: checked here, since a small model or a cut answer does not.

Checking a legal schema of 58 KB takes most of a second; a `pattern` with nested repetition, or
references that double, keep Python's regular expressions and jsonschema busy for hours, with the whole
interpreter held. So all but small and plain ones are checked by one child process, which lives as long
as its `SchemaValidator`. It ends when its CPU time is up, and is killed when its call is cancelled: the
clock would refuse legal schemas while a model keeps the processors busy.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

import anyio

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.per_loop import PerLoop

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_MOST_NAMED = 3
"""Violations of one answer that are named."""
_LIMIT_S = 5.0
"""Seconds of CPU time for one check."""
_WAIT_S = 60.0
"""Seconds for one check on a machine that is busy with a model, or counts no CPU time (Windows)."""
_START_S = 20.0
"""Seconds for a child that has yet to start, on a machine that is busy with a model."""
_PLAIN = frozenset(
    {"type", "properties", "required", "items", "additionalProperties", "description", "title", "default"}
)
"""Keywords whose checking takes no longer than reading."""
_SMALL_SCHEMA, _SMALL_TEXT = 512, 8 * 1024
"""Characters that are checked here, on the event loop, within some milliseconds."""
_CLOSE_S = 1.0
"""Seconds for the pipes of a killed child to close."""
_FORGET_S = 60.0
"""Seconds for which a schema that took too long is refused at once."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse an object that is no JSON Schema, before a model works for it. May block for a second.

    Raises:
        InvalidArgument: With the fault and its place.
    """
    from jsonschema import exceptions  # noqa: PLC0415 - 60 ms that only such calls pay
    from referencing import Registry, Resource, jsonschema  # noqa: PLC0415 - as above
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as above

    try:
        _dialect(schema).check_schema(dict(schema))
        # Every $ref must be found in the schema itself. None is followed: they may go round in circles.
        root: Resource[Any] = Resource.from_contents(schema, jsonschema.DRAFT202012)
        registry: Registry[Any] = Registry()
        waiting = [(registry.resolver_with_root(root), root)]
        while waiting:
            resolver, resource = waiting.pop()
            match resource.contents:
                case {"$ref": str(reference)}:
                    resolver.lookup(reference)
                case _:
                    pass
            waiting += [(resolver.in_subresource(inner), inner) for inner in resource.subresources()]
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
    """Return what keeps an answer from fitting a checked schema: at most three violations, [] if it fits.

    >>> violations('{"age": "12"}', {"properties": {"age": {"type": "integer"}}})
    ["$.age: '12' is not of type 'integer'"]
    """
    from referencing import Registry  # noqa: PLC0415 - as above

    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return ["the answer is not JSON"]
    # An empty registry: without one, jsonschema would fetch a $ref that is an address.
    registry: Registry[Any] = Registry()
    try:
        validator = _dialect(schema)(schema, registry=registry)
        found = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
    except ArithmeticError:
        return ["the answer has a number that is too large"]
    except RecursionError:
        return ["the answer is nested too deeply, or the schema refers to itself"]
    return [f"{error.json_path[:60]}: {error.message[:120]}" for error in found[:_MOST_NAMED]]


def _refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(constant)


def _dialect(schema: Mapping[str, Any]) -> type[Validator]:
    """Return the draft that the schema names; the newest where it names none that is known."""
    from jsonschema import validators  # noqa: PLC0415 - as above

    drafts = (
        validators.Draft4Validator,
        validators.Draft6Validator,
        validators.Draft7Validator,
        validators.Draft201909Validator,
    )
    known = {str(draft.ID_OF(draft.META_SCHEMA)).rstrip("#"): draft for draft in drafts}
    return known.get(str(schema.get("$schema")).rstrip("#"), validators.Draft202012Validator)


def repair_request(found: list[str], schema: Mapping[str, Any]) -> str:
    """Return the message that asks a model to correct its answer.

    Args:
        found: Violations of the schema.
        schema: The schema; an empty one is that of any JSON.
    """
    wrong = (
        "does not fit the JSON Schema that was asked for: " + "; ".join(found) if schema else "is not JSON"
    )
    return f"Your answer {wrong}. Answer again with only the corrected JSON."


def is_plain(schema: Mapping[str, Any]) -> bool:
    """Return whether checking takes no longer than reading: the schema is small, with plain keywords only.

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


class SchemaValidator:
    """A checker of schemas, and of answers against them, that holds no event loop up.

    validator = SchemaValidator()
    await validator.check(schema)
    await validator.violations('{"age": 12}', schema)  # []
    await validator.aclose()
    """

    def __init__(self) -> None:
        self._children: PerLoop[_Child] = PerLoop(_Child)

    async def check(self, schema: Mapping[str, Any]) -> None:
        """Refuse an object that is no JSON Schema, before a model works for it.

        Raises:
            InvalidArgument: With the fault and its place, or that the check takes too long.
        """
        if len(json.dumps(schema)) <= _SMALL_SCHEMA:
            check_schema(schema)
        elif fault := await self._children.here().ask(None, schema):
            raise InvalidArgument(*fault)

    async def violations(self, text: str, schema: Mapping[str, Any]) -> list[str]:
        """Return what keeps an answer from fitting a checked schema, as the function `violations`.

        Raises:
            InvalidArgument: The check takes too long.
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
        """Have the child check a text; without one, the schema.

        Returns:
            Violations; of a schema the cause and the remedy, [] if it is one.

        Raises:
            InvalidArgument: It takes more than five seconds of CPU time, or did so within the last minute.
        """
        written = json.dumps(schema)
        question, key = f"[{json.dumps(text)}, {written}]\n".encode(), hash(written)
        too_long = InvalidArgument(
            f"the schema could not be checked in {_LIMIT_S:g} s", "Simplify its patterns and references."
        )
        async with self._turn:
            endless, at = self._endless
            if key == endless and time.monotonic() - at < _FORGET_S:  # other calls wait for their turn
                raise too_long
            is_answered = False
            try:
                process = self._process
                if process is None or process.returncode is not None:  # it may have died meanwhile
                    process = await self._start()
                stdin, stdout = process.stdin, process.stdout
                assert stdin is not None and stdout is not None  # noqa: S101, PT018 - pipes, by `_start`
                async with asyncio.timeout(_WAIT_S):
                    stdin.write(question)
                    await stdin.drain()
                    answer = cast("list[str]", json.loads(await stdout.readline()))
                is_answered = True
            except (TimeoutError, ConnectionError, json.JSONDecodeError):
                self._endless = key, time.monotonic()
                raise too_long from None
            finally:
                if not is_answered:  # a later line of the child would belong to this question
                    await self.end()
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        # The child runs this very package, wherever the host has it and its libraries from. -P: no module
        # of the working directory; not `anyio.to_process`, which runs the host's __main__ again.
        path = [entry for entry in sys.path if entry]
        program = f"import sys; sys.path[:] = {path!r}; from {__name__} import main; main()"
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", program,
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


def main() -> None:
    """Answer questions on the standard streams, as the child of a `SchemaValidator`."""
    check_schema({})  # loads jsonschema before it says that it is there
    print(flush=True)  # noqa: T201 - the parent waits for it
    for line in sys.stdin.buffer:
        _limit_cpu(_LIMIT_S)
        text, schema = json.loads(line)
        answer: list[str] = []
        if text is not None:
            answer = violations(text, schema)
        else:
            try:
                check_schema(schema)
            except InvalidArgument as error:
                answer = [error.cause, error.remedy]
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer
        _limit_cpu(0)


def _limit_cpu(seconds: float) -> None:
    """Have the system end this process after so many more seconds of CPU time; 0 is never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
