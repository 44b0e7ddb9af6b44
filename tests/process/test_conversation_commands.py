"""`ollama-mcp conversations`, over what a server on stdio has remembered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))


@pytest.mark.long
def test_what_was_said_is_listed_exported_and_deleted(serve, tmp_path):
    child = serve("2025-11-25", OLLAMA_MCP_STORE=str(tmp_path))
    for number in (1, 2):
        arguments = {"prompt": f"hello {number}", "conversation": "tea"}
        child.request(number, "tools/call", name="ollama_chat", arguments=arguments)
        assert not child.result_of(number).get("isError")
    assert child.finish() == 0

    def run(*arguments):
        done = subprocess.run(
            [COMMAND, "conversations", *arguments],
            env={"OLLAMA_MCP_STORE": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    assert run("list")[1].splitlines()[1].startswith("tea   4")
    assert run("show", "tea")[1].startswith("# tea\n\n**user**\n\nhello 1\n\n**assistant**")
    exported = json.loads(run("export", "tea", "--json")[1])
    assert [one["role"] for one in exported["messages"]] == ["user", "assistant"] * 2
    assert run("delete", "tea") == (0, "Conversation tea with 4 messages is deleted.\n")
    assert run("show", "tea")[0] == 1
    assert run("purge") == (0, "0 conversations are removed.\n")
