"""What commands for people do on Windows, as far as another system can show it."""

import io
import sys

import pytest

from ollama_mcp.cli.agent_command import servers_of
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import write_any_text


@pytest.fixture(autouse=True)
def on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


def test_a_backslash_in_a_command_is_part_of_a_path():
    (server,) = servers_of([r'"C:\My tools\server.exe" --all C:\x'], set())
    assert (server.command, server.args) == (r"C:\My tools\server.exe", ("--all", r"C:\x"))


def test_no_word_of_a_command_is_in_single_quotes():
    here = Installation("venv", r"C:\Users\Ann B\python.exe", "", ())
    assert here.install("rag") == r'"C:\Users\Ann B\python.exe" -m pip install ollama-mcp[rag]'


def test_a_file_takes_any_text(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    write_any_text()
    print("→ 你好")
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue().decode().strip() == "→ 你好"
