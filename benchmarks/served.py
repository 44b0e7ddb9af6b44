"""The command as the soak runs it: counted, in front of a given Ollama, on stdio or over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from http_wire import Http
from wires import Pipes, Wire

COMMAND = [sys.executable, str(Path(__file__).with_name("counted.py"))]
SETTINGS = {
    "OLLAMA_MCP_PARALLEL": "16",
    "OLLAMA_MCP_FIRST_BYTE_TIMEOUT": "1.5",
    "OLLAMA_MCP_IDLE_TIMEOUT": "1.5",
    "OLLAMA_MCP_PAGE": "4000",
}
"""Clocks so short that thousands of calls can hang in an hour, and pages of a long answer."""
_STARTS_S = 60.0


@dataclass
class Served:
    """A running server.

    Attributes:
        wire: A client that has begun.
        pid: The process.
        status: Its exit status, once it has ended.
    """

    wire: Wire
    pid: int
    status: int | None = None


@asynccontextmanager
async def serving(
    transport: str, ollama: str, counts: int, log: IO[str], *, modern: bool
) -> AsyncGenerator[Served]:
    """Start it, and end it afterwards.

    Args:
        transport: `stdio` or `http`.
        ollama: The URL of its Ollama.
        counts: The descriptor on which it is to tell its tasks.
        log: Gets its stderr.
        modern: Whether the client speaks the protocol of 2026.
    """
    told = {"OLLAMA_HOST": ollama, "PATH": os.environ["PATH"], "COUNT_FD": str(counts)}
    start = {"stdio": _on_pipes, "http": _over_http}[transport]
    async with start(SETTINGS | told, counts, log, modern=modern) as served:
        yield served


@asynccontextmanager
async def _on_pipes(
    environment: Mapping[str, str], counts: int, log: IO[str], *, modern: bool
) -> AsyncGenerator[Served]:
    pipes = await Pipes.start(COMMAND, environment, stderr=log, pass_fds=(counts,))
    served = Served(pipes, pipes.pid)
    try:
        await pipes.open(modern=modern)
        yield served
    finally:
        await pipes.close()
        served.status = pipes.status


@asynccontextmanager
async def _over_http(
    environment: Mapping[str, str], counts: int, log: IO[str], *, modern: bool
) -> AsyncGenerator[Served]:
    command = [*COMMAND, "serve", "--http", "127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stderr=log, pass_fds=(counts,)
    )
    client = Http("127.0.0.1", await _port(log), modern=modern)
    served = Served(client, process.pid)
    try:
        await client.open()
        yield served
        await client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        served.status = await process.wait()


async def _port(log: IO[str]) -> int:
    """Where it says on stderr that it serves."""
    async with asyncio.timeout(_STARTS_S):
        while True:
            log.seek(0)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/mcp", log.read()):
                return int(found[1])
            await asyncio.sleep(0.05)
