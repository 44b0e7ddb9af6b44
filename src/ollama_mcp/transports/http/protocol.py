"""uvicorn's connection, which waits for nobody for ever: neither for a request nor for a reader."""

from __future__ import annotations

import asyncio
import math
from typing import cast

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_S = 10.0
"""Seconds in which the head of a request must have come, or the rest of one that is answered already."""
READER_S = 60.0
"""Seconds after which a client that takes nothing of its answer is given up."""


def _plain(status: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return head.encode("ascii")


_FULL = _plain("503 Service Unavailable")
_SLOW = _plain("408 Request Timeout")


def most_connections(config: Config) -> float:
    """How many may be open; one less than what uvicorn has, which counts the one that asks, too."""
    return (config.limit_concurrency or math.inf) - 1


class PatientProtocol(H11Protocol):
    """One connection. uvicorn itself has a clock only between two requests."""

    _request: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take it, or turn it away where there are too many."""
        self._idle_since = self.loop.time()
        if len(self.connections) >= most_connections(self.config) and not self._make_room():
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # whatever the client leaves lying is noticed
        self._mind_request()

    def _make_room(self) -> bool:
        """Close the one that has been without a request for longest: it can come again, a call cannot."""
        others = cast("list[PatientProtocol]", list(self.connections))
        longest = min(others, key=lambda other: other.idle_since)
        if longest.idle_since == math.inf:
            return False
        self.connections.discard(longest)
        longest.transport.abort()
        return True

    @property
    def idle_since(self) -> float:
        """Since when no request is answered here (the loop's time); infinite while one is."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return self._idle_since if cycle is None or cycle.response_complete else math.inf

    def on_response_complete(self) -> None:
        """Note since when it is idle."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        """Hand on what came."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._mind_request()

    def _mind_request(self) -> None:
        """Let the clock run while a head is wanted, or the rest of a body that no answer waits for."""
        if self.transport.is_closing() or not (self.conn.their_state is h11.IDLE or self._is_answered):
            self._request = _stopped(self._request)
        elif self._request is None:
            self._request = self.loop.call_later(HEAD_S, self._give_up)

    @property
    def _is_answered(self) -> bool:
        """Whether the answer was out before its request was in: uvicorn stops its clock at the next byte."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and cycle.response_complete and self.conn.their_state is h11.SEND_BODY

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            if not self._is_answered:
                self.transport.write(_SLOW)
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._mind_reader(math.inf)

    def _mind_reader(self, before: float) -> None:
        """Give it up, where it has taken nothing since so many bytes were left for it."""
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._reader = self.loop.call_later(READER_S, self._mind_reader, left)
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """It has taken everything."""
        super().resume_writing()
        self._reader = _stopped(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._request, self._reader = _stopped(self._request), _stopped(self._reader)
        super().connection_lost(exc)


def _stopped(clock: asyncio.TimerHandle | None) -> None:
    """None, in the place of the clock."""
    if clock is not None:
        clock.cancel()
