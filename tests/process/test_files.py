"""Many files on a real model: neither a cancelled call nor the end of the process loses what was done."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
COUNT = 40
ENVIRONMENT = {"HOME": str(Path.home()), "PATH": os.environ["PATH"]}
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["glad", "sad"]}}, "required": ["mood"]}


@pytest.fixture(scope="module")
def patience() -> int:
    """Seconds for all files; a shared machine is slow."""
    return 240


@pytest.fixture
def server(start: Any, tmp_path: Path) -> Any:
    """Start our server in front of the embedded engine, with a folder of notes and one for answers."""
    for folder in ("notes", "answers"):
        (tmp_path / folder).mkdir()
    for number in range(COUNT):
        (tmp_path / "notes" / f"{number:02}.txt").write_text(f"Day {number}: the sun shone and we went out.")
    engine = start("embedded", "serve", "--port", "0", **ENVIRONMENT)
    said = engine.out.wait_for(lambda line: "OLLAMA_HOST=" in line, patience=60).message
    settings = {
        "OLLAMA_HOST": re.search(r"OLLAMA_HOST=(\S+)", said)[1],
        "OLLAMA_MCP_TOOLSETS": "chat,files",
        "OLLAMA_MCP_ROOTS": str(tmp_path / "notes"),
        "OLLAMA_MCP_OUTPUT": str(tmp_path / "answers"),
        "OLLAMA_MCP_PARALLEL": "2",
    }

    def begin(version: str) -> Any:
        child = start(**ENVIRONMENT, **settings)
        child.open(version)
        return child

    return begin


def ask(child: Any, call_id: str) -> None:
    child.request(
        call_id, "tools/call", name="ollama_map_files", _meta={"progressToken": call_id},
        arguments={
            "prompt": "What mood is it?", "files": ["*.txt"], "schema": SCHEMA, "output": "moods",
            "options": {"num_predict": 40, "temperature": 0}, "wait_s": 0,
        },
    )  # fmt: skip


def reach(child: Any, call_id: str, count: int) -> None:
    """Wait until so many files are done."""

    def done(message: Any) -> bool:
        params = message.get("params", {})
        return params.get("progressToken") == call_id and params["progress"] >= count

    child.out.wait_for(done, patience=120)


def test_forty_files_with_a_cancel_and_a_restart_in_between(server: Any, tmp_path: Path, patience: int):
    answers = tmp_path / "answers" / "moods"

    def written() -> dict[str, int]:
        """The answers, with when they were written."""
        return {path.name: path.stat().st_mtime_ns for path in answers.glob("*.json")}

    first = server("2025-11-25")
    ask(first, "cancelled")
    reach(first, "cancelled", 5)
    first.cancel("cancelled")
    ask(first, "ended")
    reach(first, "ended", 12)
    after_cancel = written()
    first.process.kill()
    first.process.wait(10)
    before = written()
    assert 12 <= len(before) < COUNT
    assert after_cancel.items() <= before.items()

    second = server("2026-07-28")
    began = time.monotonic()
    ask(second, "whole")
    second.out.wait_for(lambda m: m.get("id") == "whole" and "method" not in m, patience=patience)
    result = second.result_of("whole")
    print(f"\n{len(before)} kept, the others in {time.monotonic() - began:.1f} s")
    rows = result["structuredContent"]["files"]
    assert [row["file"] for row in rows] == [f"{number:02}.txt" for number in range(COUNT)]
    assert {row["status"] for row in rows} == {"answered", "kept"}
    kept = {Path(row["written"]).name for row in rows if row["status"] == "kept"}
    assert kept == before.keys()
    assert before.items() <= written().items(), "what was there has not been touched"
    assert len(written()) == COUNT
    assert {json.loads(path.read_text())["mood"] for path in answers.glob("*.json")} <= {"glad", "sad"}
    assert second.finish() == 0
    messages = [line.message for line in second.progress_of("whole")]
    assert any(f" of {COUNT} files" in message["params"]["message"] for message in messages)
