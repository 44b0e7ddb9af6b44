"""Tools of one MCP server over a client that is connected with it, under their own names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp.client import Client
from mcp.shared.exceptions import MCPError

from ollama_mcp.ollama.sanitize import sanitize
from ollama_mcp.sources import Passage, SourceError, ToolList, ToolSpec
from ollama_mcp.tools.tool_passages import passages_of


class ClientTools:
    """Tools of the server of a client, all of which may be called; a `ToolSource`.

    async with Client(server) as client:
        tools = await ClientTools(client).tools()
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        """List the tools; as of `ToolSource`."""
        found = ToolList()
        cursor: str | None = None
        while True:
            page = await self._client.list_tools(cursor=cursor)
            for tool in page.tools:
                hints = tool.annotations
                found.append(
                    ToolSpec(
                        tool.name,
                        tool.description or "",
                        tool.input_schema,
                        is_read_only=hints.read_only_hint if hints else None,
                        is_open_world=hints.open_world_hint if hints else None,
                        is_destructive=hints.destructive_hint if hints else None,
                        is_permitted=True,
                    )
                )
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        """Call a tool; as of `ToolSource`."""
        try:
            result = await self._client.call_tool(name, sanitize(dict(arguments)))
        except MCPError as error:
            raise SourceError(error.message) from None
        return passages_of(result, name)
