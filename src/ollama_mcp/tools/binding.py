"""Binding: a tool function and an App become something that the SDK, on any host, can call."""

from __future__ import annotations

import functools
import inspect
import logging
import types
from collections.abc import Awaitable, Callable
from typing import Any

from mcp_types import CallToolResult

from ollama_mcp.app import App
from ollama_mcp.errors import InternalError, OllamaError
from ollama_mcp.tools.results import failure
from ollama_mcp.tools.toolset import Tool

_log = logging.getLogger(__name__)


def bind(tool: Tool, app: App) -> Callable[..., Awaitable[CallToolResult]]:
    """Return the tool as a method of the App: its schema has no `app`, and it never raises.

    The host's lifespan is not read, so the same tool works on our server and on anybody's.
    """

    @functools.wraps(tool.function)
    async def guarded(app: App, /, **arguments: Any) -> CallToolResult:
        try:
            return tool.render(await tool.function(app, **arguments))
        except OllamaError as error:
            return failure(error)
        except (Exception, SystemExit):  # noqa: BLE001 - the top: nothing unclassified reaches the SDK
            return failure(_internal(tool.name))

    whole = inspect.signature(tool.function, eval_str=True)
    guarded.__signature__ = whole.replace(return_annotation=tool.returns)  # pyright: ignore[reportAttributeAccessIssue]
    return types.MethodType(guarded, app)


def _internal(name: str) -> InternalError:
    error = InternalError()
    _log.exception("error %s in %s", error.error_id, name)
    return error
