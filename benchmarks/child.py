"""A server as a child process, spoken to over its pipes in bare JSON, so that the client costs little."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

_LINE = 1 << 24


class Child:
    """One running server.

    Attributes:
        reports: Progress notifications so far.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last = 0
        self.reports = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], **streams: Any) -> Self:
        """Start it with nothing else in its environment; `streams` are as for asyncio's subprocesses."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, env=dict(environment), limit=_LINE, **streams
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._waiting.pop(message["id"]).set_result(message)
        else:
            self.reports += 1

    def _send(self, **message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and wait for its result."""
        self._last += 1
        answer = self._waiting[self._last] = asyncio.get_running_loop().create_future()
        self._send(id=self._last, method=method, params=params)
        message = await answer
        if "result" not in message:
            raise RuntimeError(f"{method} failed: {message}")
        return message["result"]

    async def initialize(self) -> None:
        """Open the session, in the way that every server knows."""
        info = {"name": "benchmark", "version": "1"}
        await self.request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        self._send(method="notifications/initialized")

    async def call(
        self, tool: str, arguments: Mapping[str, Any], *, progress: bool = False
    ) -> dict[str, Any]:
        """Call a tool; returns its result, also where that is an error."""
        meta = {"_meta": {"progressToken": self._last + 1}} if progress else {}
        return await self.request("tools/call", name=tool, arguments=dict(arguments), **meta)

    async def chat(self, arguments: Mapping[str, Any], *, progress: bool = False) -> str:
        """Call ollama_chat; returns the answer's text."""
        result = await self.call("ollama_chat", arguments, progress=progress)
        text = result["content"][0]["text"]
        if result.get("isError"):
            raise RuntimeError(text)
        return text

    async def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._process.returncode

    # --- what it costs (Linux) ------------------------------------------------------------------

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @property
    def rss_mb(self) -> float:
        """Resident memory in MB."""
        return self._memory_mb("VmRSS:")

    @property
    def peak_mb(self) -> float:
        """The most that its resident memory has been, in MB."""
        return self._memory_mb("VmHWM:")

    def _memory_mb(self, name: str) -> float:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


@asynccontextmanager
async def running(
    command: Sequence[str], ollama: str, settings: Mapping[str, str] | None = None
) -> AsyncGenerator[Child]:
    """Start a server that uses this Ollama, open a session, and end it afterwards."""
    base = {"OLLAMA_HOST": ollama, "PATH": os.environ["PATH"]}
    child = await Child.start(command, base | dict(settings or {}))
    try:
        await child.initialize()
        yield child
    finally:
        await child.close()


async def time_to_initialize(command: Sequence[str], ollama: str) -> float:
    """Seconds from starting the process to its answer to `initialize`."""
    begun = time.perf_counter()
    async with running(command, ollama):
        return time.perf_counter() - begun
