"""Agent: a local model that works on a task with tools, step by step.

A step is one turn of the model and the calls that it asks for. The model gets one message for each call, in
order; what a tool says is data. Who operates the server decides which tools there are, and which need no
question to the user; the model decides neither.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ollama_mcp.errors import (
    ARGUMENTS,
    BadUpstream,
    ContextOverflow,
    InvalidArgument,
    NotConfirmed,
    OllamaError,
    Upstream,
)
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.job import Job, JobState, Part
from ollama_mcp.ollama.api_models import Message
from ollama_mcp.ollama.sanitize import strip_invisible
from ollama_mcp.services.agent_task import (
    AgentAnswer,
    AgentCall,
    AgentSpec,
    AskUser,
    Permissions,
    Trace,
    question_about,
)
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.conversations import Continued, Conversations
from ollama_mcp.services.generation import Generator
from ollama_mcp.services.retrieval import Retriever
from ollama_mcp.services.schema import SchemaValidator
from ollama_mcp.services.specs import ChatSpec
from ollama_mcp.services.untrusted import fenced
from ollama_mcp.sources import Passage, SourceError, ToolList, ToolSource, ToolSpec, call_tool, is_nested

TOOL_S = 60.0
"""Seconds that a tool has."""
MOST_OFFERED = 20
"""Tools that the model is told of. Of 60, the right one was among the 20 nearest for 15 of 15 tasks."""
LONGEST_RESULT = 6000
"""Characters of a result that the model gets."""
MOST_CALLS = 16
"""Calls of one step."""
_SHORTENED, _SHORTENED_NEWEST = 300, 1500
"""Characters of a result of an earlier step, and of the newest one, once the context window is full."""
_STRIKES = 2
"""Calls of tools that do not exist, or that cannot be read, which end the calling."""
_REPEATS = 3
"""Identical calls that end it."""
_MOST_NAMED = 20
_REMEMBERED = 2000
"""Tokens of earlier turns of a conversation: the room is for results."""
_ARGUMENTS = ("model", "system", "options", "schema")
_WRAP_UP = "Answer the task now with what you know, without calling tools. Say what is missing."
_AS_JSON = "Give your answer to the task now, as JSON that fits the schema, without calling tools."
_UNREADABLE = (
    "Your last call of a tool could not be read. Call it again, with its arguments as a JSON object."
)


@dataclass
class _Run:
    """A run: what the model is told, and what it has done."""

    spec: AgentSpec
    tools: Mapping[str, ToolSpec]
    source: ToolSource
    permissions: Permissions
    ask: AskUser | None
    job: Job[Any]
    trace: Trace
    messages: list[Message]
    sent: ChatSpec
    """Last request to the model."""
    read: set[str] = field(default_factory=set[str])
    """Where private text came from: a host, or "" for this machine."""
    memory: dict[str, str] = field(default_factory=dict[str, str])
    """Results by call; what changes something empties it."""
    times: Counter[str] = field(default_factory=Counter[str])
    strikes: int = 0
    places: list[int] = field(default_factory=list[int])
    """Place among the messages of each result, in the order of the trace's calls."""
    is_shortened: bool = False
    notes: dict[str, None] = field(default_factory=dict[str, None])
    tokens: int = 0
    begun: float = field(default_factory=time.monotonic)


class Agent:
    """Lets a model work on tasks with tools, one job a task.

        spec = build_agent("Which files mention parking?")
        job = app.jobs.start(lambda job: app.agent.run(spec, source, Permissions(), job))

    Args:
        backend: Models and settings.
        generator: What answers.
        retriever: What finds the nearest of many tools.
        conversations: What is remembered.
        schema_validator: What checks arguments against the schemas of tools.
    """

    def __init__(
        self,
        backend: OllamaBackend,
        generator: Generator,
        retriever: Retriever,
        conversations: Conversations,
        schema_validator: SchemaValidator,
    ) -> None:
        self._catalog = backend.catalog
        self._settings = backend.settings
        self._generator = generator
        self._retriever = retriever
        self._conversations = conversations
        self._schema_validator = schema_validator

    async def run(
        self,
        spec: AgentSpec,
        source: ToolSource | None,
        permissions: Permissions,
        job: Job[Any],
        ask: AskUser | None = None,
        trace: Trace | None = None,
    ) -> AgentAnswer:
        """Work on one task.

        Args:
            spec: The task.
            source: Tools that there are.
            permissions: Permissions, by the operator.
            job: Job that shows each step.
            ask: Puts a question to the user; None: what wants one is refused, and the model told so.
            trace: Filled while it goes on.

        Raises:
            InvalidArgument: No tool may be called, or the task comes from a tool that was called itself.
            OllamaError: As of a generation; `partial_text` has the calls that were made.
        """
        if is_nested():
            raise InvalidArgument(
                "a tool that was called by a tool gives a task to an agent", "Answer without ollama_agent."
            )
        # An agent cannot do without tools, so that no remedy may say so. This holds for this job only.
        ARGUMENTS.set(frozenset(ARGUMENTS.get() or _ARGUMENTS) - {"tools"})
        await self._generator.check(spec.chat)
        trace = Trace() if trace is None else trace
        needs = (*spec.chat.needs, "tools")
        choice = await self._catalog.resolve(spec.request.model, needs, default=self._settings.chat_model)
        tools = await self._offered(spec, source, permissions, job)
        assert source is not None  # noqa: S101 - else there are no tools
        request = spec.request.model_copy(update={"model": choice.model.name})
        spec = replace(spec, chat=replace(spec.chat, request=request))
        continued: Continued | None = None
        if spec.conversation:
            continued = await self._conversations.begin(spec.chat, spec.conversation, job, _REMEMBERED)
            spec = replace(spec, chat=continued.spec)
            request = spec.request
        run = _Run(spec, tools, source, permissions, ask, job, trace, [*request.messages], spec.chat)
        if continued and continued.conversation.count:
            run.read.add("")  # an earlier run may have read it
        try:
            answer = await self._work(run)
        except OllamaError as error:
            calls = [str(trace)] if trace.calls else []
            error.partial_text = "\n\n".join(filter(None, [error.partial_text, *calls]))
            raise
        is_json = spec.chat.schema is not None
        text = str(answer) if is_json else f"{answer}\n\n{trace}"  # nothing is put behind JSON
        job.settle(text)
        stats = replace(
            answer.stats,
            chosen=choice.why,
            output_tokens=run.tokens or None,
            total_s=round(time.monotonic() - run.begun, 3),
        )
        found = AgentAnswer(
            text,
            stats=stats,
            thinking=answer.thinking,
            logprobs=answer.logprobs,
            notes=[*job.notes, *run.notes],
            cut=answer.cut,
            prompt_cut=answer.prompt_cut,
        )
        found.response, found.trace = str(answer), trace
        if continued is not None:
            told = [
                message.model_copy(update={"content": shortened(message.content, _SHORTENED_NEWEST)})
                for message in run.messages[len(request.messages) :]
                if message.role == "tool" or message.tool_calls
            ]
            continued = replace(continued, spec=run.sent, new=[*continued.new, *told])
            await self._conversations.finish(continued, found, job, found.response)
        return found

    async def _offered(
        self, spec: AgentSpec, source: ToolSource | None, permissions: Permissions, job: Job[Any]
    ) -> dict[str, ToolSpec]:
        """Return the tools that the model is told of.

        Raises:
            InvalidArgument: There are none.
        """
        job.show(["looking for tools"])
        try:
            listed = await source.tools(spec.tools or None) if source else ToolList()
        except SourceError as error:
            raise InvalidArgument(f"tools cannot be listed: {error}", "Try again later.") from None
        failed = list(listed.failures.values())
        job.notes.extend(failed)
        allowed = [tool for tool in listed if tool.is_listed(permissions.listed)]
        if spec.tools:
            chosen = [tool for tool in allowed if tool.is_named(spec.tools)]
        else:
            chosen = [tool for tool in allowed if tool.is_read_only and not tool.destination]
        if not chosen:
            named = f" of {', '.join(spec.tools)}" if spec.tools else " that only reads"
            unlisted = [tool.name for tool in listed if tool.is_named(spec.tools) and tool not in allowed]
            if unlisted:
                failed.append(
                    f"the operator has not listed {', '.join(unlisted[:_MOST_NAMED])} (agent_tools)"
                )
            why = f": {'; '.join(failed)}" if failed else ""
            known = ", ".join(sorted(tool.name for tool in allowed)[:_MOST_NAMED])
            if known:
                remedy = f'Name some in "tools": there are {known}.'
            elif failed:
                remedy = "Have the operator mend that; ollama_chat needs no tools."
            else:
                remedy = "The operator can name servers in OLLAMA_MCP_UPSTREAM; ollama_chat needs no tools."
            raise InvalidArgument(f"there is no tool{named} here{why}", remedy)
        if len(chosen) > MOST_OFFERED:
            job.show([f"choosing among {len(chosen)} tools"])
            by_name = {tool.name: tool for tool in chosen}
            about = [
                Passage(f"{tool.name.replace('_', ' ')}: {tool.description}"[:1000], tool.name)
                for tool in chosen
            ]
            ranked = await self._retriever.rank(spec.task, about, Part("texts", job.caller))
            job.notes.append(f"the {MOST_OFFERED} of {len(chosen)} tools nearest to the task were offered")
            chosen = [by_name[passage.source] for passage in ranked.passages[:MOST_OFFERED]]
        job.show(None)
        return {tool.name: tool for tool in chosen}

    async def _work(self, run: _Run) -> Answer:
        """Go on step by step until the model answers, or may not go on; then have it answer."""
        trace, schema = run.trace, run.spec.chat.schema
        for trace.steps in range(1, run.spec.steps + 1):
            try:
                answer = await self._turn(run, with_tools=True)
            except BadUpstream:
                if not trace.calls:
                    raise
                trace.ended = "the model said nothing"
                break
            except Upstream as error:
                if "call" not in error.details:
                    raise
                run.strikes += 1
                said = [Message(role="assistant", content=error.partial_text)] if error.partial_text else []
                run.messages += [*said, Message(role="user", content=_UNREADABLE)]
                if run.strikes >= _STRIKES:
                    trace.ended = "the model wrote calls that cannot be read"
                    break
                continue
            if not answer.tool_calls:
                if schema is None:
                    return answer
                run.messages.append(Message(role="assistant", content=str(answer)))
                return await self._turn(run, with_tools=False)
            await self._make_calls(run, answer)
            if run.strikes >= _STRIKES:
                trace.ended = "the model called tools that do not exist"
            elif max(run.times.values(), default=0) >= _REPEATS:
                trace.ended = "the model repeated itself"
            if trace.ended:
                break
        else:
            trace.ended = (
                f"{run.spec.steps} steps were used" if run.spec.steps > 1 else "its one step was used"
            )
        return await self._turn(run, with_tools=False)

    async def _turn(self, run: _Run, *, with_tools: bool) -> Answer:
        """Have the model write once; again with shorter results, if these do not fit."""
        spec, job = run.spec, run.job
        title = f"step {run.trace.steps} of {spec.steps}" if with_tools else "answering"
        if with_tools:
            tools = [_definition(tool) for tool in run.tools.values()]
            more: dict[str, Any] = {"tools": tools, "format": None}
            base, asks = replace(spec.chat, needs=(*spec.chat.needs, "tools"), schema=None), []
        else:
            more, base = {}, spec.chat
            asks = [Message(role="user", content=_WRAP_UP if spec.chat.schema is None else _AS_JSON)]
        while True:
            update = {"messages": [*run.messages, *asks], **more}
            run.sent = replace(base, request=spec.request.model_copy(update=update))
            part = job.part(title)
            try:
                answer = await self._generator.answer(run.sent, part, bounded=not run.trace.calls)
            except ContextOverflow:
                if run.is_shortened or not _shorten(run):
                    raise
                run.is_shortened = True
                run.notes["older results were shortened: the context window was full"] = None
            else:
                run.tokens += answer.stats.output_tokens or 0
                job.model = part.model
                return answer
            finally:
                run.notes.update(dict.fromkeys(part.notes))

    async def _make_calls(self, run: _Run, answer: Answer) -> None:
        """Make the calls of a step: side by side if they only read, else one after another."""
        step, job = run.trace.steps, run.job
        # Ids of our own: those of models repeat in later steps, and in later runs of a conversation.
        ids = [f"call_{secrets.token_hex(4)}" for _ in answer.tool_calls]
        asked = [
            call.model_copy(update={"id": name}) for call, name in zip(answer.tool_calls, ids, strict=True)
        ]
        made = [AgentCall(step, call.function.name, dict(call.function.arguments)) for call in asked]
        run.trace.calls += made
        said = Message(
            role="assistant", content=str(answer), thinking=answer.thinking or None, tool_calls=asked
        )
        # Arguments can only carry out what was read before this step.
        read = frozenset(run.read)
        names = ", ".join(dict.fromkeys(call.tool for call in made))
        begun = time.monotonic()
        job.tell = lambda: [
            f"step {step} of {run.spec.steps}", names, f"{int(time.monotonic() - begun)} s"
        ]  # fmt: skip
        job.advance(JobState.WORKING, 1)  # a unit, so that progress tells the tool at once

        for call in made[MOST_CALLS:]:
            call.outcome, call.result = "invalid", f"At most {MOST_CALLS} calls in one step. Call again."
        wanted = made[:MOST_CALLS]
        known = [run.tools.get(call.tool) for call in wanted]
        is_reading = all(t and t.is_read_only and not run.permissions.reason_to_ask(t, read) for t in known)
        if is_reading and len({_key(call) for call in wanted}) == len(wanted):
            tasks = [asyncio.create_task(self._make(run, call, read)) for call in wanted]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
        else:
            for call in wanted:
                await self._make(run, call, read)
        run.strikes += any(call.outcome == "unknown" for call in made)
        run.messages.append(said)
        for name, call in zip(ids, made, strict=True):
            run.places.append(len(run.messages))
            run.messages.append(_result(call, name, call.result))

    async def _make(self, run: _Run, call: AgentCall, read: frozenset[str]) -> None:
        """Make one call, if it may be made; its outcome and text are for the model."""
        tool = run.tools.get(call.tool)
        if tool is None:
            near = difflib.get_close_matches(call.tool, run.tools, n=3, cutoff=0.5) or [*run.tools]
            call.outcome = "unknown"
            call.result = f"There is no tool {call.tool[:80]!r}. There are {', '.join(near)}."
            return
        call.arguments = coerced(call.arguments, tool.parameters)
        wrong = await self._violations(call.arguments, tool.parameters)
        if wrong:
            takes = json.dumps(tool.parameters.get("properties") or {}, ensure_ascii=False)
            call.outcome = "invalid"
            call.result = f"{'; '.join(wrong)}. {tool.name} takes {takes[:800]}"
        key = _key(call)
        run.times[key] += 1
        if wrong:
            return
        if key in run.memory:
            call.outcome = "repeated"
            call.result = f"You made this very call before. It gave: {run.memory[key]}"
            return
        if reason := run.permissions.reason_to_ask(tool, read):
            call.asked = run.ask is not None
            refusal = "the user cannot be asked here"
            if run.ask is not None:
                try:
                    await run.ask(question_about(tool, call.arguments, reason))
                    refusal = ""
                except NotConfirmed as error:
                    refusal = error.cause
            if refusal:
                call.outcome, call.result = "refused", f"Not done: {refusal}. Do without it, and say so."
                run.memory[key] = call.result
                return
        if not tool.is_read_only:
            run.memory.clear()  # what was read may have changed
            run.times = Counter({key: run.times[key]})
        call.sent_to = tool.destination
        begun = time.monotonic()
        try:
            passages = await call_tool(run.source, tool.name, call.arguments, TOOL_S)
        except SourceError as error:
            call.outcome, text = "failed", f"It failed: {' '.join(str(error).split())[:400]}"
        else:
            call.outcome, text = "ok", "\n\n".join(map(_text_of, passages)) or "(nothing)"
        call.seconds = round(time.monotonic() - begun, 3)
        if not tool.is_open_world:
            run.read.add(tool.remote_host)
        call.result = run.memory[key] = shortened(strip_invisible(text)[0], LONGEST_RESULT)

    async def _violations(self, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
        """Return what keeps arguments from fitting a tool's schema; nothing where that is none itself."""
        if not schema:
            return []
        try:
            await self._schema_validator.check(schema)
            return await self._schema_validator.violations(json.dumps(arguments), schema)
        except (InvalidArgument, ValueError, RecursionError):
            return []  # the server will say


def shortened(text: str, most: int) -> str:
    r"""Return a text whose middle is left out, if it is too long.

    >>> shortened("abcdefgh", 4)
    'abc\n[… 4 characters left out …]\nh'
    """
    if len(text) <= most:
        return text
    head, tail = most * 3 // 4, most // 4
    return f"{text[:head]}\n[… {len(text) - head - tail} characters left out …]\n{text[-tail:]}"


def coerced(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in the types of a schema, where a small model wrote another that means the same.

    >>> coerced({"n": "3", "name": 7}, {"properties": {"n": {"type": "integer"}, "name": {"type": "string"}}})
    {'n': 3, 'name': '7'}
    """
    properties = schema.get("properties")
    table = cast("Mapping[str, Any]", properties if isinstance(properties, Mapping) else {})

    def typed(value: Any, kind: Any) -> Any:
        if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and kind in ("integer", "number", "boolean", "array", "object"):
            try:
                return json.loads(value.lower() if kind == "boolean" else value)
            except (ValueError, RecursionError):
                return value
        return value

    kinds = {
        name: cast("Mapping[str, Any]", one).get("type")
        for name, one in table.items()
        if isinstance(one, Mapping)
    }
    return {name: typed(value, kinds.get(name)) for name, value in arguments.items()}


def _definition(tool: ToolSpec) -> dict[str, Any]:
    """Return a tool in Ollama's form."""
    function = {
        "name": tool.name,
        "description": strip_invisible(tool.description)[0][:1000],
        "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _result(call: AgentCall, number: str, text: str) -> Message:
    """Return the message of a result. What a tool said stands between delimiters; what we say does not."""
    if call.outcome in ("ok", "failed", "repeated"):
        text = fenced([(call.tool, text)], "tool").strip()
    return Message(role="tool", content=text, tool_name=call.tool, tool_call_id=number)


def _shorten(run: _Run) -> bool:
    """Shorten the results of earlier steps, else of the newest one; return whether one was long."""
    newest = run.trace.calls[-1].step if run.trace.calls else 0
    for is_newest, most in ((False, _SHORTENED), (True, _SHORTENED_NEWEST)):
        long = [
            (place, call)
            for place, call in zip(run.places, run.trace.calls, strict=True)
            if (call.step == newest) is is_newest and len(call.result) > most
        ]
        for place, call in long:
            number = run.messages[place].tool_call_id or ""
            run.messages[place] = _result(call, number, shortened(call.result, most))
        if long:
            return True
    return False


def _key(call: AgentCall) -> str:
    return f"{call.tool} {json.dumps(call.arguments, sort_keys=True, default=str)}"


def _text_of(passage: Passage) -> str:
    named = " · ".join(filter(None, [passage.title, passage.uri]))
    return f"{named}\n{passage.text}" if named else passage.text
