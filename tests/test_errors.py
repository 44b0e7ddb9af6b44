"""The tree of failures and its contract: one text, the same as data."""

import ast
import inspect
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ollama_mcp
from ollama_mcp import errors
from ollama_mcp.client import error_answers, failures
from ollama_mcp.errors import OllamaError

CODES = [
    "CANCELLED",
    "INVALID_ARGUMENT",
    "UNKNOWN_OPTION",
    "TOO_LARGE",
    "MODEL_NOT_FOUND",
    "CAPABILITY",
    "CONTEXT_OVERFLOW",
    "UNREACHABLE",
    "NOT_OLLAMA",
    "TIMEOUT",
    "BUSY",
    "RATE_LIMITED",
    "UPSTREAM",
    "BAD_UPSTREAM",
    "STREAM_BROKEN",
    "TRUNCATED",
    "FORBIDDEN",
    "NOT_CONFIRMED",
    "UNKNOWN_HANDLE",
    "STORAGE",
    "WRONG_SETTINGS",
    "INTERNAL",
]
CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, OllamaError)]
LEAVES = [c for c in CLASSES if "code" in vars(c) and c is not OllamaError]
PLAIN = [c for c in LEAVES if c is not errors.InternalError]
SHAPE = re.compile(r"[A-Z_]+: \S.*\. \S.*[.…]\Z")
DATA = {
    "code",
    "message",
    "remedy",
    "retryable",
    "retry_after_s",
    "upstream_status",
    "partial_text",
    "error_id",
}


def test_the_tree_in_the_docstring_is_the_tree():
    stack, drawn = [], {}
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+)(?: {2,}(\S+).*)?$", line)
        if found is None or not hasattr(errors, found[2]):
            continue
        depth = len(found[1]) // 4
        stack[depth:] = [found[2]]
        drawn[found[2]] = (stack[depth - 1] if depth else "Exception", found[3])
    real = {c.__name__: (c.__base__.__name__, c.code if c in LEAVES else None) for c in CLASSES}
    shown = {name: (base, code if code and code.isupper() else None) for name, (base, code) in drawn.items()}
    assert shown == real


def test_every_code_of_the_contract_is_one_class():
    assert sorted(c.code for c in LEAVES) == sorted(CODES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_class_says_what_it_is_for(kind):
    assert inspect.getdoc(kind)


def test_what_can_succeed_later_is_retryable():
    retryable = {c.code for c in LEAVES if c.retryable}
    assert retryable == {
        "BUSY", "RATE_LIMITED", "UNREACHABLE", "TIMEOUT", "UPSTREAM", "STREAM_BROKEN", "TRUNCATED",
    }  # fmt: skip


def check_contract(error: OllamaError) -> None:
    text = str(error)
    assert len(text) <= 400
    assert "\n" not in text
    assert SHAPE.match(text), text
    assert text.startswith(error.code + ": ")
    assert error.retryable or "ry again" not in error.remedy
    data = error.as_data()
    assert data.keys() >= DATA
    assert data["code"] == error.code
    json.dumps(data)


@pytest.mark.parametrize("kind", PLAIN, ids=lambda c: c.code)
def test_any_cause_and_remedy_make_a_text_of_the_contracts_shape(kind):
    # Hypothesis draws words of this file, too: a remedy of ours would not say "try again" in vain.
    remedies = st.text(min_size=1).filter(lambda text: "ry again" not in text * 2)

    @given(st.text(min_size=1), st.integers(0, 900), remedies)
    def check(cause, length, remedy):
        check_contract(kind(cause * (1 + length // len(cause)), remedy + "."))
        check_contract(kind(cause, remedy * (1 + length // len(remedy)) + "."))

    check()


def test_the_remedy_is_whole_when_the_cause_is_long():
    text = str(errors.Upstream("x" * 5000, "Do this."))
    assert len(text) == 400
    assert text.endswith("…. Do this.")


def test_data_has_exactly_the_keys_of_the_contract_and_the_details():
    error = errors.ContextOverflow("a", "B.", upstream_status=400, tokens=5, window=4)
    assert error.as_data() == {
        "code": "CONTEXT_OVERFLOW",
        "message": "a",
        "remedy": "B.",
        "retryable": False,
        "retry_after_s": None,
        "upstream_status": 400,
        "partial_text": "",
        "handle": None,
        "error_id": None,
        "tokens": 5,
        "window": 4,
    }


def test_a_detail_cannot_take_the_place_of_the_contract():
    assert errors.Upstream("a", "B.", code="x", message="y").as_data()["code"] == "UPSTREAM"
    assert errors.Upstream("a", "B.", code="x", message="y").as_data()["message"] == "a"


def test_an_internal_error_has_an_id_in_text_and_data():
    first, second = errors.InternalError(), errors.InternalError()
    check_contract(first)
    assert first.error_id in str(first)
    assert first.as_data()["error_id"] == first.error_id != second.error_id


ASKED = st.builds(
    failures.ErrorContext, st.just("http://127.0.0.1:11434"), st.text(max_size=500), st.booleans()
)


@given(
    st.integers(300, 599),
    st.one_of(
        st.binary(),
        st.text().map(lambda text: json.dumps({"error": text}).encode()),
        st.dictionaries(
            st.sampled_from(["message", "n_ctx", "n_prompt_tokens", "type", "code"]),
            st.none() | st.text() | st.integers() | st.lists(st.text()),
        ).map(lambda inner: json.dumps({"error": inner}).encode()),
        st.sampled_from(
            [
                b'{"error":null}',
                b'{"error":5}',
                b'{"error":{"message":{}}}',
                b"[]",
                b"null",
                b'{"error":"{\\"error\\":5}"}',
            ]
        ),
    ),
    st.none() | st.text() | st.sampled_from(["nan", "inf", "-1", "1e999", "Wed, 21 Oct 2026 07:28:00 GMT"]),
    ASKED,
)
def test_any_failing_answer_becomes_an_error_of_the_contract(status, body, retry_after, asked):
    error = error_answers.from_status(status, body, retry_after, asked)
    check_contract(error)
    assert error.upstream_status == status
    assert error.retry_after_s is None or 0 <= error.retry_after_s < 1e6


@given(
    st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.text())),
    ASKED,
    st.booleans(),
)
def test_any_error_line_becomes_an_error_of_the_contract(said, asked, tells):
    check_contract(error_answers.from_line(said, asked, tells_in_stream=tells))


@given(st.text(max_size=500), st.lists(st.text(max_size=300), max_size=3))
def test_errors_that_name_models_keep_the_shape(model, others):
    check_contract(error_answers.model_not_found(model, others))
    check_contract(error_answers.lacks(model, "vision", others))


def _sources() -> list[Path]:
    return sorted(Path(ollama_mcp.__file__).parent.rglob("*.py"))


def _texts(node: ast.expr) -> str:
    """A literal's text, with X where it is computed."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "X."


def test_every_failure_in_the_source_is_written_as_the_contract_says(subtests):
    for path in _sources():
        with subtests.test(path.stem):
            names = {c.__name__ for c in PLAIN}
            text = path.read_text()
            if not any(f"{name}(" in text for name in names):
                continue  # to parse and walk all of them takes a second
            for node in ast.walk(ast.parse(text)):
                if not isinstance(node, ast.Call) or len(node.args) != 2:
                    continue
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name not in names:
                    continue
                cause, remedy = map(_texts, node.args)
                where = f"{path.name}:{node.lineno}"
                assert remedy.rstrip("`").endswith((".", "X")), f"{where}: the remedy is no sentence"
                assert not isinstance(node.args[0], ast.Constant) or not cause.endswith("."), (
                    f"{where}: the cause ends with a stop"
                )
                assert len(remedy) < 250, f"{where}: the remedy leaves no room for the cause"
