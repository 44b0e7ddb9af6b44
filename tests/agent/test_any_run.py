"""Any run: whatever a model asks for, tools do and users answer, the loop keeps its promises."""

import asyncio
import copy
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_mcp.errors import (
    BadUpstream,
    Busy,
    ContextOverflow,
    NotConfirmed,
    OllamaError,
    StreamBroken,
    Upstream,
)
from ollama_mcp.jobs.answers import Answer, Stats
from ollama_mcp.jobs.job import Job
from ollama_mcp.ollama.api_models import ToolCall, ToolFunction
from ollama_mcp.services.agent_loop import MOST_CALLS, Agent
from ollama_mcp.services.agent_task import Permissions, Trace, build_agent
from ollama_mcp.services.schema import SchemaValidator
from ollama_mcp.sources import Passage, SourceError, ToolList, ToolSpec

QUERY = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
HINT = st.sampled_from([True, False, None])
NAMES = [f"tool_{n}" for n in range(5)]
FAILURES = [
    BadUpstream("nothing", "r"),
    Upstream("a call", "r", call="tool_0"),
    Upstream("dead", "r"),
    ContextOverflow("full", "r"),
    Busy("full", "r", retry_after_s=3.0),
    StreamBroken("gone", "r"),
]

tools = st.builds(
    ToolSpec,
    name=st.sampled_from(NAMES),
    parameters=st.sampled_from([QUERY, {}, {}, {"type": "nonsense"}]),
    is_read_only=st.sampled_from([True, True, True, False, None]),
    is_open_world=HINT,
    is_destructive=HINT,
    is_permitted=st.sampled_from([True, True, True, False, None]),
    remote_host=st.sampled_from(["", "a.example", "b.example"]),
)
calls = st.tuples(
    st.sampled_from([*NAMES, *NAMES, "tool_", "ollama_chat"]),
    st.sampled_from([{"query": "a"}, {"query": "b"}, {"query": 3}, {"q": "a"}, {}]),
)
turns = st.one_of(
    st.lists(calls, min_size=1, max_size=4),
    st.lists(calls, min_size=1, max_size=2),
    st.lists(calls, min_size=MOST_CALLS, max_size=MOST_CALLS + 3),
    st.sampled_from(FAILURES),
    st.just("an answer"),
)


@dataclass
class Plan:
    tools: list[ToolSpec]
    turns: list[Any]
    deeds: list[str]
    answers: list[bool]
    can_ask: bool
    listed: tuple[str, ...]
    unasked: tuple[str, ...]
    named: tuple[str, ...]
    steps: int
    cancelled_after: float | None


PATTERNS = st.sampled_from([(), ("*",), ("tool_1",), ("tool_[0-2]", "tool_4"), ("read-only",)])
plans = st.builds(
    Plan,
    tools=st.lists(tools, min_size=2, max_size=5, unique_by=lambda tool: tool.name),
    turns=st.lists(turns, max_size=9),
    deeds=st.lists(st.sampled_from(["says", "fails", "hangs", "refuses"]), max_size=20),
    answers=st.lists(st.booleans(), max_size=8),
    can_ask=st.booleans(),
    listed=PATTERNS,
    unasked=st.one_of(st.just(()), PATTERNS),
    named=st.sampled_from([("*",), ("*",), ("tool_[12]",), ()]),
    steps=st.integers(1, 6),
    cancelled_after=st.one_of(st.none(), st.floats(0, 100)),
)


@dataclass
class World:
    """Everything around the loop; checks each call of a tool as it comes."""

    plan: Plan
    requests: list[Any] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    approved: Counter[str] = field(default_factory=Counter)
    private: set[str] = field(default_factory=set)
    private_now: set[str] = field(default_factory=set)

    # --- the model

    async def resolve(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(model=SimpleNamespace(name="m"), why="newest")

    async def check(self, *_: Any) -> None:
        pass

    async def answer(self, spec: Any, _part: Any, *, bounded: bool) -> Answer:
        assert not (bounded and self.made), "who has begun waits for its turn"
        self.private |= self.private_now  # the model reads them with this request
        await asyncio.sleep(1)
        self.requests.append(spec.request)
        turn = self.plan.turns.pop(0) if self.plan.turns else "an answer"
        if isinstance(turn, OllamaError):
            raise copy.copy(turn)  # it is changed on its way
        if isinstance(turn, str) or not spec.request.tools:
            return Answer("an answer", stats=Stats("m"))
        asked = [ToolCall(id="same", function=ToolFunction(name=name, arguments=dict(a))) for name, a in turn]
        return Answer("", stats=Stats("m"), tool_calls=asked)

    # --- the tools

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        return ToolList(self.plan.tools)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        tool = next(tool for tool in self.plan.tools if tool.name == name)
        plan, listed = self.plan, Permissions(self.plan.listed).listed
        assert tool.is_permitted is not False
        assert tool.is_permitted or tool.is_listed(listed)
        assert tool.is_named(plan.named) if plan.named else tool.is_read_only and not tool.destination
        goes = tool.remote_host or tool.is_open_world
        elsewhere = self.private - ({tool.remote_host} if not tool.is_open_world else set())
        if not tool.is_named(plan.unasked) and (not tool.is_read_only or (goes and elsewhere)):
            assert self.approved[name] > 0, f"{name} was called unasked"
            self.approved[name] -= 1
        self.made[name] += 1
        if not tool.is_open_world:
            self.private_now.add(tool.remote_host)
        deed = plan.deeds.pop(0) if plan.deeds else "says"
        await asyncio.sleep(1000 if deed == "hangs" else 0.3)
        if deed == "fails":
            raise SourceError("the disk is on fire")
        if deed == "refuses":
            raise Busy("full", "Later.")
        return [Passage("said", name)]

    # --- the user

    async def ask(self, question: str) -> None:
        await asyncio.sleep(2)
        if not (self.plan.answers.pop(0) if self.plan.answers else False):
            raise NotConfirmed("the user said no", "r")
        self.approved[question.split()[5]] += 1


def check_messages(request: Any) -> None:
    """One message for each call, in order, with ids that are used once."""
    waiting: list[Any] = []
    seen: set[str] = set()
    for message in request.messages:
        if message.role == "tool":
            call = waiting.pop(0)
            assert (message.tool_call_id, message.tool_name) == (call.id, call.function.name)
            assert message.content
        else:
            assert not waiting
            waiting = list(message.tool_calls or ())
            assert not seen & {call.id for call in waiting}
            seen |= {call.id for call in waiting}
    assert not waiting


async def run(plan: Plan) -> None:
    world, trace = World(plan), Trace()
    model = SimpleNamespace(catalog=world, settings=SimpleNamespace(chat_model=""))
    agent = Agent(model, world, None, None, SchemaValidator())  # type: ignore[arg-type]
    spec = build_agent("a task", plan.named, plan.steps)
    job: Job[Any] = Job()
    permissions = Permissions(plan.listed, plan.unasked)
    job.run(agent.run(spec, world, permissions, job, world.ask if plan.can_ask else None, trace))
    if plan.cancelled_after is not None:
        await asyncio.sleep(plan.cancelled_after)
        before = asyncio.get_running_loop().time()
        await job.stop()
        assert asyncio.get_running_loop().time() - before <= 0.1
    try:
        answer = await job.wait(100_000)
    except OllamaError:
        answer = None
    assert job.finished
    for request in world.requests:
        check_messages(request)
    with_tools = sum(bool(request.tools) for request in world.requests)
    assert with_tools <= plan.steps + 1  # an overflow
    assert trace.steps <= plan.steps
    assert len({call.step for call in trace.calls}) <= plan.steps
    assert sum(world.made.values()) <= plan.steps * MOST_CALLS
    assert sum(call.outcome in ("ok", "failed") for call in trace.calls) <= sum(world.made.values())
    if answer is not None:
        assert all(call.outcome for call in answer.calls)
        assert answer.startswith("an answer\n\nCalls:")
        assert json.dumps(trace.as_data())


@given(plans)
def test_any_run_keeps_its_promises(virtually: Any, plan: Plan):
    virtually(lambda: run(plan))


@pytest.mark.long
@settings(max_examples=10_000)
@given(plans)
def test_ten_thousand_runs_keep_their_promises(virtually: Any, plan: Plan):
    virtually(lambda: run(plan))
