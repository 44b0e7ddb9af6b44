"""An Ollama that fails as it is told, in a process of its own: a prompt's first word names the fault.

    python benchmarks/faulty.py

The first line on stdout is the URL. Then one line is read for each that is written: `count` is answered
by what goes on as JSON, `restart` drops every connection and is away for a moment. It ends with stdin.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from ollama_mcp.testing import FakeOllama, Request, Script

AWAY_S = 0.2
_TOKENS = ["word "] * 8
_HTML = "<html><body>It works!</body></html>"


def _lines(*lines: bytes) -> Script:
    return Script(lines=lines)


ANSWERS = {
    "brief": Script(),
    "slow": Script(tokens=_TOKENS, delay_first=0.03, delay=0.03),
    "long": Script(tokens=["A longer piece of text. "] * 200),
}
"""What is no fault."""

FAULTS = {
    "reset": Script(cut_after_tokens=1, how="reset"),
    "close": Script(cut_after_tokens=1, how="close"),
    "error": Script(cut_after_tokens=1, how="error"),
    "hang": Script(cut_after_tokens=1, how="silence"),
    "reset-first": Script(cut_after_bytes=0, how="reset"),
    "close-first": Script(cut_after_bytes=0, how="close"),
    "half-head": Script(cut_after_bytes=20, how="close"),
    "silent": Script(cut_after_bytes=0, how="silence"),
    "not-done": Script(missing_done=True),
    "500": Script(status=500, body={"error": "an error was encountered while running the model"}),
    "503": Script(status=503, body={"error": "server busy, please try again"}),
    "429": Script(status=429, body={"error": "too many requests"}),
    "302": Script(status=302, body="", headers={"Location": "http://127.0.0.1:1/"}),
    "html": Script(status=200, body=_HTML, headers={"Content-Type": "text/html"}),
    "404": Script(status=404, body={"error": "model 'llama3.2:3b' not found"}),
    "garbage": Script(raw=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n"),
    "no-json": _lines(b'{"model": "llama3.2:3b", "mess'),
    "list": _lines(b"[1, 2, 3]"),
    "null": _lines(b"null"),
    "nan": _lines(b'{"message": {"content": NaN}, "response": NaN, "embeddings": [[NaN]]}'),
    "deep": _lines(b'{"message":' * 5000),
    "surrogate": _lines(b'{"message": {"content": "\\ud800"}, "response": "\\ud800", "done": false}'),
    "bytes": _lines(b"\xff\xfe\xfd"),
    "gzip": Script(headers={"Content-Encoding": "gzip"}),
}
"""What is one."""

LOOKUPS = ("reset-first", "silent", "500", "html", "302", "null", "no-json")
"""Those of requests that have no prompt."""

_SCRIPTS = ANSWERS | FAULTS


def _word(body: Any) -> str:
    """The first word of the prompt, wherever this endpoint has it."""
    if "input" in body:
        text = body["input"] if isinstance(body["input"], str) else body["input"][0]
    else:
        text = body["messages"][-1]["content"] if body.get("messages") else body.get("prompt", "")
    return text.partition(" ")[0]


def prompted(request: Request) -> Script:
    """The answer that the prompt names."""
    script = _SCRIPTS.get(_word(request.json), ANSWERS["brief"])
    return Script() if script.tokens is not None and request.path == "/api/embed" else script


def looked_up(dice: random.Random, share: float) -> Any:
    """Answers to requests without a prompt, of which so many are faults."""

    def answer(_request: Request) -> Script:
        return FAULTS[dice.choice(LOOKUPS)] if dice.random() < share else Script()

    return answer


async def _restart(fake: FakeOllama) -> None:
    fake.drop_connections("reset")
    await fake.stop()
    await asyncio.sleep(AWAY_S)
    await fake.start()


def _count(fake: FakeOllama) -> dict[str, int]:
    asked = len(fake.requests)
    fake.requests.clear()  # an hour of them would be a leak of ours
    fake.left.clear()
    return {"open": fake.open_connections, "in_flight": fake.in_flight, "asked": asked}


async def _lines_of_stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def main() -> None:
    """Serve until stdin ends."""
    dice = random.Random(7)
    async with FakeOllama() as fake:
        fake.script(prompted, path=("/api/chat", "/api/generate", "/api/embed"))
        fake.script(looked_up(dice, 0.03), path=("/api/tags", "/api/ps", "/api/version", "/api/show"))
        print(fake.url, flush=True)
        async for line in await _lines_of_stdin():
            if line.strip() == b"restart":
                await _restart(fake)
            print(json.dumps(_count(fake)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
