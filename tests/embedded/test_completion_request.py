"""llama.cpp's request: how tokens are chosen, and how prompts are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.embedded.completion_request import (
    MOST_TOKENS,
    chatml,
    cut_middle,
    droppable,
    sampling,
    without_oldest,
)


@pytest.mark.parametrize(
    ("asked", "got"), [(5, 5), (0, MOST_TOKENS), (-1, MOST_TOKENS), (10**6, MOST_TOKENS), (None, MOST_TOKENS)]
)
def test_the_length_of_an_answer_is_capped(asked, got):
    options = {} if asked is None else {"num_predict": asked}
    assert sampling(options)["n_predict"] == got


@pytest.mark.parametrize(("seed", "sent"), [(7, 7), (7.9, 7), (-1, 0xFFFFFFFF), (2**40 + 1, 1)])
def test_a_seed_fits_into_32_bits(seed, sent):
    assert sampling({"seed": seed})["seed"] == sent


def test_stops_are_those_of_the_options():
    assert sampling({})["stop"] == []
    assert sampling({"stop": ["x"]})["stop"] == ["x"]


def test_neighbours_of_one_role_become_one_turn():
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert chatml(turns) == "<|im_start|>user\na\n\nb<|im_end|>\n<|im_start|>assistant\n"


def test_the_system_and_the_last_message_are_never_dropped():
    talk = [{"role": role} for role in ("system", "user", "assistant", "system", "user")]
    assert droppable(talk) == [1, 2]
    assert [m["role"] for m in without_oldest(talk, 1)] == ["system", "assistant", "system", "user"]
    assert [m["role"] for m in without_oldest(talk, 9)] == ["system", "system", "user"]


@given(st.integers(0, 3000), st.integers(4, 2048), st.integers(-5, 4000))
def test_cut_tokens_fit_and_keep_both_ends(count, window, keep):
    tokens = list(range(count))
    cut = cut_middle(tokens, window, keep)
    assert len(cut) == count if count < window else 0 < len(cut) < window
    assert cut[-1:] == tokens[-1:]
    assert cut == sorted(set(cut))
