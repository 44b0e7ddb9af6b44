"""The most that one call may bring: over it is TOO_LARGE with the limit, its setting and what to do."""

import base64
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import InvalidArgument, OllamaError, TooLarge
from ollama_mcp.ollama.api_models import Message, ToolCall, ToolFunction
from ollama_mcp.ollama.parameters import keep_alive_seconds, parse_keep_alive
from ollama_mcp.settings import FIELDS
from ollama_mcp.settings.limits import (
    DEFAULT_LIMITS,
    Limits,
    check_calls,
    check_images,
    check_length,
    check_messages,
    check_options,
    check_schema_size,
    check_text,
    check_texts,
    check_tools,
    setting_of,
    shown_size,
)

MIB = 2**20


def png(width: int, height: int, size: int = 24) -> str:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return base64.b64encode(head.ljust(size, b"\0")).decode()


def calls(size: int) -> Message:
    function = ToolFunction(name="f", arguments={"a": "x" * size})
    return Message(role="assistant", tool_calls=[ToolCall(function=function)])


def deep() -> dict:
    value: dict = {}
    for _ in range(100_000):
        value = {"a": value}
    return value


OVER = {
    "prompt": lambda most: check_text(most, "prompt", "x" * (MIB + 1)),
    "prompt as options": lambda most: check_options(most, {"stop": ["x" * 1000] * 1050}),
    "messages": lambda most: check_length(most, "messages", [{}] * 1001),
    "messages_size": lambda most: check_messages(most, [Message(role="user", content="x" * MIB)] * 5),
    "messages_size of thoughts": lambda most: check_messages(
        most, [Message(role="assistant", thinking="x" * MIB)] * 5
    ),
    "messages_size of calls": lambda most: check_messages(most, [calls(MIB)] * 5),
    "messages_size of raw calls": lambda most: check_calls(most, ["x" * MIB] * 5),
    "images": lambda most: check_images(most, [png(1, 1)] * 9),
    "images of messages": lambda most: check_messages(
        most, [Message(role="user", images=[png(1, 1)] * 5)] * 2
    ),
    "images_size": lambda most: check_images(most, [png(1, 1, 3 * MIB)] * 7),
    "megapixels": lambda most: check_images(most, [png(1, 1), png(50_001, 1000)]),
    "texts": lambda most: check_texts(most, [""] * 4097),
    "texts_size": lambda most: check_texts(most, ["x" * MIB] * 5),
    "tools": lambda most: check_tools(most, [{}] * 129),
    "tools_size": lambda most: check_tools(most, [{"name": "x" * MIB}]),
    "schema_size": lambda most: check_schema_size(most, {"description": "x" * MIB}),
}
WITHIN = {
    "prompt": lambda most: check_text(most, "prompt", "x" * MIB),
    "messages": lambda most: check_length(most, "messages", [{}] * 1000),
    "messages_size": lambda most: check_messages(most, [Message(role="user", content="x" * MIB)] * 4),
    "images": lambda most: check_images(most, [png(50_000, 1000)] * 8),
    "images_size": lambda most: check_images(most, [png(1, 1, 5 * MIB)] * 4),
    "texts": lambda most: check_texts(most, ["x" * 1024] * 4096),
}


@pytest.mark.parametrize("case", OVER)
def test_over_a_limit_the_limit_its_setting_and_what_to_do_are_named(case):
    setting = setting_of(case.split(maxsplit=1)[0])
    with pytest.raises(TooLarge) as caught:
        OVER[case](DEFAULT_LIMITS)
    error = caught.value
    assert setting in str(error)
    assert len(str(error)) <= 400
    assert (error.details["setting"], error.details["limit"] in error.cause) == (setting, True)
    assert error.remedy.startswith(("Send ", "Shorten ", "Leave out ", "Scale "))


@pytest.mark.parametrize("case", WITHIN)
def test_what_is_exactly_at_a_limit_passes(case):
    WITHIN[case](DEFAULT_LIMITS)


def test_every_limit_is_tested_here_and_is_fixed_or_a_setting():
    names = {limit.name for limit in fields(Limits)}
    elsewhere = {
        "line",
        "keep_alive",
        "files",
        "file_size",
    }  # tests of transports, replies and files
    assert names - {case.split()[0] for case in OVER} == elsewhere
    assert {setting_of(name) for name in names} - {""} <= {field.variable for field in FIELDS}


def test_a_limit_can_be_raised_and_lowered():
    check_text(replace(DEFAULT_LIMITS, prompt=2 * MIB), "prompt", "x" * (MIB + 1))
    with pytest.raises(TooLarge, match="6 bytes; the limit is 5 bytes"):
        check_text(replace(DEFAULT_LIMITS, prompt=5), "prompt", "ééé")
    with pytest.raises(TooLarge, match="image 2 of 2 has 1001 x 1000 pixels; the limit is 1 megapixels"):
        check_images(replace(DEFAULT_LIMITS, megapixels=1), [png(1000, 1000), png(1001, 1000)])


def test_texts_count_in_bytes_of_utf_8():
    most = replace(DEFAULT_LIMITS, prompt=4, texts_size=8)
    check_text(most, "prompt", "éé")
    check_text(most, "prompt", "\ud800")
    check_texts(most, ["éé", "éé"])
    with pytest.raises(TooLarge):
        check_text(most, "prompt", "ééé")
    with pytest.raises(TooLarge):
        check_texts(most, ["éé", "ééé"])


@pytest.mark.parametrize("image", ["aGVsbG8=", png(0, 1), "AAAA"])
def test_an_image_that_is_none_is_not_too_large_but_wrong(image):
    with pytest.raises(InvalidArgument):
        check_images(DEFAULT_LIMITS, [image])


@pytest.mark.parametrize("value", [deep(), {("a",): 1}, {"a": {1, 2}}])
def test_what_no_json_can_say_is_refused_or_measured_and_never_unclassified(value):
    for check in (check_options, check_schema_size, lambda most, value: check_tools(most, [value])):
        try:
            check(DEFAULT_LIMITS, value)
        except OllamaError as error:
            assert len(str(error)) <= 400  # noqa: PT017


@given(st.integers(0, 2**50))
def test_a_size_is_shown_so_that_the_setting_would_read_it_alike(size):
    amount, unit = shown_size(size).split()
    assert int(amount) * {"bytes": 1, "KiB": 2**10, "MiB": MIB}[unit] == size


@given(st.floats(-1e12, 1e12) | st.from_regex(r"-?[0-9]{1,5}(\.[0-9])?(ns|us|ms|s|m|h|d|w)", fullmatch=True))
def test_every_keep_alive_that_is_read_has_a_length(value):
    seconds = keep_alive_seconds(parse_keep_alive(value))
    assert seconds >= 0
    assert str(value).startswith("-") or seconds < float("inf") or parse_keep_alive(value) == -1
