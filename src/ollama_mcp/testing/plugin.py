"""The pytest plugin: `fake_ollama` and `ollama_env`. Everything is imported inside: every run loads it."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Never

import pytest

if TYPE_CHECKING:
    from ollama_mcp.testing.fake import FakeOllama
    from ollama_mcp.testing.listener import Listener


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--ollama-record` and `--ollama-replay`."""
    group = parser.getgroup("ollama", "Ollama, real or not (ollama_mcp.testing)")
    group.addoption(
        "--ollama-record",
        metavar="DIR",
        help="`ollama_env` passes calls on to the real Ollama, and writes each test's into a folder of DIR",
    )
    group.addoption(
        "--ollama-replay", metavar="DIR", help="`ollama_env` answers from what was recorded, and only so"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse both options at once."""
    if config.getoption("--ollama-record", None) and config.getoption("--ollama-replay", None):
        raise pytest.UsageError("--ollama-record and --ollama-replay exclude one another")


_PASSED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test passed: of one that did not, scripts are unused with good reason."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def fake_ollama(request: pytest.FixtureRequest) -> Iterator[FakeOllama]:
    """A fake Ollama: `fake_ollama.script("Hello!")`, then `assert greet(fake_ollama.url) == "Hello!"`.

    It has a port and a thread of its own, for tests of any kind. A test that leaves a script, or one of its
    answers, unused fails; `fake_ollama.strict = False` lets it pass. `pytest --fixtures -v` shows this:

        def test_greeting(fake_ollama):
            fake_ollama.script("Hello!")
            answer = my_program(base_url=fake_ollama.url)
            assert answer == "Hello!"
            assert fake_ollama.last.json["messages"][-1]["content"] == "Greet me."
    """
    from ollama_mcp.testing.fake import FakeOllama  # noqa: PLC0415  (only when a test asks for it)

    with FakeOllama.in_thread() as fake:
        yield fake
        if fake.strict and request.node.stash.get(_PASSED, False):
            fake.check()


@pytest.fixture
def ollama_env(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A `fake_ollama` that OLLAMA_HOST names: `ollama_env.script("Hello!")`, `assert greet() == "Hello!"`.

    With `--ollama-record DIR` calls reach the real Ollama and are written to DIR; with
    `--ollama-replay DIR` they are answered from there. A test that scripts its answers is skipped while
    recording, and gets them while replaying. An example:

        def test_summary(ollama_env):
            assert "bread" in my_program()   # it reads OLLAMA_HOST, as the official client does
    """
    record: str | None = request.config.getoption("--ollama-record")
    replay: str | None = request.config.getoption("--ollama-replay")
    if not record and not replay:
        fake: FakeOllama = request.getfixturevalue("fake_ollama")
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        yield fake
        return
    # Absolute: a test may change the working folder.
    folder = request.config.invocation_params.dir / (record or replay or "") / _folder_of(request.node)
    from ollama_mcp.settings import load  # noqa: PLC0415
    from ollama_mcp.testing.fake import FakeOllama  # noqa: PLC0415  (as above)
    from ollama_mcp.testing.recorder import Recorder  # noqa: PLC0415
    from ollama_mcp.testing.scripts import Script  # noqa: PLC0415

    class ScriptlessRecorder(Recorder):
        def __getattr__(self, name: str) -> Never:
            if hasattr(FakeOllama, name):
                pytest.skip(f"`ollama_env.{name}` is for a fake, and this run records the real Ollama")
            raise AttributeError(name)

    if record:
        backend = load().backend
        with tempfile.TemporaryDirectory() as made:
            with ScriptlessRecorder.in_thread(
                backend.host, made, why=request.node.nodeid, secrets=backend.secrets
            ) as recorder:
                monkeypatch.setenv("OLLAMA_HOST", recorder.url)
                yield recorder
            has_old = any(folder.glob("[0-9]*.json"))
            # Of a test that fails they may be half of all, which is better than none.
            if recorder.written and (request.node.stash.get(_PASSED, False) or not has_old):
                _replace_recordings(folder, recorder.written)
        return
    with FakeOllama.in_thread() as fake:
        if any(folder.glob("*.json")):
            fake.replay_all(folder)
        else:  # for a test that scripts all its answers
            missing = "no call of this test was recorded; record it with --ollama-record"
            fake.script(Script(status=501, body={"error": missing}))
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        yield fake


def _replace_recordings(folder: Path, made: Sequence[Path]) -> None:
    """Put new recordings in the place of old ones, which stay until there are new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("[0-9]*.json"):
        old.unlink()
    for file in made:
        shutil.move(file, folder / file.name)


def _folder_of(test: pytest.Item) -> str:
    """Return a name that every file system takes, for each test its own, whatever pytest's rootdir is."""
    name = f"{test.path.parent.name}/{test.path.name}::{test.nodeid.partition('::')[2]}"
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return f"{plain[-80:]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
