"""The command behind each transport: call a tool, get its result or the error instead of it."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import PIPE
from typing import Any, TextIO

import anyio
from anyio.streams.text import TextReceiveStream
from mcp import MCPError
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult

from ollama_mcp import App, create_server
from ollama_mcp.settings import load

COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
CLOCK_S = 3.0
"""Seconds of each time-out; in real time enough for what must not run into one on a busy machine."""
SETTINGS = {
    f"OLLAMA_MCP_{clock}_TIMEOUT": str(CLOCK_S) for clock in ("CONNECT", "FIRST_BYTE", "IDLE", "TRANSFER")
} | {
    "OLLAMA_MCP_TOOLSETS": "all",
    "OLLAMA_MCP_RETRIES": "1",
}


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        code: That of the failure; "" for a success, JSONRPC and a number for no result at all.
        text: What a model reads.
        error: What the result's `_meta` says of the failure.
    """

    code: str
    text: str
    error: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Driver:
    """A client of a running command."""

    client: Client

    async def call(self, tool: str, arguments: dict[str, Any]) -> Outcome:
        try:
            return _outcome(await self.client.call_tool(tool, arguments))
        except MCPError as error:
            return Outcome(f"JSONRPC {error.code}", str(error))


def _outcome(result: CallToolResult) -> Outcome:
    text = "\n".join(block.text for block in result.content)
    if result.is_error:
        error = (result.meta or {}).get("ollama-mcp/error", {})
        return Outcome(error.get("code", "NO CODE"), text, error)
    trouble = (result.structured_content or {}).get("trouble", "")
    return Outcome("LATE" if trouble.startswith("no answer within") else trouble.partition(":")[0], text)


Connect = Callable[[dict[str, str], TextIO], AbstractAsyncContextManager[Driver]]


@asynccontextmanager
async def in_process(environment: dict[str, str]) -> AsyncIterator[Driver]:
    """A client in the server's own process, for virtual time; HTTP goes as the command lets it go."""
    settings = load(SETTINGS | environment)
    settings = replace(settings, backend=replace(settings.backend, swift=True))
    async with App.create(settings) as app, Client(create_server(app)) as client:
        yield Driver(client)


def _stdio(mode: str) -> Connect:
    @asynccontextmanager
    async def connect(environment: dict[str, str], stderr: TextIO) -> AsyncIterator[Driver]:
        server = StdioServerParameters(command=COMMAND, env=SETTINGS | environment)
        async with Client(stdio_client(server, errlog=stderr), mode=mode) as client:
            yield Driver(client)

    return connect


def _http(mode: str) -> Connect:
    @asynccontextmanager
    async def connect(environment: dict[str, str], stderr: TextIO) -> AsyncIterator[Driver]:
        command = [COMMAND, "serve", "--http", "127.0.0.1:0"]
        process = await anyio.open_process(command, stdout=None, stderr=PIPE, env=SETTINGS | environment)
        lines = TextReceiveStream(process.stderr)
        try:
            url = re.search(r"http://\S+", await lines.receive())[0]
            async with anyio.create_task_group() as group:
                group.start_soon(_copy, lines, stderr)
                async with Client(url, mode=mode) as client:
                    yield Driver(client)
                process.terminate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.aclose()

    return connect


async def _copy(lines: TextReceiveStream, file: TextIO) -> None:
    async for text in lines:
        file.write(text)


TRANSPORTS: dict[str, Connect] = {
    "stdio": _stdio("auto"),
    "http-2025": _http("legacy"),
    "http-2026": _http("auto"),
}
