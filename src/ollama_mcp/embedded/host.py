"""One model's slot: it is loaded when needed, used by one request at a time, unloaded when its time is up."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ollama_mcp.embedded.catalog import Loaded, Model
from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.gowords import FOREVER, SECOND
from ollama_mcp.embedded.llama import Llama, Loading

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


DEFAULT_NUM_CTX = 2048
# More would take minutes to read: 8192 tokens are 60 s on one slow core. It is also what the model knows.
MOST_NUM_CTX = 8192
DEFAULT_KEEP_ALIVE = 5 * 60 * SECOND


@dataclass(frozen=True)
class Lease:
    """The slot, held: the model, and the nanoseconds that it took to have it loaded."""

    llama: Llama
    load_ns: int


class Host:
    """Loads one model on demand and lends it out, first come, first served."""

    def __init__(self, model: Model, threads: int) -> None:
        self.model = model
        self._threads = threads
        self._slot = anyio.Lock()
        self._llama: Llama | None = None
        self._asked = 0
        self._keep_alive = DEFAULT_KEEP_ALIVE
        self._expires_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._doomed = False

    @property
    def loaded(self) -> Loaded | None:
        """Return what is loaded, if anything."""
        if self._llama is None:
            return None
        expires = time.time_ns() + self._keep_alive if self._slot.locked() else self._expires_ns
        return Loaded(self._llama.num_ctx, expires)

    @asynccontextmanager
    async def use(self, num_ctx: int | None, keep_alive: int) -> AsyncGenerator[Lease]:
        """Hold the slot; wait for it first, and for the model to load.

        Args:
            num_ctx: The window wanted; another one than is loaded reloads the model, as in Ollama.
            keep_alive: Nanoseconds that the model stays loaded afterwards.

        Raises:
            Refused: 500, the model cannot be loaded.
        """
        async with self._slot:
            try:
                self._keep_alive = keep_alive
                yield await self._lend(self._window(num_ctx))
            finally:
                self._release()

    def unload(self) -> None:
        """Unload the model now, or as soon as whoever uses it is done."""
        if self._slot.locked():
            self._doomed = True
        else:
            self._drop()

    def _window(self, num_ctx: int | None) -> int:
        if self.model.embedding:
            return self.model.window
        return max(4, min(num_ctx or DEFAULT_NUM_CTX, MOST_NUM_CTX, self.model.window))

    async def _lend(self, num_ctx: int) -> Lease:
        begin = time.perf_counter_ns()
        self._stop_timer()
        if self._llama is None or self._asked != num_ctx:
            self._drop()
            await anyio.to_thread.run_sync(self._load, num_ctx)
        assert self._llama is not None, "_load sets it or raises"  # noqa: S101  # for the type checker
        return Lease(self._llama, time.perf_counter_ns() - begin)

    def _load(self, num_ctx: int) -> None:
        loading = Loading(self.model.path, num_ctx, self.model.embedding, self._threads)
        try:
            self._llama = Llama(loading)
        except RuntimeError as error:
            raise Refused(500, f"unable to load model: {self.model.path.name}: {error}") from error
        self._asked = num_ctx

    def _release(self) -> None:
        if self._doomed or self._keep_alive == 0:
            self._drop()
        elif self._llama is not None:
            self._start_timer()
        self._doomed = False

    def _start_timer(self) -> None:
        self._expires_ns = time.time_ns() + self._keep_alive
        if self._keep_alive < FOREVER:
            self._timer = asyncio.get_running_loop().call_later(self._keep_alive / SECOND, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if not self._slot.locked():
            self._drop()

    def _drop(self) -> None:
        self._stop_timer()
        self._llama = None
