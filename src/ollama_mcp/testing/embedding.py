"""/api/embed and the legacy /api/embeddings.

A text's vector is made of its words: the same text gives the same unit vector on every machine, and the
more words two texts share, the nearer they are. What words mean plays no part.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from ollama_mcp.testing import go
from ollama_mcp.testing.answers import JSON, Answer, Element, Refusal, Stream, plain, whole
from ollama_mcp.testing.limits import check_options, window_of, words
from ollama_mcp.testing.models import Model
from ollama_mcp.testing.world import Call, World, loading


def vector(text: str, dimensions: int = 768) -> list[float]:
    """The unit vector of a text: so many numbers, of eight digits as Go prints a float32.

    The sum of what its words are, and a little of what is the text's own.
    """
    total = [_ITS_OWN * number for number in _hashed(text, dimensions)]
    for word in re.findall(r"\w+", text.lower()):
        total = [a + b for a, b in zip(total, _hashed(f"word {word}", dimensions), strict=True)]
    return normalised(total)


_ITS_OWN = 0.3


@lru_cache(maxsize=4096)
def _hashed(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(text.encode("utf-8", "replace")).digest(4 * dimensions)
    return [number / 2**31 for number in struct.unpack(f"<{dimensions}i", raw)]


def normalised(numbers: Sequence[float]) -> list[float]:
    """The same direction with length 1."""
    length = math.hypot(*numbers) or 1.0
    return [float(f"{number / length:.8g}") for number in numbers]


def embed(world: World, call: Call) -> Answer:
    """POST /api/embed; a server before 0.3 has no such route."""
    if not world.since(0, 3):
        return plain(404, "404 page not found")
    alive = go.keep_alive(call.body.get("keep_alive"))
    texts = _texts(call.body.get("input"))
    model = _embedder(world, call)
    if not texts:
        model.keep(alive)
        return whole({"model": call.name, "embeddings": []})
    counts = _fit(world, call, model, texts)
    records = _run(world, call, model, alive, _answer(call, model, texts, sum(counts)))
    return Stream(records, lambda lines: dict(lines[-1]), {"Content-Type": JSON})


def embeddings(world: World, call: Call) -> Answer:
    """POST /api/embeddings, the endpoint of old."""
    alive = go.keep_alive(call.body.get("keep_alive"))
    model = _embedder(world, call)
    prompt = call.text("prompt")
    numbers = vector(prompt, model.dimensions) if prompt else []
    records = _run(world, call, model, alive, {"embedding": numbers})
    return Stream(records, lambda lines: dict(lines[-1]), {"Content-Type": JSON})


def _texts(given: Any) -> list[str]:
    # An empty text alone is no text; in a list it is one like the others.
    texts = [given] if isinstance(given, str) and given else go.as_list(given)
    if not isinstance(given, str | list | None) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts


def _embedder(world: World, call: Call) -> Model:
    model = world.find(call.name)
    if model is None:
        raise Refusal(404, f'model "{call.name}" not found, try pulling it first')
    check_options(model, call.options)
    if not model.can("embedding") and world.since(0, 30):
        raise Refusal(501, "This server does not support embeddings. Start it with `--embeddings`")
    return model


def _fit(world: World, call: Call, model: Model, texts: Sequence[str]) -> list[int]:
    window = window_of(world, model, call.options)
    counts = [words(text) for text in texts]
    if call.body.get("truncate") is False and max(counts) > window:
        raise Refusal(400, "the input length exceeds the context length")
    return [min(count, window) for count in counts]


def _answer(call: Call, model: Model, texts: Sequence[str], tokens: int) -> dict[str, Any]:
    wanted = go.as_int(call.body.get("dimensions"), 0) or model.dimensions
    vectors = [normalised(vector(text, model.dimensions)[:wanted]) for text in texts]
    told = {
        "model": call.name,
        "embeddings": vectors,
        "total_duration": 22_955_080,
        "load_duration": 697_321,
    }
    return told | ({"prompt_eval_count": tokens} if tokens else {})


def _run(world: World, call: Call, model: Model, alive: float, answer: dict[str, Any]) -> Iterator[Element]:
    yield from loading(world, call, model, window_of(world, model, call.options))
    model.keep(alive)
    yield answer
