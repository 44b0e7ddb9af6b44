"""Progress while a Job works, by the rules that keep real clients alive.

- Values strictly increase. Nothing in the first 100 ms of a call, so that a short one pays no gap.
- The first token is reported at once, then at most ten reports a second, and one at least every
  five seconds even when nothing happens: clients count silence.
- One task sends, and looks at the Job anew before each report: a slow client gets the newest
  state later, never a queue of old ones, and never slows the tokens.
- Between the last report and the result, or the failure, lie 75 ms: TypeScript clients handle a
  response before a notification that came with it, and then meet a token that they no longer know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job

_log = logging.getLogger(__name__)

Send = Callable[[float, float | None, str], Awaitable[None]]
"""Sends one report: value, total or None, message."""

QUIET_S = 0.1
SPACING_S = 0.1
HEARTBEAT_S = 5.0
GAP_S = 0.075
_IN_LINE_S = 1.0
"""Between two looks at the place in line, which moves without a token."""
_LOOK_S = 1.0
STEP = 0.001


class Series:
    """The values of one request's progress, which strictly increase, whatever is counted for it."""

    def __init__(self) -> None:
        self._value = 0.0

    def next(self, value: float) -> float:
        """The value to send: `value`, but always more than the last one."""
        self._value = max(self._value + STEP, value)
        return self._value


class ProgressReporter:
    """Reports of one Job to one caller.

    Args:
        job: What is watched.
        send: Where the reports go; it may block.
        form: status (a line about the state) or text (exactly the new text since the last report).
        series: That of the request, which may have several Jobs after or beside one another.
    """

    def __init__(self, job: Job[Any], send: Send, form: str, series: Series) -> None:
        self._job = job
        self._send = send
        self._form = form
        self._series = series
        self._mark = 0
        self._sent_at: float | None = None

    async def run(self) -> None:
        """Report until cancelled."""
        await anyio.sleep(QUIET_S)
        while not self._job.finished:
            await self._look()
            if not self._job.finished:
                before, changed = self._job.count, self._job.changed
                await self._report()
                await self._wait(before, changed)

    async def settle(self) -> None:
        """Wait until the result may follow the last report."""
        if self._sent_at is not None:
            await anyio.sleep(max(self._sent_at + GAP_S - time.monotonic(), 0))

    async def _look(self) -> None:
        """Find out where a Job is from which nothing has come yet; a first token ends that."""
        part = self._job.active
        if part.first_at is not None or part.look is None:
            return

        async def until_begun(looking: anyio.CancelScope) -> None:
            await part.begun.wait()
            looking.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(until_begun, group.cancel_scope)
            with suppress(OllamaError), anyio.move_on_after(_LOOK_S):
                await part.look()
            group.cancel_scope.cancel()

    async def _report(self) -> None:
        job = self._job
        value = self._series.next(float(job.count))
        total = float(job.total) if job.total and job.total >= value else None
        message = self._message()
        try:
            await self._send(value, total, message)
        finally:
            # A send that was cancelled may have reached the client, too, and as late as now.
            self._sent_at = time.monotonic()

    def _message(self) -> str:
        if self._form != "text" or self._job.tell is not None:  # a pull has no text
            return self._job.status()
        text, self._mark = self._job.text_since(self._mark)
        return text

    async def _wait(self, count: int, changed: asyncio.Event) -> None:
        """Until the next report: at once for the first token, else when there is news, else a heartbeat."""
        job = self._job
        if count == 0 and job.count == 0:
            with anyio.move_on_after(HEARTBEAT_S if job.queue_entry is None else _IN_LINE_S):
                await changed.wait()
            return
        for _ in range(round(HEARTBEAT_S / SPACING_S)):
            await anyio.sleep(SPACING_S)
            if job.count != count or changed.is_set():  # a unit, or another phase
                return


@asynccontextmanager
async def report_progress(
    job: Job[Any], send: Send | None, form: str, series: Series | None = None
) -> AsyncGenerator[None]:
    """Report a Job for as long as the context lasts; without `send` nothing is computed."""
    if send is None:
        yield
        return
    relay = ProgressReporter(job, send, form, series or Series())
    # A task of its own, not a task group: the failure of the call must come out as it is.
    task = asyncio.get_running_loop().create_task(relay.run())
    task.add_done_callback(_gone)
    answered = True
    try:
        yield
    except asyncio.CancelledError:
        answered = False  # to a cancelled call nothing more is sent, so nothing has to wait
        raise
    finally:
        task.cancel()
        if answered:  # with a result or with a failure
            await asyncio.wait([task])
            await relay.settle()


def _gone(task: asyncio.Task[None]) -> None:
    """A client that has gone away cannot be told; asking for the exception quiets asyncio."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.debug("progress could not be sent: %r", error)
