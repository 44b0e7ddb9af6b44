"""The kit as somebody's tests use it: fixtures, options, and errors where something was meant otherwise."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ollama_mcp.testing import FakeOllama, Model, Script
from ollama_mcp.testing.scripted_backend import vector

pytest_plugins = ["pytester"]


def ask(url: str, **body: Any) -> dict[str, Any]:
    body = {"model": "llama3.2:3b", "stream": False, "messages": [{"role": "user", "content": "hi"}]} | body
    return httpx.post(f"{url}/api/chat", json=body, trust_env=False).json()


def test_a_text_is_a_script_and_tool_calls_may_be_as_ollama_has_them(fake_ollama):
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    assert Script(tokens="It is two.").tokens == ["It ", "is ", "two."]
    fake_ollama.script(Script(tool_calls=[call]), "It is\n two. ", lambda request: request.json["model"])
    said = [ask(fake_ollama.url)["message"] for _ in range(3)]
    assert said[0]["tool_calls"][0]["function"]["name"] == "add"
    assert [message["content"] for message in said[1:]] == ["It is\n two. ", "llama3.2:3b"]
    assert fake_ollama.last.json["messages"][0]["content"] == "hi"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda fake: fake.script("x", path="/api/chats"), "no path /api/chats; /api/chat is meant?"),
        (lambda fake: Model("m", capabilities=["visoin"]), "no model has the capability 'visoin'"),
        (lambda fake: Script(tool_calls=[{"function": "add"}]), 'a tool call is {"name"'),
        (lambda fake: fake.last, "no model was asked yet; there was no request at all"),
    ],
)
def test_what_is_meant_otherwise_is_an_error_at_once(wrong: Callable[[FakeOllama], object], told: str):
    with pytest.raises((ValueError, TypeError, LookupError)) as error:
        wrong(FakeOllama())
    assert told in str(error.value)


def test_busy_wins_over_a_younger_script(fake_ollama):
    fake_ollama.busy(times=2)
    fake_ollama.script("Hello")
    assert [ask(fake_ollama.url).get("error", "")[:11] for _ in range(3)] == ["server busy"] * 2 + [""]
    fake_ollama.busy(times=None)
    assert ask(fake_ollama.url)["error"].startswith("server busy")
    fake_ollama.script("Hello again")
    assert "error" not in ask(fake_ollama.url)


@pytest.mark.real_time
def test_a_wait_that_is_too_long_says_what_there_was(fake_ollama):
    ask(fake_ollama.url)
    with pytest.raises(TimeoutError, match=r"requests: 1 .*POST /api/chat.*answered: 1, disconnects: 0"):
        fake_ollama.wait_for_sync(lambda fake: fake.disconnects, timeout=0.01)


def test_texts_that_share_words_are_near():
    def near(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))

    assert near("bread", "bread") > 0.999
    assert near("bread", "fresh bread") > near("bread", "the fresh bread of today") > near("bread", "violin")
    assert abs(near("bread", "violin")) < 0.2


OWN = """
import os, httpx

def chat(words):
    body = {"model": "llama3.2:3b", "stream": False, "messages": [{"role": "user", "content": words}]}
    answer = httpx.post(os.environ["OLLAMA_HOST"] + "/api/chat", json=body, trust_env=False)
    return answer.json().get("message", {}).get("content") or answer.json()["error"]
"""


@pytest.mark.real_time
def test_a_script_that_nobody_used_fails_the_test_that_left_it(pytester):
    pytester.makepyfile(
        OWN
        + """
def test_used(fake_ollama, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", fake_ollama.url)
    fake_ollama.script("Hello")
    assert chat("x") == "Hello"

def test_unused(fake_ollama):
    fake_ollama.script("Hello", model="qwen3")

def test_second_unused(fake_ollama, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", fake_ollama.url)
    fake_ollama.script("first", "second", "third")
    assert chat("x") == "first"

def test_not_strict(fake_ollama):
    fake_ollama.strict = False
    fake_ollama.script("Hello")

def test_skipped(fake_ollama):
    fake_ollama.script("Hello")
    import pytest
    pytest.skip("another time")
"""
    )
    result = pytester.runpytest("-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, skipped=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*nobody asked for what was scripted: a script for /api/chat or /api/generate of qwen3*",
            "*nobody asked for what was scripted: answers 2 to 3 of a script for /api/chat*",
        ]
    )


@pytest.mark.real_time
def test_what_was_recorded_is_replayed_without_the_real_one(pytester, monkeypatch):
    pytester.makepyfile(
        OWN
        + """
def test_it(ollama_env, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert chat('why?') == 'Because.'

def test_scripted(ollama_env):
    ollama_env.script("Hello")
    assert chat("x") == "Hello"
"""
    )
    with FakeOllama.in_thread() as real:
        real.script("Because.")
        monkeypatch.setenv("OLLAMA_HOST", real.url)
        quiet = ("-p", "no:xdist", "-p", "no:cacheprovider")
        pytester.runpytest("--ollama-record", "tapes", *quiet).assert_outcomes(passed=1, skipped=1)
    (tape,) = pytester.path.glob("tapes/*/*.json")
    assert "py-test_it-" in tape.parent.name
    pytester.runpytest("--ollama-replay", "tapes", *quiet).assert_outcomes(passed=2)
    with FakeOllama.in_thread() as changed:
        changed.script("Why not?")
        monkeypatch.setenv("OLLAMA_HOST", changed.url)
        pytester.runpytest("--ollama-record", "tapes", *quiet).assert_outcomes(failed=1, skipped=1)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    away = pytester.runpytest("--ollama-record", "tapes", *quiet)
    away.assert_outcomes(failed=1, skipped=1)
    assert len([*pytester.path.glob("tapes/*")]) == len([*pytester.path.glob("tapes/*/*.json")]) == 1
    pytester.runpytest("--ollama-replay", "tapes", *quiet).assert_outcomes(passed=2)
    pytester.runpytest(*quiet).assert_outcomes(passed=1, failed=1)  # the fake's own answer is another one
    both = pytester.runpytest("--ollama-record", "a", "--ollama-replay", "b", *quiet)
    assert both.ret == pytest.ExitCode.USAGE_ERROR
    both.stderr.fnmatch_lines(["*exclude one another*"])


def test_the_fixtures_show_how_they_are_used(pytester):
    shown = pytester.runpytest("--fixtures", "-p", "no:xdist", "-p", "no:cacheprovider").stdout.str()
    assert '`fake_ollama.script("Hello!")`' in shown
    assert '`ollama_env.script("Hello!")`' in shown
