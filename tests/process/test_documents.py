"""`ollama-mcp index` and `ollama-mcp ask`, as somebody types them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_mcp.testing import FakeOllama

COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))


@pytest.fixture
def fake():
    with FakeOllama.in_thread() as made:
        yield made


@pytest.mark.gate
def test_a_folder_is_indexed_and_asked(fake, tmp_path):
    folder = tmp_path / "[1]" / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "tea.md").write_text("# Tea\n\nGreen tea steeps for two minutes.\n")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    fake.script("Two minutes [1].", path="/api/chat")

    def run(*arguments):
        settings = {
            "OLLAMA_HOST": fake.url,
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            [COMMAND, *arguments], env=settings, capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    assert run("ask", "anything?")[0] == 1
    assert run("ask", "")[0] == 1
    assert "there is no file or folder" in run("index", str(tmp_path / "nots"))[2]
    assert run("index", "~nobody/notes")[0] == 1
    assert not (tmp_path / "data").exists()  # else the server would keep what is said there
    status, out, errors = run("index", str(folder))
    assert status == 0, errors
    assert out.startswith("1 read, ")
    assert f"Collection documents in {tmp_path}/data/ollama-mcp: 1 documents, 1 passages" in out
    assert out.endswith("Clients that run already see the new tools after a restart.\n")
    assert errors.startswith("- picture.png: is ")
    assert run("index")[1].startswith("0 read, 1 unchanged, ")
    assert run("ask", "How long does green tea steep?") == (
        0, "Two minutes [1].\n\nSources:\n[1] deep/tea.md:1 · Tea\n", "",
    )  # fmt: skip
    (folder / "deep" / "tea.md").write_text("# Tea\n\nGreen tea steeps for 2 minutes.\n")
    assert run("index")[1].startswith("1 read, ")
    assert "[1] deep/tea.md:1" in run("ask", "How long does green tea steep?")[1]
    assert run("ask", "--collection", "nope", "x")[0] == 1
