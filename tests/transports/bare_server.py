"""A bare MCPServer whose tools misbehave, served by `run_stdio`; it reports on stderr."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, TextContent

from ollama_mcp.transports.stdio import run_stdio


def report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def lifespan(_host: Any) -> AsyncIterator[None]:
    if "broken-lifespan" in sys.argv:
        raise OSError("no such lifespan")
    yield
    report("lifespan left")


host = MCPServer("bare", version="1", log_level="ERROR", lifespan=lifespan)


@host.tool()
async def echo(text: str) -> str:
    return text


@host.tool()
async def slow(name: str) -> str:
    report(f"{name} started")
    try:
        await anyio.sleep_forever()
    finally:
        report(f"{name} cancelled")


@host.tool()
async def soon(seconds: float) -> str:
    await anyio.sleep(seconds)
    return "in time"


@host.tool()
def stubborn() -> str:
    report("stubborn started")
    time.sleep(30)
    return "too late"


@host.tool()
async def hog() -> str:
    report("hog started")
    time.sleep(30)
    return "too late"


def strike() -> None:
    time.sleep(0.3)
    report("struck")
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(30)


@host.tool()
async def struck() -> str:
    """Wait, while another thread gets a signal: the event loop's own thread is not woken by it."""
    threading.Thread(target=strike, daemon=True).start()
    await anyio.sleep_forever()
    return "too late"


@host.tool()
async def held() -> str:
    """Hold up the main thread outside of Python, while another gets a signal: no handler of Python's runs."""
    threading.Thread(target=strike, daemon=True).start()
    time.sleep(30)
    return "too late"


@host.tool()
async def fill(ctx: Context) -> str:
    """Report progress until nobody reads it, and then wait."""
    for step in range(1, 100_000):
        with anyio.move_on_after(0.2) as scope:
            await ctx.report_progress(step, message="x" * 1000)
        if scope.cancelled_caught:
            report("stdout blocked")
            await anyio.sleep_forever()
    return "it was read"


@host.tool()
async def big(size: int) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="x" * size)])


@host.tool()
async def surrogate() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="half \ud83d an emoji")])


@host.tool()
async def numbers() -> dict[str, Any]:
    return {"values": [float("nan"), float("inf"), float("-inf"), 1.5]}


@host.tool()
async def deep() -> CallToolResult:
    value: dict[str, Any] = {}
    for _ in range(1000):
        value = {"in": value}
    return CallToolResult(content=[], structured_content=value)


@host.tool()
async def bad_progress(ctx: Context) -> str:
    await ctx.report_progress(1, message="half \ud83d an emoji")
    return "reported"


@host.tool()
async def noisy() -> str:
    print("printed")
    sys.stdout.write("written without a newline")
    os.write(1, b"written to descriptor 1\n")
    subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)
    child = subprocess.run(["cat"], capture_output=True, check=True)
    return f"stdin of children: {child.stdout!r}"


async def on_stop() -> None:
    report("on_stop called")
    if "hanging-on-stop" in sys.argv:
        await anyio.sleep_forever()
    report(f"threads {sorted(thread.name for thread in threading.enumerate())}")


if __name__ == "__main__":
    sys.exit(run_stdio(host, on_stop=on_stop))
