"""Thinking that leaked into an answer is taken out, however the text is cut into pieces."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_mcp.services.model_output import ThinkSplitter

_TAGS = ["<think>", "</think>", "<thi", "nk>", "</", "<", ">", "<b>", "think"]
_PARTS = st.sampled_from([*_TAGS, "\n", "\n\n", " ", "4", "Hm, ", "ok"])
TEXTS = st.lists(_PARTS, max_size=14).map("".join)


def split(text: str, cuts: list[int], *, inside: bool) -> tuple[str, str]:
    splitter = ThinkSplitter(may_be_inside=inside)
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [splitter.feed(text[a:b]) for a, b in pairwise(ends)]
    pieces.append(splitter.rest())
    return "".join(answer for answer, _ in pieces), "".join(thinking for _, thinking in pieces)


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("8", False, ("8", "")),
        ("<think>I add.</think>8", False, ("8", "I add.")),
        ("\n<think>\nI add.\n</think>\n\n8\n", False, ("8\n", "I add.\n")),
        ("<think>I add", False, ("", "I add")),
        ("  indented", False, ("  indented", "")),
        ("<thinking> is a tag", False, ("<thinking> is a tag", "")),
        ("so: <think>no</think>", False, ("so: <think>no</think>", "")),
        ("a </think> b", False, ("a </think> b", "")),
        ("I add.\n</think>\n8", True, ("8", "I add.\n")),
        ("<think>I add.</think>8", True, ("8", "I add.")),
        ("<think>I add", True, ("", "I add")),
        ("just 8", True, ("just 8", "")),
        ("<think></think>", True, ("", "")),
        ("a</think>b</think>c", True, ("b</think>c", "a")),
        ("", True, ("", "")),
        ("<", False, ("<", "")),
        (" \n", False, (" \n", "")),
    ],
)
def test_thinking_is_taken_out_of_the_answer(text: str, inside: bool, expected: tuple[str, str]):
    assert split(text, [], inside=inside) == expected


@given(TEXTS, st.lists(st.integers(0, 200), max_size=30), st.booleans())
@example("<think>\nI add.</think>\n8", [7], False)
@example("<think>\nI add.</think>\n8", [1, 7, 8], True)
def test_it_does_not_matter_where_a_text_is_cut(text: str, cuts: list[int], inside: bool):
    assert split(text, cuts, inside=inside) == split(text, [], inside=inside)


@given(TEXTS, st.lists(st.integers(0, 200), max_size=30), st.booleans())
@example("<think></</think>think>", [], False)
def test_nothing_is_lost_but_the_tags_and_the_space_around_them(text: str, cuts: list[int], inside: bool):
    answer, thinking = split(text, cuts, inside=inside)
    if not thinking and answer == text:
        return
    left = f"{thinking}\n{answer}"  # apart, so that no tag comes about where they meet
    for tag in ("<think>", "</think>"):
        text, left = text.replace(tag, ""), left.replace(tag, "")
    assert "".join(left.split()) == "".join(text.split())


@given(st.text(max_size=60).filter(lambda text: "think>" not in text))
def test_a_text_without_tags_is_the_answer_to_the_letter(text: str):
    assert split(text, list(range(60)), inside=False) == (text, "")


@given(st.text(alphabet="ab<>/think \n", max_size=60), st.lists(st.integers(0, 60)))
def test_what_was_passed_on_is_never_taken_back(text: str, cuts: list[int]):
    whole = split(text, [], inside=False)[0]
    splitter = ThinkSplitter()
    passed = ""
    for letter in text:
        passed += splitter.feed(letter)[0]
        assert whole.startswith(passed)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("<think>\nI add.</think>\n\n8", "8", "I add."),
        ("\n <think>\n\n  X is < 8 </think> 8 < 9 ", "8 < 9 ", "  X is < 8 "),
        ("<think>a</thin</think>b</think>", "b</think>", "a</thin"),
        ("<think></think>8", "8", ""),
    ],
)
def test_thinking_in_tags_is_no_part_of_the_answer_letter_by_letter_or_whole(text, answer, thinking, inside):
    assert split(text, [], inside=inside) == (answer, thinking)
    assert split(text, list(range(len(text))), inside=inside) == (answer, thinking)


def test_thinking_is_passed_on_but_for_what_could_be_the_closing_tag():
    splitter = ThinkSplitter()
    assert splitter.feed("<think>") == ("", "")
    assert splitter.feed("abcdefghi") == ("", "ab")
    assert splitter.feed("j") == ("", "c")
    assert splitter.rest() == ("", "defghij")


def test_the_rest_comes_once():
    splitter = ThinkSplitter()
    splitter.feed("<thi")
    assert splitter.rest() == ("<thi", "")
    assert splitter.rest() == ("", "")
