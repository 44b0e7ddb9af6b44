"""What a Job ends as."""

import pytest

from ollama_mcp.jobs.answers import Answer, EmbeddingStats, Stats, Vectors
from ollama_mcp.ollama.api_models import ToolCall


def test_an_answer_is_its_text_with_what_belongs_to_it():
    stats, call, notes = Stats("m"), ToolCall(), ["a"]
    answer = Answer("text", stats=stats, thinking="hm", tool_calls=(call,), notes=notes)
    assert answer == "text"
    assert answer.stats is stats
    assert (answer.thinking, answer.tool_calls, answer.notes, answer.handle) == ("hm", [call], ["a"], "")
    notes.append("b")
    assert answer.notes == ["a"], "notes that come later are not of this answer"


def test_an_answer_of_text_alone_has_nothing_else():
    answer = Answer("", stats=Stats("m"))
    assert (answer, answer.thinking, answer.tool_calls, answer.notes) == ("", "", [], [])


def test_an_answer_takes_the_room_of_all_its_texts():
    plain = Answer("x" * 1000, stats=Stats("m")).size
    assert 1000 < plain < 1500
    assert Answer("x" * 1000, stats=Stats("m"), thinking="y" * 500).size == plain + 500
    assert Answer("x" * 1000, stats=Stats("m"), tool_calls=[ToolCall()]).size > plain


@pytest.mark.parametrize("kind", [Stats, EmbeddingStats])
def test_numbers_that_nobody_knows_and_what_did_not_happen_are_left_out(kind):
    assert not {"prompt_tokens", "chosen"} & kind("m").as_data().keys()
    found = kind(
        "m", chosen="loaded", prompt_tokens=0, context_grown=True, total_s=0.5, cloud=False
    ).as_data()
    assert found["prompt_tokens"] == 0, "none is a number, too"
    assert (found["model"], found["chosen"], found["context_grown"], found["total_s"]) == (
        "m", "loaded", True, 0.5,
    )  # fmt: skip
    assert not {"cloud", "context_window"} & found.keys()


def test_vectors_are_a_sequence_of_themselves():
    vectors = Vectors([[1.0, 2.0], [3.0, 4.0]], EmbeddingStats("e", count=2, dimensions=2))
    assert list(vectors) == [[1.0, 2.0], [3.0, 4.0]]
    assert (len(vectors), vectors[1], vectors.form, vectors.uri) == (2, [3.0, 4.0], "summary", "")
    assert vectors.size == 32 * 4
