"""A thousand idle sessions and a thousand calls in flight over HTTP: what does each take, and does any fail?

    python benchmarks/load.py [COUNT [bare|floor|ours]]

Sessions are those of the 2025 era with their stream for what the server says, as clients have them.
Calls are made in both eras; all of them run at once, and none is answered before all have come. Beside ours
there are two servers on the SDK's own HTTP: one whose tool waits and asks nobody (bare), and one that streams
from Ollama in 45 lines (floor). Linux only, on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_wire import Http

from ollama_mcp.testing import FakeOllama, Request, Script

HERE = Path(__file__).parent
HELD, WARM = "held", "warm"
"""Prompts: one is answered when all are, the other at once."""
FILES = 10_000
BYPASSES_QUEUE = 50
"""Connections that are being opened at one time: a listener's backlog is short."""
WARM_UP = 30
SETTLE_S = 1.0
PATIENCE_S = 300.0


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@dataclass
class Server:
    """A server to measure.

    Attributes:
        pid: Its process.
        port: Where it listens.
        release: Lets the calls be answered that it holds, now and from now on.
        fake: Its Ollama, if it has one.
    """

    pid: int
    port: int
    release: Callable[[], Awaitable[object]]
    fake: FakeOllama | None = None

    def client(self, *, modern: bool) -> Http:
        """One more client."""
        return Http("127.0.0.1", self.port, modern=modern, patience_s=PATIENCE_S)

    async def rss(self) -> int:
        """KiB, once it has come to rest."""
        await asyncio.sleep(SETTLE_S)
        return rss_kib(self.pid)


async def each(work: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Do all of it, not too much at one time."""
    limit = asyncio.Semaphore(BYPASSES_QUEUE)

    async def one(do: Callable[[], Awaitable[Any]]) -> Any:
        async with limit:
            return await do()

    return await asyncio.gather(*[one(do) for do in work])


async def sessions(server: Server, count: int) -> tuple[list[Http], float]:
    """Open so many; returns them, and the KiB of one."""
    before = await server.rss()
    clients = [server.client(modern=False) for _ in range(count)]
    await each([client.open for client in clients])
    for client in clients:
        client.disconnect()
    return clients, (await server.rss() - before) / count


async def outcome(client: Http, prompt: str = HELD) -> str:
    """One call: what became of it."""
    tool = {"name": "ollama_chat", "arguments": {"prompt": prompt, "model": "llama3.2:3b"}}
    message = await client.exchange("tools/call", tool)
    result = (message or {}).get("result")
    if result is None:
        return f"error {message}"
    return result["content"][0]["text"][:60] if result.get("isError") else "ran"


async def calls(server: Server, clients: Sequence[Http]) -> tuple[Counter[str], float]:
    """A call of each client, all in flight at once; returns what became of them, and the KiB of one."""
    before = await server.rss()
    pending: list[asyncio.Task[str]] = []
    for client in clients:
        pending.append(asyncio.create_task(outcome(client)))
        if len(pending) % BYPASSES_QUEUE == 0:
            await asyncio.sleep(0.1)
    await _all_held(server, pending)
    each_kib = (await server.rss() - before) / len(clients)
    await server.release()
    return Counter(await asyncio.gather(*pending)), each_kib


async def _all_held(server: Server, pending: Sequence[asyncio.Task[str]]) -> None:
    """Until Ollama has all calls that have not failed; who has no Ollama gets a while."""
    if server.fake is None:
        await asyncio.sleep(5)
        return
    async with asyncio.timeout(PATIENCE_S):
        while server.fake.in_flight < sum(not task.done() for task in pending):
            await asyncio.wait(pending, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)


async def warm_up(server: Server, *, modern: bool) -> None:
    """What is loaded at the first call, and what is kept of the last ones, belongs to no call."""
    clients = [server.client(modern=modern) for _ in range(WARM_UP)]
    await each([client.open for client in clients])
    await asyncio.gather(*[outcome(client, WARM) for client in clients])
    await each([client.close for client in clients])


async def measure(server: Server, count: int, *, modern: bool) -> str:
    """All figures of one server in one era, as a row of the table."""
    await warm_up(server, modern=modern)
    if modern:
        clients, of_a_session = [server.client(modern=True) for _ in range(count)], float("nan")
    else:
        clients, of_a_session = await sessions(server, count)
    begun = time.monotonic()
    ends, of_a_call = await calls(server, clients)
    took = time.monotonic() - begun
    await each([client.close for client in clients])
    session = "" if modern else f"{of_a_session:.1f}"
    return f"{session} | {of_a_call:.1f} | {dict(ends)} | {took:.1f} s"


# --- the servers --------------------------------------------------------------------------------


@asynccontextmanager
async def process(command: Sequence[str], environment: Mapping[str, str]) -> AsyncGenerator[Any]:
    """Run one, and end it."""
    running = await asyncio.create_subprocess_exec(
        *command, env={"PATH": os.environ["PATH"], **environment}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(running.wait(), 5)
        except TimeoutError:  # the SDK's own does not end while it has a connection
            running.kill()
            await running.wait()


def _held(request: Request) -> Script:
    is_held = request.json["messages"][-1]["content"] == HELD
    return Script(hold_after_tokens=0 if is_held else None)


@asynccontextmanager
async def ours(count: int) -> AsyncGenerator[Server]:
    """The command, in front of an Ollama that holds every answer."""
    settings = {
        "OLLAMA_MCP_CONNECT_TIMEOUT": "60",
        "OLLAMA_MCP_PARALLEL": str(count),
        "OLLAMA_MCP_HTTP_CONNECTIONS": str(8 * count),
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("ollama-mcp")), "serve", "--http", "127.0.0.1:0"]
    async with FakeOllama() as fake:
        fake.script(_held, path="/api/chat")

        async def release() -> None:
            fake.release()

        async with process(command, settings | {"OLLAMA_HOST": fake.url}) as running:
            line = (await running.stderr.readline()).decode()
            port = int(line.rsplit(":", 1)[1].split("/")[0])
            yield Server(running.pid, port, release, fake)


@asynccontextmanager
async def floor(count: int) -> AsyncGenerator[Server]:
    """The small streaming one, in front of the same Ollama."""
    async with FakeOllama() as fake:
        fake.script(_held, path="/api/chat")

        async def release() -> None:
            fake.release()

        settings = {"OLLAMA_HOST": fake.url, "CONNECTIONS": str(count + 10)}
        async with on_a_port("floor.py", settings) as (running, port):
            yield Server(running.pid, port, release, fake)


@asynccontextmanager
async def bare(_: int) -> AsyncGenerator[Server]:
    """The one whose tool asks nobody."""
    async with on_a_port("bare_http.py", {}) as (running, port):

        async def release() -> None:
            client = Http("127.0.0.1", port, modern=True)
            await client.exchange("tools/call", {"name": "release", "arguments": {}})

        yield Server(running.pid, port, release)


@asynccontextmanager
async def on_a_port(program: str, environment: Mapping[str, str]) -> AsyncGenerator[tuple[Any, int]]:
    """One of the programs here, and the port on which it serves."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with process([sys.executable, str(HERE / program), str(port)], environment) as running:
        await _reachable(port)
        yield running, port


async def _reachable(port: int) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
            except OSError:
                await asyncio.sleep(0.1)
            else:
                return


SERVERS = {"bare": bare, "floor": floor, "ours": ours}


async def main(count: int, names: Sequence[str]) -> None:
    """Measure these servers in both eras."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print("| server | KiB a session | KiB a call | calls | took |\n|---|---:|---:|---|---:|")
    for name in names:
        for modern in (False, True):
            async with SERVERS[name](count) as server:
                row = await measure(server, count, modern=modern)
                print(f"| {name}, {'2026' if modern else '2025'} | {row} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or tuple(SERVERS)))
