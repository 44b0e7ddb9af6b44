"""A finished text is read tolerantly: thinking in any marks, JSON among words, calls printed as text."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import Upstream
from ollama_mcp.services.model_output import _PAIRS, is_json, json_inside, printed_calls, without_thinking
from ollama_mcp.testing import Model, Script

NAMES = ["write_file", "get_weather"]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in NAMES]


HARMONY = "<|channel|>analysis<|message|>"

# --- thinking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opening", "closing"), _PAIRS)
def test_thinking_in_any_marks_is_no_answer(opening, closing):
    assert without_thinking(f"{opening}Hm, {{4}}?{closing}\n\n4") == ("4", "Hm, {4}?")
    assert without_thinking(f"\n{opening}\nHm.\n{closing}4 is it.") == ("4 is it.", "Hm.\n")


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("2+2 is 4.\n</think>\n\n4", "4", "2+2 is 4.\n"),
        ("2+2 is 4.</think>4", "4", "2+2 is 4."),
        ("Summe.[/THINK]4", "4", "Summe."),
        ("Hm ◁/think▷4", "4", "Hm "),
        (f"{HARMONY}I add.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>", "4", "I add."),
        ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>", "4", "Hm."),
        ("Hm.</think>", "", "Hm."),
        ("a</think>b</think>c", "b</think>c", "a"),
    ],
)  # fmt: skip
def test_what_stands_before_a_lone_closing_mark_is_thinking(text, answer, thinking):
    assert without_thinking(text, thinks=True) == (answer, thinking)


def test_a_lone_mark_is_text_where_the_server_has_told_the_thinking_apart():
    text = "Models write their thoughts first. They end them with </think> and then comes the answer."
    assert without_thinking(text, thinks=True, is_told=True) == (text, "")


@pytest.mark.parametrize("text", ["2+2 is 4.\n</think>\n\n4", "2+2 is 4.</think>4", "Hm.[/THINK]\n4"])
def test_nor_need_the_model_be_known_to_think_where_nothing_else_can_be_meant(text):
    assert without_thinking(text)[0] == "4"


def test_marks_that_the_caller_asked_for_are_a_part_of_the_answer():
    text = "<reasoning>He did it.</reasoning><verdict>guilty</verdict>"
    assert without_thinking(text)[0] == "<verdict>guilty</verdict>"
    assert without_thinking(text, asked=lambda: "Answer in <reasoning> and <verdict>.") == (text, "")


@pytest.mark.parametrize(
    "text",
    [
        '{"tag": "x </think> y"}',
        '["a.</think>b"]',
        "You end the block with </think>",
        "Close it with the </think> tag, then write the answer.",
        "<case><reasoning>He did it.</reasoning>\n<verdict>guilty</verdict></case>",
        "~~~\n</think>\n~~~\nis the end.",
        "It is `a </think>` there.\nSo it is.",
        "4",
        "Use `</think>` to close it.",
        'The mark is "</think>".',
        "The mark '</thinking>' ends it.",
        "```html\n<b>\n</think>\n```\nThat is it.",
        "<thinking> is a tag.",
        "so: <think>no",
        "<|end|> of it",
        "",
    ],
)
def test_a_mark_that_is_quoted_or_opens_nothing_is_text(text):
    assert without_thinking(text) == (text, "")


@given(st.text(alphabet="ab<>/think[]THINK|◁▷`' \n", max_size=60))
def test_nothing_is_lost_and_nothing_fails(text):
    answer, thinking = without_thinking(text)
    assert all(letter in text for letter in answer + thinking)
    assert text.endswith(answer)


# --- JSON ----------------------------------------------------------------------------------------

FIVE = '{"age": 5}'


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{FIVE}\n```",
        f"```\n{FIVE}\n```\n",
        f"Here it is:\n```json\n{FIVE}\n```\nBye",
        f"```JSON {FIVE}```",
        f"Sure! {FIVE} Anything else?",
        f"I use {{braces}} and [so on]: {FIVE}.",
        f"```json\n{FIVE}",
    ],
)
def test_json_in_a_fence_or_among_words_is_found(text):
    assert FIVE in json_inside(text)


@pytest.mark.parametrize("text", ["", "no", "{", "{]", "```json\n{\n```", "[" * 5000, "{" * 5000])
def test_where_there_is_none_none_is_found(text):
    assert json_inside(text) == []


def test_a_part_is_not_taken_for_the_whole():
    cut = '[{"a": 1}, {"b":'
    assert json_inside(cut, in_fences_only=True) == []
    assert json_inside('[{"a": 1}, oops]', at_first=True) == []


@given(st.text(alphabet='{}[]":,ab1 \n`', max_size=60))
def test_what_is_found_is_json_and_stands_in_the_text(text):
    for inner in json_inside(text):
        assert is_json(inner)
        assert inner in text


# --- calls ---------------------------------------------------------------------------------------

CALL = '{"name": "write_file", "arguments": {"path": "a"}}'
PRINTED = {
    "alone": CALL,
    "list": f"[{CALL}]",
    "parameters": CALL.replace("arguments", "parameters"),
    "as OpenAI has it": json.dumps(
        {"type": "function", "function": {"name": "write_file", "arguments": '{"path": "a"}'}}
    ),
    "fence": f"```json\n{CALL}\n```",
    "tool_code": f"```tool_code\n{CALL}\n```",
    "tool_call": f"<tool_call>\n{CALL}\n</tool_call>",
    "unclosed": f"<tool_call>\n{CALL}",
    "granite": f"<|tool_call|>[{CALL}]<|/tool_call|>",
    "llama": f"<|python_tag|>{CALL}<|eom_id|>",
    "mistral": f"[TOOL_CALLS] [{CALL}]",
    "llama's own": '<function=write_file>{"path": "a"}</function>',
    "qwen coder": "<tool_call>\n<function=write_file>\n<parameter=path>\na\n</parameter>\n</function>\n"
    "</tool_call>",
}


@pytest.mark.parametrize("text", PRINTED.values(), ids=PRINTED)
def test_a_printed_call_is_a_call(text):
    rest, (call,) = printed_calls(text, TOOLS)
    assert (call.function.name, call.function.arguments) == ("write_file", {"path": "a"})
    assert rest == ""


def test_words_around_a_marked_call_stay():
    text = f"I write it.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>"
    rest, calls = printed_calls(text, TOOLS)
    assert (rest, len(calls)) == ("I write it.", 2)


@pytest.mark.parametrize("text", PRINTED.values(), ids=PRINTED)
def test_a_name_that_was_not_offered_is_no_call(text):
    text = text.replace("write_file", "rm_rf")
    assert printed_calls(text, TOOLS) == (text, [])
    assert printed_calls(text, []) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ann", "arguments": {}}',
        '{"age": 5}',
        f"The call would be {CALL}.",
        f"Never do this:\n```json\n{CALL}\n```\nIt deletes everything.",
        f"Never do this:\n```json\n{CALL}\n```",
        f"Do not run `<tool_call>{CALL}</tool_call>` please.",
        "Llama writes it as `<function=write_file>{...}</function>`.",
        "Llama writes it as <function=write_file>{...}</function> there.",
        '[{"name": "write_file", "description": "Writes"}, {"name": "get_weather", "description": "w"}]',
        '{"name": "write_file", "parameters": {"type": "object", "properties": {"path": {}}}}',
        '[{"name": "write_file"}]',
        f'[{CALL}, {{"age": 5}}]',
        "```json\n[1, 2]\n```",
        '{"name": "write_file", "arguments": [1]}',
        '{"name": "write_file", "arguments": {"path": ',
    ],
)
def test_an_answer_that_is_json_stays_one(text):
    assert printed_calls(text, TOOLS) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "write_file", "arguments": {"path": "a}</tool_call>',
        "<function=write_file>{path: a}</function>",
        "<function=write_file>[1]</function>",
        '<|python_tag|>{"name": "write_file", "parameters": {"path": }}',
        '<tool_call>{"name": "write_file", "arguments": "{path"}</tool_call>',
    ],
)
def test_a_marked_call_that_cannot_be_read_is_the_models_fault(text):
    with pytest.raises(Upstream, match="the model wrote a call of write_file whose arguments cannot be read"):
        printed_calls(text, TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "<function=write_file>" + "\n" * 20_000 + "x",
        "<function=write_file>" * 5_000,
        "<tool_call>" + " " * 50_000,
        "<tool_call>" * 10_000 + "</tool_call>",
        "```json" + " " * 50_000,
        "```json\n" * 10_000,
        "[TOOL_CALLS]" * 10_000,
        "{" * 100_000,
        '{"name": "write_file"' * 5_000,
    ],
    ids=lambda text: text[:14],
)
def test_what_a_model_that_is_stuck_writes_holds_nobody_up(text):
    """In parts of a second, where what grew with the square took minutes."""
    for read in (
        lambda: printed_calls(text, TOOLS),
        lambda: without_thinking(text),
        lambda: json_inside(text),
    ):
        with suppress(Upstream):
            read()


@given(st.text(alphabet='{}[]":,<>/=tool_callfunction` \n', max_size=80))
def test_any_text_is_words_or_calls(text):
    rest, calls = printed_calls(text, TOOLS)
    assert (rest, calls) == (text, [])


# --- in an answer --------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("think", [None, False])
async def test_the_answer_has_neither_marks_nor_thinking_with_or_without_the_capability(bench, think):
    for capabilities in (["completion"], ["completion", "thinking"]):
        async with bench(Model("m", capabilities=capabilities)) as b:
            b.fake.script(Script(tokens=["2+2 is 4.\n", "</think>", "\n\n", "4"]))
            answer = await b.chat(think=think)
            assert (answer, answer.thinking) == ("4", "2+2 is 4.\n")


@pytest.mark.anyio
async def test_thinking_alone_is_no_answer(bench):
    async with bench(Model("m", capabilities=["completion", "thinking"])) as b:
        b.fake.script(Script(tokens=["Hm. 4? ", "</think>"]))
        with pytest.raises(Exception, match=r"stopped after its thinking, which ends: Hm\. 4\?"):
            await b.chat()


SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("wanted", [{"schema": SCHEMA}, {"format": "json"}], ids=["schema", "json"])
async def test_json_among_words_is_taken_after_one_generation(bench, wanted):
    async with bench() as b:
        b.fake.script(Script(tokens=["Hm.</think>Sure:\n```json\n", FIVE, "\n```\nBye"]))
        answer = await b.chat(**wanted)
        assert (answer, answer.notes) == (FIVE, ["the JSON stood among other text, which was left out"])
        assert len(b.sent()) == 1


@pytest.mark.anyio
async def test_of_two_that_fit_none_is_taken_in_silence(bench):
    async with bench() as b:
        b.fake.script(Script(tokens=[f'Such as {FIVE}, or {{"age": 6}}.']), Script(tokens=['{"age": 7}']))
        answer = await b.chat(schema=SCHEMA)
        assert (answer, answer.stats.repaired) == ('{"age": 7}', True)


@pytest.mark.anyio
async def test_a_raw_text_and_a_gap_are_left_as_they_are(bench):
    async with bench(Model("m", capabilities=["completion", "insert"])) as b:
        b.fake.script(Script(tokens=["a </think> b"]))
        assert await b.generate(raw=True) == "a </think> b"
        assert await b.generate(suffix="end") == "a </think> b"


@pytest.mark.anyio
async def test_a_printed_call_is_an_answers_call_and_a_broken_one_fails(bench):
    async with bench() as b:
        b.fake.script(Script(tokens=["I write it. ", "<tool_call>", CALL, "</tool_call>"]))
        answer = await b.chat(tools=TOOLS)
        assert answer == "I write it."
        assert answer.tool_calls[0].function.arguments == {"path": "a"}
        assert answer.notes == ["the model printed its call of a tool as text, which was read as one"]
        b.fake.script(Script(tokens=["<tool_call>", '{"name": "write_file", "arguments": {"path": a}}']))
        with pytest.raises(Upstream, match="arguments cannot be read") as failure:
            await b.chat(tools=TOOLS)
        assert failure.value.partial_text.startswith("<tool_call>")
