"""The log of requests, and how to wait for more of them without polling."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from ollama_mcp.ollama_server.http_connections import ClientLeft, ConnectionLog
from ollama_mcp.ollama_server.http_messages import Request


class RequestLog(ConnectionLog):
    """Counters and the request log. The server's thread writes, any thread reads."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.open_connections: int = 0
        self.in_flight: int = 0
        self.max_in_flight: int = 0
        self.answered: int = 0
        self.left: list[tuple[Request, float]] = []
        self._changed = threading.Condition()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def notify(self) -> None:
        """Wake everyone who waits."""
        with self._changed:
            self._changed.notify_all()
        for loop, event in tuple(self._waiting):
            # The waiter may live in another thread's loop: the fake can run in its own.
            with suppress(RuntimeError):  # and that loop may have been closed this moment
                loop.call_soon_threadsafe(event.set)

    @contextmanager
    def answering(self, request: Request) -> Generator[None]:
        """Log a request, count it as in flight, and afterwards as answered or as one whose client left.

        Raises:
            ClientLeft: passed on, counted as a disconnect.
        """
        self.requests.append(request)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.notify()
        try:
            yield
            self.answered += 1
        except ClientLeft:
            self.left.append((request, time.monotonic()))
            raise
        finally:
            self.in_flight -= 1
            self.notify()

    def connected(self) -> int:
        """Count a new connection and return its number."""
        number = super().connected()
        self.open_connections += 1
        self.notify()
        return number

    def closed(self) -> None:
        """Count a connection as gone."""
        self.open_connections -= 1
        self.notify()

    async def wait_for(self, reached: Callable[[], object], timeout: float) -> None:
        """Return as soon as the condition holds; it is looked at after each event.

        Raises:
            TimeoutError: it did not hold within so many seconds.
        """
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                while not reached():
                    await event.wait()
                    event.clear()
        finally:
            self._waiting.discard(waiter)

    def wait_for_sync(self, reached: Callable[[], object], timeout: float) -> None:
        """The same for a thread without a loop.

        Raises:
            TimeoutError: it did not hold within so many seconds.
        """
        with self._changed:
            if not self._changed.wait_for(reached, timeout):
                raise TimeoutError
