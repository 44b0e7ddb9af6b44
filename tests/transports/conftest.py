import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BARE_SERVER = Path(__file__).parent / "bare_server.py"

PATIENCE = 10
"""Seconds after which something that should happen has not."""

HANDSHAKE = (
    {
        "jsonrpc": "2.0",
        "id": "init",
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "pipes", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
)


class Lines:
    """The lines of a pipe, collected by a thread."""

    def __init__(self, pipe: Any) -> None:
        self.seen: list[bytes] = []
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._collect, args=(pipe,), daemon=True)
        self._thread.start()

    def _collect(self, pipe: Any) -> None:
        for line in pipe:
            self._queue.put(line)
        self._queue.put(None)

    def next(self) -> bytes | None:
        line = self._queue.get(timeout=PATIENCE)
        if line is not None:
            self.seen.append(line)
        return line

    def until(self, text: str) -> str:
        while (line := self.next()) is not None:
            if text in line.decode():
                return line.decode()
        raise AssertionError(f"{text!r} never came: {self.seen}")

    def rest(self) -> list[bytes]:
        return list(iter(self.next, None))


class Child:
    """A server in a process of its own, driven by its pipes."""

    handshake = HANDSHAKE

    def __init__(self, *args: str, **streams: Any) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        self.process = subprocess.Popen(
            [sys.executable, str(BARE_SERVER), *args], **pipes, env=dict(os.environ), close_fds=True
        )
        self.err = Lines(self.process.stderr)
        self._out: Lines | None = None

    @property
    def out(self) -> Lines:
        """What it writes; nobody reads until this is used."""
        if self._out is None:
            self._out = Lines(self.process.stdout)
        return self._out

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, *messages: Any) -> None:
        self.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def receive(self) -> dict[str, Any]:
        line = self.out.next()
        assert line is not None, f"no more output; stderr: {self.err.seen}"
        return json.loads(line)

    def answer_to(self, request_id: Any) -> dict[str, Any]:
        while True:
            message = self.receive()
            if message.get("id") == request_id and "method" not in message:
                return message

    def call(self, request_id: int, tool: str, /, *, progress: bool = False, **arguments: Any) -> None:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if progress:
            params["_meta"] = {"progressToken": request_id}
        self.send({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params})

    def text_from(self, request_id: int) -> str:
        return self.answer_to(request_id)["result"]["content"][0]["text"]

    def initialize(self) -> None:
        self.send(*HANDSHAKE)
        assert self.answer_to("init")["result"]["serverInfo"]["name"] == "bare"

    def initialize_unread(self) -> None:
        """Take the answer to initialize from the pipe and read no further."""
        assert self.process.stdout is not None
        self.send(*HANDSHAKE)
        assert b"bare" in self.process.stdout.readline()

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def stop_by(self, how: str) -> tuple[int, float]:
        """End it and return the exit status and how long that took."""
        begin = time.perf_counter()
        if how == "EOF":
            self.close_stdin()
        else:
            self.process.send_signal(signal.Signals[how])
        status = self.process.wait(PATIENCE)
        return status, time.perf_counter() - begin

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


@contextmanager
def nursery() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def begin(*args: str, **streams: Any) -> Child:
        children.append(Child(*args, **streams))
        return children[-1]

    try:
        yield begin
    finally:
        for child in children:
            child.end()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Start children that end with the test."""
    with nursery() as begin:
        yield begin


@pytest.fixture(scope="module")
def module_start() -> Iterator[Callable[..., Child]]:
    """Start children that end with the module."""
    with nursery() as begin:
        yield begin


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
