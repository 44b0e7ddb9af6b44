"""Scripts: what the fake is to answer instead of its default, how slowly, and where it breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

from ollama_mcp.ollama_server.go_values import as_object
from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.ollama_server.installed_models import short_name

GENERATION = frozenset({"/api/chat", "/api/generate"})
MODEL_RUNS = GENERATION | {"/api/embed", "/api/embeddings"}
"""The endpoints that run a model, which are those that can be busy."""

How: TypeAlias = Literal["close", "reset", "silence"]
"""Early ends of a connection: orderly, with a TCP reset, or not at all (open, but never a byte again)."""


@dataclass(frozen=True)
class Wait:
    """A pause between the bytes of `Script(raw=...)`.

    Attributes:
        seconds: How long nothing is sent.
    """

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Nothing until `FakeOllama.release()`."""


@dataclass(frozen=True)
class Turn:
    """Nothing until fewer than `limit` answers of the same key are going on; None is no limit."""

    key: str
    limit: int | None


@dataclass(frozen=True)
class End:
    """The connection ends here, in whatever the client was reading."""

    how: How


Pause: TypeAlias = Wait | Hold | Turn
Step: TypeAlias = bytes | Pause | End
"""Bytes to send, a pause, or the end of the connection."""


Ending: TypeAlias = Literal["close", "reset", "silence", "error"]
"""Ways in which a script breaks off."""


@dataclass(frozen=True)
class Script:
    """One scripted answer: at most one kind of content, any timing, any fault.

    Content, the first that is given: `raw` (any bytes at all), `status` and `body`, `lines` (NDJSON
    as it is), or `tokens`, `thinking` and `tool_calls` of chat and generate. Without content the
    endpoint answers as ever, and the timing and the faults are laid over that.

    A record is one line of a stream. "Tokens" below are records that are not the last one. To a call
    with `stream: false` the records are made at the same pace, and their sum is sent at the end.

    Attributes:
        tokens: The answer, a text a record; a text alone is a word a record. An empty list is an empty
            answer. None (the default) is the endpoint's own answer, or an empty one where there is
            thinking or a tool call.
        thinking: The thinking that comes before the tokens, in the same form. None by default.
        tool_calls: `{"name": ..., "arguments": {...}}` each, with an `id` if you want to choose it, or
            as Ollama has them, `{"function": {"name": ..., "arguments": {...}}}`; a record each, after
            the tokens. None of them by default.
        done_reason: That of the last record. None (the default) is "stop", and "length" where
            num_predict cuts the endpoint's own answer.
        final: Fields to lay over the last record of chat and generate, such as
            `{"prompt_eval_count": 2050}`; a None removes the field. Empty by default.
        status: An HTTP status, with `body` as the whole answer. None by default, which is 200 if
            there is a body.
        body: The whole answer: bytes as they are, a str as text/plain, anything else as JSON. None
            (the default) is an empty one if there is a status.
        headers: Headers to add to the answer's or to replace; they win even when they lie. Without
            effect on `raw`. Empty by default.
        lines: NDJSON lines as they are, one a chunk; a missing line end is added. None by default.
        raw: Bytes to send from the status line on, then `how`. May be endless and have Waits between;
            an iterator is used up by the first request. None by default.
        load_delay: Seconds for loading the model, if it is not loaded with that window; before
            `delay_first`. Leaving meanwhile aborts the load. 0 by default.
        delay_first: Seconds before the first byte. 0 by default.
        delay: Seconds between two records, the last one (`done`) following at once. 0 by default.
        hold_after_tokens: Send so many tokens and wait for `FakeOllama.release()`. None (the default)
            does not wait; 0 waits before the first byte, of any answer.
        cut_after_tokens: Break off a stream after so many tokens. With `cut_after_bytes`: and so many
            bytes of the next record. None (the default) does not.
        cut_after_bytes: Break off after so many bytes, counted from the status line; 0 is not a
            single one. With `how="error"` bytes of records are counted, and the error comes after
            the last whole one. None (the default) does not.
        how: How to break off: "close" (the default) closes the connection, "reset" is a TCP reset,
            "silence" leaves it open without another byte until the client leaves, "error" sends an
            error record and an orderly end. An error before the first token is an HTTP 500; `raw`,
            which has no records, is closed instead.
        error: The text of the error record; by default that of a model runner that died.
        missing_done: End in order, but without the last record. False by default.
        blank_lines: Put an empty line after every record. False by default.
    """

    tokens: Sequence[str] | None = None
    thinking: Sequence[str] | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    done_reason: str | None = None
    final: Mapping[str, Any] = field(default_factory=dict[str, Any])

    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    lines: Sequence[bytes] | None = None
    raw: bytes | Iterable[Step] | None = None

    load_delay: float = 0.0
    delay_first: float = 0.0
    delay: float = 0.0
    hold_after_tokens: int | None = None

    cut_after_tokens: int | None = None
    cut_after_bytes: int | None = None
    how: Ending = "close"
    error: str = "an error was encountered while running the model: unexpected EOF"
    missing_done: bool = False
    blank_lines: bool = False

    def __post_init__(self) -> None:
        """Refuse at once what would fail, or do nothing, when a client asks."""
        if self.how not in get_args(Ending):
            raise ValueError(f"how is {self.how!r}, not one of {', '.join(get_args(Ending))}")
        for name in ("load_delay", "delay_first", "delay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, which is before its time")
        for name in ("tokens", "thinking"):
            if isinstance(given := getattr(self, name), str):
                object.__setattr__(self, name, _in_words(given))
        calls = [_plain_call(call) for call in self.tool_calls]
        object.__setattr__(self, "tool_calls", calls)
        if self.status is not None and not isinstance(self.status, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"status is {self.status!r}, not a number such as 503")

    @property
    def generates(self) -> bool:
        """Whether it can only be meant for an endpoint that generates text."""
        content = self.tokens is not None or self.thinking is not None or self.tool_calls
        return bool(content or self.final or self.done_reason or self.load_delay)

    @property
    def end(self) -> How:
        """The end of the connection, where an error record cannot be sent."""
        return "close" if self.how == "error" else self.how


def tool_call(name: str, /, **arguments: Any) -> Script:
    """Return a turn of a model that calls one tool.

        fake.script(tool_call("search", query="parking"), "Behind the museum.")

    Args:
        name: Name of the tool.
        arguments: Its arguments.
    """
    return Script(tool_calls=[{"name": name, "arguments": arguments}])


def _plain_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call as `tool_calls` has it; in Ollama's own form it is inside of `function`."""
    inner: Any = call.get("function", call)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):  # pyright: ignore[reportUnknownMemberType]
        raise TypeError(f'a tool call is {{"name": ..., "arguments": {{...}}}}, not {dict(call)!r}')
    named = {"id": call["id"]} if "id" in call else {}
    return named | dict(cast("Mapping[str, Any]", inner))


DEFAULT = Script()

Scripted: TypeAlias = Script | str | Callable[[Request], "Script | str"]
"""A script, a text to answer with, or what makes one of the request that it is to answer."""


def as_script(scripted: Script | str) -> Script:
    """Return a script; a text is an answer of a token a word."""
    return Script(tokens=scripted) if isinstance(scripted, str) else scripted


def _in_words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


@dataclass
class Rule:
    """Scripts and the requests that they are for. `FakeOllama.script` returns it.

    Attributes:
        scripts: The answers, one a request, or functions that make them; the last one stays.
        paths: The paths that it is for; None is every path.
        method: The HTTP method that it is for; None is every method.
        model: The short name of the model that it is for; None is any, and none at all.
        times: How many requests it answers in all; None is for ever.
        is_first: Whether it wins over younger rules, too.
        used: How many requests it has answered, from 0.
    """

    scripts: Sequence[Scripted]
    paths: Collection[str] | None
    method: str | None
    model: str | None
    times: int | None
    is_first: bool = False
    used: int = 0

    @property
    def spent(self) -> bool:
        """Whether it has answered as often as it may."""
        return self.times is not None and self.used >= self.times

    def matches(self, request: Request) -> bool:
        """Return whether it is for this request."""
        return (
            not self.spent
            and (self.paths is None or request.path in self.paths)
            and (self.method is None or request.method == self.method)
            and (self.model is None or self.model == _model_of(request))
        )

    def take(self, request: Request) -> Script:
        """Return the next script; the last one stays when there is no next."""
        scripted = self.scripts[min(self.used, len(self.scripts) - 1)]
        self.used += 1
        made = scripted if isinstance(scripted, Script | str) else scripted(request)
        if not isinstance(made, Script | str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{made!r} is no Script, nor a text to answer with")
        return as_script(made)


def _model_of(request: Request) -> str:
    body = as_object(request.json)
    return short_name(str(body.get("model") or body.get("name") or "").lower())


class ScriptBook:
    """The rules in force. The youngest that matches answers, of those that come first before the others."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(
        self,
        scripts: Sequence[Scripted],
        *,
        paths: Collection[str] | None = None,
        method: str | None = None,
        model: str | None = None,
        times: int | None = None,
        is_first: bool = False,
    ) -> Rule:
        """Put a rule on top; no paths are every path."""
        scripts = [as_script(script) if isinstance(script, str) else script for script in scripts]
        for script in scripts:
            if not isinstance(script, Script) and not callable(script):
                raise TypeError(f"{script!r} is no Script, nor a text to answer with")
        wanted = short_name(model.lower()) if model else None
        rule = Rule(scripts, paths, method, wanted, times, is_first)
        self._rules.append(rule)
        return rule

    def take(self, request: Request) -> Script:
        """Return the script for a request; an empty one if no rule matches."""
        youngest = tuple(reversed(self._rules))
        for rule in sorted(youngest, key=lambda rule: not rule.is_first):
            if rule.matches(request):
                return rule.take(request)
        return DEFAULT

    @property
    def unused(self) -> list[Rule]:
        """The rules that have an answer which no request got."""
        return [rule for rule in self._rules if rule.used < len(rule.scripts)]

    def clear(self) -> None:
        """Forget all rules."""
        self._rules.clear()


def default_paths(scripts: Sequence[Scripted]) -> Collection[str] | None:
    """Return the paths of scripts that name none: chat and generate, or every path for mere faults."""
    # A text for every path would answer the client's look at /api/tags with a chat.
    meant = any(script.generates if isinstance(script, Script) else True for script in scripts)
    return GENERATION if meant else None
