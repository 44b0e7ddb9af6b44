"""The one seam to xllamacpp: a loaded model, called from threads.

xllamacpp has no types and holds the GIL while it loads (0.2 to 0.8 s). What it cannot do in process
(count tokens, apply a template) is asked over llama.cpp's own HTTP port, which it always opens, on
loopback and behind a random key that nobody else knows.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ollama_mcp.ollama_server.go_values import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from pathlib import Path

_T = TypeVar("_T")

# One batch is as long as a cancelled prompt still runs. 16 tokens: 0.1 s on one slow core, and the
# whole prompt takes 18 % longer than with 128, where one batch is 0.75 s.
CHAT_BATCH = 16

Json = dict[str, Any]


@dataclass(frozen=True)
class Loading:
    """A way to load a model.

    Attributes:
        path: The GGUF, checked by the caller: llama.cpp has one error for everything.
        num_ctx: The window in tokens.
        embedding: Whether it makes vectors; then the whole window is one batch.
        threads: See ``default_threads``.
    """

    path: Path
    num_ctx: int
    embedding: bool
    threads: int


def default_threads() -> int:
    """Return half the cores: two threads on two busy cores are 20 times slower than one."""
    return max(1, (os.cpu_count() or 1) // 2)


class Llama:
    """A loaded model. Calls block; they release the GIL while the model works."""

    def __init__(self, loading: Loading) -> None:
        """Load the model and run one request, without which deleting it could deadlock.

        Raises:
            RuntimeError: llama.cpp could not load the file.
        """
        self._key = secrets.token_hex(32)
        self._server = cast("Any", _construct(loading, self._key))
        self._address = str(self._server.listening_address).removeprefix("http://")
        self._warm_up(embedding=loading.embedding)
        # llama.cpp rounds the window up; embedding servers have no more than their model has.
        self.num_ctx: int = self._props()["default_generation_settings"]["n_ctx"]

    def _warm_up(self, *, embedding: bool) -> None:
        if embedding:
            self.embed([[101, 102]])
        else:
            self.complete({"prompt": "Hi", "n_predict": 1}, lambda _: False)

    def complete(self, body: Json, on_chunk: Callable[[Json], bool]) -> None:
        """Run a completion in llama.cpp's own format.

        Args:
            body: The request; with ``stream`` there are several chunks.
            on_chunk: Called in this thread with each chunk or error; true stops the generation.
        """
        self._server.handle_completions(body, on_chunk)

    def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one normalised vector for each list of tokens.

        Raises:
            Refusal: 500 in llama.cpp's words.
        """
        answer = cast("Json", self._server.handle_embeddings({"input": inputs}))
        if "data" not in answer:
            raise Refusal(500, str(answer["error"]["message"]))
        return [item["embedding"] for item in answer["data"]]

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Return the tokens of a text; ``special`` adds the model's own first and last one."""
        asked = {"content": text, "add_special": special, "parse_special": True}
        return self._ask("POST", "/tokenize", asked)["tokens"]

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return self._ask("POST", "/detokenize", {"tokens": tokens})["content"]

    def apply_template(self, messages: Sequence[Json]) -> str:
        """Return the prompt that the model's own template makes of messages."""
        return self._ask("POST", "/apply-template", {"messages": messages})["prompt"]

    def _props(self) -> Json:
        return self._ask("GET", "/props", None)

    def _ask(self, method: str, path: str, body: Json | None) -> Json:
        connection = HTTPConnection(self._address, timeout=60)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            answer: Json = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise Refusal(500, str(answer["error"]["message"]))
        return answer


def _construct(loading: Loading, key: str) -> object:
    import xllamacpp  # pyright: ignore[reportMissingTypeStubs]  # noqa: PLC0415  # the extra; 34 MB

    library = cast("Any", xllamacpp)
    params = library.CommonParams()
    params.model.path = str(loading.path)
    params.n_ctx = loading.num_ctx
    params.n_batch = params.n_ubatch = loading.num_ctx if loading.embedding else CHAT_BATCH
    params.embedding = loading.embedding
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = loading.threads
    _make_small(params)
    _close_port(params, key)
    return library.Server(params)


def _make_small(params: Any) -> None:
    params.n_parallel = 1
    params.cache_ram_mib = 0
    params.warmup = False
    params.verbosity = -1
    params.n_threads_http = 2


def _close_port(params: Any, key: str) -> None:
    params.port = 0
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [key]
    params.cors_origins = ""
    params.ui = False


# --- calls from the event loop -------------------------------------------------------------------


@asynccontextmanager
async def completion(llama: Llama, body: Json) -> AsyncGenerator[AsyncIterator[Json]]:
    """Run a completion in a thread; leaving the block stops it and waits for its end.

    The thread looks whether to stop at each chunk, one batch of the prompt at most.

    Args:
        llama: The loaded model; the caller holds its slot.
        body: llama.cpp's request, with ``stream``.
    """
    loop, queue, stop = asyncio.get_running_loop(), asyncio.Queue[Json | None](), threading.Event()

    def put(chunk: Json) -> bool:
        loop.call_soon_threadsafe(queue.put_nowait, chunk)
        return stop.is_set()

    def run() -> None:
        try:
            llama.complete(body, put)
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, None)

    async def chunks() -> AsyncIterator[Json]:
        while (chunk := await queue.get()) is not None:
            yield chunk

    work = loop.run_in_executor(None, run)
    try:
        yield chunks()
    finally:
        stop.set()
        await work


async def in_thread(work: Callable[[threading.Event], _T]) -> _T:
    """Run blocking work in a thread; when cancelled, ask it to stop and wait until it did.

    Args:
        work: Looks at the event between its steps, if it has any.
    """
    stop = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        return await asyncio.shield(future)
    finally:
        stop.set()
        await asyncio.wait([future])
