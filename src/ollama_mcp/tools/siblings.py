"""Siblings: the other tools of the server that a call came to, as a source of context.

They are called through the server's own handler of `tools/call`, with its middleware and extensions, as a
client's call would go: `MCPServer.call_tool` passes by middleware that refuses. Our own tools are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ClientCapabilities, ListToolsResult
from pydantic import BaseModel

from ollama_mcp.sources import Passage, SourceError, ToolList, ToolSpec
from ollama_mcp.tools.binding import PublishedTool
from ollama_mcp.tools.tool_passages import passages_of

ResultT = TypeVar("ResultT", bound=BaseModel)

_log = logging.getLogger(__name__)
_ASKS = "it asks for the user's input, which a call for context cannot give"


class _QuietSession(ServerSession):
    """The caller's session for a tool that a tool calls: nobody is told anything, and nobody can be asked.

    A wrapped Context is not enough: a tool that uses its request's session would send progress on the
    caller's token, and ask the user.
    """

    def __init__(self, outer: ServerSession) -> None:  # the SDK's own would open streams
        vars(self).update(vars(outer))

    async def report_progress(self, *args: Any, **named: Any) -> None:
        """Drop progress: the caller's token counts our own."""

    async def send_notification(self, *args: Any, **named: Any) -> None:
        """Drop a notification."""

    async def send_request(self, *args: Any, **named: Any) -> Any:
        """Refuse to ask the client anything."""
        raise ToolError(_ASKS)

    @property
    def client_capabilities(self) -> ClientCapabilities | None:
        """No capabilities: the client is not there for this call."""
        return ClientCapabilities()

    @property
    def can_send_request(self) -> bool:
        """False: the client cannot be asked."""
        return False


class Siblings:
    """Tools beside ours on the server of a call; a `ToolSource`."""

    def __init__(self, ctx: Context[Any, Any]) -> None:
        self._ctx = ctx

    async def tools(self, wanted: Sequence[str] | None = None) -> ToolList:
        """List the tools that a client would see, without ours; as of `ToolSource`."""
        registry = self._ctx.mcp_server._tool_manager._tools  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        listed = await self._request(ListToolsResult, "tools/list", {})
        return ToolList(
            ToolSpec(
                tool.name,
                tool.description or "",
                tool.input_schema,
                is_read_only=tool.annotations.read_only_hint if tool.annotations else None,
                is_open_world=tool.annotations.open_world_hint if tool.annotations else None,
                is_destructive=tool.annotations.destructive_hint if tool.annotations else None,
            )
            for tool in listed.tools
            if not isinstance(registry.get(tool.name), PublishedTool)
        )

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Sequence[Passage]:
        """Call a tool; as of `ToolSource`."""
        parameters = {"name": name, "arguments": dict(arguments)}
        result = await self._request(CallToolResult, "tools/call", parameters)
        try:
            return await anyio.to_thread.run_sync(passages_of, result, name)  # it may be a megabyte of JSON
        except RecursionError:
            raise SourceError("its result is nested too deeply") from None

    async def _request(self, kind: type[ResultT], method: str, parameters: dict[str, Any]) -> ResultT:
        """Send the server a request of ours, by the way that a client's request takes.

        Raises:
            SourceError: It failed, or answered with a question to the user.
        """
        server = self._ctx.mcp_server._lowlevel_server  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        entry = server.get_request_handler(method)
        if entry is None:
            raise SourceError(f"the server has no {method}")
        handler = entry

        async def answer(context: Any) -> Any:
            checked = handler.params_type.model_validate(context.params, by_name=False)
            found = await handler.handler(context, checked)
            if isinstance(found, dict):
                return found
            return found.model_dump(by_alias=True, mode="json", exclude_none=True) if found else {}

        call: Any = answer
        for middleware in reversed(server.middleware):
            call = partial(middleware, call_next=call)
        try:
            request = self._ctx.request_context
            quiet = _QuietSession(request.session)
            raw = await call(replace(request, session=quiet, method=method, params=parameters))
            is_complete = raw.get("resultType") in (None, "complete") and "inputRequests" not in raw
            result = kind.model_validate(raw) if is_complete else None
        except MCPError as error:
            raise SourceError(str(error)) from None
        except Exception as error:  # noqa: BLE001 - somebody's middleware or handler: a row, not our end
            _log.debug("%s for context failed", method, exc_info=True)
            raise SourceError(f"it failed with {type(error).__name__}") from None
        if result is None:
            raise SourceError(_ASKS)
        return result
