"""Answers that come with a later call: for who was asked, for a time, and once."""

import pytest

from ollama_mcp.errors import NotConfirmed
from ollama_mcp.management import Asked, Confirmation, confirmation


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


YES = Confirmation("m:latest", "f" * 64)


def test_an_answer_counts_once():
    asked = Asked()
    state = asked.ask(YES, "me")
    assert asked.answered(state, "me") == YES
    for _ in range(2):
        with pytest.raises(NotConfirmed) as refused:
            asked.answered(state, "me")
        assert str(refused.value) == (
            "NOT_CONFIRMED: that question was answered before, or is too old. "
            "Call again without the answer; the user is asked anew."
        )
    assert asked.answered(asked.ask(YES, "me"), "me") == YES


@pytest.mark.parametrize("other", ["you", ""])
def test_an_answer_of_somebody_else_does_not_count_and_uses_nothing_up(other):
    asked = Asked()
    state = asked.ask(YES, "me")
    with pytest.raises(NotConfirmed):
        asked.answered(state, other)
    assert asked.answered(state, "me") == YES


def test_an_answer_counts_for_ten_minutes():
    clock = Clock()
    asked = Asked(clock)
    early, late = asked.ask(YES, ""), asked.ask(YES, "")
    clock.now += 599
    assert asked.answered(early, "") == YES
    clock.now += 2
    for state in (early, late):
        with pytest.raises(NotConfirmed):
            asked.answered(state, "")


def test_what_is_remembered_is_bounded_and_what_is_forgotten_does_not_count_again(monkeypatch):
    monkeypatch.setattr(confirmation, "_MOST_ANSWERED", 10)
    clock = Clock()
    asked, states = Asked(clock), []
    for _ in range(50):
        clock.now += 1
        states.append(asked.ask(YES, ""))
        asked.answered(states[-1], "")
        assert sum(map(len, asked._answered.values())) <= 10
    for state in states:
        with pytest.raises(NotConfirmed):
            asked.answered(state, "")
    clock.now += 601
    asked.answered(asked.ask(YES, ""), "")
    assert len(asked._answered) == 1


def test_of_very_many_the_question_that_was_asked_first_is_forgotten(monkeypatch):
    monkeypatch.setattr(confirmation, "_MOST_ANSWERED", 2)
    numbers = iter("cbaz")  # in no order of theirs
    monkeypatch.setattr(confirmation.secrets, "token_hex", lambda _: next(numbers))
    clock = Clock()
    asked, states = Asked(clock), []
    for _ in range(3):
        clock.now += 2
        states.append(asked.ask(YES, ""))
    clock.now -= 3
    between = asked.ask(YES, "")  # asked after the first and before the others
    for state in states:
        asked.answered(state, "")
    assert asked.answered(between, "") == YES


def test_as_many_as_are_remembered_make_nothing_else_too_old(monkeypatch):
    monkeypatch.setattr(confirmation, "_MOST_ANSWERED", 2)
    asked = Asked(Clock())
    first, second, third = (asked.ask(YES, "") for _ in range(3))
    asked.answered(first, "")
    asked.answered(second, "")
    assert asked.answered(third, "") == YES
