"""Upstreams are gone with us: within a second, with their own children, whatever they ignore."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_mcp.testing import FakeOllama

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
HOG = HERE.parent / "process" / "hog"
"""A folder whose sitecustomize blocks the event loop at SIGUSR1."""
PATIENCE = 60
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "pipes", "version": "1"},
}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc on this system, or gone in this moment
        return Path("/proc/self").exists() is False
    return state != "Z"


def call(tools: list[str]) -> dict[str, Any]:
    arguments = {"query": "Where do visitors park?", "context_tools": tools}
    params = {"name": "ollama_rag_query", "arguments": arguments, "_meta": META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


class Served:
    """A server whose upstream runs."""

    def __init__(
        self, command: list[str], port: int, tools: list[str], pids: Path, environment: dict[str, str]
    ):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.client: subprocess.Popen[bytes] | None = None
        if port:
            self._post(port, tools)
        else:
            self.process.stdin.write(json.dumps(call(tools)).encode() + b"\n")
            self.process.stdin.flush()
            if "up__hangs" not in tools:
                assert b"Behind the museum" in self.process.stdout.readline()
        patience = time.monotonic() + PATIENCE
        while "up__hangs" in tools and not pids.exists() and time.monotonic() < patience:
            time.sleep(0.05)
        time.sleep(1.0 if "up__hangs" in tools else 0)  # until the call has arrived there
        self.pids = [int(pid) for pid in pids.read_text().split()]

    def _post(self, port: int, tools: list[str]) -> None:
        headers = {
            "accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call", "mcp-name": "ollama_rag_query",
        }  # fmt: skip
        patience = time.monotonic() + PATIENCE
        while True:
            try:
                with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
                    answer = client.post(f"http://127.0.0.1:{port}/mcp", json=call(tools), headers=headers)
            except httpx.ConnectError:
                assert time.monotonic() < patience
                time.sleep(0.1)
            else:
                assert "Behind the museum" in answer.text, answer.text
                return

    def end(self, how: str) -> float:
        """End it; returns the seconds that it took."""
        begun = time.monotonic()
        if how == "EOF":
            self.process.stdin.close()
        else:
            self.process.send_signal(signal.Signals[how])
        try:
            assert self.process.wait(PATIENCE) == 0
        finally:
            self.process.kill()
        return time.monotonic() - begun

    def left(self) -> list[int]:
        """What is there half a second later, and is ended now."""
        time.sleep(0.5)
        left = [pid for pid in self.pids if is_alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        return left


@pytest.fixture
def serve(tmp_path):
    """Start a server with an upstream of a kind, ask it something, and return it."""
    with FakeOllama.in_thread() as fake:
        fake.script("Behind the museum [1].", path="/api/chat")

        def serve(server: str, kind: str, *, tools: str = "rows", **more: str) -> Served:
            pids, file = tmp_path / "pids", tmp_path / "mcp.json"
            entry = {
                "command": sys.executable,
                "args": [str(HERE / "child.py"), kind],
                "env": {"PIDS": str(pids)},
            }
            file.write_text(json.dumps({"mcpServers": {"up": entry}}), "utf-8")
            environment = {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_UPSTREAM": str(file), **more}
            port = 0
            if server == "own HTTP":
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = free.getsockname()[1]
            command = {
                "own stdio": [COMMAND],
                "own HTTP": [COMMAND, "serve", "--http", f"127.0.0.1:{port}"],
                "foreign stdio": [sys.executable, str(HERE / "host.py"), "foreign", "stdio"],
            }[server]
            return Served(command, port, [f"up__{tools}"], pids, environment)

        yield serve


@pytest.mark.parametrize(
    ("kind", "how", "tools"),
    [
        *((kind, how, "rows") for kind in ("normal", "stubborn", "parent") for how in ("EOF", "SIGTERM")),
        *((kind, "EOF", "hangs") for kind in ("stubborn", "parent")),
        ("stubborn", "SIGINT", "hangs"),
    ],
)
def test_over_stdio_nothing_is_left_after_a_second(serve, figure, kind, how, tools):
    served = serve("own stdio", kind, tools=tools)
    took, left = served.end(how), served.left()
    print(f"own stdio      {kind:9} {tools:6} {how:8} {took:.2f} s, {len(left)} of {len(served.pids)} left")
    assert not left
    assert took < figure(1)


@pytest.mark.parametrize(
    ("kind", "how"), [("normal", "SIGINT"), ("stubborn", "SIGTERM"), ("parent", "SIGTERM")]
)
def test_over_http_nothing_is_left_after_a_second(serve, figure, kind, how):
    served = serve("own HTTP", kind)
    took, left = served.end(how), served.left()
    print(f"own HTTP       {kind:9} rows   {how:8} {took:.2f} s, {len(left)} of {len(served.pids)} left")
    assert not left
    assert took < figure(1)


@pytest.mark.parametrize("kind", ["stubborn", "parent"])
def test_on_a_foreign_host_nothing_is_left_after_the_end_of_stdin(serve, figure, kind):
    served = serve("foreign stdio", kind)
    took, left = served.end("EOF"), served.left()
    print(f"foreign stdio  {kind:9} rows   EOF      {took:.2f} s, {len(left)} of {len(served.pids)} left")
    assert not left
    assert took < figure(3)


def test_nothing_is_left_where_the_event_loop_is_blocked_at_the_end(serve, figure):
    served = serve("own stdio", "stubborn", PYTHONPATH=str(HOG))
    served.process.send_signal(signal.SIGUSR1)
    while served.process.stderr.readline() != b"blocked\n":
        pass
    took, left = served.end("SIGTERM"), served.left()
    print(f"own stdio      stubborn  blocked SIGTERM {took:.2f} s, {len(left)} of {len(served.pids)} left")
    assert not left
    assert took < figure(1)


@pytest.mark.gate
def test_a_child_that_ignores_eof_and_sigterm_ends_with_its_own_child(serve):
    served = serve("own stdio", "stubborn")
    served.end("EOF")
    assert len(served.pids) == 2
    assert not served.left()
