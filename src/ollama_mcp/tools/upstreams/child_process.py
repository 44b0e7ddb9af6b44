"""An upstream as a child process: our own stdio transport, because it must be gone before we are.

The SDK's waits 2 s for a child that does not end at the end of its stdin, and as long again after SIGTERM:
longer than we live after EOF or a signal. It also reads lines of any length.

The child is the leader of a process group, so that its own children end with it. How it ends: EOF on its
stdin; SIGTERM to the group after 0.25 s; SIGKILL after 0.1 s more. `kill_children` is for a process that
cannot wait even for that.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import mcp_types
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import StdioServerParameters, get_default_environment, stdio_client
from mcp.shared.message import SessionMessage

from ollama_mcp.ollama.sanitize import sanitize_text
from ollama_mcp.settings.upstreams import DEPTH, UpstreamServer

Streams = tuple[Any, Any]
"""Streams to read from and to write to, as the SDK's client takes them."""
Incoming = MemoryObjectSendStream[SessionMessage | Exception]

_EOF_S = 0.25
_TERM_S = 0.1
_LONGEST = 16 * 2**20
"""Bytes of a line: one result."""
_SHOWN = 200
"""Characters of a line of stderr that an error quotes."""
_CLOSED = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)

_log = logging.getLogger(__name__)
_groups: set[int] = set()
"""Process groups of children that have not ended."""


@atexit.register
def kill_children() -> None:
    """Kill every child with its own children, from any thread: the last act of this process."""
    for group in tuple(_groups):
        _signal(group, signal.SIGKILL)


class ChildProcess:
    """A server on stdio as a transport of the SDK's client.

    Args:
        server: Command, arguments, environment and folder.
        ended: Set when the child closes its stdout, which for most means that it has died.

    Attributes:
        last_line: Last line of its stderr without secrets, which mostly says why it died.
        has_ended: True once it has closed its stdout.
    """

    def __init__(self, server: UpstreamServer, ended: asyncio.Event) -> None:
        self._server = server
        self._ended = ended
        self.last_line = ""
        self.has_ended = False

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[Streams]:
        """Start it, and end it with its children.

        Raises:
            OSError: It cannot be started.
        """
        server = self._server
        environment = {**get_default_environment(), **server.env, DEPTH: "1"}
        if sys.platform == "win32":  # job objects instead of process groups: the SDK has them
            given = StdioServerParameters(
                command=server.command, args=list(server.args), env=environment, cwd=server.cwd or None
            )
            async with stdio_client(given) as streams:
                yield streams
            return
        process = await anyio.open_process(
            [server.command, *server.args], env=environment, cwd=server.cwd or None, start_new_session=True
        )
        _groups.add(process.pid)
        to_client, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, from_client = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process, to_client)
                tasks.start_soon(self._write, process, from_client, to_client)
                tasks.start_soon(self._log_errors, process)
                try:
                    yield incoming, outgoing
                finally:
                    with anyio.CancelScope(shield=True):
                        incoming.close()
                        outgoing.close()
                        await _end(process)
                    tasks.cancel_scope.cancel()
        finally:
            _groups.discard(process.pid)

    async def _read(self, process: Process, to_client: Incoming) -> None:
        """Hand on its messages; what is none is a program that prints, and left out."""
        assert process.stdout is not None  # noqa: S101 - open_process makes a pipe
        async with to_client:
            with suppress(*_CLOSED):
                async for line in _lines(process.stdout, _LONGEST):
                    if len(line) > _LONGEST:
                        self.last_line = f"a line of more than {_LONGEST >> 20} MiB"
                        break
                    try:
                        message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        if line.strip():
                            _log.debug("upstream %s: a line that is no message", self._server.name)
                        continue
                    await to_client.send(SessionMessage(message))
        self.has_ended = True
        self._ended.set()

    async def _write(
        self,
        process: Process,
        from_client: MemoryObjectReceiveStream[SessionMessage],
        to_client: Incoming,
    ) -> None:
        assert process.stdin is not None  # noqa: S101 - as above
        with suppress(*_CLOSED):
            async with from_client:
                async for item in from_client:
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await process.stdin.send(text.encode() + b"\n")
            return
        await to_client.aclose()  # nobody reads any more: the client must not wait for an answer

    async def _log_errors(self, process: Process) -> None:
        """Log its stderr, at DEBUG: it may have what it was asked."""
        assert process.stderr is not None  # noqa: S101 - as above
        with suppress(*_CLOSED):
            async for raw in _lines(process.stderr, 2**16):
                line = self._server.redact(raw.decode(errors="replace").strip())
                if line:
                    self.last_line = sanitize_text(line)[:_SHOWN]
                    _log.debug("upstream %s: %s", self._server.name, line)


async def _lines(stream: ByteReceiveStream, longest: int) -> AsyncGenerator[bytes]:
    """Yield the lines of a stream; of one that is longer than `longest` the beginning, one byte too long."""
    buffer = bytearray()
    skips = False
    while True:
        try:
            chunk = await stream.receive()
        except anyio.EndOfStream:
            break
        seen = len(buffer)
        buffer += chunk
        while (end := buffer.find(b"\n", seen)) >= 0:
            line, seen = bytes(buffer[:end]), 0
            del buffer[: end + 1]
            if not skips:
                yield line
            skips = False
        if len(buffer) > longest:
            if not skips:
                yield bytes(buffer[: longest + 1])
            skips = True
            buffer.clear()
    if buffer and not skips:
        yield bytes(buffer)


async def _end(process: Process) -> None:
    assert process.stdin is not None  # noqa: S101 - as above
    with suppress(*_CLOSED):
        await process.stdin.aclose()
    await _until(lambda: process.returncode is not None, _EOF_S)
    if _signal(process.pid, signal.SIGTERM):  # its own children, too, which may outlive it
        await _until(lambda: process.returncode is not None and not _signal(process.pid, 0), _TERM_S)
        _signal(process.pid, signal.SIGKILL)
        await _until(lambda: process.returncode is not None, _TERM_S)
    # What has left the group may hold the pipes; asyncio has no other way to give them up (SDK: the same).
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    if transport is not None:
        transport.close()


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Wait by looking: `Process.wait` also waits for the end of pipes that a grandchild has."""
    with anyio.move_on_after(seconds):
        while not done():  # noqa: ASYNC110 - nothing tells of the end of a group
            await anyio.sleep(0.01)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether there is one."""
    if sys.platform == "win32":
        return False
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
