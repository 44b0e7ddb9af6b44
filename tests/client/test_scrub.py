"""What Ollama says of itself reaches nobody: its paths, addresses, name server, a secret in an address."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.client.error_answers import from_line, from_status, scrub
from ollama_mcp.client.failures import ErrorContext

RECORDINGS = sorted((Path(__file__).parent.parent / "recordings").glob("*.json"))
ASKED = ErrorContext("http://127.0.0.1:11434", "m")
LEAKS = re.compile(r"/var/lib|/root|\.ollama/|blobs/sha|198\.51\.100|:53\b|tmp/|\d+\.\d+\.\d+\.\d+")


def said(path: Path) -> list:
    """Every error that a recording holds, as the client would make it."""
    exchange = json.loads(path.read_text())
    response = exchange["response"]
    if response.get("status", 200) >= 300:
        return [from_status(response["status"], response["body"].encode(), None, ASKED)]
    objects = [json.loads(line) for line in response.get("body", "").split("\n") if '"error"' in line]
    errors = [raw["error"] for raw in objects if isinstance(raw, dict) and "error" in raw]
    return [from_line(error, ASKED, tells_in_stream=tells) for error in errors for tells in (True, False)]


@pytest.mark.parametrize("path", [path for path in RECORDINGS if said(path)], ids=lambda path: path.stem)
def test_no_recorded_error_shows_a_path_or_an_address(path):
    for error in said(path):
        for text in (str(error), json.dumps(error.as_data())):
            assert not LEAKS.search(text.replace(ASKED.address, ""))


def test_there_are_recordings_that_would_leak():
    bodies = [json.loads(path.read_text())["response"].get("body", "") for path in RECORDINGS]
    assert sum('"error"' in body and bool(LEAKS.search(body)) for body in bodies) >= 3


WORDS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,11}", fullmatch=True)
UNIX = st.lists(WORDS, min_size=2, max_size=6).map(lambda parts: "/" + "/".join(parts))
HIDDEN = st.one_of(
    UNIX,
    UNIX.map("file://".__add__),
    st.lists(WORDS, min_size=2, max_size=4).map(lambda parts: "C:\\" + "\\".join(parts)),
    st.ip_addresses(v=4).map(str),
    st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(1, 65535)),
    st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(1, 65535)),
    st.ip_addresses(v=6).map(str).filter(lambda text: text.count(":") > 2),
    st.builds(
        "{0}:{1}->{2}:{3}".format,
        st.ip_addresses(v=4),
        st.integers(1024, 65535),
        st.ip_addresses(v=4),
        st.integers(80, 65535),
    ),
)
FRAMES = [
    "open {}: no such file",
    "dial tcp {}: connect: connection refused",
    "lookup x on {}: no such host",
    'stat "{}": denied',
    "path={}",
    "({})",
    "a\n{}",
    "{}",
    "read tcp {}: use of closed network connection",
    "stat:{}",
]


@given(st.sampled_from(FRAMES), HIDDEN)
def test_a_path_or_an_address_is_taken_out_wherever_it_stands(frame, hidden):
    shown = scrub(frame.format(hidden))
    assert hidden not in shown
    assert "…" in shown
    parts = [part for part in re.split(r"[/\\]", hidden) if len(part) > 3]
    assert not any(part in shown for part in parts if part not in frame and len(parts) > 1)


@pytest.mark.parametrize(
    "harmless",
    [
        "pull model manifest: file does not exist",
        "https://registry.ollama.ai/v2/library/llama3.2/manifests/1b",
        "and/or, 50/50",
        "model requires more system memory (5.5 GiB) than is available (2.1 GiB)",
        'option "temperature" must be of type float32',
        "sha256:0123abcd",
        "invalid format: expected json",
        "hf.co/user/repo:Q4_K_M",
        "v0.33.0",
    ],
)
def test_harmless_words_stay(harmless):
    assert scrub(harmless) == harmless


def test_secrets_in_addresses_and_headers_are_taken_out():
    assert "hunter2" not in scrub("Get https://me:hunter2@registry.example/v2/: refused")
    assert "hunter2" not in scrub("Authorization: Bearer hunter2 was refused")


@given(st.text())
def test_what_is_shown_is_one_line_of_at_most_200_characters(text):
    shown = scrub(text * 50)
    assert len(shown) <= 200
    assert "\n" not in shown


@pytest.mark.parametrize(
    "text", ["1", "a:", "::", "/a", "/ ", "[:", "1.1.1.", "a->", "C:\\a", "@", "//a", "bearer "]
)
@pytest.mark.long
def test_no_text_makes_it_slow(text):
    started = time.monotonic()
    scrub(text * (1_000_000 // len(text)))
    scrub(text * (1_999 // len(text)))
    assert time.monotonic() - started < 0.5


def test_a_long_text_is_not_cut_in_the_middle_of_an_address():
    for padding in range(1900, 2010):
        shown = scrub("/aa/bb " * (padding // 7) + "x" * (padding % 7) + " 198.51.100.53 " + "y" * 3000)
        assert "198" not in shown
