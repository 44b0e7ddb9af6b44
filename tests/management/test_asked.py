"""Answers that come with a later call: for who was asked, for a time, and once."""

import pytest

from ollama_mcp.errors import NotConfirmed
from ollama_mcp.management import Asked, Confirmation


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
        with pytest.raises(NotConfirmed, match="Call again without the answer"):
            asked.answered(state, "me")
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
