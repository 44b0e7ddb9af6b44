"""One model's slot: it is loaded when needed, used by one request at a time, unloaded when its time is up."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_mcp.embedded.llama import Llama, Loading, in_thread
from ollama_mcp.ollama_server.go_values import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ollama_mcp.embedded.gguf_models import GgufModel

DEFAULT_NUM_CTX = 2048
# More would take minutes to read: 8192 tokens are 60 s on one slow core. It is also what the model knows.
MOST_NUM_CTX = 8192


@dataclass(frozen=True)
class Lease:
    """The slot, held: the model, and the nanoseconds that it took to have it loaded."""

    llama: Llama
    load_ns: int


class ModelSlot:
    """A model that is loaded on demand and lent out, first come, first served."""

    def __init__(self, model: GgufModel, threads: int) -> None:
        self.model = model
        self._threads = threads
        self._lock = asyncio.Lock()
        self._llama: Llama | None = None
        self._num_ctx = 0
        self._keep_alive = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_doomed = False

    def loaded(self) -> list[GgufModel]:
        """Return the model if it is loaded; while it is used, its time has not begun to run."""
        if self._lock.locked():
            self.model.expires = time.monotonic() + self._keep_alive
        return [self.model] if self._llama else []

    @asynccontextmanager
    async def use(self, num_ctx: int, keep_alive: float) -> AsyncGenerator[Lease]:
        """Hold the slot; wait for it first, and for the model to load.

        Args:
            num_ctx: The window wanted, in tokens, 0 for the default; another one than is loaded reloads
                the model, as in Ollama.
            keep_alive: Seconds that the model stays loaded afterwards.

        Raises:
            Refusal: 500, the model cannot be loaded.
        """
        async with self._lock:
            begin = time.perf_counter_ns()
            try:
                self._keep_alive = keep_alive
                self._stop_timer()
                llama = await self._load(num_ctx)
                yield Lease(llama, time.perf_counter_ns() - begin)
            finally:
                self._release()

    async def _load(self, num_ctx: int) -> Llama:
        model = self.model
        window = min(num_ctx or DEFAULT_NUM_CTX, MOST_NUM_CTX, model.context_length)
        wanted = model.context_length if model.can("embedding") else max(4, window)
        if self._llama is not None and self._num_ctx == wanted:
            return self._llama
        self._drop()
        loading = Loading(model.path, wanted, model.can("embedding"), self._threads)
        try:
            self._llama = await in_thread(lambda _: Llama(loading))
        except RuntimeError as error:
            raise Refusal(500, f"unable to load model: {model.path.name}: {error}") from error
        self._num_ctx = wanted
        model.load(self._llama.num_ctx)
        return self._llama

    def _release(self) -> None:
        if self._is_doomed or self._keep_alive == 0:
            self._drop()
        elif self._llama is not None:
            self.model.keep(self._keep_alive)
            if self._keep_alive < math.inf:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._keep_alive, self._expire)
        self._is_doomed = False

    def _expire(self) -> None:
        if not self._lock.locked():
            self._drop()

    def unload(self) -> None:
        """Unload the model now, or as soon as whoever uses it is done."""
        if self._lock.locked():
            self._is_doomed = True
        else:
            self._drop()

    def _drop(self) -> None:
        self._stop_timer()
        self._llama = None
        self.model.keep(0)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
