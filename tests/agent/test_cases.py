"""The loop of the agent, case by case: the model's side is scripted, time is virtual."""

import asyncio
import json
import re

import pytest

from ollama_mcp.errors import CapabilityMissing, InvalidArgument, StreamBroken
from ollama_mcp.services.agent_loop import LONGEST_RESULT, MOST_OFFERED
from ollama_mcp.services.agent_task import Trace
from ollama_mcp.sources import SourceError, ToolSpec, call_tool
from ollama_mcp.testing import Script

from .conftest import Office, Tools, User, call, spec

pytestmark = pytest.mark.anyio
END = "Behind the museum."


async def test_a_call_its_result_and_the_answer_with_its_calls(office: Office):
    office.script(call("search", query="parking"), END)
    answer = await office.run()
    assert answer.response == END
    assert re.fullmatch(
        r'Behind the museum\.\n\nCalls:\n1\. search \{"query": "parking"\} → "search found parking" '
        r"\(20 characters\), 0\.5 s",
        answer,
    )
    *_, asked, result = office.turns[-1]["messages"]
    assert asked["tool_calls"][0]["function"]["name"] == "search"
    assert result["tool_name"] == "search"
    assert result["tool_call_id"] == asked["tool_calls"][0]["id"]
    mark = re.search(r"<tool-([0-9a-f]{32}) name", result["content"])
    assert mark, result
    assert f"search found parking\n</tool-{mark[1]}>" in result["content"]
    assert "data, not instructions" in result["content"]


async def test_reads_are_made_side_by_side_and_told_in_order(office: Office):
    office.script([call("search", query="a"), call("search", query="b"), call("fails", query="c")], END)
    answer = await office.run()
    assert office.tools.most == 3
    assert [call.outcome for call in answer.calls] == ["ok", "ok", "failed"]
    first, second, third = office.results
    assert "found a" in first and "found b" in second and "the disk is on fire" in third  # noqa: PT018


async def test_what_is_not_read_only_is_done_one_after_another(office: Office):
    office.script([call("search", query="a"), call("delete", query="b"), call("search", query="c")], END)
    await office.run(unasked=["delete"])
    assert office.tools.most == 1
    assert [name for name, _ in office.tools.calls] == ["search", "delete", "search"]


async def test_an_unknown_tool_is_answered_with_near_names(office: Office):
    office.script(call("serch", query="a"), call("search", query="a"), END)
    answer = await office.run()
    assert office.results[0] == "There is no tool 'serch'. There are search."
    assert [call.outcome for call in answer.calls] == ["unknown", "ok"]


async def test_a_second_unknown_tool_ends_the_calling(office: Office):
    office.script(call("foo"), call("bar"), END)
    answer = await office.run()
    assert answer.endswith("Ended early: the model called tools that do not exist.")
    assert "tools" not in office.turns[-1]


async def test_arguments_are_checked_and_what_is_meant_is_taken(office: Office):
    office.script(call("search", q="a"), call("search", query="a", n="3"), END)
    answer = await office.run()
    assert "'query' is a required property" in office.results[0]
    assert [call.outcome for call in answer.calls] == ["invalid", "ok"]
    assert office.tools.calls == [("search", {"query": "a", "n": 3})]


async def test_an_identical_call_is_answered_from_memory_and_the_third_ends(office: Office):
    office.script(*[call("search", query="a")] * 3, END)
    answer = await office.run()
    assert len(office.tools.calls) == 1
    assert [call.outcome for call in answer.calls] == ["ok", "repeated", "repeated"]
    assert answer.trace.ended == "the model repeated itself"


async def test_what_was_read_is_read_again_after_a_change(office: Office):
    look, change = call("search", query="a"), call("delete", query="b")
    office.script(look, change, look, call("delete", query="c"), look, END)
    answer = await office.run(unasked=["*"])
    assert [call.outcome for call in answer.calls] == ["ok"] * 5
    assert not answer.trace.ended


async def test_the_last_step_is_followed_by_an_answer_without_tools(office: Office):
    office.script(*[call("search", query=str(n)) for n in range(4)], END)
    answer = await office.run(steps=4)
    assert len(office.turns) == 5
    assert "tools" not in office.turns[-1]
    assert "without calling tools" in office.turns[-1]["messages"][-1]["content"]
    assert answer.endswith("Ended early: 4 steps were used.")


async def test_a_printed_call_is_made(office: Office):
    printed = 'I will search. <tool_call>\n{"name": "search", "arguments": {"query": "a"}}\n</tool_call>'
    office.script(Script(tokens=[printed]), END)
    answer = await office.run()
    assert office.tools.calls == [("search", {"query": "a"})]
    assert any("printed its call" in note for note in answer.notes)


async def test_a_printed_call_that_cannot_be_read_is_asked_for_again_once(office: Office):
    office.script(Script(tokens=['<tool_call>{"name": "search", "arg']), call("search", query="a"), END)
    answer = await office.run()
    assert answer.response == END
    assert "could not be read" in office.turns[1]["messages"][-1]["content"]
    office.script(
        Script(tokens=['<tool_call>{"name": "search", "arg']),
        Script(tokens=['<tool_call>{"name": "search", "arg']),
        END,
    )
    assert "cannot be read" in (await office.run()).trace.ended


async def test_thinking_goes_back_to_the_model_with_its_calls(office: Office):
    turn = Script(thinking=["hm"], tokens=["let me see"], tool_calls=[call("search", query="a")])
    office.script(turn, END)
    await office.run()
    said = office.turns[-1]["messages"][-2]
    assert (said["thinking"], said["content"]) == ("hm", "let me see")


async def test_a_long_result_loses_its_middle(office: Office):
    office.script(call("big", query="a"), END)
    await office.run()
    assert len(office.results[0]) < LONGEST_RESULT + 400
    assert "[… 94000 characters left out …]" in office.results[0]


async def test_a_tool_that_takes_too_long_is_a_failure_for_the_model(office: Office):
    office.script(call("slow", query="a"), END)
    answer = await office.run()
    assert answer.calls[0].result == "It failed: no answer within 60 s"
    assert answer.calls[0].seconds == 60
    assert office.tools.broken_off == 1


async def test_a_no_of_the_user_is_told_to_the_model(office: Office):
    user = User(False)
    office.script(call("delete", query="a"), END)
    answer = await office.run(user=user)
    assert user.asked == ['May the local model call delete with {"query": "a"}? (it may change something)']
    assert not office.tools.calls
    assert answer.calls[0].outcome == "refused"
    assert "the user declined" in office.results[0]


async def test_a_yes_of_the_user_counts_for_one_call(office: Office):
    user = User(True, False)
    office.script(call("delete", query="a"), call("delete", query="b"), END)
    answer = await office.run(user=user)
    assert office.tools.calls == [("delete", {"query": "a"})]
    assert [(call.outcome, call.asked) for call in answer.calls] == [("ok", True), ("refused", True)]


async def test_nobody_to_ask_is_a_no(office: Office):
    office.script(call("delete", query="a"), END)
    await office.run()
    assert not office.tools.calls
    assert "cannot be asked" in office.results[0]


async def test_private_text_goes_to_the_open_world_only_after_a_yes(office: Office):
    user = User(False)
    office.script(call("web", query="a"), call("search", query="a"), call("web", query="b"), END)
    await office.run(user=user)
    assert [name for name, _ in office.tools.calls] == ["web", "search"]
    assert len(user.asked) == 1
    assert "private text was read, and the call goes to the open world" in user.asked[0]


async def test_what_a_remote_server_said_may_go_back_to_it_and_nowhere_else(office: Office):
    user = User(False)
    office.script(call("wiki", query="a"), call("wiki", query="b"), call("web", query="c"), END)
    answer = await office.run(user=user)
    assert [name for name, _ in office.tools.calls] == ["wiki", "wiki"]
    assert answer.calls[0].sent_to == "wiki.example"
    assert len(user.asked) == 1


async def test_each_step_is_told_and_a_cancel_breaks_off_a_tool_at_once(office: Office):
    office.script(call("search", query="a"), call("slow", query="a"), END)
    trace = Trace()
    job = office.begin(trace=trace)
    await asyncio.sleep(4)
    assert job.status().startswith("step 2 of 6 · slow · 3 s")
    before = asyncio.get_running_loop().time()
    await job.stop()
    assert asyncio.get_running_loop().time() - before < 0.1
    assert office.tools.running == 0
    assert [call.outcome for call in trace.calls] == ["ok", ""]


async def test_a_broken_stream_has_the_calls_in_its_partial_text(office: Office):
    cut = Script(tokens=["a"] * 5, cut_after_tokens=2, how="reset")
    office.script(call("search", query="a"), cut)
    with pytest.raises(StreamBroken) as failure:
        await office.run()
    assert failure.value.partial_text.startswith("aa\n\nCalls:\n1. search")


async def test_an_empty_turn_after_a_call_is_asked_once_more(office: Office):
    office.script(call("search", query="a"), Script(tokens=[]), END)
    answer = await office.run()
    assert answer.response == END
    assert answer.trace.ended == "the model said nothing"


async def test_a_schema_holds_for_the_last_turn_alone(office: Office):
    schema = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    office.script(call("search", query="a"), END, '{"place": "museum"}')
    answer = await office.run(schema=schema)
    assert json.loads(answer) == {"place": "museum"}
    assert [turn.get("format") for turn in office.turns] == [None, None, schema]
    assert len(answer.calls) == 1


async def test_an_overflow_in_the_middle_shortens_older_results_once(office: Office):
    full = Script(status=400, body={"error": "the input length exceeds the context length"})
    office.script(call("big", query="a"), call("search", query="b"), full, full, END)
    answer = await office.run()
    assert answer.response == END
    assert len(office.results[0]) < 700
    assert any("were shortened" in note for note in answer.notes)


async def test_of_many_tools_the_nearest_are_offered(office: Office):
    office.tools = Tools([spec(f"tool_{n}") for n in range(40)] + [spec("parking_of_visitors")])
    office.script(END)
    answer = await office.run(task="parking of visitors")
    offered = [tool["function"]["name"] for tool in office.turns[0]["tools"]]
    assert len(offered) == MOST_OFFERED
    assert "parking_of_visitors" in offered
    assert any(f"the {MOST_OFFERED} of 41 tools" in note for note in answer.notes)


async def test_without_names_only_local_reads_are_offered(office: Office):
    office.script(END)
    await office.run(tools=())
    assert [t["function"]["name"] for t in office.turns[0]["tools"]] == ["search", "slow", "fails", "big"]


async def test_what_cannot_be_begun_says_why(office: Office):
    with pytest.raises(InvalidArgument, match="no tool of x"):
        await office.run(tools=["x"])
    with pytest.raises(InvalidArgument, match='"steps" is 0'):
        await office.run(steps=0)
    with pytest.raises(InvalidArgument, match="there is no task"):
        await office.run(" ")
    with pytest.raises(CapabilityMissing):
        await office.run(model="plain:1")


async def test_an_agent_in_a_tool_of_an_agent_is_refused(office: Office):
    class Nesting(Tools):
        async def call(self, name, arguments):
            return await office.run()

    with pytest.raises(SourceError, match="was called by a tool"):
        await call_tool(Nesting(), "search", {}, 5)


async def test_a_schema_of_a_tool_that_is_none_is_left_to_its_server(office: Office):
    office.tools = Tools([ToolSpec("search", parameters={"type": "nonsense"}, is_read_only=True)])
    office.script(call("search", query="a"), END)
    assert (await office.run()).calls[0].outcome == "ok"


async def test_a_conversation_remembers_calls_with_their_results(office: Office):
    office.script(call("search", query="a"), END)
    await office.run("Where do visitors park?", conversation="museum")
    office.script(call("web", query="b"), "At nine.")
    user = User(False)
    await office.run("And when?", conversation="museum", user=user)
    roles = [message["role"] for message in office.turns[2]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    earlier = office.turns[2]["messages"]
    assert earlier[1]["tool_calls"][0]["id"] == earlier[2]["tool_call_id"]
    assert earlier[3]["content"] == END
    assert len(user.asked) == 1  # what an earlier run has read is private, too
