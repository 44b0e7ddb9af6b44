"""What a library prints, in whatever way, never reaches the wire."""

from pathlib import Path
from typing import Any

import pytest

from ollama_mcp.testing import Script

NOISE = Path(__file__).parent / "noise"
"""A folder whose sitecustomize prints in all of these ways, again and again."""
WAYS = [
    "before the server",
    "while it is imported",
    "print",
    "sys.stdout.write",
    "sys.__stdout__",
    "sys.stdout.buffer",
    "os.write",
    "write of C",
    "printf of C",
    "echo",
    "logging",
    "warnings",
    "at exit",
]


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_only_json_rpc_is_on_stdout_whatever_a_library_prints(start: Any, fake: Any, version: str):
    child = start(PYTHONPATH=str(NOISE))
    child.open(version)
    fake.script(Script(tokens=["a "] * 20, delay=0.02))
    child.call(1, progress=True)
    assert child.text_of(1) == "a " * 20
    child.err.wait_for(lambda line: "warnings" in line)
    assert child.finish() == 0
    assert all(line.message["jsonrpc"] == "2.0" for line in child.out.rest())
    printed = "".join(line.message for line in child.err.rest())
    assert [way for way in WAYS if way not in printed] == []
