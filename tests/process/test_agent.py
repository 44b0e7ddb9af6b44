"""`ollama-mcp ask --mcp`: a local model calls the tools of a server, before the eyes of who asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_mcp.testing import FakeOllama, tool_call

COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
SERVER = """
from pathlib import Path
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
server = MCPServer("notes")
@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def search(query: str) -> str:
    return "Visitors park behind the museum."
@server.tool()
def write(text: str) -> str:
    Path("note.txt").write_text(text)
    return "written"
server.run("stdio")
"""


@pytest.fixture
def ask(tmp_path):
    (tmp_path / "notes.py").write_text(SERVER)
    with FakeOllama.in_thread() as fake:
        turns = tool_call("notes__search", query="parking"), tool_call("notes__write", text="hi"), "Done."

        def ask(*arguments, answer="", server="notes.py"):
            fake.script(*turns, path="/api/chat")
            done = subprocess.run(
                [COMMAND, "ask", *arguments, "--mcp", f"{sys.executable} {server}", "Write it down."],
                env={"OLLAMA_HOST": fake.url, "PATH": os.environ["PATH"]},
                input=answer, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
            )  # fmt: skip
            assert "Traceback" not in done.stderr
            return done

        yield ask


@pytest.mark.gate
def test_steps_are_told_and_a_change_is_asked_about(ask, tmp_path):
    done = ask(answer="y\n")
    assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
    searched, question, written = done.stderr.splitlines()
    assert searched.startswith('step 1 · notes__search {"query": "parking"} → "Visitors park behind')
    assert question.startswith('May the local model call notes__write with {"text": "hi"}?')
    assert written.startswith("step 2 · notes__write")
    assert (tmp_path / "note.txt").read_text() == "hi"


def test_anything_but_yes_is_no(ask, tmp_path):
    for answer in ("n\n", "\n", ""):
        assert "the user said no" in ask(answer=answer).stderr
    assert not (tmp_path / "note.txt").exists()


def test_yes_is_no_question(ask, tmp_path):
    assert "May the local model" not in ask("--yes").stderr
    assert (tmp_path / "note.txt").exists()


def test_a_server_that_does_not_start_says_why(ask):
    done = ask(server="missing.py")
    assert done.returncode == 1
    assert "it has ended; it said: " in done.stderr
