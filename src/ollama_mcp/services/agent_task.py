"""A task of the agent: what is asked, what its operator permits, and the trace and answer of its run."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.ollama.api_models import ChatRequest
from ollama_mcp.ollama.sanitize import strip_invisible
from ollama_mcp.services.specs import ChatSpec, build_chat
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits
from ollama_mcp.sources import ToolSpec

STEPS = 6
"""Steps of a task, unless its caller says another number."""
MOST_STEPS = 20

AskUser = Callable[[str], Awaitable[None]]
"""Puts a question to the user and returns at a yes; raises `NotConfirmed` else."""


@dataclass(frozen=True)
class AgentSpec:
    """A checked task.

    Attributes:
        chat: Generation whose last message is the task.
        tools: Names or patterns of the tools that may be called; none: those that only read, on this machine.
        steps: Steps at most.
        conversation: Name of the conversation that it goes on with; "" for none.
    """

    chat: ChatSpec
    tools: tuple[str, ...] = ()
    steps: int = STEPS
    conversation: str = ""

    @property
    def task(self) -> str:
        """The task's text."""
        return self.request.messages[-1].content

    @property
    def request(self) -> ChatRequest:
        """Request of the chat."""
        assert isinstance(self.chat.request, ChatRequest)  # noqa: S101 - build_chat makes no other
        return self.chat.request


def build_agent(
    task: str,
    tools: Sequence[str] = (),
    steps: int = STEPS,
    conversation: str = "",
    limits: Limits = DEFAULT_LIMITS,
    **common: Any,
) -> AgentSpec:
    """Check a task; the other parameters are those of `build_chat`.

    Raises:
        InvalidArgument: As for a chat; there is no task, or too many steps.
    """
    if not task.strip():
        raise InvalidArgument("there is no task", 'Send "task".')
    if not 1 <= steps <= MOST_STEPS:
        raise InvalidArgument(f'"steps" is {steps}', f'Send "steps" from 1 to {MOST_STEPS}.')
    return AgentSpec(build_chat(prompt=task, limits=limits, **common), tuple(tools), steps, conversation)


@dataclass(frozen=True)
class Permissions:
    """Permissions of an agent, by its operator.

    Attributes:
        listed: Patterns of the tools that may be called, of a source that decides nothing itself.
        unasked: Patterns of those that need no question to the user.
    """

    listed: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()

    def reason_to_ask(self, tool: ToolSpec, read: frozenset[str]) -> str:
        """Return why the user has to be asked before a call; "" for no reason.

        Args:
            tool: The tool.
            read: Where the private text came from that the model has read.
        """
        if tool.is_named(self.unasked):
            return ""
        if not tool.is_read_only:
            return "it may change something"
        # What came from a server may go back to it, but not through a tool of its that reaches further.
        own = set[str]() if tool.is_open_world else {tool.remote_host}
        if tool.destination and read - own:
            return f"private text was read, and the call goes to {tool.destination}"
        return ""


@dataclass
class AgentCall:
    """A call of a tool, as it went.

    Attributes:
        step: Number of its step, from 1.
        tool: Name that the model called.
        arguments: Arguments, as far as they could be read.
        outcome: "ok", "failed", "refused" (by the user), "unknown" (no such tool), "invalid" (arguments),
            "repeated" (answered from memory); "" while it goes on, and where it was broken off.
        result: Text that the model got, without delimiters.
        seconds: Time that the tool took.
        sent_to: Where its arguments went; "" for nowhere beyond this machine.
        asked: Whether the user was asked.
    """

    step: int
    tool: str
    arguments: Mapping[str, Any]
    outcome: str = ""
    result: str = ""
    seconds: float = 0.0
    sent_to: str = ""
    asked: bool = False

    def __str__(self) -> str:
        """One line for a person: tool, arguments, what came, seconds."""
        came = " ".join(self.result.split())
        came = json.dumps(came if len(came) <= 60 else f"{came[:60]}…", ensure_ascii=False)
        if self.outcome == "ok":
            told = f"{came} ({len(self.result):,} character{'s' * (len(self.result) != 1)})"
        else:
            told = f"{self.outcome}: {came}" if self.outcome else "broken off"
        went = f", sent to {self.sent_to}" if self.sent_to else ""
        name = json.dumps(self.tool, ensure_ascii=False)[1:-1][:80]  # an unknown one may be anything
        return f"{name} {shown_arguments(self.arguments, 120)} → {told}, {self.seconds:.1f} s{went}"


@dataclass
class Trace:
    """The trace of a run: all that was called, and what ended it.

    Attributes:
        calls: Calls, in the order in which the model asked for them.
        steps: Steps that were begun.
        ended: What ended the calling early; "" where the model had its answer.
    """

    calls: list[AgentCall] = field(default_factory=list[AgentCall])
    steps: int = 0
    ended: str = ""

    def __str__(self) -> str:
        """The calls for people, a line each, and what ended them early."""
        lines = [f"{number}. {call}" for number, call in enumerate(self.calls, 1)]
        head = "\n".join(["Calls:", *lines]) if lines else "Calls: none."
        return f"{head}\nEnded early: {self.ended}." if self.ended else head

    def as_data(self) -> dict[str, Any]:
        """Return the trace as plain data."""
        return asdict(self)


class AgentAnswer(Answer):
    """An answer with the calls that led to it, which also stand at the end of its text.

    Attributes:
        response: Text of the model alone.
        trace: Calls and steps.

    Example:
        answer = await ollama_agent(app, "Which files mention parking?", ctx=ctx)
        answer.response, [call.tool for call in answer.calls]
    """

    __slots__ = ("response", "trace")

    response: str
    trace: Trace

    @property
    def calls(self) -> list[AgentCall]:
        """Calls, in their order."""
        return self.trace.calls

    @property
    def size(self) -> int:
        """Bytes, about, that it takes with its trace."""
        return super().size + sum(2 * len(call.result) for call in self.trace.calls)


def question_about(tool: ToolSpec, arguments: Mapping[str, Any], reason: str) -> str:
    """Return the question to a user about a call, by name and arguments."""
    return f"May the local model call {tool.name} with {shown_arguments(arguments, 1000)}? ({reason})"


def shown_arguments(arguments: Mapping[str, Any], most: int) -> str:
    """Return arguments as one line of JSON that has nothing invisible; what is left out is counted."""
    text = strip_invisible(json.dumps(arguments, ensure_ascii=False, default=str))[0]
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"
