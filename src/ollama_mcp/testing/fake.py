"""FakeOllama: the pretended Ollama on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ollama_mcp.testing.answers import How, Step
from ollama_mcp.testing.endpoints import respond
from ollama_mcp.testing.framing import Request
from ollama_mcp.testing.log import Log
from ollama_mcp.testing.models import Model
from ollama_mcp.testing.replay import Exchange
from ollama_mcp.testing.scripts import MODEL_RUNS, Rule, Script, Scripted
from ollama_mcp.testing.server import Server
from ollama_mcp.testing.world import World

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class FakeOllama(World):
    """An Ollama server that answers as it is told to, and remembers what it was asked.

    In an asyncio program `async with FakeOllama() as fake:`; in anything else, and for tests that
    start child processes, `with FakeOllama.in_thread() as fake:`. Everything but `start`, `stop` and
    `wait_for` may be used from any thread. All attributes may be changed between requests.

    Args:
        models: What is installed. None (the default) is `llama3.2:3b` for chat and
            `nomic-embed-text:latest` for embedding.
        host: The address to listen on.
        port: The port to listen on; 0 (the default) takes a free one.
        version: What it claims to be. An older version brings back the behaviour of its time, as far
            as it changed with 0.3, 0.6.4, 0.12.6 and 0.30.
        window: The context window that a model is loaded with, in tokens, unless a call says num_ctx;
            never more than the model's own. 4096 by default.
        parallel: Requests that one model runs at a time, the others waiting in silence; None (the
            default) is no limit.

    Attributes:
        host: As above, from the next start on.
        port: As above; once it has started, the port that it has got.
        version: As above.
        window: As above.
        parallel: As above.
        models: What is installed, by short name (with a tag); `add_model` adds to it.
        registry: What a pull installs, by short name, empty at first. A name that is not in it gives
            a plain chat model, or an embedding one if it has `embed`, `minilm` or `bge` in it.
        pull_script: The lines of every pull; None (the default) makes some up. The model is installed
            when a line's `status` is "success".
        blobs: Uploaded blobs by digest (`sha256:` and 64 hexadecimal digits), empty at first.
        scripts: The rules that `script`, `busy` and `replay` made; `scripts.clear()` forgets them all.
    """

    def __init__(
        self,
        models: Iterable[Model] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: str = "0.33.0",
        window: int = 4096,
        parallel: int | None = None,
    ) -> None:
        super().__init__(models, version=version, window=window, parallel=parallel)
        self.host = host
        self.port = port
        self._log = Log()
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # Its life.

    async def start(self) -> None:
        """Listen. After a stop it listens on the same port again.

        Raises:
            OSError: the address is taken.
        """
        self._server = Server(self._respond, self._log)
        self._loop = asyncio.get_running_loop()
        self.port = await self._server.listen(self.host, self.port)

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
    def in_thread(cls, models: Iterable[Model] | None = None, **settings: Any) -> Generator[Self]:
        """Run one in an event loop of its own, in a thread of its own. The settings are the constructor's."""
        fake = cls(models, **settings)
        with _loop_in_thread() as loop:
            asyncio.run_coroutine_threadsafe(fake.start(), loop).result()
            try:
                yield fake
            finally:
                asyncio.run_coroutine_threadsafe(fake.stop(), loop).result()

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    # What it answers.

    def script(
        self,
        first: Scripted,
        *then: Scripted,
        path: str | Collection[str] | None = None,
        method: str | None = None,
        model: str | None = None,
        times: int | None = None,
    ) -> Rule:
        """Answer requests so from now on. The youngest script that matches wins.

        Args:
            first: The answer, or a function that makes it of the Request.
            then: The answers to the requests after that; the last one stays.
            path: For these paths only. None is chat and generate where the script has tokens,
                thinking, tool calls or the like, and every path otherwise.
            method: For this HTTP method only.
            model: For this model only.
            times: For so many requests in all; None is for ever.

        Returns:
            The rule, whose `used` counts the requests that it has answered.
        """
        paths = [path] if isinstance(path, str) else path
        return self.scripts.add([first, *then], paths=paths, method=method, model=model, times=times)

    def busy(self, times: int | None = 1) -> Rule:
        """Answer the next requests that would run a model with the 503 of a full queue."""
        script = Script(
            status=503, body={"error": BUSY}, headers={"Content-Type": "application/json; charset=utf-8"}
        )
        return self.script(script, path=MODEL_RUNS, times=times)

    def replay(self, exchange: Exchange | str | Path, as_recorded_timing: bool = False) -> Exchange:
        """Answer the next request of the same method and path with a recording, byte for byte.

        Args:
            exchange: A recording or the path of its file.
            as_recorded_timing: With the pauses that the real server made.

        Returns:
            The recording.
        """
        played = exchange if isinstance(exchange, Exchange) else Exchange.load(exchange)
        script = played.script(as_recorded_timing=as_recorded_timing)
        self.script(script, path=played.request.path, method=played.request.method, times=1)
        return played

    def release(self) -> None:
        """Let go of all answers that `Script(hold_after_tokens=...)` holds, now and from now on."""
        self._in_loop(lambda server: server.released.set())

    def drop_connections(self, how: How = "reset") -> None:
        """Break off every open connection, as when the server dies; it goes on listening."""
        self._in_loop(lambda server: server.drop(how))

    def _in_loop(self, do: Callable[[Server], object]) -> None:
        server, loop = self._server, self._loop
        if server and loop:
            loop.call_soon_threadsafe(do, server)

    def _respond(self, request: Request, *, close: bool) -> Iterator[Step]:
        return respond(self, request, close=close)

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
        """The requests to a path."""
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
        """When they left, in seconds of `time.monotonic`."""
        return [at for _, at in self._log.left]

    @property
    def left(self) -> list[tuple[Request, float]]:
        """What they had asked and when they left, in seconds of `time.monotonic`, in that order."""
        return self._log.left

    async def wait_for(self, reached: Callable[[Self], object], timeout: float = 5) -> None:
        """Wait until a condition holds, which is looked at after each event of the server.

        Raises:
            TimeoutError: it did not hold within so many seconds.
        """
        await self._log.wait_for(lambda: reached(self), timeout)

    def wait_for_sync(self, reached: Callable[[Self], object], timeout: float = 5) -> None:
        """The same in a thread without an event loop. Not for the thread that the server runs in.

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
