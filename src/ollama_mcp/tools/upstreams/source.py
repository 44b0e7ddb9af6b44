"""Tools of the servers of an mcp.json, under the names `server__tool`, as a source of context."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import anyio
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import Tool

from ollama_mcp.ollama.sanitize import sanitize
from ollama_mcp.services.upstream_pool import Connect, UpstreamPool
from ollama_mcp.settings.upstreams import UpstreamServer, as_name
from ollama_mcp.sources import Passage, SourceError, ToolList, ToolSpec, may_begin
from ollama_mcp.tools.tool_passages import passages_of
from ollama_mcp.tools.upstreams.connection import UpstreamClient, connect, is_lost

ResultT = TypeVar("ResultT")

LIST_S = 5.0
"""Seconds for the list of one server that runs."""
_MOST = 500
"""Tools of one server."""
_LONGEST = 64
"""Characters of a tool's name, as most APIs of models have it."""

_log = logging.getLogger(__name__)


class Upstreams:
    """Tools of other MCP servers; a `ToolSource`.

        source = Upstreams(app.upstreams)
        [tool.name for tool in await source.tools()]

    Args:
        pool: Connections to the servers.
        connect: How a connection is made; for tests.
        listed: Patterns of more tools that may be called, by the names that they have here.
    """

    def __init__(self, pool: UpstreamPool, connect: Connect = connect, *, listed: Sequence[str] = ()) -> None:
        self._pool = pool
        self._listed = listed
        self._connect = connect
        self._known: dict[str, tuple[UpstreamServer, str, ToolSpec]] = {}
        """Server, name there, and description of each tool that was listed, by its name here."""

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        """List the tools that may be called; of a server that cannot be reached the reason."""
        servers = [
            server
            for server in self._pool.servers.values()
            if wanted is None or any(may_begin(pattern, server.prefix) for pattern in wanted)
        ]
        listed = await asyncio.gather(*(self.offered(server) for server in servers), return_exceptions=True)
        found = ToolList()
        for server, tools in zip(servers, listed, strict=True):
            if isinstance(tools, SourceError):
                found.failures[server.prefix] = f"upstream {server.name}: {tools}"
            elif isinstance(tools, BaseException):
                raise tools
            else:
                found.extend(
                    replace(tool, is_permitted=True)
                    for tool in tools
                    if tool.is_permitted or tool.is_named(self._listed)
                )
        return found

    async def offered(self, server: UpstreamServer) -> list[ToolSpec]:
        """List all tools of one server; `is_permitted` says which may be called for context.

        Raises:
            SourceError: The server cannot be reached, and why.
        """

        async def listed(client: Client) -> list[Tool]:
            tools: list[Tool] = []
            cursor: str | None = None
            async with asyncio.timeout(LIST_S):
                while len(tools) < _MOST:
                    page = await client.list_tools(cursor=cursor)
                    tools += page.tools
                    cursor = page.next_cursor
                    if cursor is None:
                        break
            return tools[:_MOST]

        tools = await self._ask(server, listed, again=True)
        specs = [_spec(server, tool) for tool in tools]
        for tool, spec in zip(tools, specs, strict=True):
            self._known[spec.name] = server, tool.name, spec
        self._pool.note_tools(server.name, sum(spec.is_allowed(()) for spec in specs))
        return specs

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        """Call a tool that has been listed; once more if its server died and it only reads."""
        server, tool, spec = self._known[name]

        async def called(client: Client) -> list[Passage]:
            result = await client.call_tool(tool, sanitize(dict(arguments)))
            # In a thread: it may be a megabyte of JSON.
            return await anyio.to_thread.run_sync(passages_of, result, name, tool)

        passages = await self._ask(server, called, again=bool(spec.is_read_only))
        return [_redacted(server, passage) for passage in passages]

    async def _ask(
        self, server: UpstreamServer, work: Callable[[Client], Awaitable[ResultT]], *, again: bool
    ) -> ResultT:
        """Ask a server; `again`, over a new connection, if the one that there was has ended.

        Raises:
            SourceError: It failed, and why.
        """
        opened = await self._pool.client(server.name, self._connect)
        opened.in_flight += 1
        try:
            return await work(opened.client)
        except SourceError as error:
            raise SourceError(server.redact(str(error))) from None
        except TimeoutError:
            why = f"it did not list its tools within {LIST_S:g} s"
            if opened.in_flight == 1:  # else it may be busy with the call of another
                self._pool.discard(server.name, opened, why=why)
            raise SourceError(why) from None
        except Exception as error:  # noqa: BLE001 - an answer that is none: pydantic and others
            if is_lost(error):
                self._pool.discard(server.name, opened)
                if again:
                    return await self._ask(server, work, again=False)
            raise SourceError(_reason(server, error, opened)) from None
        finally:
            opened.in_flight -= 1


def _spec(server: UpstreamServer, tool: Tool) -> ToolSpec:
    hints = tool.annotations
    spec = ToolSpec(
        public_name(server, tool.name),
        server.redact(tool.description or ""),
        tool.input_schema,
        is_read_only=hints.read_only_hint if hints else None,
        is_open_world=hints.open_world_hint if hints else None,
        is_destructive=hints.destructive_hint if hints else None,
        remote_host=server.remote_host,
    )
    if server.tools is not None:
        is_permitted = any(fnmatchcase(tool.name, pattern) for pattern in server.tools)
    else:
        is_ours = tool.name.startswith("ollama_")  # another ollama-mcp: they ask models, and are no source
        is_permitted = bool(spec.is_read_only) and not spec.destination and not is_ours
    return replace(spec, is_permitted=is_permitted)


def public_name(server: UpstreamServer, tool: str) -> str:
    """Return `server__tool` in the letters of a tool's name; what does not fit ends with a hash.

    >>> public_name(UpstreamServer("git hub"), "read_file"), public_name(UpstreamServer("git"), "read.file")
    ('git_hub__read_file', 'git__read_file_dd32cd')
    """
    name = server.prefix + as_name(tool)
    if len(name) <= _LONGEST and as_name(tool) == tool:
        return name
    return f"{name[: _LONGEST - 7]}_{hashlib.sha256(tool.encode()).hexdigest()[:6]}"


def _redacted(server: UpstreamServer, passage: Passage) -> Passage:
    text, title, uri = map(server.redact, (passage.text, passage.title, passage.uri))
    return replace(passage, text=text, title=title, uri=uri)


def _reason(server: UpstreamServer, error: Exception, opened: UpstreamClient) -> str:
    """Return why a call failed, without secrets."""
    _log.debug("upstream %s: %s", server.name, server.redact(repr(error)))
    if is_lost(error):
        return f"it has ended{opened.said}"
    if isinstance(error, MCPError):
        return server.redact(error.message)[:400]
    if isinstance(error, RecursionError):
        return "its result is nested too deeply"
    return f"it failed with {type(error).__name__}"
