"""MCP Tasks (`io.modelcontextprotocol/tasks`, SEP-2663): jobs as the tasks of clients that declare it.

A call that would return STILL RUNNING, or a question, returns a task whose id is the job's handle. Clients of
older protocols, and those that do not declare the extension on their request, keep handles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import Context, MCPServer, require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ElicitResult,
    RequestParams,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field, ValidationError

from ollama_mcp.app import App
from ollama_mcp.errors import Cancelled, OllamaError, UnknownHandle
from ollama_mcp.jobs.job import Job
from ollama_mcp.ollama.sanitize import sanitize_text
from ollama_mcp.tools.binding import bind
from ollama_mcp.tools.caller import TASK_CALL, TaskCall, caller_id
from ollama_mcp.tools.chat import chat
from ollama_mcp.tools.elicitation import can_ask, input_requests, take_answers
from ollama_mcp.tools.offering import tools_of

IDENTIFIER = "io.modelcontextprotocol/tasks"
METHODS = ("tasks/get", "tasks/update", "tasks/cancel")

_CONTINUE = next(tool for tool in chat if tool.name == "ollama_continue")
_YOUNG_S = 30.0
_POLL_MS, _POLL_LATER_MS = 500, 2000
"""Milliseconds between two polls: of a young task, and of one that has taken longer than `_YOUNG_S`."""


class TaskParams(RequestParams):
    """Parameters of tasks/get and tasks/cancel."""

    task_id: str


class TaskAnswers(TaskParams):
    """Parameters of tasks/update."""

    input_responses: dict[str, Any] = Field(default_factory=dict[str, Any])


class Tasks(Extension):
    """Jobs of an App as MCP tasks, for every client that declares the extension on its request.

    Each method answers -32021 to a client that has not declared it, -32602 to an id that is unknown or
    somebody else's, and -32020 to an `Mcp-Name` header that is not the id.

    Example:
        server = MCPServer("my-server", extensions=[Tasks(app)])
        register(server, app)

    Args:
        app: App whose jobs they are; `register` connects it with the server.
    """

    identifier = IDENTIFIER

    def __init__(self, app: App) -> None:
        self.app = app
        self.host: MCPServer[Any] | None = None

    def methods(self) -> Sequence[MethodBinding]:
        """Return the three methods; older protocols do not have them."""
        modern = frozenset(MODERN_PROTOCOL_VERSIONS)
        get, update, cancel = METHODS
        return (
            MethodBinding(get, TaskParams, self._get, modern),
            MethodBinding(update, TaskAnswers, self._update, modern),
            MethodBinding(cancel, TaskParams, self._cancel, modern),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a call with a task if its job outlives it, or has to ask the user."""
        call = TaskCall(self.app, params.name) if _declares(ctx) else None
        before = TASK_CALL.set(call)  # None, too: a job that calls a tool has its own caller's call here
        try:
            result = await call_next(ctx)
        finally:
            TASK_CALL.reset(before)
        if call is None or call.job is None:
            return result
        return {"resultType": "task", **self._task(call.job, self._context(ctx))}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        job, context = self._find(ctx, params), self._context(ctx)
        task = self._task(job, context)
        if task["status"] == "input_required":
            requests = input_requests(job)
            task["inputRequests"] = {key: _as_json(request) for key, request in requests.items()}
        elif task["status"] in {"completed", "failed"}:
            result = await self._result(job, context)
            if task["status"] == "completed":
                task["result"] = _as_json(result)
            else:
                text = "".join(block.text for block in result.content if isinstance(block, TextContent))
                task["error"] = {"code": INTERNAL_ERROR, "message": text}
        return task

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskAnswers) -> dict[str, Any]:
        job = self._find(ctx, params)
        asked = {question.key for question in job.open_questions}
        try:
            answers = {
                key: ElicitResult.model_validate(answer)
                for key, answer in params.input_responses.items()
                if key in asked
            }
        except ValidationError:
            text = 'no answer to elicitation/create. Send {"action": "accept", "content": {"confirm": true}}.'
            raise MCPError(INVALID_PARAMS, text) from None
        take_answers(job, answers)
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        await self._find(ctx, params).stop()
        return {}

    def _find(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> Job[Any]:
        require_client_extension(ctx, IDENTIFIER)
        # The SDK compares the header for its own methods only. fastmcp 4 sends none, which has to pass.
        name = getattr(ctx.request, "headers", {}).get(MCP_NAME_HEADER)
        if name is not None and decode_header_value(name) != params.task_id:
            raise MCPError(HEADER_MISMATCH, "the header Mcp-Name is not the taskId. Send the taskId in both.")
        try:
            return self.app.jobs.find(params.task_id, caller_id())
        except UnknownHandle as error:
            raise MCPError(INVALID_PARAMS, f"Task not found: {error.cause}. {error.remedy}") from None

    def _context(self, ctx: ServerRequestContext[Any, Any]) -> Context[Any, Any]:
        return Context(request_context=ctx, mcp_server=self.host)

    def _task(self, job: Job[Any], context: Context[Any, Any]) -> dict[str, Any]:
        ran_s = (job.ended_at or time.monotonic()) - job.started_at
        return {
            "taskId": job.handle,
            "status": _status(job, can_be_asked=can_ask(context)),
            "statusMessage": sanitize_text(job.status()),
            "createdAt": _iso(job.created_at),
            "lastUpdatedAt": _iso(job.created_at + timedelta(seconds=ran_s)),
            "ttlMs": int(self.app.jobs.kept_s(job) * 1000),
            "pollIntervalMs": _POLL_MS if ran_s < _YOUNG_S else _POLL_LATER_MS,
        }

    async def _result(self, job: Job[Any], context: Context[Any, Any]) -> CallToolResult:
        """Return what ollama_continue gives of a job that has ended."""
        names = tools_of(self.host, self.app) if self.host is not None else {}
        wait_s = math.inf if "ollama_continue" in names else 0.0  # 0: no pages, which nothing could fetch
        result = await bind(_CONTINUE, self.app, names)(handle=job.handle, wait_s=wait_s, ctx=context)
        return cast("CallToolResult", result)


def _declares(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the client has declared the extension on this very request."""
    capabilities = ctx.session.client_capabilities
    extensions = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and IDENTIFIER in (extensions or {})


def _status(job: Job[Any], *, can_be_asked: bool) -> str:
    if not job.finished:
        return "input_required" if can_be_asked and job.open_questions else "working"
    failure = job.failure
    if isinstance(failure, Cancelled):
        return "cancelled"
    # A call that failed has a result that says so; "failed" is for what never became one.
    return "completed" if failure is None or isinstance(failure, OllamaError) else "failed"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(model: Any) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def add_tasks(host: MCPServer[Any], app: App) -> None:
    """Serve an App's jobs as tasks on a server, which may have a Tasks extension of its own: that stays."""
    if any(extension.identifier == IDENTIFIER for extension in _extensions(host)):
        return
    host._apply_extension(Tasks(app))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    host._install_extension_interceptor()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def connect(host: MCPServer[Any], app: App) -> None:
    """Tell the Tasks of an App, where a server has them, on which server its tools are."""
    for extension in _extensions(host):
        if isinstance(extension, Tasks) and extension.app is app:
            extension.host = host


def _extensions(host: MCPServer[Any]) -> list[Extension]:
    return host._extensions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
