"""A client of an upstream, over stdio or Streamable HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, Implementation

from ollama_mcp import __version__
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError
from ollama_mcp.tools.upstreams.child_process import ChildProcess, Streams


@dataclass
class UpstreamClient:
    """A client of an upstream, and its process where it has one."""

    client: Client
    child: ChildProcess | None = None
    in_flight: int = 0
    """Requests that wait for its answers."""

    @property
    def said(self) -> str:
        """The last line that its process wrote, as the end of a reason; "" for none."""
        return f"; it said: {self.child.last_line}" if self.child and self.child.last_line else ""


@asynccontextmanager
async def connect(server: UpstreamServer, ended: asyncio.Event) -> AsyncGenerator[UpstreamClient]:
    """Connect to a server, in the protocol version that both speak.

    A program that dies of `server/discover`, which is of 2026-07-28, is started once more with a handshake.

    Args:
        server: The server.
        ended: Set when the connection has ended by itself.

    Raises:
        SourceError: There is no connection, and why.
    """
    info = Implementation(name="ollama-mcp", version=__version__)
    modes = ("auto", "legacy") if server.command else ("auto",)
    for mode in modes:
        child = ChildProcess(server, ended) if server.command else None
        client = Client(child.run() if child else _over_http(server), mode=mode, client_info=info)
        opened = UpstreamClient(client, child)
        is_connected = False
        try:
            async with client:
                is_connected = True
                yield opened
        except Exception as error:  # noqa: BLE001 - the SDK, httpx2 and anyio raise what they like
            first = _first(error)
            if not is_connected and mode != modes[-1] and is_lost(first):
                ended.clear()
                continue
            raise SourceError(server.redact(f"{_reason(first)}{opened.said}")) from None
        if child and child.has_ended:
            raise SourceError(f"it has ended{opened.said}")
        return


@asynccontextmanager
async def _over_http(server: UpstreamServer) -> AsyncGenerator[Streams]:
    async with (
        create_mcp_http_client(headers=dict(server.headers)) as http,
        streamable_http_client(server.url, http_client=http, terminate_on_close=False) as streams,
    ):
        yield streams


def is_lost(error: BaseException) -> bool:
    """Return whether a call failed because the connection or the session is no more."""
    if not isinstance(error, MCPError):
        return False
    is_forgotten = error.code == INVALID_REQUEST and error.message == "Session terminated"
    return error.code == CONNECTION_CLOSED or is_forgotten


def _first(error: BaseException) -> BaseException:
    """Return the failure in groups of failures."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    """Return a reason for people: without the paths and addresses that system errors have."""
    if is_lost(error):
        return "it has ended"
    if isinstance(error, MCPError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be started ({error.strerror})"
    return f"it cannot be reached ({type(error).__name__})"
