"""A listener on a socket of its own: its life, and what it has seen of its clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from ollama_mcp.ollama_server.http_connections import ClientLeft, Connection, ConnectionLog, Server
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
            TimeoutError: It did not hold within so many seconds.
        """
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                while not reached():
                    await event.wait()
                    event.clear()
        except TimeoutError:
            raise self._too_late(timeout) from None
        finally:
            self._waiting.discard(waiter)

    def wait_for_sync(self, reached: Callable[[], object], timeout: float) -> None:
        """Wait so in a thread without a loop.

        Raises:
            TimeoutError: It did not hold within so many seconds.
        """
        with self._changed:
            if not self._changed.wait_for(reached, timeout):
                raise self._too_late(timeout)

    def _too_late(self, timeout: float) -> TimeoutError:
        seen = ", ".join(f"{request.method} {request.path}" for request in self.requests[-5:])
        return TimeoutError(
            f"not within {timeout:g} s; requests: {len(self.requests)}{f' (…, {seen})' if seen else ''}, "
            f"in flight: {self.in_flight}, answered: {self.answered}, disconnects: {len(self.left)}"
        )


class Listener:
    """A server in an event loop of the caller's or of its own, which remembers what it was asked.

    Attributes:
        host: The address to listen on, from the next start on.
        port: As above; once it has started, the port that it has got.
    """

    host: str
    port: int

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._log = RequestLog()
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _respond(self, request: Request, connection: Connection) -> bool:
        """Answer a request; return whether the connection goes on."""
        raise NotImplementedError

    # Its life.

    async def start(self) -> None:
        """Listen. After a stop it listens on the same port again.

        Raises:
            OSError: the address is taken.
            RuntimeError: it listens already.
        """
        if self._server is not None:
            raise RuntimeError(f"{self.url} listens already")
        server = Server(self._respond, self._log)
        self.port = await server.listen(self.host, self.port)
        self._server, self._loop = server, asyncio.get_running_loop()

    async def stop(self) -> None:
        """Close the socket and every connection; from then on clients are refused.

        Raises:
            Exception: what a script of yours raised while it made an answer.
        """
        server, self._server = self._server, None
        if server:
            await server.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @classmethod
    @contextmanager
    def in_thread(cls, *arguments: Any, **settings: Any) -> Generator[Self]:
        """Run one in a thread and an event loop of its own. The arguments are the constructor's."""
        made = cls(*arguments, **settings)
        with _loop_in_thread() as loop:
            asyncio.run_coroutine_threadsafe(made.start(), loop).result()
            try:
                yield made
            finally:
                asyncio.run_coroutine_threadsafe(made.stop(), loop).result()

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def _in_loop(self, do: Callable[[Server], object]) -> None:
        server, loop = self._server, self._loop
        if server and loop:
            loop.call_soon_threadsafe(do, server)

    # What it has seen.

    @property
    def requests(self) -> list[Request]:
        """Every request, in order; one is there as soon as its body is."""
        return self._log.requests

    @property
    def last(self) -> Request:
        """The last request.

        Raises:
            IndexError: there was none.
        """
        return self._log.requests[-1]

    def asked(self, path: str) -> list[Request]:
        """Return the requests to a path."""
        return [request for request in tuple(self.requests) if request.path == path]

    @property
    def connections(self) -> int:
        """Connections so far."""
        return self._log.connections

    @property
    def open_connections(self) -> int:
        """Connections that are open."""
        return self._log.open_connections

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._log.in_flight

    @property
    def max_in_flight(self) -> int:
        """The most requests that were being answered at one time."""
        return self._log.max_in_flight

    @property
    def answered(self) -> int:
        """Answers that went out to their end."""
        return self._log.answered

    @property
    def disconnects(self) -> int:
        """Clients that left before their answer's end."""
        return len(self._log.left)

    @property
    def disconnected_at(self) -> list[float]:
        """Their times of leaving, in seconds of `time.monotonic`."""
        return [at for _, at in self._log.left]

    @property
    def left(self) -> list[tuple[Request, float]]:
        """Their requests, each with its time of leaving in seconds of `time.monotonic`."""
        return self._log.left

    async def wait_for(self, reached: Callable[[Self], object], timeout: float = 5) -> None:
        """Wait until a condition holds, which is looked at after each event of the server.

        Raises:
            TimeoutError: it did not hold within so many seconds.
        """
        await self._log.wait_for(lambda: reached(self), timeout)

    def wait_for_sync(self, reached: Callable[[Self], object], timeout: float = 5) -> None:
        """Wait so in a thread without an event loop. Not for the thread that the server runs in.

        Raises:
            TimeoutError: it did not hold within so many seconds.
        """
        self._log.wait_for_sync(lambda: reached(self), timeout)


@contextmanager
def _loop_in_thread() -> Generator[asyncio.AbstractEventLoop]:
    running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_idle(running)), name="fake-ollama", daemon=True)
    thread.start()
    loop, over = running.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def _idle(running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    over = asyncio.Event()
    running.set_result((asyncio.get_running_loop(), over))
    await over.wait()
