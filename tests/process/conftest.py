"""The installed command as a child process, driven by its pipes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ollama_mcp.testing import FakeOllama

COMMAND = Path(sys.executable).with_name("ollama-mcp")
PATIENCE = 30
"""Seconds after which something that should happen has not; a busy machine takes ten to start a process."""

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Line(NamedTuple):
    at: float
    message: Any


class Lines:
    """What a pipe brings, collected by a thread, each line with the time at which it came."""

    def __init__(self, pipe: Any, read: Callable[[bytes], Any]) -> None:
        self.seen: list[Line] = []
        self._reads = threading.Event()
        self._reads.set()
        self._is_left = False
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, args=(pipe, read), daemon=True)
        self._thread.start()

    def _collect(self, pipe: Any, read: Callable[[bytes], Any]) -> None:
        while self._reads.wait() and not self._is_left and (raw := pipe.readline()):
            line = Line(time.monotonic(), read(raw))
            with self._changed:
                self.seen.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop_reading(self) -> None:
        """Leave what comes in the pipe, as a client does that hangs."""
        self._reads.clear()

    def leave(self) -> None:
        """Leave it for good, if reading was stopped."""
        self._is_left = not self._reads.is_set()
        self._reads.set()

    def wait_for(self, wanted: Callable[[Any], object], patience: float = PATIENCE) -> Line:
        """The first line that is wanted, whether it has come or will."""
        with self._changed:
            self._changed.wait_for(lambda: self._find(wanted) or self._ended, patience)
            found = self._find(wanted)
        assert found, f"it never came; what came is {self.seen[-5:]}"
        return found

    def _find(self, wanted: Callable[[Any], object]) -> Line | None:
        return next((line for line in tuple(self.seen) if wanted(line.message)), None)

    def rest(self) -> list[Line]:
        """All lines, once the pipe has ended."""
        self._thread.join(PATIENCE)
        assert self._ended
        return self.seen


def strict(raw: bytes) -> Any:
    """A line of JSON as a strict parser takes it: in UTF-8, without NaN and without half an emoji."""
    message = json.loads(raw.decode(), parse_constant=_refuse)
    json.dumps(message, ensure_ascii=False).encode()
    return message


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


class Child:
    """A running `ollama-mcp`, and a JSON-RPC client of one protocol version."""

    def __init__(self, *args: str, cwd: Path, **environment: str) -> None:
        self.version = ""
        self.info = {"name": "pipes", "version": "1"}
        self.process = subprocess.Popen(
            [str(COMMAND), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
        )
        self.out = Lines(self.process.stdout, strict if args[:1] in ((), ("serve",)) else bytes.decode)
        self.err = Lines(self.process.stderr, bytes.decode)

    # Its pipes.

    def send(self, *messages: dict[str, Any]) -> float:
        """Write messages; returns when."""
        assert self.process.stdin is not None
        data = b"".join(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages)
        at = time.monotonic()
        self.process.stdin.write(data)
        self.process.stdin.flush()
        return at

    def request(self, call_id: Any, method: str, **params: Any) -> float:
        if self.version == "2026-07-28":
            said = MODERN | {"io.modelcontextprotocol/clientInfo": self.info}
            params["_meta"] = said | params.get("_meta", {})
        return self.send({"id": call_id, "method": method, "params": params})

    def answer_to(self, call_id: Any) -> Line:
        return self.out.wait_for(lambda message: message.get("id") == call_id and "method" not in message)

    # What a client says.

    def open(self, version: str, name: str = "pipes") -> dict[str, Any]:
        """Begin in the way of that version, as that client; returns what the server says of itself."""
        self.version = version
        self.info = {"name": name, "version": "1"}
        if version == "2026-07-28":
            self.request("open", "server/discover")
            return self.answer_to("open").message["result"]
        self.request("open", "initialize", protocolVersion=version, capabilities={}, clientInfo=self.info)
        result = self.answer_to("open").message["result"]
        self.send({"method": "notifications/initialized"})
        return result

    def call(
        self, call_id: Any, tool: str = "ollama_chat", *, progress: bool = False, **arguments: Any
    ) -> float:
        """Call a tool; returns when."""
        meta = {"_meta": {"progressToken": call_id}} if progress else {}
        return self.request(call_id, "tools/call", name=tool, arguments={"prompt": "x"} | arguments, **meta)

    def cancel(self, call_id: Any) -> float:
        return self.send({"method": "notifications/cancelled", "params": {"requestId": call_id}})

    def result_of(self, call_id: Any) -> dict[str, Any]:
        message = self.answer_to(call_id).message
        assert "result" in message, message
        return message["result"]

    def text_of(self, call_id: Any) -> str:
        """The text of a result that is no error."""
        result = self.result_of(call_id)
        assert not result.get("isError"), result
        return result["content"][0]["text"]

    def progress_of(self, call_id: Any) -> list[Line]:
        return [
            line
            for line in tuple(self.out.seen)
            if line.message.get("method") == "notifications/progress"
            and line.message["params"]["progressToken"] == call_id
        ]

    # Its end.

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def finish(self) -> int:
        """Close stdin and wait; returns the exit status."""
        self.close_stdin()
        return self.wait()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.out.leave()
        self.out.rest()
        self.err.rest()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                continue


@contextmanager
def nursery(folder: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def begin(*args: str, **environment: str) -> Child:
        children.append(Child(*args, cwd=folder, **environment))
        return children[-1]

    try:
        yield begin
    finally:
        for child in children:
            child.end()


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama.in_thread() as fake:
        yield fake


@pytest.fixture
def start(tmp_path: Path, fake: FakeOllama) -> Iterator[Callable[..., Child]]:
    """Start the command in front of the fake, as hosts do: a bare environment, a foreign folder."""
    with nursery(tmp_path) as begin:
        yield lambda *args, **environment: begin(*args, **{"OLLAMA_HOST": fake.url, **environment})


@pytest.fixture
def serve(start: Callable[..., Child]) -> Callable[..., Child]:
    """Start it and greet it."""

    def serve(version: str = "2025-11-25", name: str = "pipes", **environment: str) -> Child:
        child = start(**environment)
        child.open(version, name)
        return child

    return serve
