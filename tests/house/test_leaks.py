"""What every test lives under (tests/conftest.py) finds what it is for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"

LEAKS = {
    "a task": """
        import asyncio, pytest
        kept = []
        @pytest.mark.anyio
        async def test_it():
            kept.append(asyncio.ensure_future(asyncio.sleep(60)))
        """,
    "a socket": """
        import socket
        kept = socket.socket
        def test_it():
            global kept
            kept = socket.socket()
        """,
    "a pipe": """
        import os
        def test_it():
            os.pipe()
        """,
    "a thread": """
        import threading
        def test_it():
            threading.Thread(target=threading.Event().wait, name="that waits", daemon=True).start()
        """,
    "a process": """
        import subprocess
        def test_it():
            global kept
            kept = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        """,
    "a blocked loop": """
        import pytest
        from ollama_mcp.embedded.gguf_header import read_header
        @pytest.mark.anyio
        async def test_it(tmp_path):
            with pytest.raises(Exception):  # somebody catches it
                read_header(tmp_path / "none")
        """,
    "nothing": """
        import anyio, socket, pytest
        @pytest.mark.anyio
        async def test_it(tmp_path):
            with socket.socket(), (tmp_path / "mine").open("w"):
                await anyio.to_thread.run_sync(bool)
        """,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each of these tests, if anything, after one run of all under the same conftest."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "conftest.py").write_text(
        CONFTEST.read_text("utf-8").replace("\nGRACE = 5\n", "\nGRACE = 0.1\n")
    )
    for name, text in LEAKS.items():
        (folder / f"test_{name.replace(' ', '_')}.py").write_text(dedent(text))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]
    wide = {**os.environ, "COLUMNS": "1000"}  # the summary shall say all of it
    run = subprocess.run(
        command, cwd=folder, env=wide, capture_output=True, text=True, timeout=300, check=False
    )
    assert f"{len(LEAKS)} passed, {len(LEAKS) - 1} errors" in run.stdout, run.stdout + run.stderr
    said = re.findall(r"^ERROR test_(\w+)\.py::test_it - (.*)", run.stdout, re.MULTILINE)
    return {name.replace("_", " "): what for name, what in said}


@pytest.mark.parametrize(
    ("leak", "said"),
    [
        ("a task", "Task pending"),
        ("a socket", r"\d+ socket:"),
        ("a pipe", "pipe:"),
        ("a thread", "that waits"),
        ("a process", r"process \d+"),
        ("a blocked loop", "os.stat was called on an event loop"),
    ],
)
@pytest.mark.long
def test_what_a_test_leaves_behind_fails_it(found: dict[str, str], leak: str, said: str):
    assert re.search(said, found[leak])


def test_what_leaves_nothing_behind_is_let_pass(found: dict[str, str]):
    assert "nothing" not in found
