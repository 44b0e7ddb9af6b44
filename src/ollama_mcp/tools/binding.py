"""Binding: a tool function and an App become a tool that the SDK, on any host, can publish and call."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import types
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool as SDKTool
from mcp_types import CallToolResult, InputRequiredResult

from ollama_mcp.app import App
from ollama_mcp.errors import ARGUMENTS, InternalError, OllamaError
from ollama_mcp.jobs.call_stats import CallStats
from ollama_mcp.jobs.job import InputRequired, StillRunning
from ollama_mcp.settings import Settings
from ollama_mcp.tools.arguments import ArgumentCheck
from ollama_mcp.tools.caller import (
    AGENT_TOOLS,
    CONTEXT_TOOLS,
    TASK_AFTER_S,
    TASK_CALL,
    call_profile,
    caller_id,
)
from ollama_mcp.tools.calls import resumable_error, still_running_result
from ollama_mcp.tools.elicitation import brings_answer, input_required
from ollama_mcp.tools.results import code_of, error_result, page_of, with_notes
from ollama_mcp.tools.toolset import Tool, slim, slim_output

Result = CallToolResult | InputRequiredResult

_log = logging.getLogger(__name__)


class PublishedTool(SDKTool):
    """A tool of ours on an MCP server: it checks its arguments in our words, and never raises.

    Not a middleware: that answers in front of the SDK, which then neither knows the result nor gives
    it the form of the client's protocol, and a host that calls its tools itself would pass it by.
    """

    # Private: for a field, pydantic makes a validator of all the settings, which takes 15 ms of the start.
    _check: ArgumentCheck
    _settings: Settings
    _calls: CallStats
    _counted_as: str

    def __init__(self, tool: Tool, app: App, **fields: Any) -> None:
        super().__init__(**fields)
        self._check = ArgumentCheck(tool, app.settings)
        self._settings, self._calls, self._counted_as = app.settings, app.calls, tool.name

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Result:
        """Check the arguments and call the function; every failure is a result."""
        with self._calls.counting(self._counted_as) as outcome:
            result = await self._result(arguments, context, convert_result)
            outcome.code = code_of(result)
        return result

    async def _result(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool
    ) -> Result:
        try:
            checked, notes = self._check.check(arguments)
            wait_s = checked.pop("wait_s", None)
            if "wait_s" in self.parameters["properties"]:  # the call must return before its client gives up
                checked["wait_s"] = call_profile(context).deadline(self._settings, wait_s)
            result = await super().run(checked, context, convert_result)
            return with_notes(result, notes) if isinstance(result, CallToolResult) else result
        except OllamaError as error:
            return error_result(error)
        except (Exception, SystemExit):  # noqa: BLE001 - the top: nothing unclassified reaches the SDK
            return error_result(internal(self.name))


def publish(
    tool: Tool,
    app: App,
    name: str,
    names: Mapping[str, str],
    context_tools: tuple[str, ...] = (),
    agent_tools: tuple[str, ...] = (),
) -> PublishedTool:
    """Return the tool that a host lists as `name`; its schemas have nothing that only costs tokens.

    Args:
        tool: Declaration of the tool.
        app: App that it works with.
        name: Its name on that host.
        names: The tools of ours that the host gets: our names, and theirs there.
        context_tools: Patterns of the host's tools that may be called for context.
        agent_tools: Patterns of those that an agent may call.
    """
    bound = bind(tool, app, names, context_tools, agent_tools)
    key = f"{tool.name} {' '.join(tool.parameters(app.settings))}"
    if key not in _declared:  # the SDK takes 5 ms for one
        _declared[key] = _declare(tool, bound)
    declared = _declared[key]
    parameters = copy.deepcopy(declared.parameters)
    if "ollama_continue" not in names:  # then a call waits as long as it takes
        parameters["properties"].pop("wait_s", None)
    fields: dict[str, Any] = dict(declared) | {
        "fn": bound,
        "name": name,
        "parameters": parameters,
    }
    return PublishedTool(tool, app, **fields)


_declared: dict[str, SDKTool] = {}
"""Tools as the SDK makes them of our functions, by name and parameters."""


def _declare(tool: Tool, bound: Callable[..., Awaitable[Result]]) -> SDKTool:
    # The first paragraph of the docstring; the rest is for those who call the function from Python.
    description = " ".join((inspect.getdoc(tool.function) or "").partition("\n\n")[0].split())
    made = SDKTool.from_function(bound, tool.name, tool.title, description, annotations=tool.annotations)
    if made.fn_metadata.output_schema is not None:
        schema = slim_output(made.fn_metadata.output_schema)
        if tool.may_return_handle:
            handle = {"status": {"type": "string"}, "handle": {"type": "string"}}
            schema["properties"] = handle | schema["properties"]
        made.fn_metadata.output_schema = schema
    return made.model_copy(update={"parameters": slim(made.parameters), "fn": _declare})  # not the App's


def bind(
    tool: Tool,
    app: App,
    names: Mapping[str, str] | None = None,
    context_tools: tuple[str, ...] = (),
    agent_tools: tuple[str, ...] = (),
) -> Callable[..., Awaitable[Result]]:
    """Return the tool as a method of the App: its schema has no `app`, and it never raises.

    The host's lifespan is not read, so the same tool works on our server and on anybody's.
    """
    names = names or {}
    continue_as = names.get("ollama_continue", "")
    takes = frozenset(tool.parameters(app.settings))

    @functools.wraps(tool.function)
    async def guarded(app: App, /, **arguments: Any) -> Result:
        patterns = CONTEXT_TOOLS.set(context_tools)
        agents = AGENT_TOOLS.set(agent_tools)
        before = ARGUMENTS.set(takes)  # for the work that begins here, too, which has a copy
        call = TASK_CALL.get()
        if call is not None and (call.app is not app or call.tool != names.get(tool.name)):
            call = None  # a call of another tool, which calls this one
        if call is not None and arguments.get("wait_s"):
            arguments["wait_s"] = min(arguments["wait_s"], TASK_AFTER_S)
        try:
            # What is there already may be asked for often, and the user's answer belongs to the call before.
            if not tool.bypasses_queue and not brings_answer(app, arguments.get("ctx")):
                app.limit.admit(tool.name, caller_id())
            found = await tool.function(app, **arguments)
            if not continue_as:  # nothing could fetch another page
                return tool.render(found)
            number, page = arguments.get("page", 1), call_profile(arguments.get("ctx")).page(app.settings)
            return page_of(found, lambda: tool.render(found), number, page, continue_as)
        except InputRequired as required:
            if call is None:
                return input_required(required.job)
            call.job = required.job
            return still_running_result(StillRunning(required.job), names, tool.placeholders)
        except StillRunning as running:
            if call is not None:
                call.job = running.job
            return still_running_result(running, names, tool.placeholders)
        except OllamaError as error:
            return resumable_error(error, continue_as)
        except (Exception, SystemExit):  # noqa: BLE001 - as above: the SDK would wrap it in words of its own
            return error_result(internal(tool.name))
        finally:
            ARGUMENTS.reset(before)
            CONTEXT_TOOLS.reset(patterns)
            AGENT_TOOLS.reset(agents)

    parameters = list(tool.parameters(app.settings).values())
    guarded.__signature__ = inspect.Signature(parameters, return_annotation=tool.returns)  # pyright: ignore[reportAttributeAccessIssue]
    return types.MethodType(guarded, app)


def internal(name: str) -> InternalError:
    """Return the failure for the exception that is being handled, whose traceback is logged."""
    error = InternalError()
    _log.exception("error %s in %s", error.error_id, name)
    return error
