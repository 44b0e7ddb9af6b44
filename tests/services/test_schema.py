"""An answer fits the caller's schema, after one repair turn at most, or it is an error with the text."""

import json
import urllib.request
from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from referencing.exceptions import Unresolvable

from ollama_mcp.errors import InvalidArgument, StreamBroken, Truncated, Upstream
from ollama_mcp.services.schema import check_schema, is_plain, repair_request, violations
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
GOOD = '{"city": "Paris", "people": 2000000}'
BAD = '{"city": "Paris"}'
WORSE = '{"city": 5, "town": 1}'


def answers(*texts: str, **more):
    return [Script(tokens=list(text), **more) for text in texts]


# --- through a Job ---------------------------------------------------------------------------


async def test_an_answer_that_fits_is_passed_on_as_it_is(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(GOOD))
            answer = await b.chat(schema=CITY)
            assert b.sent()[0]["format"] == CITY
    assert answer == GOOD
    assert not answer.stats.repaired


async def test_an_answer_that_does_not_fit_gets_one_more_turn_that_names_what_is_wrong(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(BAD, GOOD))
            answer = await b.chat("where?", schema=CITY)
            first, second = b.sent()
    assert answer == GOOD
    assert answer.stats.repaired
    turns = second["messages"][len(first["messages"]) :]
    assert [turn["role"] for turn in turns] == ["assistant", "user"]
    assert turns[0]["content"] == BAD
    assert "'people' is a required property" in turns[1]["content"]


async def test_generate_is_repaired_in_its_prompt(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(BAD, GOOD))
            assert await b.generate("where?", schema=CITY) == GOOD
            second = b.sent("/api/generate")[1]["prompt"]
    assert second.startswith("where?")
    assert BAD in second
    assert "'people' is a required property" in second


async def test_two_answers_that_do_not_fit_are_an_error_with_the_second_text(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(BAD, WORSE, GOOD))
            with pytest.raises(Upstream, match="twice") as caught:
                await b.chat(schema=CITY)
            assert len(b.sent()) == 2
    assert caught.value.partial_text == WORSE
    assert "$.city" in str(caught.value)


async def test_a_raw_completion_gets_no_second_turn(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(BAD, GOOD))
            with pytest.raises(Upstream) as caught:
                await b.generate(schema=CITY, raw=True)
            assert len(b.sent("/api/generate")) == 1
    assert caught.value.partial_text == BAD


async def test_an_answer_that_was_cut_off_is_truncated_and_not_repaired(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(GOOD[:12], done_reason="length"))
            with pytest.raises(Truncated, match="num_predict") as caught:
                await b.chat(schema=CITY)
            assert len(b.sent()) == 1
    assert caught.value.partial_text == GOOD[:12]


async def test_an_answer_at_its_limit_that_is_complete_is_an_answer(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(GOOD, done_reason="length"))
            assert await b.chat(schema=CITY) == GOOD


async def test_the_first_text_is_kept_when_the_repair_breaks_before_its_first_token(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(BAD), Script(tokens=["x"], cut_after_tokens=0, how="reset"))
            with pytest.raises(StreamBroken) as caught:
                await b.chat(schema=CITY)
    assert caught.value.partial_text == BAD


@pytest.mark.real_time  # a child reads a long answer
async def test_the_repair_may_be_the_turn_that_does_not_fit_the_window(bench):
    with anyio.fail_after(60):
        async with bench(Model("m", ("completion",), 32768)) as b:
            b.fake.script(Script(tokens=["word " * 4000]), Script(), *answers(GOOD), path="/api/chat")
            answer = await b.chat("w " * 1000, schema=CITY)
            assert b.options_sent() == [{}, {}, {"num_ctx": 8192}]
    assert answer.stats.repaired
    assert answer.stats.context_grown


async def test_calls_of_tools_are_not_held_against_the_schema(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=[], tool_calls=[{"name": "f", "arguments": {"a": 1}}]))
            answer = await b.chat(schema=CITY, tools=[{"name": "f"}])
            assert len(b.sent()) == 1
    assert answer.tool_calls[0].function.arguments == {"a": 1}


async def test_nothing_of_an_answer_that_may_not_fit_is_told_as_text(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(BAD, GOOD))
            job = b.begin(prompt="where?", schema=CITY)
            await job.begun.wait()
            assert job.text_since(0)[0] == ""
            await job.result()
    assert job.text_since(0)[0] == GOOD


async def test_thinking_before_the_json_is_no_part_of_it(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(*answers(f"<think>Paris.</think>\n{GOOD}"))
            answer = await b.chat(schema=CITY)
    assert (answer, answer.thinking) == (GOOD, "Paris.")


async def test_a_reference_that_is_an_address_is_never_fetched(bench):
    """The fake would notice: it is the address."""
    with anyio.fail_after(5):
        async with bench() as b:
            schema = {"type": "object", "properties": {"city": {"$ref": f"{b.fake.url}/schema.json"}}}
            with pytest.raises(InvalidArgument, match="reference"):
                await b.chat(schema=schema)
            assert b.fake.requests == []


# --- the check itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "Paris", "{", "[" * 100_000, GOOD + " and so on", '{"city": NaN}', '{"a": Infinity}', "9" * 5000],
    ids=lambda text: text[:12] or "nothing",
)
def test_what_is_not_json_fits_nothing(text: str):
    assert violations(text, {}) == ["the answer is not JSON"]


def test_at_most_three_violations_are_named_and_each_is_short():
    schema = {"properties": {name: {"enum": ["y" * 500]} for name in "abcdef"}}
    found = violations('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}', schema)
    assert len(found) == 3
    assert all(len(line) < 200 for line in found)


def _deep(levels: int) -> dict:
    schema: dict = {"type": "string"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


ODD_SCHEMAS = {
    "wrong type": {"type": "strin"},
    "properties is a list": {"properties": []},
    "pattern is no pattern": {"type": "string", "pattern": "("},
    "pattern of properties is no pattern": {"patternProperties": {"*": {}}},
    "$schema is a number": {"$schema": 5},
    "$schema is a list": {"$schema": []},
    "$schema is unknown": {"$schema": "https://example.com/mine"},
    "$ref is no address": {"$ref": "http://[::1"},
    "$ref is missing": {"$ref": "#/$defs/gone"},
    "$ref is remote": {"$ref": "http://127.0.0.1:9/x"},
    "$ref is a loop": {"$ref": "#"},
    "$id is no address": {"$id": "http://[::1", "$ref": "x"},
    "deep": _deep(5000),
    "multipleOf a fraction": {"multipleOf": 0.1},
    "multipleOf zero": {"multipleOf": 0},
    "required is text": {"required": "city"},
    "not": {"not": {}},
}
ODD_ANSWERS = [
    '{"a": 1}',
    '"text"',
    "1" + "0" * 400,
    "1e400",
    "[1, 2]",
    "null",
    '{"a": ' * 200 + "1" + "}" * 200,
]


@pytest.mark.real_time  # a child reads what is not plain
@pytest.mark.parametrize("schema", ODD_SCHEMAS.values(), ids=ODD_SCHEMAS)
@pytest.mark.parametrize("text", ODD_ANSWERS, ids=lambda text: text[:8])
def test_no_schema_and_no_answer_gives_anything_but_a_verdict_or_a_failure_of_ours(schema: dict, text: str):
    with suppress(InvalidArgument):
        check_schema(schema)
        assert isinstance(violations(text, schema), list)


@pytest.mark.parametrize(
    "name", ["wrong type", "properties is a list", "pattern is no pattern", "required is text"]
)
async def test_what_is_no_schema_is_refused_before_a_model_works_for_it(bench, name: str):
    with anyio.fail_after(5):
        async with bench() as b:
            with pytest.raises(InvalidArgument, match="schema"):
                await b.chat(schema=ODD_SCHEMAS[name])
            assert b.fake.requests == []


@pytest.mark.parametrize("name", ["$ref is missing", "$ref is remote"])
async def test_a_reference_that_leads_nowhere_is_refused_before_a_model_works_for_it(bench, name: str):
    with anyio.fail_after(5):
        async with bench() as b:
            with pytest.raises(InvalidArgument, match=r"\$defs"):
                await b.chat(schema={"properties": {"a": ODD_SCHEMAS[name]}})
            assert b.fake.requests == []


@pytest.mark.parametrize(
    ("draft", "schema", "fits"),
    [
        # Numbers that are their own bound: a word beside "maximum" in draft 4, a number since.
        ("http://json-schema.org/draft-04/schema#", {"maximum": 5, "exclusiveMaximum": True}, False),
        ("http://json-schema.org/draft-04/schema", {"maximum": 5, "exclusiveMaximum": True}, False),
        ("http://json-schema.org/draft-06/schema#", {"exclusiveMaximum": 5}, False),
        ("http://json-schema.org/draft-07/schema", {"if": {"minimum": 1}, "then": {"maximum": 4}}, False),
        ("http://json-schema.org/draft-06/schema#", {"if": {"minimum": 1}, "then": {"maximum": 4}}, True),
        ("https://json-schema.org/draft/2019-09/schema", {"items": [{"type": "null"}]}, True),
        ("https://json-schema.org/draft/2020-12/schema", {"exclusiveMaximum": 5}, False),
        ("https://example.com/my-own", {"exclusiveMaximum": 5}, False),
        (None, {"exclusiveMaximum": 5}, False),
    ],
)
def test_a_schema_is_read_by_the_draft_that_it_names_or_by_the_newest(draft, schema, fits):
    named = schema if draft is None else {"$schema": draft, **schema}
    check_schema(named)
    assert (violations("5", named) == []) is fits


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, ["schema is not a JSON Schema at $.type", "objekt"]),
        ({"a" * 99: {}, "properties": {"b" * 99: {"type": 5}}}, ["at $.properties.bbb"]),
        ({"$ref": "#/$defs/no"}, ["a reference that cannot be followed", "under $defs"]),
        ({"allOf": [{"anyOf": [{"$ref": "http://[x/y"}]}]}, ["a reference that cannot be followed"]),
    ],
)
def test_what_is_wrong_with_a_schema_is_told_with_its_place_in_few_words(schema, words):
    with pytest.raises(InvalidArgument) as refused:
        check_schema(schema)
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert len(refused.value.cause) < 250


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": 5}, 'Send an object such as {"type": "object", "properties": {…}}.'),
        (_deep(5000), "schema is nested too deeply. Send a flatter one."),
        (
            {"$ref": "#/$defs/no"},
            (
                "schema has a reference that cannot be followed. "
                "Put every definition into the schema itself, under $defs."
            ),
        ),
    ],
    ids=["type", "deep", "reference"],
)
def test_what_is_no_schema_is_refused_with_what_to_send(schema, told):
    with pytest.raises(InvalidArgument) as refused:
        check_schema(schema)
    assert f"{refused.value.cause}. {refused.value.remedy}".endswith(told)


def test_a_definition_that_is_used_and_one_that_is_not_are_followed_alike():
    check_schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "null"}}})
    with pytest.raises(InvalidArgument):
        check_schema({"type": "null", "$defs": {"a": {"$ref": "#/$defs/missing"}}})


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_reference_is_followed_wherever_it_stands(name):
    parts = {key: {"items": {"type": "null"}} for key in "abc"}
    check_schema({"properties": parts})
    with pytest.raises(InvalidArgument, match="cannot be followed"):
        check_schema({"properties": {**parts, name: {"items": {"$ref": "#/$defs/missing"}}}})


def test_of_what_is_wrong_with_a_schema_60_characters_of_its_place_and_120_of_the_rest_are_told():
    with pytest.raises(InvalidArgument) as refused:
        check_schema({"properties": {"b" * 99: {"type": "t" * 200}}})
    _, _, place = refused.value.cause.partition(" at ")
    assert place == f"$.properties.{'b' * 47}: '{'t' * 119}"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("nothing", "the answer is not JSON"),
        ("NaN", "the answer is not JSON"),
        ('{"a": -Infinity}', "the answer is not JSON"),
        ("[" * 100_000, "the answer is not JSON"),
    ],
)
def test_what_json_has_not_is_told_as_such(text, verdict):
    assert violations(text, {}) == [verdict]


def test_violations_are_told_by_their_place_the_first_three_in_order():
    schema = {"properties": {name: {"type": "string"} for name in "abcd"}}
    found = violations('{"d": 1, "c": 2, "b": 3, "a": 4}', schema)
    assert found == [f"$.{told} is not of type 'string'" for told in ("a: 4", "b: 3", "c: 2")]


@pytest.mark.parametrize(
    ("text", "schema", "verdict"),
    [
        ("1e999", {"multipleOf": 0.1}, "the answer has a number that is too large"),
        ("5", {"$ref": "#"}, "the answer is nested too deeply, or the schema refers to itself"),
    ],
)
def test_what_cannot_be_counted_or_followed_is_told_as_such(text, schema, verdict):
    assert violations(text, schema) == [verdict]


def test_a_place_is_cut_at_60_characters_and_what_is_wrong_there_at_120():
    (found,) = violations(json.dumps({"a" * 200: "b" * 200}), {"additionalProperties": {"type": "integer"}})
    assert found == f"$.{'a' * 58}: '{'b' * 119}"


def test_no_address_is_asked_for_a_definition_even_by_a_schema_that_nobody_checked(monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *arguments: asked.append(arguments))
    with pytest.raises(Unresolvable):
        violations("5", {"$ref": "http://localhost/x"})
    assert asked == []


def test_a_model_is_asked_for_the_corrected_json_alone():
    assert repair_request([], {}) == "Your answer is not JSON. Answer again with only the corrected JSON."
    assert repair_request(["$.a: 1 is too small", "$.b: 2 is too large"], {"type": "object"}) == (
        "Your answer does not fit the JSON Schema that was asked for: "
        "$.a: 1 is too small; $.b: 2 is too large. Answer again with only the corrected JSON."
    )


WORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "$ref",
        "$defs",
        "required",
        "enum",
        "allOf",
        "not",
        "$schema",
        "minimum",
        "$id",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["object", "string", "#", "#/$defs/a", "http://x/y", "http://json-schema.org/draft-04/schema#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(WORDS | st.text(max_size=3), VALUES, max_size=4), VALUES.map(json.dumps) | st.text())
@settings(max_examples=150, deadline=None)
def test_any_object_as_a_schema_gives_a_verdict_or_a_failure_of_ours(schema, text):
    try:
        check_schema(schema)
    except InvalidArgument as error:
        assert len(str(error)) <= 400  # noqa: PT017
        return
    if is_plain(schema):
        found = violations(text, schema)
        assert len(found) <= 3
        assert all(len(each) < 190 for each in found)
