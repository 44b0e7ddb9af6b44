"""Ten thousand calls at once: is each run or BUSY, what memory does it take, how long does a status wait?

    python benchmarks/flood.py [CALLS]

One client, one pipe: a status call every 20 ms, on the pipe that has the calls. Times are from the
moment at which the client writes. Linux only, on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from child import Child, running

from ollama_mcp.testing import FakeOllama, Script

OURS = [str(Path(sys.executable).with_name("ollama-mcp"))]
PROMPT = {"prompt": "Hi", "model": "llama3.2:3b", "wait_s": 0}
EVERY_S = 0.02
ADMITTED = 4 + 64
"""Calls that run and wait by default; all others are refused."""


async def outcome(child: Child, arguments: dict[str, Any]) -> str:
    """One call: what became of it."""
    result = await child.call("ollama_chat", arguments)
    return result["content"][0]["text"].split(":")[0] if result.get("isError") else "run"


async def ask_status(child: Child, waits: list[float]) -> None:
    """One status call; notes how long it took."""
    begun = time.perf_counter()
    result = await child.call("ollama_status", {})
    assert not result.get("isError"), result
    waits.append(time.perf_counter() - begun)


@asynccontextmanager
async def asking(child: Child, waits: list[float]) -> AsyncGenerator[None]:
    """Meanwhile, a status call every so often, whether or not the last one is answered."""

    async def ask() -> None:
        while True:
            asked.create_task(ask_status(child, waits))
            await asyncio.sleep(EVERY_S)

    async with asyncio.TaskGroup() as asked:
        asker = asked.create_task(ask())
        yield
        asker.cancel()


def told(waits: list[float]) -> str:
    """Waits as people read them."""
    ordered = sorted(waits)
    p99 = ordered[int(len(ordered) * 0.99)]
    return (
        f"{len(ordered)} status calls, p50 {statistics.median(ordered) * 1e3:.0f} ms, "
        f"p99 {p99 * 1e3:.0f} ms, at most {ordered[-1] * 1e3:.0f} ms"
    )


async def flood(child: Child, fake: FakeOllama, calls: int, arguments: dict[str, Any]) -> None:
    """All calls, with status calls meanwhile."""
    before, burst, admitted = child.rss_mb, list[float](), list[float]()
    begun = time.perf_counter()
    pending = [asyncio.create_task(outcome(child, arguments)) for _ in range(calls)]
    async with asking(child, burst):
        for answered in islice(asyncio.as_completed(pending), max(calls - ADMITTED, 0)):
            await answered
    took = time.perf_counter() - begun
    async with asking(child, admitted):
        await asyncio.sleep(2)
    fake.release()
    ends = Counter(await asyncio.gather(*pending))
    print(f"  {calls} calls: {dict(ends)}; refused within {took:.1f} s, {took / calls * 1e6:.0f} µs each")
    print(f"  memory: +{child.peak_mb - before:.0f} MB at the most")
    print(f"  while the burst is answered: {told(burst)}")
    print(f"  while the admitted ones run and wait: {told(admitted)}")


HANGS = Script(hold_after_tokens=0)
EVERYTHING = ("/api/chat", "/api/version", "/api/ps", "/api/show", "/api/tags")
CASES = (
    ("Ollama writes", Script(tokens=["a"] * 4, hold_after_tokens=2), ("/api/chat",), PROMPT),
    ("Ollama hangs, whatever it is asked", HANGS, EVERYTHING, PROMPT),
    ("Ollama hangs, and the calls name no model", HANGS, EVERYTHING, {"prompt": "Hi", "wait_s": 0}),
)


async def main(calls: int) -> None:
    """Flood a server whose Ollama answers, and one whose Ollama hangs."""
    for name, script, paths, arguments in CASES:
        print(name)
        async with FakeOllama() as fake, running(OURS, fake.url) as child:
            await child.request("tools/list")
            await child.chat(PROMPT)
            for path in paths:
                fake.script(script, path=path)
            await flood(child, fake, calls, arguments)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
