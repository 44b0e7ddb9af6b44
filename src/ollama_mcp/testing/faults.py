"""Faults: the steps of an answer, what a script breaks in them, and how they are played on the wire.

an answer -> a script's edits of its records -> steps -> a script's edits of bytes -> the connection
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeAlias

from ollama_mcp.ollama_server.api_answers import Answer, RecordFramer, Stream, Whole, is_last, line, whole
from ollama_mcp.ollama_server.http_connections import Connection, Final
from ollama_mcp.ollama_server.http_messages import head_bytes
from ollama_mcp.testing.scripts import End, Hold, How, Pause, Script, Step, Turn, Wait


@dataclass(frozen=True)
class Partial:
    """The beginning of a record: its chunk announces `line`, and only the first `size` bytes come."""

    line: bytes
    size: int


@dataclass(frozen=True)
class Verbatim:
    """Bytes as they are, head and framing and all. The connection is done for afterwards."""

    steps: Iterable[Step]


Element: TypeAlias = dict[str, Any] | Step | Partial
"""A record, or what a script has put between two records."""


def steps(answer: Answer | Verbatim, *, close: bool, bodyless: bool) -> Iterator[Step]:
    """Yield the bytes and pauses of an answer. `bodyless`: to a HEAD, which gets the head only."""
    if isinstance(answer, Verbatim):
        yield from answer.steps
        return
    if isinstance(answer, Whole):
        yield Final(answer.encode(close=close, bodyless=bodyless))
        return
    if bodyless:
        yield head_bytes(answer.status, answer.headers, close=close, chunked=True)
        return
    framer = RecordFramer(answer, close=close)
    for element in _elements(answer):
        if isinstance(element, Pause):
            yield element
        elif isinstance(element, End):
            yield element
            return
        elif isinstance(element, Partial):
            yield framer.part(element.line, element.size)
        elif data := framer.record(element):
            yield Final(data) if framer.is_over or is_last(element) else data
            if framer.is_over:
                return
    yield Final(framer.end())


def _elements(answer: Stream) -> Iterator[Element]:
    if isinstance(answer.records, Iterator):
        yield from answer.records


# --- a script's edits ----------------------------------------------------------------------------


def content(script: Script) -> Answer | Verbatim | None:
    """Return the answer that the script itself brings, if it does not leave it to the endpoint."""
    if script.raw is not None:
        pieces = [script.raw] if isinstance(script.raw, bytes) else script.raw
        return Verbatim(chain(pieces, [End(script.end)]))
    if script.lines is not None and script.status is None and script.body is None:
        return Stream(iter([line(text) for text in script.lines]))
    if script.status is None and script.body is None:
        return None
    status, body = script.status or 200, script.body
    if body is None or isinstance(body, bytes):
        return Whole(body or b"", status, {})
    if isinstance(body, str):
        return Whole(body.encode(), status, {"Content-Type": "text/plain; charset=utf-8"})
    return whole(body, status)


def edit(script: Script, answer: Answer | Verbatim) -> Answer | Verbatim:
    """Lay the script's headers, timing and record faults over an answer."""
    if isinstance(answer, Verbatim):
        return answer
    names = {name.lower() for name in script.headers}
    kept = {name: value for name, value in answer.headers.items() if name.lower() not in names}
    edited = replace(answer, headers=kept | dict(script.headers))
    if isinstance(edited, Stream):
        return replace(edited, records=_broken(script, _paced(script, _elements(edited))))
    return edited


def timed(script: Script, answer: Answer | Verbatim, steps: Iterator[Step]) -> Iterator[Step]:
    """Lay the faults of bytes over the steps, and what comes first over those of no stream."""
    if not isinstance(answer, Stream):
        steps = chain(_before(script), steps)
    if script.cut_after_bytes is None or script.cut_after_tokens is not None or script.how == "error":
        return steps
    return _cut_bytes(steps, script.cut_after_bytes, script.end)


def _before(script: Script) -> Iterator[Step]:
    yield Wait(script.delay_first)
    if script.hold_after_tokens == 0:
        yield Hold()


def _cut_bytes(steps: Iterator[Step], left: int, how: How) -> Iterator[Step]:
    for step in steps:
        if not isinstance(step, bytes):
            yield step
            continue
        if len(step) >= left:
            yield step[:left]
            yield End(how)
            return
        yield step
        left -= len(step)


def _paced(script: Script, records: Iterator[Element]) -> Iterator[Element]:
    begun = False
    for record in records:
        if isinstance(record, dict | bytes):
            if not begun:
                yield Wait(script.delay_first)
            elif not is_last(record):
                yield Wait(script.delay)
            begun = True
        yield record


def _broken(script: Script, records: Iterator[Element]) -> Iterator[Element]:
    if script.hold_after_tokens is not None:
        records = _held(records, script.hold_after_tokens)
    if script.missing_done:
        records = (record for record in records if not is_last(record))
    if script.cut_after_tokens is not None:
        records = _cut_tokens(records, script.cut_after_tokens, script)
    elif script.cut_after_bytes is not None and script.how == "error":
        records = _cut_lines(records, script.cut_after_bytes, script)
    return _blanked(records) if script.blank_lines else records


def _held(records: Iterator[Element], tokens: int) -> Iterator[Element]:
    for record in records:
        if isinstance(record, dict | bytes):
            if tokens == 0:
                yield Hold()
            tokens -= 1
        yield record


def _cut_tokens(records: Iterator[Element], tokens: int, script: Script) -> Iterator[Element]:
    for record in records:
        if isinstance(record, dict | bytes):
            if tokens == 0:
                yield from _fault(record, script)
                return
            tokens -= 1
        yield record


def _fault(record: dict[str, Any] | bytes, script: Script) -> Iterator[Element]:
    if script.how == "error":
        yield {"error": script.error}
        return
    if script.cut_after_bytes:
        yield Partial(line(record), script.cut_after_bytes)
    yield End(script.how)


def _cut_lines(records: Iterator[Element], left: int, script: Script) -> Iterator[Element]:
    # An error record needs a boundary: it follows the last record that is whole.
    for record in records:
        if isinstance(record, dict | bytes):
            left -= len(line(record))
            if left < 0:
                yield {"error": script.error}
                return
        yield record


def _blanked(records: Iterator[Element]) -> Iterator[Element]:
    for record in records:
        yield record
        if isinstance(record, dict | bytes):
            yield b"\n"


# --- playing -------------------------------------------------------------------------------------


class StepPlayer:
    """Plays the steps of answers on their connections.

    Attributes:
        released: Set to let go of all answers that hold.
    """

    def __init__(self) -> None:
        self.released: asyncio.Event = asyncio.Event()
        self._queues: dict[str, list[asyncio.Event]] = {}

    async def play(self, steps: Iterable[Step], connection: Connection) -> bool:
        """Play an answer; return whether the connection goes on.

        Raises:
            ClientLeft: The client left before the end.
        """
        turns: list[tuple[Turn, asyncio.Event]] = []
        try:
            for step in steps:
                if isinstance(step, bytes):
                    await connection.send(step)
                elif isinstance(step, Wait):
                    await connection.pause(step.seconds)
                elif isinstance(step, Turn):
                    event = asyncio.Event()
                    turns.append((step, event))
                    self._queues.setdefault(step.key, []).append(event)
                    self._admit(step)
                    await self._until(event, connection)
                elif isinstance(step, Hold):
                    await self._until(self.released, connection)
                else:
                    await self._end(step.how, connection)
                    return False
        finally:
            for turn, event in turns:
                self._queues[turn.key].remove(event)
                self._admit(turn)
        return True

    def _admit(self, turn: Turn) -> None:
        for event in self._queues[turn.key][: turn.limit]:
            event.set()

    async def _until(self, event: asyncio.Event, connection: Connection) -> None:
        if not event.is_set():
            await connection.unless_left(event.wait())

    async def _end(self, how: How, connection: Connection) -> None:
        if how == "silence":
            await connection.until_left()
        elif how == "reset":
            connection.reset()
        else:
            connection.close()
