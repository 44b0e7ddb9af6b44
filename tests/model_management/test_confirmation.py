"""What has to be confirmed, what that takes, and what is said where it was not."""

import pytest

from ollama_mcp.errors import NotConfirmed
from ollama_mcp.ollama.api_models import ModelInfo
from ollama_mcp.services.confirmation import Confirmation, Question, bind_to_content, keep_others

WHY = "it cannot be undone"
QUESTION = Question("delete", "m", "sha256:1", 1_200_000_000, WHY)


def refused(question: Question, confirmed: Confirmation | None) -> NotConfirmed:
    with pytest.raises(NotConfirmed) as failure:
        question.check(confirmed)
    return failure.value


@pytest.mark.parametrize(
    "confirmed",
    [
        Confirmation("m"),
        Confirmation("M:latest"),
        Confirmation("m", "sha256:1"),
        Confirmation("registry.ollama.ai/library/m", "sha256:1"),
    ],
)
def test_the_name_however_it_is_spelled_lets_pass_with_the_content_that_was_seen(confirmed):
    QUESTION.check(confirmed)


@pytest.mark.parametrize(
    ("confirmed", "cause"),
    [
        (None, "to delete m (1.2 GB) was not confirmed"),
        (Confirmation("n"), "'n' was confirmed, not to delete m (1.2 GB)"),
        (Confirmation("m:1b", "sha256:1"), "'m:1b' was confirmed, not to delete m (1.2 GB)"),
        (Confirmation(""), "'' was confirmed, not to delete m (1.2 GB)"),
        (Confirmation("n" * 99), f"'{'n' * 80}' was confirmed, not to delete m (1.2 GB)"),
        (Confirmation("m", "sha256:2"), "m has changed since it was confirmed"),
        (Confirmation("m", ""), "m has changed since it was confirmed"),
    ],
)
def test_anything_else_is_refused_in_words_that_say_what_is_missing(confirmed, cause):
    error = refused(QUESTION, confirmed)
    assert error.cause == f"{cause}: {WHY}"
    assert error.remedy == 'Ask the user first, then send confirm="m".'


def test_what_is_to_be_asked_comes_with_the_refusal():
    assert refused(QUESTION, None).details == {
        "action": "delete",
        "model": "m",
        "digest": "sha256:1",
        "bytes": 1_200_000_000,
        "question": f"Delete m (1.2 GB)? ({WHY})",
    }


def test_a_size_that_is_not_known_is_not_told():
    error = refused(Question("push", "to/do", why=WHY), None)
    assert error.cause == f"to push to/do was not confirmed: {WHY}"
    assert error.details["question"] == f"Push to/do? ({WHY})"
    assert (error.details["digest"], error.details["bytes"]) == ("", 0)


def test_a_question_about_an_installed_model_is_about_its_content():
    info = ModelInfo(name="m:1b", digest="sha256:9", size=7)
    assert Question.about("overwrite", info, WHY) == Question("overwrite", "m:1b", "sha256:9", 7, WHY)


def test_what_a_refusal_asks_for_lets_pass():
    confirmed = Confirmation.of(refused(QUESTION, None))
    assert confirmed == Confirmation("m", "sha256:1")
    QUESTION.check(confirmed)


def test_a_refusal_that_asks_for_nothing_confirms_nothing():
    assert Confirmation.of(NotConfirmed("a", "B.")) == Confirmation("", "")
    assert refused(QUESTION, Confirmation.of(NotConfirmed("a", "B.")))


def test_a_name_alone_means_what_has_it_now_and_a_content_means_itself():
    assert bind_to_content(None, "sha256:1") is None
    assert bind_to_content(Confirmation("m"), "sha256:1") == Confirmation("m", "sha256:1")
    assert bind_to_content(Confirmation("m"), "") == Confirmation("m", "")
    assert bind_to_content(Confirmation("m", ""), "sha256:1") == Confirmation("m", "")
    assert bind_to_content(Confirmation("m", "sha256:2"), "sha256:1") == Confirmation("m", "sha256:2")


@pytest.mark.anyio
async def test_a_name_that_is_taken_is_given_up_only_when_that_was_confirmed():
    class Installed:
        async def entry(self, name: str) -> ModelInfo | None:
            return ModelInfo(name="m:latest", digest="f" * 64, size=2_000_000_000) if name == "m" else None

    assert await keep_others(Installed(), "free", None) == ""
    assert await keep_others(Installed(), "m", Confirmation("m")) == "f" * 64
    with pytest.raises(NotConfirmed) as failure:
        await keep_others(Installed(), "m", None)
    assert str(failure.value) == (
        "NOT_CONFIRMED: to overwrite m:latest (2.0 GB) was not confirmed: a model of that name is installed. "
        'Ask the user first, then send confirm="m:latest".'
    )
