"""The scripted back end: pretended models, which say what a script tells them, or words of their own.

Without a script an answer is `You said: ` and the last thing the user said, a word a record; with `format`
it is JSON that fits. A model that can think thinks `Let me think.` first. num_predict and stop cut this
default answer; a scripted one comes exactly as it is written. A text's vector is made of its words: the
same text gives the same unit vector on every machine, and the more words two texts share, the nearer they
are.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ollama_mcp.ollama_server.api_calls import TOO_LONG, Call, runner_error
from ollama_mcp.ollama_server.go_values import Refusal, as_int, as_list, as_object, dump
from ollama_mcp.ollama_server.installed_models import Model, find_model, short_name
from ollama_mcp.ollama_server.routes import Embedding, Generation, normalised
from ollama_mcp.testing.faults import Element
from ollama_mcp.testing.scripts import Script, ScriptBook, Turn, Wait

_TOKEN_NS = 7_000_000  # what a token takes in the recordings
_LOAD_NS = 534_365_492  # the cold start in the recordings
_WARM_NS = 900_000
_EMBED_NS = 22_955_080
_ITS_OWN = 0.3  # the share of a text's own vector
_DEPTH = 16  # what is deeper is null
_REFERENCE = 4  # a reference counts as so many levels: a schema may refer to itself, and more than once
_SIMPLE: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}


def default_models() -> list[Model]:
    """Return one model for chat and one for embedding."""
    return [
        Model("llama3.2:3b"),
        Model(
            "nomic-embed-text:latest",
            capabilities=("embedding",),
            context_length=2048,
            size=274_302_450,
            parameter_size="137M",
            quantization_level="F16",
            family="nomic-bert",
        ),
    ]


class World:
    """The state behind the endpoints; FakeOllama, which is one, describes the fields."""

    models: dict[str, Model]
    registry: dict[str, Model]
    pull_script: Sequence[Mapping[str, Any]] | None
    blobs: dict[str, bytes]

    def __init__(
        self,
        models: Iterable[Model] | None = None,
        *,
        version: str = "0.33.0",
        window: int = 4096,
        parallel: int | None = None,
    ) -> None:
        self.version = version
        self.window = window
        self.parallel = parallel
        self.models = {}
        self.registry = {}
        self.pull_script = None
        self.blobs = {}
        self.scripts: ScriptBook = ScriptBook()
        for model in default_models() if models is None else models:
            self.add_model(model)

    def add_model(self, model: Model | str) -> Model:
        """Install a model, or with a name a plain chat model, and return it."""
        given = Model(model) if isinstance(model, str) else model
        known = self.find(given.name)  # Ollama does not tell `Llama` from `llama`
        given.name = known.name if known else short_name(given.name)
        if given.loaded and not given.window:
            given.window = min(self.window, given.context_length)
        self.models[given.name] = given
        return given

    def find(self, name: str) -> Model | None:
        """Return the installed model of that name, whatever its case and however much of it is given."""
        return find_model(self.models, name)

    def since(self, *version: int) -> bool:
        """Return whether the server claims to be of this version or a younger one."""
        numbers = re.match(r"[\d.]+", self.version)
        own = [int(number) for number in numbers[0].split(".") if number] if numbers else []
        return tuple(own) >= version


@dataclass(frozen=True)
class Reply:
    """Everything that a model is going to say: pieces of thinking and of text, calls, and why it ends."""

    thinking: Sequence[str]
    tokens: Sequence[str]
    tool_calls: Sequence[Mapping[str, Any]]
    done_reason: str

    @property
    def count(self) -> int:
        """Tokens: each piece is one, whatever it holds."""
        return len(self.thinking) + len(self.tokens) + len(self.tool_calls)


class ScriptedBackend:
    """The models of a world, as a script lets them answer one request.

    Attributes:
        world: The pretended Ollama.
        script: The script for the request; an empty one leaves all to the model.
    """

    def __init__(self, world: World, script: Script) -> None:
        self.world = world
        self.script = script

    @property
    def version(self) -> str:
        """The version that the server claims to be."""
        return self.world.version

    def since(self, *version: int) -> bool:
        """Return whether the server claims to be of this version or a younger one."""
        return self.world.since(*version)

    def installed(self) -> list[Model]:
        """Return all models, the youngest first."""
        return sorted(self.world.models.values(), key=lambda model: model.modified_at, reverse=True)

    def running(self) -> list[Model]:
        """Return the models that are loaded."""
        return [model for model in list(self.world.models.values()) if model.running]

    def find(self, name: str) -> Model | None:
        """Return the installed model of that name."""
        return self.world.find(name)

    def load(self, generation: Generation) -> Iterator[Element]:
        """Load the model, or unload it."""
        if generation.call.keep_alive:
            yield from self._loading(generation.model, self._window(generation))
        generation.model.keep(generation.call.keep_alive)
        yield generation.loaded()

    def generate(self, generation: Generation) -> Iterator[Element]:
        """Yield the records of the script's reply, or of the model's own."""
        call, window = generation.call, self._window(generation)
        seen = self._fit(call, window)
        reply = self._reply(generation)
        return self._records(generation, reply, seen, window)

    def _records(self, generation: Generation, reply: Reply, seen: int, window: int) -> Iterator[Element]:
        call, model, count = generation.call, generation.model, reply.count
        cold = yield from self._loading(model, window)
        for text in reply.thinking:
            yield generation.record("", thinking=text)
        for text in reply.tokens:
            yield generation.record(text, **_logprobs(call, text))
        for index, called in enumerate(reply.tool_calls):
            named = {"name": called.get("name"), "arguments": called.get("arguments", {})}
            told = {"id": called.get("id") or f"call_fake{index:04d}", "function": {"index": index, **named}}
            yield generation.record("", tool_calls=[told])
        model.keep(call.keep_alive)
        has_context = not generation.is_chat and not call.body.get("raw")
        load = _LOAD_NS if cold else _WARM_NS
        last = generation.record(
            "",
            done=True,
            done_reason=reply.done_reason,
            context=list(range(1, seen + count + 1)) if has_context else None,
            total_duration=load + (seen + count) * _TOKEN_NS,
            load_duration=load,
            # Go leaves a zero out.
            prompt_eval_count=seen or None,
            prompt_eval_duration=seen * _TOKEN_NS or None,
            eval_count=count or None,
            eval_duration=count * _TOKEN_NS or None,
        )
        laid_over = last | dict(self.script.final)
        yield {name: value for name, value in laid_over.items() if value is not None}

    def embed(self, embedding: Embedding) -> Iterator[Element]:
        """Yield the answer with a vector for each text.

        Raises:
            Refusal: 400, a text is too long and may not be cut.
        """
        window = self._window(embedding)
        counts = [words(text) for text in embedding.texts]
        if not embedding.call.truncates and max(counts, default=0) > window:
            raise Refusal(400, TOO_LONG)
        return self._embedded(embedding, sum(min(count, window) for count in counts), window)

    def _embedded(self, embedding: Embedding, tokens: int, window: int) -> Iterator[Element]:
        yield from self._loading(embedding.model, window)
        embedding.model.keep(embedding.call.keep_alive)
        vectors = [vector(text, embedding.model.dimensions) for text in embedding.texts]
        yield embedding.record(vectors, tokens=tokens, total_ns=_EMBED_NS, load_ns=_WARM_NS)

    def embed_one(self, embedding: Embedding) -> Iterator[Element]:
        """Yield the answer of /api/embeddings, the endpoint of old."""
        yield from self._loading(embedding.model, self._window(embedding))
        embedding.model.keep(embedding.call.keep_alive)
        yield {"embedding": [n for text in embedding.texts for n in vector(text, embedding.model.dimensions)]}

    def _loading(self, model: Model, window: int) -> Generator[Element, None, bool]:
        """Wait for the model's turn and load it if it is not loaded so; return whether it had to be."""
        yield Turn(model.name, self.world.parallel)
        cold = not model.running or model.window != window
        if cold:
            yield Wait(self.script.load_delay)
        model.load(window)
        return cold

    def _window(self, asked: Generation | Embedding) -> int:
        """Return the window to load the model with: num_ctx or the server's, within the model's own."""
        wanted = as_int(asked.options.get("num_ctx"), 0)
        return min(wanted if wanted > 0 else self.world.window, asked.model.context_length)

    def _fit(self, call: Call, window: int) -> int:
        """Fit a prompt into a window, and return the tokens that the model sees.

        A prompt that is too long loses its oldest messages without a trace in the answer; a question that
        is too long alone is cut, to half of the window and a little (to the whole window before 0.30).

        Raises:
            Refusal: 400, it is too long and `truncate` is false (heard since 0.12.6).
        """
        if call.messages:
            counts = [(one.get("role"), words(one.get("content") or "")) for one in call.messages]
            system = sum(count for role, count in counts if role == "system")
            parts = [count for role, count in counts if role != "system"]
        else:
            system, parts = 0, [sum(words(call.text(name)) for name in ("system", "prompt", "suffix"))]
        seen = system + sum(parts)
        if seen > window and not call.truncates and self.since(0, 12, 6):
            raise self._overflow(seen, window)
        while len(parts) > 1 and seen > window:
            seen -= parts.pop(0)
        if seen <= window:
            return seen
        return window - (window - 4) // 2 if self.since(0, 30) else window

    def _overflow(self, tokens: int, window: int) -> Refusal:
        if not self.since(0, 30):
            return Refusal(400, TOO_LONG, runner=True)
        told = {
            "code": 400,
            "message": f"request ({tokens} tokens) exceeds the available context size ({window} tokens), "
            "try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": window,
        }
        return Refusal(400, runner_error(told), runner=True)

    def _reply(self, generation: Generation) -> Reply:
        script, call, options = self.script, generation.call, generation.options
        if script.tokens is not None or script.thinking or script.tool_calls:
            reason = script.done_reason or "stop"
            return Reply(script.thinking or (), script.tokens or (), script.tool_calls, reason)
        said = [one.get("content") or "" for one in call.messages if one.get("role") != "system"]
        wanted = call.body.get("format")
        heard = (said[-1] if said else "") if generation.is_chat else call.text("prompt")
        answer = dump(sample(wanted)).decode() if wanted else f"You said: {heard}"
        thinking = ["Let", " me", " think."] if generation.thinks else []
        stops = [stop for stop in options.get("stop", ()) if stop]
        tokens = _stopped(re.findall(r"\s*\S+|\s+$", answer), stops)
        limit = as_int(options.get("num_predict"), -1)
        if 0 <= limit < len(thinking) + len(tokens):
            rest = tokens[: max(limit - len(thinking), 0)]
            return Reply(thinking[:limit], rest, (), script.done_reason or "length")
        return Reply(thinking, tokens, (), script.done_reason or "stop")


def words(text: str) -> int:
    """Return the tokens of a text. The fake's tokenizer is `str.split`, so that a test can count along."""
    return len(text.split())


def _stopped(tokens: list[str], stops: Sequence[str]) -> list[str]:
    text = "".join(tokens)
    places = [text.find(stop) for stop in stops if stop in text]
    end = min(places, default=len(text))
    starts = itertools.accumulate((len(token) for token in tokens), initial=0)
    return [token[: end - start] for token, start in zip(tokens, starts, strict=False) if start < end]


def _logprobs(call: Call, token: str) -> dict[str, Any]:
    if not call.body.get("logprobs") or not token:
        return {}
    own: dict[str, Any] = {"token": token, "logprob": -0.1, "bytes": list(token.encode())}
    top = {"top_logprobs": [own]} if call.body.get("top_logprobs") else {}
    return {"logprobs": [own | top]}


# --- vectors -------------------------------------------------------------------------------------


def vector(text: str, dimensions: int = 768) -> list[float]:
    """Return the unit vector of a text: so many numbers, of eight digits as Go prints a float32.

    It is the sum of the words' vectors and a little of one that is the text's own.
    """
    total = [_ITS_OWN * number for number in _hashed(text, dimensions)]
    for word, times in Counter(re.findall(r"\w+", text.lower())).items():
        total = [a + times * b for a, b in zip(total, _hashed(f"word {word}", dimensions), strict=True)]
    return normalised(total)


@lru_cache(maxsize=4096)
def _hashed(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(text.encode("utf-8", "replace")).digest(4 * dimensions)
    return [number / 2**31 for number in struct.unpack(f"<{dimensions}i", raw)]


# --- answers that fit a schema -------------------------------------------------------------------


def sample(wanted: object) -> Any:
    """Return a value for `format`: an object for "json", and for a JSON Schema the first value that fits.

    Objects get all their properties, arrays as many items as they must have (or one). Patterns and
    the like are not looked at.
    """
    if not isinstance(wanted, dict):
        return {"answer": "fake"}
    schema = as_object(wanted)
    return _sample(schema, schema, _DEPTH)


def _sample(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if depth <= 0:
        return None
    if "const" in schema:
        return schema["const"]
    for first in as_list(schema.get("enum")):
        return first
    inner = _inner(schema, root)
    if inner is not None:
        return _sample(inner, root, depth - _REFERENCE)
    return _of_type(schema, root, depth)


def _inner(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any] | None:
    if "$ref" in schema:
        return _resolve(str(schema["$ref"]), root)
    for name in ("anyOf", "oneOf", "allOf"):
        for first in as_list(schema.get(name)):
            return as_object(first)
    return None


def _resolve(reference: str, root: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = as_object(found).get(part) if part else found
    return as_object(found)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    given = schema.get("type", "object" if "properties" in schema else "string")
    kind = str(next(iter(as_list(given)), given))
    if kind == "object":
        fields = as_object(schema.get("properties"))
        return {name: _sample(as_object(inner), root, depth - 1) for name, inner in fields.items()}
    if kind == "array":
        item = _sample(as_object(schema.get("items")), root, depth - 1)
        return [item] * min(as_int(schema.get("minItems"), 1), 1000)
    return _bounded(schema, kind)


def _bounded(schema: Mapping[str, Any], kind: str) -> Any:
    if kind in {"integer", "number"} and "minimum" in schema:
        return schema["minimum"]
    if kind == "string":
        return "fake".ljust(min(as_int(schema.get("minLength"), 0), 100_000), "-")
    return _SIMPLE.get(kind)
