"""The engine: llama.cpp behind Ollama's API, and an honest error for what it has not."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, cast

from ollama_mcp.embedded.completion_request import CompletionWriter
from ollama_mcp.embedded.llama import completion, in_thread
from ollama_mcp.embedded.model_slot import ModelSlot
from ollama_mcp.ollama_server import routes
from ollama_mcp.ollama_server.api_answers import Answer, Record, RecordFramer, Whole, is_last, whole
from ollama_mcp.ollama_server.api_calls import TOO_LONG, runner_error
from ollama_mcp.ollama_server.go_values import Refusal, as_int
from ollama_mcp.ollama_server.http_connections import ClientLeft, Connection, ConnectionLog, Dropped, Final
from ollama_mcp.ollama_server.installed_models import Model, find_model

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, Generator, Sequence

    from ollama_mcp.embedded.gguf_models import GgufModel
    from ollama_mcp.embedded.llama import Llama
    from ollama_mcp.ollama_server.api_calls import Call
    from ollama_mcp.ollama_server.http_messages import Request
    from ollama_mcp.ollama_server.routes import Embedding, Generation

logger: logging.Logger = logging.getLogger(__name__)

VERSION = "0.0.0-embedded"
_MILLISECOND = 1_000_000
_RUN_A_MODEL = frozenset({"/api/chat", "/api/generate", "/api/embed"})


class Activity(ConnectionLog):
    """Counts of requests that run a model: for demos and tests that must see a generation stop.

    Attributes:
        running: Requests that hold a model's slot or wait for it.
        cancelled: Requests whose client left before the end.
        completed: Requests answered to the end, errors included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.cancelled = 0
        self.completed = 0

    @contextmanager
    def answering(self, request: Request) -> Generator[None]:
        """Count a request while it is answered, and afterwards how that ended."""
        if request.path not in _RUN_A_MODEL:
            yield
            return
        self.running += 1
        try:
            yield
            self.completed += 1
        except ClientLeft:
            self.cancelled += 1
            logger.warning("%s: cancelled, the client left", request.path.rpartition("/")[2])
            raise
        finally:
            self.running -= 1


class Engine:
    """The models and their slots: the back end of the server."""

    version = VERSION

    def __init__(self, models: Sequence[GgufModel], threads: int) -> None:
        self.activity: Activity = Activity()
        self._models = {model.name: model for model in models}
        self._slots = {model.name: ModelSlot(model, threads) for model in models}

    def since(self, *_version: int) -> bool:
        """Return true: it behaves as the youngest Ollama that was recorded."""
        return True

    def installed(self) -> list[GgufModel]:
        """Return all models."""
        return list(self._models.values())

    def running(self) -> list[GgufModel]:
        """Return the models that are loaded."""
        return [model for slot in self._slots.values() for model in slot.loaded()]

    def find(self, name: str) -> Model | None:
        """Return the model of that name. ``smollm2`` alone means ``smollm2:latest``, as in Ollama."""
        return find_model(self._models, name)

    async def load(self, generation: Generation) -> AsyncGenerator[Record]:
        """Load the model, or unload it."""
        slot = self._slots[generation.model.name]
        keep_alive = generation.call.keep_alive
        if keep_alive:
            async with slot.use(as_int(generation.options.get("num_ctx"), 0), keep_alive):
                pass
        else:
            slot.unload()
        yield generation.loaded()

    async def generate(self, generation: Generation) -> AsyncGenerator[Record]:
        """Yield each piece of text, and at the end llama.cpp's figures.

        Raises:
            Refusal: A field that the engine has not, or an error of llama.cpp.
        """
        call, begin = generation.call, time.perf_counter_ns()
        for field in ("template", "logprobs"):
            if call.body.get(field):
                raise Refusal(400, f"the embedded engine does not support {field}")
        slot = self._slots[generation.model.name]
        num_ctx = as_int(generation.options.get("num_ctx"), 0)
        async with slot.use(num_ctx, call.keep_alive) as lease:
            llama = lease.llama
            writer = CompletionWriter(slot.model, llama)
            body = await in_thread(lambda _: writer.request(generation))
            said: list[str] = []
            last: dict[str, Any] = {}
            async with completion(llama, body) as chunks:
                async for chunk in chunks:
                    if "error" in chunk:
                        status, told = chunk["error"].get("code", 500), runner_error(chunk["error"])
                        raise Refusal(status, told, runner=True)
                    if "prompt_progress" in chunk:
                        continue
                    if chunk["choices"][0]["finish_reason"]:
                        last = chunk
                    else:
                        said.append(chunk["choices"][0]["text"])
                        yield generation.record(said[-1])
            if not last:
                raise Refusal(
                    500, "an error was encountered while running the model: it stopped without a reason"
                )
            context: dict[str, Any] = {}
            if not generation.is_chat and not call.body.get("raw"):
                context["context"] = await in_thread(lambda _: _tokens(llama, body["prompt"], "".join(said)))
        # Only now: who reads the end may rely on the slot being free, and on keep_alive 0 being done.
        usage, timings = last["usage"], last["timings"]
        yield generation.record(
            "",
            done=True,
            done_reason=last["choices"][0]["finish_reason"],
            **context,
            total_duration=time.perf_counter_ns() - begin,
            load_duration=lease.load_ns,
            prompt_eval_count=usage["prompt_tokens"],
            prompt_eval_duration=int(timings["prompt_ms"] * _MILLISECOND),
            eval_count=usage["completion_tokens"],
            eval_duration=int(timings["predicted_ms"] * _MILLISECOND),
        )

    async def embed(self, embedding: Embedding) -> AsyncGenerator[Record]:
        """Yield the vectors of the texts.

        Raises:
            Refusal: 400, a text is too long and may not be cut.
        """
        begin = time.perf_counter_ns()
        async with self._slots[embedding.model.name].use(0, embedding.call.keep_alive) as lease:
            tokens, vectors = await in_thread(lambda stop: _embed(lease.llama, embedding, stop))
        took = time.perf_counter_ns() - begin
        yield embedding.record(vectors, tokens=tokens, total_ns=took, load_ns=lease.load_ns)

    async def respond(self, request: Request, connection: Connection) -> bool:
        """Answer a request on its connection; return true, since the connection goes on."""
        close, bodyless = request.wants_close, request.method == "HEAD"
        answer: Answer = routes.answer(self, ROUTES, request)
        if isinstance(answer, Whole):
            await connection.send(Final(answer.encode(close=close, bodyless=bodyless)))
            return True
        framer = RecordFramer(answer, close=close)
        records = cast("AsyncGenerator[Record]", answer.records)
        async with aclosing(records):
            try:
                while (record := await connection.unless_left(_next(records))) is not None:
                    data = framer.record(record)
                    await connection.send(Final(data) if is_last(record) else data)
                await connection.send(Final(framer.end()))
            except Refusal as refusal:
                await connection.send(Final(framer.refuse(refusal)))
            except (ClientLeft, Dropped):
                raise
            except Exception as error:  # the one boundary: a fault of ours is an answer too, and a log entry
                logger.exception("%s failed", request.path)
                failed = Refusal(500, f"the embedded engine failed: {type(error).__name__}")
                await connection.send(Final(framer.refuse(failed)))
        return True


async def _next(records: AsyncGenerator[Record]) -> Record | None:
    return await anext(records, None)


def _tokens(llama: Llama, prompt: str | list[int], said: str) -> list[int]:
    """Return the tokens of prompt and answer, for a next request to go on from."""
    return (llama.tokens(prompt) if isinstance(prompt, str) else prompt) + llama.tokens(said)


def _embed(llama: Llama, embedding: Embedding, stop: threading.Event) -> tuple[int, list[list[float]]]:
    """Return the number of tokens and the vectors, one text after the other until told to stop."""
    every: list[list[int]] = []
    for text in embedding.texts:
        tokens = llama.tokens(text, special=True)
        if len(tokens) > llama.num_ctx:
            if not embedding.call.truncates:
                raise Refusal(400, TOO_LONG)
            tokens = [*tokens[: llama.num_ctx - 1], tokens[-1]]
        every.append(tokens)
    vectors = [vector for one in every if not stop.is_set() for vector in llama.embed([one])]
    return sum(map(len, every)), vectors


def _activity(engine: Engine, _call: Call) -> Answer:
    counts = engine.activity
    return whole({"running": counts.running, "cancelled": counts.cancelled, "completed": counts.completed})


def _absent(_engine: Engine, call: Call) -> Answer:
    what = call.request.path.removeprefix("/api/").partition("/")[0]
    raise Refusal(501, f"the embedded engine has fixed models and cannot {what}; install Ollama for that")


def _no_old_embeddings(_engine: Engine, _call: Call) -> Answer:
    raise Refusal(501, "the embedded engine has no /api/embeddings, only /api/embed")


ROUTES: dict[str, dict[str, routes.Handler]] = {
    **routes.ROUTES,
    "/api/embedded/activity": {"GET": _activity},
    "/api/embeddings": {"POST": _no_old_embeddings},
    "/api/pull": {"POST": _absent},
    "/api/push": {"POST": _absent},
    "/api/create": {"POST": _absent},
    "/api/copy": {"POST": _absent},
    "/api/delete": {"DELETE": _absent},
    "/api/blobs/": {"POST": _absent},
}
