"""How an answer goes out: headers with the first chunk, and everything stops when the client leaves."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response

from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.gowords import dump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

logger: logging.Logger = logging.getLogger(__name__)

JSON = b"application/json; charset=utf-8"
NDJSON = b"application/x-ndjson"


@dataclass
class Activity:
    """What the engine did so far: for demos and tests that must see a generation stop.

    Attributes:
        running: Requests that hold a model's slot or wait for it.
        cancelled: Requests whose client left before the end.
        completed: Requests answered to the end, errors included.
    """

    running: int = 0
    cancelled: int = 0
    completed: int = 0


def answer(value: Any, status: int = 200) -> Response:
    """Return an answer of JSON."""
    return Response(dump(value), status, {"content-type": JSON.decode()})


class Outlet:
    """Where a job writes its answer: one object, or lines."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def whole(self, value: Any, status: int = 200) -> None:
        """Send one object and end."""
        body = dump(value)
        await self._start(status, JSON, (b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.body", "body": body})

    async def open(self) -> None:
        """Make it a stream, even if it says nothing before its end."""
        await self._start(200, NDJSON)

    async def line(self, value: Any, *, last: bool = False) -> None:
        """Send one line of a stream, the headers before the first."""
        await self.open()
        body = dump(value) + b"\n"
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def end(self, value: Any) -> None:
        """Send the end: the last line of a stream, or all there is."""
        if self.started:
            await self.line(value, last=True)
        else:
            await self.whole(value)

    async def error(self, status: int, text: str) -> None:
        """Send an error: with its status, or as the last line when the stream has begun."""
        if self.started:
            await self.line({"error": text}, last=True)
        else:
            await self.whole({"error": text}, status)

    async def _start(self, status: int, kind: bytes, *more: tuple[bytes, bytes]) -> None:
        if not self.started:
            self.started = True
            headers = [(b"content-type", kind), *more]
            await self._send({"type": "http.response.start", "status": status, "headers": headers})


class Watched(Response):
    """An answer that takes long. It is cancelled at once when the client leaves, whatever it waits for."""

    def __init__(self, name: str, job: Callable[[Outlet], Awaitable[None]], activity: Activity) -> None:
        super().__init__()
        self._name = name
        self._job = job
        self._activity = activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the job, and beside it wait for the client to leave."""
        self._activity.running += 1
        finished = False
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_wait_for_leaving, receive, group.cancel_scope)
                await self._run(Outlet(send))
                finished = True
                group.cancel_scope.cancel()
        finally:
            self._count(finished=finished)

    async def _run(self, outlet: Outlet) -> None:
        try:
            await self._job(outlet)
        except Refused as refused:
            await outlet.error(refused.status, refused.text)
        except Exception as error:  # the one boundary: a fault of ours is an answer too, and a log entry
            logger.exception("%s failed", self._name)
            await outlet.error(500, f"the embedded engine failed: {type(error).__name__}")

    def _count(self, *, finished: bool) -> None:
        self._activity.running -= 1
        if finished:
            self._activity.completed += 1
        else:
            self._activity.cancelled += 1
            logger.warning("%s: cancelled, the client left", self._name)


async def _wait_for_leaving(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
