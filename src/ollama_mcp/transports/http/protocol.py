"""uvicorn's connection, which waits for nobody for ever: neither for a request nor for a reader."""

from __future__ import annotations

import asyncio
import math

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds in which the head of a request must have come."""
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

    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take it, or turn it away where there are too many."""
        if len(self.connections) >= most_connections(self.config):
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        self._mind_head()

    def data_received(self, data: bytes) -> None:
        """Hand on what came."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._mind_head()

    def _mind_head(self) -> None:
        """Let the clock run while a head is wanted, and stop it when it is there."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_clocks()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_S, self._end, _SLOW)

    def _stop_clocks(self) -> None:
        for clock in (self._head, self._reader):
            if clock is not None:
                clock.cancel()
        self._head = self._reader = None

    def _end(self, farewell: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(farewell)
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self._reader is None:
            self._reader = self.loop.call_later(READER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop_clocks()
        super().connection_lost(exc)
