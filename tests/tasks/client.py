"""A client of the Tasks extension on the SDK's own."""

from typing import Any, Literal

import anyio
from mcp.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict

TASKS = "io.modelcontextprotocol/tasks"
YES = {"action": "accept", "content": {"confirm": True}}
NO = {"action": "decline"}


class Anything(Result):
    model_config = ConfigDict(extra="allow")


class CreatedTask(Anything):
    result_type: Literal["task"] = "task"


class Params(RequestParams):
    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[Params, str]):
    """A request of the extension."""


class NamedRequest(TaskRequest):
    """The same, with the task's id in `Mcp-Name` over HTTP."""

    name_param = "taskId"


class Declared(ClientExtension):
    """Declares the extension; a call that becomes a task is polled until its end.

    Args:
        answer: What each question is answered.
    """

    identifier = TASKS

    def __init__(self, answer: Any = YES) -> None:
        self.answer = answer
        self.seen: list[dict[str, Any]] = []

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    async def _resolve(self, created: CreatedTask, ctx: ClaimContext) -> CallToolResult:
        task = as_dict(created)
        while True:
            self.seen.append(task)
            if task["status"] == "completed":
                return CallToolResult.model_validate(task["result"])
            if answers := dict.fromkeys(task.get("inputRequests", {}), self.answer):
                await ask(ctx, "tasks/update", taskId=task["taskId"], inputResponses=answers)
            else:
                await anyio.sleep(task["pollIntervalMs"] / 1000)
            task = await ask(ctx, "tasks/get", taskId=task["taskId"])


async def ask(
    client: Client | ClaimContext, method: str, *, named: bool = True, **params: Any
) -> dict[str, Any]:
    """Send one request of the extension, and return its result."""
    request = (NamedRequest if named else TaskRequest)(method=method, params=Params(**params))
    return as_dict(await client.session.send_request(request, Anything))


async def begin(client: Client, tool: str, **arguments: Any) -> Any:
    """Call a tool; the task as a dict, if it becomes one, else the result."""
    result = await client.session.call_tool(tool, arguments, allow_claimed=True)
    return as_dict(result) if isinstance(result, CreatedTask) else result


def as_dict(result: Result) -> dict[str, Any]:
    return result.model_dump(by_alias=True, exclude_none=True)
