"""A Job: one piece of work, from its first byte to its last, as others see it. It may have parts.

The work runs in a task of its own, so that it can outlive the call that began it; callers wait for
it, watch it, answer its questions and cancel it through this object.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast

import anyio

from ollama_mcp.errors import Cancelled, NotConfirmed, OllamaError, StreamBroken
from ollama_mcp.jobs.answers import Unfinished
from ollama_mcp.jobs.model_queue import TRANSFERS, QueueEntry
from ollama_mcp.jobs.per_loop import own_copy

T = TypeVar("T")

ASKED_S = 600.0
"""Seconds that a user has for an answer."""
_CLOSE_S = 1.0
_TAIL = 400
"""Characters of the newest text that are kept for the status line."""


class JobState(StrEnum):
    """State of a job."""

    WAITING = "waiting"
    QUEUED = "queued"
    LOADING = "loading"
    READING = "reading the prompt"
    THINKING = "thinking"
    WRITING = "writing"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class StillRunning(Exception):
    """A Job did not end in the time that its waiter had; it goes on. Not a failure.

    Attributes:
        job: The Job, whose `handle` finds it again.
    """

    def __init__(self, job: Job[Any]) -> None:
        super().__init__(
            f'not finished yet: {job.summary()}; ollama_continue(handle="{job.handle}") waits on'
        )
        self.job = job

    @property
    def handle(self) -> str:
        """Identifier that `ollama_continue` and `ollama_cancel` take."""
        return self.job.handle


class InputRequired(Exception):
    """A Job waits for an answer of its user, whom nobody has asked yet. Not a failure.

    Attributes:
        job: The Job, with its `questions`.
    """

    def __init__(self, job: Job[Any]) -> None:
        super().__init__("the user has to be asked")
        self.job = job


class Question:
    """A question that a Job puts to its user.

    Attributes:
        text: What the user reads.
        key: Its name, which nobody can guess.
        asking: What asks the user, while something does.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.key = secrets.token_hex(16)
        self.asking: asyncio.Task[Any] | None = None
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self, refusal: OllamaError | None = None) -> None:
        """Let the Job go on, or fail with a refusal; only the first answer counts."""
        if self._answer.done():
            return
        if refusal is None:
            self._answer.set_result(None)
        else:
            self._answer.set_exception(refusal)

    @property
    def is_answered(self) -> bool:
        """True once the user has answered."""
        return self._answer.done()

    async def answered(self) -> None:
        """Wait for the answer; a refusal is raised."""
        await self._answer


class Part:
    """Work as whoever does it tells it: a whole Job, or a part of one (a model of a comparison).

    Attributes:
        caller: Who asked for it: nobody else finds it.
        state: Where it is.
        model: The model that works, once that is known.
        unit: What `count` counts: tok, texts, files or bytes.
        count: Units so far; a token of Ollama's stream is one of its lines.
        total: How many there will be at most, where that is known.
        notes: What the caller should know.
        ticket: Its place in the line before the model, while it is there.
        begun: Set with the first unit.
        look: Finds out where work is from which nothing has come yet.
        ended_at: When it ended; None while it goes on.
        tell: Says how far it is, in parts of the status line, where the count alone says too little.
    """

    def __init__(self, unit: str = "tok", caller: str = "", whole: Part | None = None) -> None:
        self.caller = caller
        self.state: JobState = JobState.WAITING
        self.model = ""
        self.unit = unit
        self.count: int = 0
        self.total: int | None = None
        self.notes: list[str] = []
        self.queue_entry: QueueEntry | None = None
        self.begun: asyncio.Event = asyncio.Event()
        self.look: Callable[[], Awaitable[None]] | None = None
        self.tell: Callable[[], list[str]] | None = None
        self.started_at: float = time.monotonic()
        self.first_at: float | None = None
        self.ended_at: float | None = None
        self._whole = whole
        self._kept = ""
        self._written: list[str] = []
        self._settled: list[str] = []
        self._tail = ""
        self.changed: asyncio.Event = asyncio.Event()
        """Set by the first unit and by a new phase; then another one stands here."""

    # --- for the one who works ------------------------------------------------------------------

    def queue(self, queue_entry: QueueEntry) -> None:
        """Say that it stands in line."""
        self.queue_entry = queue_entry
        self.state = JobState.QUEUED
        if self._whole:
            self._whole.queue(queue_entry)

    def enter(self) -> None:
        """Say that its turn has come."""
        self.queue_entry = None
        self.state = JobState.WAITING
        if self._whole:
            self._whole.enter()

    def advance(self, state: JobState, units: int = 1) -> None:
        """Say that units have come."""
        self.state = state
        self.count += units
        if self.first_at is None:
            self.first_at = time.monotonic()
            self.begun.set()
            self._wake()
        if self._whole:
            self._whole.advance(state, units)

    def show(self, described: list[str] | None) -> None:
        """Show a phase in the status line, such as "ranking 40 passages"; None: state and count again."""
        self.tell = None if described is None else lambda: list(described)
        self._wake()

    def _wake(self) -> None:
        """Wake those who wait for `changed`; the next change has an event of its own."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def find_out(self, is_loaded: Callable[[str], Awaitable[bool | None]]) -> None:
        """Tell a model that is loading from one that reads: nothing comes from either."""
        if self.queue_entry is not None:
            return
        loaded = await is_loaded(self.model)
        state = JobState.READING if loaded else JobState.LOADING
        if loaded is not None and self.first_at is None and self.queue_entry is None and not self.finished:
            self.state = state

    def restart(self) -> None:
        """Say that what was written so far is not the answer: another draft begins."""
        self._written.clear()

    def keep(self, text: str) -> None:
        """Say that this text stays, whatever drafts come behind it."""
        self._kept += text

    def write(self, text: str, thoughts: str = "") -> None:
        """Add text to the draft, which may yet turn out not to be the answer."""
        if text:
            self._written.append(text)
        self._tail = (self._tail + (text or thoughts))[-_TAIL:]
        if self._whole:
            self._whole.write(text, thoughts)

    def settle(self, text: str) -> None:
        """Say that this text is the next part of the answer, come what may."""
        if text:
            self._settled.append(text)

    # --- for those who watch --------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """True once the job has ended, however."""
        return self.state in _ENDED

    @property
    def text(self) -> str:
        """Text so far of a draft that is not finished, or that was broken off."""
        return "".join([self._kept, *self._written])

    def text_since(self, mark: int) -> tuple[str, int]:
        """The text of the answer that was settled since `mark`, and the next mark."""
        return "".join(self._settled[mark:]), len(self._settled)

    def status(self, limit: int = 160) -> str:
        """Return one line for a person: state, speed, and the tail of the text."""
        line = " · ".join([*self._status_parts(), *self.notes[-1:]])
        line = " ".join(line.split())
        room = limit - len(line) - len(" · …")
        tail = " ".join(self._tail.split())
        if not tail or room < 8:
            return line[:limit]
        return f"{line} · {tail if len(tail) <= room else '…' + tail[-room:]}"

    def summary(self) -> str:
        """Return state and progress, without any of the text."""
        told = self._status_parts()
        is_plain = self.state not in {JobState.THINKING, JobState.INPUT_REQUIRED}
        is_plain = is_plain and self.tell is None and self.first_at is not None
        return " · ".join([*told, self.state.value] if is_plain else told)

    def _status_parts(self) -> list[str]:
        if self.tell is not None and self.queue_entry is None:
            return self.tell()
        return self._waiting_parts() if self.first_at is None else self._counted_parts()

    def _waiting_parts(self) -> list[str]:
        waited = int(time.monotonic() - self.started_at)
        return [self._phase() + (f", {waited} s" if waited else "")]

    def _phase(self) -> str:
        if self.queue_entry is not None and (position := self.queue_entry.position):
            before = self.model if self.queue_entry.model == TRANSFERS else self.queue_entry.model
            return f"{ordinal(position)} in line for {before}"
        if self.state is JobState.LOADING:
            return f"loading {self.model}"
        is_early = self.state in {JobState.WAITING, JobState.QUEUED}
        return f"waiting for {self.model or 'Ollama'}" if is_early else self.state.value

    def _counted_parts(self) -> list[str]:
        elapsed = (self.ended_at or time.monotonic()) - (self.first_at or self.started_at)
        of = f"/{self.total}" if self.total and self.unit != "tok" else ""
        parts = [f"{self.count}{of} {self.unit}"]
        if elapsed > 0.2 and self.count > 1:
            parts.append(f"{(self.count - 1) / elapsed:.0f} {self.unit}/s")
        return ["thinking", *parts] if self.state is JobState.THINKING else parts


class Job(Part, Generic[T]):
    """A piece of work in flight or finished, which may outlive the call that started it.

    Attributes:
        handle: Its name, which nobody can guess; valid once `Jobs` keeps it.
        active: The part that works now; itself where it has none.
        may_ask: Whether it may have questions to its user.
        questions: What its user is to answer before it goes on; some may have their answer already.
        subject: What a call asked for that may ask its user.
        waiters: How many wait for it now.
        asked_at: When somebody last did.
        created_at: When it began, by the clock on the wall.
    """

    def __init__(self, unit: str = "tok", caller: str = "") -> None:
        super().__init__(unit, caller)
        self.handle: str = secrets.token_hex(16)
        self.active: Part = self
        self.may_ask = False
        self.questions: list[Question] = []
        self.subject = ""
        self.waiters: int = 0
        self.asked_at: float = self.started_at
        self.created_at: datetime = datetime.now(UTC)
        self._unasked: asyncio.Event = asyncio.Event()
        """Set while there is a question that nobody asks the user."""
        self._task: asyncio.Task[T] | None = None
        self._result: T | None = None
        self._failure: BaseException | None = None
        self._stopped: OllamaError | None = None
        self._resumes_as: JobState = JobState.WAITING
        """State to go back to once no question is left."""

    # --- for the one who works ------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin; the task is the one to cancel and to keep."""
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ended)
        return self._task

    def part(self, title: str, unit: str = "") -> Part:
        """Begin a part. One that counts the same is told in the status line, and its count is added.

        Args:
            title: Which it is: "model 2 of 3".
            unit: What it counts, if that is something else.
        """
        if unit and unit != self.unit:
            return Part(unit, self.caller)
        part = self.active = Part(self.unit, self.caller, self)
        self.tell = lambda: [title, part.model or "…", part.summary()]
        self.restart()
        return part

    async def ask(self, text: str) -> None:
        """Put a question to the user, and wait for their yes; there may be several at once.

        Raises:
            NotConfirmed: They did not say it, or not within `ASKED_S`.
        """
        question = Question(text)
        if not self.questions:
            self._resumes_as, self.state = self.state, JobState.INPUT_REQUIRED
        self.questions.append(question)
        self._note_unasked()
        try:
            async with asyncio.timeout(ASKED_S):
                await question.answered()
        except TimeoutError:
            raise NotConfirmed("the user did not answer in time", "Ask the user, and call again.") from None
        finally:
            self.questions.remove(question)
            if not self.questions:
                self.state = self._resumes_as
            self._note_unasked()
            if question.asking is not None:
                question.asking.cancel()

    @property
    def open_questions(self) -> list[Question]:
        """Questions that have no answer yet, the oldest first."""
        return [question for question in self.questions if not question.is_answered]

    @property
    def unasked(self) -> Question | None:
        """The oldest open question that nobody asks the user."""
        return next((question for question in self.open_questions if question.asking is None), None)

    def answer(self, question: Question, refusal: OllamaError | None = None) -> None:
        """Take the user's answer to a question: None is a yes. Only the first answer counts."""
        question.answer(refusal)
        self._note_unasked()

    def asked_by(self, question: Question, asking: asyncio.Task[Any]) -> None:
        """Say what asks the user a question. Where that ends without an answer, the next one may ask."""
        question.asking = asking
        self._note_unasked()

        def ended(_: asyncio.Task[Any]) -> None:
            question.asking = None
            self._note_unasked()

        asking.add_done_callback(ended)

    def _note_unasked(self) -> None:
        if self.unasked is None:
            self._unasked.clear()
        else:
            self._unasked.set()

    def _ended(self, task: asyncio.Task[T]) -> None:
        """Keep what came of it, and nothing else: a task holds the whole call in which it was begun."""
        self.ended_at = time.monotonic()
        self.queue_entry = self._task = None
        if task.cancelled():
            self.state = JobState.CANCELLED
        elif (failure := task.exception()) is not None:
            self.state, self._failure = JobState.FAILED, failure
            _consume_exception(failure)
        else:
            self.state, self._result = JobState.DONE, task.result()
            self._written.clear()  # the result has it

    def pack(self) -> None:
        """Hold, once it has ended, no more than what its handle can be asked for: the text once, in one."""
        self._written = [self.text]
        self._settled.clear()

    def _status_parts(self) -> list[str]:
        if self.questions:
            return [f"waiting for the user to answer: {(self.open_questions or self.questions)[0].text}"]
        return super()._status_parts()

    # --- for those who wait and watch -----------------------------------------------------------

    async def result(self) -> T:
        """Wait for the end; cancelling the waiter cancels the work, and waits until it let go.

        Raises:
            OllamaError: The work failed, or was cancelled by somebody else than the waiter.
        """
        try:
            return await self.wait()
        except asyncio.CancelledError:
            await self.cancel()
            raise

    async def wait(self, within: float | None = None, *, asks: bool = False) -> T:
        """Wait for the end; whoever waits may be cancelled, and the work goes on.

        Args:
            within: Seconds to wait; None is as long as it takes.
            asks: Whether the waiter can ask the user, and so returns for a question.

        Raises:
            OllamaError: The work failed, or was cancelled.
            StillRunning: It has not ended in that time.
            InputRequired: It has a question that nobody asks the user yet.
        """
        if self._task is None and not self.finished:
            raise RuntimeError("this Job was not started")
        self.waiters += 1
        try:
            if self._task is not None and asks:
                await self._end_or_question(self._task, within)
            elif self._task is not None:
                await asyncio.wait([self._task], timeout=within)
        finally:
            self.waiters -= 1
            self.asked_at = time.monotonic()
        if asks and self._unasked.is_set():
            raise InputRequired(self)
        return self._outcome()

    async def _end_or_question(self, task: asyncio.Task[T], within: float | None) -> None:
        loop = asyncio.get_running_loop()
        ends = None if within is None else loop.time() + within
        while not task.done() and not self._unasked.is_set():  # another waiter may be the one who asks
            left = None if ends is None else ends - loop.time()
            if left is not None and left <= 0:
                return
            unasked = loop.create_task(self._unasked.wait())
            try:
                await asyncio.wait([task, unasked], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                unasked.cancel()

    def _outcome(self) -> T:
        if not self.finished:
            raise StillRunning(self)
        failure = self.failure
        if failure is not None:
            raise own_copy(failure)  # there may be others, and this one may ask again
        return cast("T", self._result)

    @property
    def failure(self) -> BaseException | None:
        """Why there will be no result; None while it goes on, and where there is one."""
        return self._broken_off() if self.state is JobState.CANCELLED else self._failure

    def _broken_off(self) -> OllamaError:
        return self._stopped or StreamBroken(
            "the answer was broken off before it was complete: the server closes",
            "Call again.",
            partial_text=self.text,
        )

    def so_far(self) -> T | Unfinished:
        """The result, or what there is of it until it is there, or where there will be none."""
        if self.state is JobState.DONE:
            return cast("T", self._result)
        failure = self.failure
        if failure is not None and not isinstance(failure, OllamaError):
            raise failure
        text = failure.partial_text if failure is not None and failure.partial_text else self.text
        return Unfinished(text, self.summary(), self.handle, failure)

    async def stop(self) -> None:
        """Stop the work at a caller's word, who is told so if they ask again."""
        await self.cancel(
            Cancelled(
                "the answer was stopped, as its caller wished",
                "There will be no more of it.",
                partial_text=self.text,
            )
        )

    async def cancel(self, why: OllamaError | None = None) -> None:
        """Stop the work; returns when its connection is closed.

        Args:
            why: What those are told who wait for it, or ask for it later.
        """
        task = self._task
        if task is not None and not task.done():
            self._stopped = self._stopped or why
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task], timeout=_CLOSE_S)

    @property
    def size(self) -> int:
        """Bytes, about, that it holds on to."""
        if self.state is JobState.DONE:
            return getattr(self._result, "size", 0)
        return sum(map(sys.getsizeof, self._written))


def _consume_exception(failure: BaseException | None) -> None:
    """Let go of what the frames hold in which it happened, such as the request with its images."""
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__ or failure.__context__


def ordinal(number: int) -> str:
    """A place as people write it.

    >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 22, 113)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd', '113th']
    """
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
