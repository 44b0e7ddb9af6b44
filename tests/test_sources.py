"""Tools that are asked for context: which may be, with which arguments; one that fails is a row."""

import asyncio
import threading
import time

import pytest

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.sources import (
    MOST_TOOLS,
    READ_ONLY,
    Passage,
    SourceError,
    SourceReport,
    ToolList,
    ToolSpec,
    ToolUse,
    arguments_for,
    gather,
)

pytestmark = pytest.mark.anyio
TEXT = {"type": "string"}


def takes(required=(), **properties):
    return ToolSpec("t", parameters={"properties": properties, "required": list(required)})


class Tools:
    """A source of a few tools, each a function of its arguments."""

    def __init__(self, **functions):
        self.functions = functions
        self.asked = []

    async def tools(self, wanted=None):
        schema = {"properties": {"q": TEXT}, "required": ["q"]}
        return ToolList(ToolSpec(name, parameters=schema, is_read_only=True) for name in self.functions)

    async def call(self, name, arguments):
        self.asked.append((name, dict(arguments)))
        return await self.functions[name](**arguments)


async def says(q):
    return [Passage(f"about {q}", "says")]


async def fails(q):
    raise SourceError("no such\ndatabase")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (takes(["question_of_mine"], question_of_mine=TEXT), {"question_of_mine": "why?"}),
        (takes([], limit={"type": "integer"}, q=TEXT), {"q": "why?"}),
        (takes([], anything=TEXT), {"anything": "why?"}),
        (takes([], a=TEXT, b=TEXT), {}),
        (takes([]), {}),
        (takes(["q"], q={"type": ["string", "null"]}), {"q": "why?"}),
        (takes(["q"], q={"anyOf": [TEXT, {"type": "null"}]}), {"q": "why?"}),
    ],
)
async def test_the_question_goes_to_the_parameter_that_takes_one(tool, arguments):
    assert arguments_for(ToolUse("t"), tool, "why?") == arguments


@pytest.mark.parametrize(
    "tool",
    [
        takes(["q", "n"], q=TEXT, n={"type": "integer"}),
        takes(["n"], n={"type": "integer"}),
        takes(["kind"], kind={"type": "string", "enum": ["a"]}),
    ],
)
async def test_a_tool_that_needs_more_is_told_with_the_form_to_send(tool):
    with pytest.raises(InvalidArgument) as caught:
        arguments_for(ToolUse("t"), tool, "why?")
    assert '{"tool": "t", "arguments": {"' in caught.value.remedy
    assert "$query" in caught.value.remedy


async def test_arguments_of_the_caller_get_the_question_wherever_it_is_named():
    use = ToolUse.parse({"tool": "t", "arguments": {"a": ["x $query", {"b": "$query"}], "n": 1}})
    assert arguments_for(use, takes(), "why?") == {"a": ["x why?", {"b": "why?"}], "n": 1}


@pytest.mark.parametrize(
    "raw", ["", "  ", "{", '{"tool": 1}', {"name": "t"}, {"tool": "t", "arguments": 1}, 5, None]
)
async def test_what_names_no_tool_is_refused(raw):
    with pytest.raises(InvalidArgument, match="neither a name nor an object"):
        ToolUse.parse(raw)


async def test_an_object_may_come_as_json_text():
    assert ToolUse.parse('{"tool": "t", "arguments": {"q": "x"}}') == ToolUse("t", {"q": "x"})


@pytest.mark.parametrize(
    ("patterns", "hints", "allowed"),
    [
        ([READ_ONLY], {"is_read_only": True}, True),
        ([READ_ONLY], {"is_read_only": True, "is_open_world": False}, True),
        ([READ_ONLY], {"is_read_only": True, "is_open_world": True}, False),
        ([READ_ONLY], {}, False),
        (["t*"], {}, True),
        (["t"], {"is_read_only": True, "is_open_world": True}, True),
        (["*"], {"is_destructive": True}, False),
        (["x*"], {"is_read_only": True}, False),
        ([], {"is_read_only": True}, False),
    ],
)
async def test_a_tool_is_allowed_by_its_name_or_by_its_hints(patterns, hints, allowed):
    assert ToolSpec("t", **hints).is_allowed(patterns) is allowed


async def test_tools_are_asked_side_by_side_and_one_that_fails_is_a_row():
    source = Tools(says=says, fails=fails)
    uses = [ToolUse("fails"), ToolUse("says"), ToolUse("gone")]
    passages, reports = await gather(uses, "why?", source, [READ_ONLY])
    assert passages == [Passage("about why?", "says")]
    assert reports == [
        SourceReport("fails", error="no such database"),
        SourceReport("says", 1),
        SourceReport("gone", error="there is no such tool, or it may not be called"),
    ]


async def test_a_pattern_asks_every_tool_of_that_name():
    source = Tools(notes_a=says, notes_b=says, other=says)
    _, reports = await gather([ToolUse("notes_*")], "why?", source, [READ_ONLY])
    assert [report.source for report in reports] == ["notes_a", "notes_b"]


async def test_without_a_tool_that_may_be_called_those_that_may_be_are_named():
    with pytest.raises(InvalidArgument) as caught:
        await gather([ToolUse("gone")], "why?", Tools(b=says, a=says), [READ_ONLY])
    assert caught.value.remedy == "There are a, b."
    with pytest.raises(InvalidArgument, match="there is no context tool gone"):
        await gather([ToolUse("gone")], "why?", None, [READ_ONLY])


async def test_too_many_tools_are_refused():
    source = Tools(**{f"t{n}": says for n in range(MOST_TOOLS + 1)})
    with pytest.raises(InvalidArgument, match="17 context tools are named"):
        await gather([ToolUse("*")], "why?", source, [READ_ONLY])
    assert not source.asked


async def test_a_tool_that_is_asked_for_context_cannot_ask_for_context():
    async def recurses(q):
        return (await gather([ToolUse("says")], q, source, [READ_ONLY]))[0]

    source = Tools(says=says, recurses=recurses)
    _, reports = await gather([ToolUse("recurses")], "why?", source, [READ_ONLY])
    assert "asks for context again" in reports[0].error
    assert (await gather([ToolUse("says")], "why?", source, [READ_ONLY]))[0]  # outside of it, one may again


@pytest.mark.real_time
async def test_a_tool_in_a_thread_that_does_not_end_is_given_up():
    go_on = threading.Event()

    async def blocks(q):
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, go_on.wait))
        return []

    started = time.monotonic()
    _, reports = await gather([ToolUse("blocks")], "why?", Tools(blocks=blocks), [READ_ONLY], each_s=0.05)
    took = time.monotonic() - started
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert reports == [SourceReport("blocks", error="no answer within 0.05 s")]
    assert took < 5


async def test_a_question_that_is_cancelled_cancels_its_tools():
    cancelled = asyncio.Event()

    async def waits(q):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(gather([ToolUse("waits")], "why?", Tools(waits=waits), [READ_ONLY]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(cancelled.wait(), 5)
