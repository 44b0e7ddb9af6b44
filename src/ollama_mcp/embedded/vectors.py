"""``/api/embed`` and the old ``/api/embeddings``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.options import check_options
from ollama_mcp.embedded.streaming import stoppable

if TYPE_CHECKING:
    import threading

    from ollama_mcp.embedded.answering import Outlet
    from ollama_mcp.embedded.host import Host
    from ollama_mcp.embedded.llama import Llama
    from ollama_mcp.embedded.requests import Ask

Json = dict[str, Any]

_NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"


def read_texts(value: Any) -> list[str]:
    """Return the texts of ``input``; an empty text alone is none, in a list it is one.

    Raises:
        Refused: 400, it is neither a text nor a list of texts.
    """
    if value is None or value == "":
        return []
    texts = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(400, "invalid input type")
    return texts


def shortened(vector: list[float], dimensions: int) -> list[float]:
    """Return the first ``dimensions`` numbers, brought back to length 1; all of them for 0.

    >>> shortened([0.6, 0.8], 1)
    [1.0]
    """
    if not 0 < dimensions < len(vector):
        return vector
    head = vector[:dimensions]
    length = math.sqrt(sum(number * number for number in head)) or 1.0
    return [number / length for number in head]


@dataclass(frozen=True)
class Embedding:
    """One request for vectors. Vectors have length 1, in the old endpoint too, as in Ollama 0.33."""

    ask: Ask
    host: Host
    begin_ns: int

    async def embed(self, outlet: Outlet) -> None:
        """Answer ``/api/embed``."""
        texts = read_texts(self.ask.fields.get("input"))
        vectors, tokens, load_ns = await self._vectors(texts)
        dimensions: int = self.ask.fields.get("dimensions") or 0
        shown = [[_float32(number) for number in shortened(vector, dimensions)] for vector in vectors]
        figures = {"total_duration": time.perf_counter_ns() - self.begin_ns, "load_duration": load_ns}
        counted = figures | {"prompt_eval_count": tokens} if texts else {}
        await outlet.whole({"model": self.ask.model, "embeddings": shown} | counted)

    async def embed_one(self, outlet: Outlet) -> None:
        """Answer ``/api/embeddings``."""
        prompt = self.ask.text("prompt")
        vectors, _, _ = await self._vectors([prompt] if prompt else [])
        await outlet.whole({"embedding": vectors[0] if vectors else []})

    async def _vectors(self, texts: list[str]) -> tuple[list[list[float]], int, int]:
        if not self.host.model.embedding:
            raise Refused(501, _NO_EMBEDDINGS)
        check_options(self.ask.options)
        async with self.host.use(None, self.ask.keep_alive) as lease:
            batch = _Batch(lease.llama, texts, self.ask.truncate)
            return await stoppable(batch.run), batch.count, lease.load_ns


class _Batch:
    """Texts that are embedded one after the other in a thread, until the client leaves."""

    def __init__(self, llama: Llama, texts: list[str], truncate: bool) -> None:
        self.count = 0
        self._llama = llama
        self._texts = texts
        self._truncate = truncate

    def run(self, stop: threading.Event) -> list[list[float]]:
        tokens = [self._fitted(text) for text in self._texts]
        self.count = sum(map(len, tokens))
        return [vector for one in tokens if not stop.is_set() for vector in self._llama.embed([one])]

    def _fitted(self, text: str) -> list[int]:
        tokens = self._llama.tokens(text, special=True)
        if len(tokens) <= self._llama.num_ctx:
            return tokens
        if not self._truncate:
            raise Refused(400, "the input length exceeds the context length")
        return [*tokens[: self._llama.num_ctx - 1], tokens[-1]]


def _float32(number: float) -> float:
    # Nine digits are all that a 32 bit number has; more would double the answer's size.
    return float(f"{number:.9g}")
