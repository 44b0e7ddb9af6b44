"""How often a caller may call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import RateLimited
from ollama_mcp.jobs.rate_limit import Rate, RateLimit, format_rates, parse_rates


class TimeoutKind:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> TimeoutKind:
    return TimeoutKind()


def admitted(limit: RateLimit, tool: str = "ollama_chat", caller: str = "") -> bool:
    try:
        limit.admit(tool, caller)
    except RateLimited:
        return False
    return True


def test_without_rates_everything_is_allowed():
    limit = RateLimit({}, 1)
    assert all(admitted(limit) for _ in range(1000))
    assert not limit._paid


def test_a_burst_comes_at_once_and_the_rest_evenly(clock):
    limit = RateLimit(parse_rates("60/min"), 3, clock)
    assert [admitted(limit) for _ in range(5)] == [True, True, True, False, False]
    clock.now += 1
    assert [admitted(limit) for _ in range(2)] == [True, False]
    clock.now += 3600
    assert [admitted(limit) for _ in range(4)] == [True, True, True, False]


def test_it_says_when_and_in_whose_setting(clock):
    limit = RateLimit(parse_rates("10/min"), 1, clock)
    limit.admit("ollama_chat")
    clock.now += 1.5
    with pytest.raises(RateLimited) as told:
        limit.admit("ollama_chat")
    assert told.value.retry_after_s == 4.5
    assert "4.5 s" in str(told.value)
    assert "calls of ollama_chat" in str(told.value)
    assert "OLLAMA_MCP_RATE" in str(told.value)


def test_a_tool_has_a_rate_beside_that_of_all(clock):
    limit = RateLimit(parse_rates("4/s, ollama_chat=1/s"), 2, clock)
    assert [admitted(limit) for _ in range(3)] == [True, True, False]
    # What was refused by the one is not counted by the other.
    clock.now += 0.25
    assert [admitted(limit, "ollama_embeddings") for _ in range(2)] == [True, False]
    clock.now += 0.25
    assert not admitted(limit)
    assert admitted(limit, "ollama_embeddings")


def test_callers_do_not_use_up_one_anothers_calls(clock):
    limit = RateLimit(parse_rates("1/h"), 1, clock)
    assert [admitted(limit, caller=name) for name in "abab"] == [True, True, False, False]


def test_a_caller_who_is_not_named_is_the_one_without_a_name(clock):
    limit = RateLimit(parse_rates("1/h"), 1, clock)
    limit.admit("ollama_chat")
    assert not admitted(limit, caller="")


def test_what_is_owed_no_more_is_forgotten(clock, monkeypatch):
    monkeypatch.setattr("ollama_mcp.jobs.rate_limit._MOST_REMEMBERED", 10)
    limit = RateLimit(parse_rates("1/s"), 1, clock)
    for caller in range(100):
        limit.admit("ollama_chat", str(caller))
        clock.now += 1
    assert len(limit._paid[""]) <= 11


def test_however_many_callers_there_are_those_remembered_are_bounded(clock, monkeypatch):
    monkeypatch.setattr("ollama_mcp.jobs.rate_limit._MOST_REMEMBERED", 2000)
    limit = RateLimit(parse_rates("1/h, ollama_chat=1/h"), 1, clock)
    for caller in range(10_000):
        limit.admit("ollama_chat", str(caller))
        if caller % 1000 == 0:
            assert not admitted(limit, "ollama_chat", "always") or caller == 0
    for paid in limit._paid.values():
        assert len(paid) <= 2000
        assert "always" in paid
        assert "9999" in paid
    clock.now += 3600
    for caller in range(4000):
        limit.admit("ollama_chat", str(caller))
    assert all(len(paid) <= 2000 for paid in limit._paid.values())
    clock.now += 7200
    for caller in range(2000):
        limit.admit("ollama_chat", f"another {caller}")
    assert all(len(paid) <= 2001 for paid in limit._paid.values())


@given(
    st.integers(1, 100),
    st.sampled_from([1.0, 60.0, 3600.0]),
    st.integers(1, 20),
    st.lists(st.floats(0, 100), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate_and_waiting_is_enough(count, seconds, burst, pauses):
    clock, begun = TimeoutKind(), 1000.0
    limit = RateLimit({"": Rate(count, seconds)}, burst, clock)
    for allowed, pause in enumerate(pauses, 1):
        clock.now += pause
        try:
            limit.admit("ollama_chat")
        except RateLimited as told:
            clock.now += told.retry_after_s
            limit.admit("ollama_chat")
        assert allowed <= burst + count / seconds * (clock.now - begun) + 1e-6


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.floats(0, 5)), max_size=60))
def test_each_caller_and_tool_has_its_bound_whatever_the_others_do(calls):
    clock, begun = TimeoutKind(), 1000.0
    limit = RateLimit({"": Rate(2, 1.0), "x": Rate(1, 1.0)}, 3, clock)
    counts: dict[tuple[str, str], int] = {}
    for caller, tool, pause in calls:
        clock.now += pause
        if not admitted(limit, tool, caller):
            continue
        for scope, rate in (("", 2), *([("x", 1)] if tool == "x" else [])):
            key = (caller, scope)
            counts[key] = counts.get(key, 0) + 1
            assert counts[key] <= 3 + rate * (clock.now - begun) + 1e-6


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=40))
def test_waiting_as_told_is_enough_also_where_two_rates_apply(calls):
    clock = TimeoutKind()
    limit = RateLimit({"": Rate(7, 60.0), "x": Rate(3, 60.0)}, 2, clock)
    for caller, tool in calls:
        try:
            limit.admit(tool, caller)
        except RateLimited as told:
            clock.now += told.retry_after_s
            limit.admit(tool, caller)


def test_a_refused_call_costs_nothing(clock):
    limit = RateLimit(parse_rates("1/s"), 1, clock)
    assert admitted(limit)
    assert not any(admitted(limit) for _ in range(1000))
    clock.now += 1
    assert admitted(limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("5/s", {"": Rate(5, 1.0)}),
        (" ollama_chat = 10 / min ,", {"ollama_chat": Rate(10, 60.0)}),
        ("60/min, ollama_chat=10/h", {"": Rate(60, 60.0), "ollama_chat": Rate(10, 3600.0)}),
    ],
)
def test_rates_are_read(text, expected):
    assert parse_rates(text) == expected


@pytest.mark.parametrize(
    "text", ["5", "0/s", "-1/s", "1/day", "x=", "1/s, 2/s", "a=1/s,a=1/s", "1.5/s", "٣/s"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="60/min"):
        parse_rates(text)


@given(st.text(max_size=40))
def test_any_text_is_rates_or_refused(text):
    try:
        rates = parse_rates(text)
    except ValueError:
        return
    assert all(rate.count > 0 for rate in rates.values())
    assert parse_rates(format_rates(rates)) == rates


def test_rates_are_written_as_an_operator_writes_them():
    assert format_rates({}) == ""
    assert format_rates(parse_rates("60 / min")) == "60/min"
    assert format_rates(parse_rates("ollama_chat=10/h,5/s")) == "ollama_chat=10/h, 5/s"
    assert str(Rate(3, 90.0)) == "3/90 s"


@given(
    st.dictionaries(
        st.just("") | st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True),
        st.builds(Rate, st.integers(1, 10**9 - 1), st.sampled_from([1.0, 60.0, 3600.0])),
    )
)
def test_what_is_written_is_read_again(rates):
    assert parse_rates(format_rates(rates)) == rates
