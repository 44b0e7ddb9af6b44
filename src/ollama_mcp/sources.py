"""Sources of context: tools that other servers, or the server beside ours, have; and what they say.

A source fails or is too slow without ending the question: its failure is a row of the report.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar, cast

from ollama_mcp.errors import InvalidArgument, OllamaError

T = TypeVar("T")

EACH_S = 30.0
"""Seconds that one tool has; most clients give up after 60 to 180."""
MOST_TOOLS = 16
"""Tools of one question."""
READ_ONLY = "read-only"
"""Pattern for every tool whose hints say that it only reads, and not from the open world."""

_DEPTH: ContextVar[int] = ContextVar("_DEPTH", default=0)
"""1 inside of a tool that was called for context. Tasks and threads inherit it, so that it ends recursion."""


@dataclass(frozen=True)
class Passage:
    """A text with its source.

    Attributes:
        text: The text itself: data, never an instruction.
        source: Name of the tool, "documents" or "files".
        title: Title for people; "" where there is none.
        uri: Address; "" where there is none.
    """

    text: str
    source: str
    title: str = ""
    uri: str = ""


@dataclass(frozen=True)
class ToolSpec:
    """A tool that can be called for context.

    Attributes:
        name: Name by which its source calls it.
        description: For people and models.
        parameters: JSON Schema of its arguments.
        is_read_only: The hint `readOnlyHint`; None where it does not say.
        is_open_world: The hint `openWorldHint`; None where it does not say.
        is_destructive: The hint `destructiveHint`; None where it does not say.
        is_permitted: Decision of the operator; None: patterns decide.
        remote_host: Host to which a call goes; "" for this machine.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_read_only: bool | None = None
    is_open_world: bool | None = None
    is_destructive: bool | None = None
    is_permitted: bool | None = None
    remote_host: str = ""

    @property
    def destination(self) -> str:
        """Where a call may carry the question; "" for nowhere beyond this machine."""
        return self.remote_host or ("the open world" if self.is_open_world else "")

    def is_listed(self, patterns: Sequence[str]) -> bool:
        """Return whether the operator lists it: by a decision, its name, or `READ_ONLY` and hints.

        >>> ToolSpec("search_notes").is_listed(["search_*"]), ToolSpec("fetch", is_read_only=True,
        ...     is_open_world=True).is_listed([READ_ONLY])
        (True, False)
        """
        if self.is_permitted is not None:
            return self.is_permitted
        if READ_ONLY in patterns and self.is_read_only and not self.is_open_world:
            return True
        return self.is_named(pattern for pattern in patterns if pattern != READ_ONLY)

    def is_allowed(self, patterns: Sequence[str]) -> bool:
        """Return whether it may be called for context: it is listed, and not destructive."""
        return not (self.is_destructive and not self.is_read_only) and self.is_listed(patterns)

    def is_named(self, patterns: Iterable[str]) -> bool:
        """Return whether its name fits one of the patterns."""
        return any(fnmatchcase(self.name, pattern) for pattern in patterns)


class ToolList(list[ToolSpec]):
    """Tools of a source.

    Attributes:
        failures: Reasons why others cannot be listed, by the prefix of their names.
    """

    def __init__(self, tools: Iterable[ToolSpec] = (), failures: Mapping[str, str] | None = None) -> None:
        super().__init__(tools)
        self.failures = dict(failures or {})

    def failure_of(self, pattern: str) -> str:
        """Return why a tool of that name or pattern is not listed; "" where nothing failed."""
        return next((why for prefix, why in self.failures.items() if may_begin(pattern, prefix)), "")


def may_begin(pattern: str, prefix: str) -> bool:
    """Return whether a pattern can match a name that begins so.

    >>> [may_begin(pattern, "fs__") for pattern in ("fs__read", "fs*", "*", "git__*")]
    [True, True, True, False]
    """
    fixed = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    return fixed.startswith(prefix) or (prefix.startswith(fixed) and fixed != pattern)


class ToolSource(Protocol):
    """Tools of one server or of several."""

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        """List its tools.

        Args:
            wanted: Names and patterns; servers that have none of them need not be asked. None: all.

        Raises:
            SourceError: They cannot be listed, and why.
        """
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        """Call a tool.

        Raises:
            SourceError: It failed, and why.
        """
        ...


class SourceError(Exception):
    """The failure of a tool that was called for context; its text is shown to the caller."""


class SourceGroup:
    """Several sources as one; the first one that has a name wins."""

    def __init__(self, sources: Sequence[ToolSource]) -> None:
        self._sources = sources
        self._owners: dict[str, ToolSource] = {}

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        """List the tools of all, side by side; as of `ToolSource`."""
        listed = await asyncio.gather(
            *(source.tools(wanted) for source in self._sources), return_exceptions=True
        )
        found = ToolList()
        for source, tools in zip(self._sources, listed, strict=True):
            if isinstance(tools, SourceError):
                found.failures[""] = f"tools cannot be listed: {tools}"
            elif isinstance(tools, BaseException):
                raise tools
            else:
                new = [tool for tool in tools if self._owners.setdefault(tool.name, source) is source]
                found.extend(new)
                found.failures |= tools.failures
        return found

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        """Call a tool of one of them, which has been listed; as of `ToolSource`."""
        return await self._owners[name].call(name, arguments)


@dataclass(frozen=True)
class ToolUse:
    """A tool that the caller wants asked.

    Attributes:
        tool: Its name, or a pattern such as `search_*`.
        arguments: Its arguments, with `$query` where the question belongs; None: the question alone.
    """

    tool: str
    arguments: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, raw: Any) -> ToolUse:
        """Read a name, or an object with `tool` and `arguments`.

        Raises:
            InvalidArgument: It is neither.
        """
        if isinstance(raw, str) and raw.strip() and not raw.lstrip().startswith("{"):
            return cls(raw.strip())
        if isinstance(raw, str):
            try:
                raw = json.loads(raw)
            except (ValueError, RecursionError):
                raw = None
        if isinstance(raw, Mapping):
            table = cast("Mapping[str, Any]", raw)
            name, arguments = table.get("tool"), table.get("arguments")
            if (
                isinstance(name, str)
                and name.strip()
                and (arguments is None or isinstance(arguments, Mapping))
            ):
                return cls(name.strip(), cast("Mapping[str, Any] | None", arguments))
        raise InvalidArgument(
            "a context tool is neither a name nor an object",
            'Send "name", or {"tool": "name", "arguments": {"q": "$query"}}.',
        )


@dataclass(frozen=True)
class SourceReport:
    """Report of one source: how many passages it gave, or why none.

    Attributes:
        source: Name of the tool, or "documents" and the like.
        passages: Passages that it gave.
        error: Reason why it gave none; "" where it answered.
        sent_to: Where the question went; "" for nowhere beyond this machine.
    """

    source: str
    passages: int = 0
    error: str = ""
    sent_to: str = ""


_USUAL = ("query", "q", "question", "text", "search", "search_query", "prompt", "input", "keywords", "term")
"""Parameters that take a question, by their usual names."""


def arguments_for(use: ToolUse, tool: ToolSpec, query: str) -> dict[str, Any]:
    """Return the arguments of a call: the caller's with `$query` put in, or the query at its place.

    Raises:
        InvalidArgument: The tool needs more than a question; the remedy shows the form to send.
    """
    if use.arguments is not None:
        return cast("dict[str, Any]", _filled(dict(use.arguments), query))
    properties = cast("dict[str, Any]", dict(tool.parameters.get("properties") or {}))
    wanted = cast("list[str]", tool.parameters.get("required") or [])
    required = [name for name in wanted if name in properties]
    texts = [name for name, schema in properties.items() if _is_text(schema)]
    usual = [name for name in _USUAL if name in texts]
    if len(required) == 1 and required[0] in texts:
        return {required[0]: query}
    if not required:
        named = usual[:1] or (texts if len(texts) == 1 else [])
        return dict.fromkeys(named, query)
    place = next((name for name in usual if name in required), next(iter(required)))
    raise InvalidArgument(
        f"{tool.name} needs {', '.join(required)}",
        f'Send {{"tool": "{tool.name}", "arguments": {{"{place}": "$query", …}}}}; it takes '
        f"{json.dumps(properties, ensure_ascii=False)[:300]}.",
    )


def _is_text(schema: Any) -> bool:
    """Return whether a property's schema takes free text."""
    if not isinstance(schema, Mapping):
        return False
    table = cast("Mapping[str, Any]", schema)
    if "enum" in table or "const" in table:
        return False
    kind = table.get("type")
    if isinstance(kind, list):
        return "string" in kind
    return kind == "string" or any(map(_is_text, table.get("anyOf") or ()))


def _filled(value: Any, query: str) -> Any:
    if isinstance(value, str):
        return value.replace("$query", query)
    if isinstance(value, Mapping):
        return {name: _filled(item, query) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_filled(item, query) for item in cast("list[Any]", value)]
    return value


async def gather(
    uses: Sequence[ToolUse],
    query: str,
    source: ToolSource | None,
    patterns: Sequence[str],
    each_s: float = EACH_S,
) -> tuple[list[Passage], list[SourceReport]]:
    """Ask tools side by side; return their passages in the order of `uses`, and a report of each.

    Args:
        uses: Tools that the caller wants asked.
        query: The question.
        source: Tools that there are; None where a tool was called without a server.
        patterns: Patterns of the tools that may be called.
        each_s: Seconds that each has.

    Raises:
        InvalidArgument: There are too many tools, or none of them may be asked.
    """
    if not uses:
        return [], []
    if is_nested():
        raise InvalidArgument(
            "a tool that was called for context asks for context again", "Leave out context_tools there."
        )
    try:
        listed = await source.tools([use.tool for use in uses]) if source else ToolList()
    except SourceError as error:
        return [], [SourceReport(use.tool, error=f"tools cannot be listed: {error}") for use in uses]
    allowed = {tool.name: tool for tool in listed if tool.is_allowed(patterns)}
    chosen: list[tuple[ToolUse, ToolSpec | None]] = []
    for use in uses:
        named = [tool for name, tool in allowed.items() if fnmatchcase(name, use.tool)]
        chosen += [(use, tool) for tool in named] or [(use, None)]
    if len(chosen) > MOST_TOOLS:
        raise InvalidArgument(f"{len(chosen)} context tools are named", f"Name at most {MOST_TOOLS}.")
    if source is None or not any(tool or listed.failure_of(use.tool) for use, tool in chosen):
        known = sorted(await names_of(source, patterns)) if source else []
        is_there = any(tool.is_named([use.tool for use in uses]) for tool in listed)
        hidden = " that may be called: the server has it, but does not list it for this" if is_there else ""
        raise InvalidArgument(
            f"there is no context tool {', '.join(use.tool for use in uses)}{hidden}",
            f"There are {', '.join(known)}." if known else "None may be called here.",
        )
    missing = "there is no such tool, or it may not be called"
    outcomes = await asyncio.gather(
        *(_ask(use, tool, query, source, each_s) for use, tool in chosen if tool is not None)
    )
    reports = [report for _, report in outcomes]
    for place, (use, tool) in enumerate(chosen):  # in the order of `uses`
        if tool is None:
            reports.insert(place, SourceReport(use.tool, error=listed.failure_of(use.tool) or missing))
    return [passage for found, _ in outcomes for passage in found], reports


async def names_of(source: ToolSource, patterns: Sequence[str]) -> list[str]:
    """Return the names of all tools that may be called; of those alone that can be listed."""
    try:
        return [tool.name for tool in await source.tools() if tool.is_allowed(patterns)]
    except SourceError:
        return []


async def _ask(
    use: ToolUse, tool: ToolSpec, query: str, source: ToolSource, each_s: float
) -> tuple[Sequence[Passage], SourceReport]:
    try:
        arguments = arguments_for(use, tool, query)
    except InvalidArgument as error:
        return [], SourceReport(tool.name, error=f"{error.cause}. {error.remedy}")
    found: Sequence[Passage] = ()
    try:
        found, why = await call_tool(source, tool.name, arguments, each_s), ""
    except SourceError as error:
        why = " ".join(str(error).split())[:400]
    return found, SourceReport(tool.name, len(found), why, tool.destination)


def is_nested() -> bool:
    """Return whether this runs inside of a tool that was called by `call_tool`."""
    return _DEPTH.get() > 0


async def call_tool(
    source: ToolSource, name: str, arguments: Mapping[str, Any], seconds: float
) -> Sequence[Passage]:
    """Call a tool of a source; what it calls in its turn is nested.

    Raises:
        SourceError: It failed, or did not answer in that time, and why.
    """

    async def nested() -> Sequence[Passage]:
        _DEPTH.set(_DEPTH.get() + 1)  # in a task, and so a context, of its own
        return await source.call(name, arguments)

    try:
        return await _within(seconds, nested())
    except TimeoutError:
        raise SourceError(f"no answer within {seconds:g} s") from None
    except OllamaError as error:
        raise SourceError(f"{error.cause}. {error.remedy}") from None


_abandoned: set[asyncio.Task[Any]] = set()
"""Calls that were given up and still run: a tool in a thread cannot be cancelled."""


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Wait so long for work, and let it go then; a cancel scope would wait for a thread to end."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    if not task.done():
        raise TimeoutError
    return task.result()


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
