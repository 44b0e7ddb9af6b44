"""From a request to the prompt that the model reads, cut as Ollama cuts. Blocking: call in a thread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.options import NUM_KEEP, integer, sampling

if TYPE_CHECKING:
    from ollama_mcp.embedded.catalog import Model
    from ollama_mcp.embedded.llama import Llama
    from ollama_mcp.embedded.requests import Ask

Json = dict[str, Any]

# Compact JSON: with free white space a toy model writes blanks until it is cut off. Lenient: what the
# grammar cannot express ("uniqueItems", "not") is not enforced, as in Ollama.
_GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
_IMAGES = "Multimodal data provided, but model does not support multimodal requests."


@dataclass(frozen=True)
class Writer:
    """Makes llama.cpp's request out of Ollama's, for one loaded model."""

    model: Model
    llama: Llama

    def completion(self, ask: Ask, options: Json) -> Json:
        """Return the request for ``Llama.complete``.

        Raises:
            Refused: An image, a format that is none, a schema that cannot be enforced.
        """
        grammar = self._grammar(ask.fields.get("format"))
        if ask.images:
            raise Refused(400, wrapped(400, _IMAGES, "invalid_request_error"))
        return {
            **sampling(options, self.model.stops),
            **grammar,
            **_logprobs(ask),
            "prompt": self._fitted(ask, options),
            "stream": True,
            # A chunk for each batch of the prompt: where a client that has left is noticed.
            "return_progress": True,
            # The same request gives the same answer, whatever ran before it.
            "cache_prompt": False,
        }

    def _fitted(self, ask: Ask, options: Json) -> str | list[int]:
        text = self._prompt(ask, ask.messages)
        # No token is shorter than a byte, so most prompts need not be counted.
        if not ask.truncate or len(text.encode()) < self.llama.num_ctx:
            return text
        if ask.messages:
            text = self._prompt(ask, self._recent(ask))
        keep = integer(options, "num_keep")
        return cut_middle(self.llama.tokens(text), self.llama.num_ctx, NUM_KEEP if keep is None else keep)

    def _recent(self, ask: Ask) -> list[Json]:
        low, high = 0, len(droppable(ask.messages))
        while low < high:
            middle = (low + high) // 2
            if self._fits(self._prompt(ask, without_oldest(ask.messages, middle))):
                high = middle
            else:
                low = middle + 1
        return without_oldest(ask.messages, low)

    def _fits(self, text: str) -> bool:
        return len(self.llama.tokens(text)) < self.llama.num_ctx

    def _prompt(self, ask: Ask, messages: list[Json]) -> str:
        if ask.kind == "ChatRequest":
            return self._templated(messages)
        if ask.fields.get("raw"):
            return ask.text("prompt")
        context: list[int] = ask.fields.get("context") or []
        return (self.llama.text(context) if context else "") + self._templated(_as_messages(ask))

    def _templated(self, messages: list[Json]) -> str:
        return chatml(messages) if self.model.known else self.llama.apply_template(messages)

    def _grammar(self, wanted: Any) -> Json:
        schema = wanted_schema(wanted)
        if schema is None:
            return {}
        grammar = f"%llguidance {{}}\nstart: %json {json.dumps(schema | {'x-guidance': _GUIDANCE})}"
        if not self._enforced(grammar):
            raise Refused(500, "invalid JSON schema in format")
        return {"grammar": grammar}

    def _enforced(self, grammar: str) -> bool:
        # llama.cpp ignores a grammar that does not compile, and says so in its log only. So the model
        # is pushed to a word that no JSON begins with: whoever enforces the grammar forbids it.
        forbidden = self.llama.tokens("The")[0]
        chunks: list[Json] = []
        asked = {"prompt": "x", "n_predict": 1, "temperature": 0, "logit_bias": [[forbidden, 1000]]}
        self.llama.complete(asked | {"grammar": grammar}, lambda chunk: bool(chunks.append(chunk)))
        return "error" not in chunks[0] and chunks[0]["choices"][0]["text"] != "The"


def wrapped(code: int, message: str, kind: str) -> str:
    """Return llama.cpp's error as Ollama passes it on: JSON as a string."""
    return wrapped_error({"code": code, "message": message, "type": kind})


def wrapped_error(error: Json) -> str:
    """Return an error object of llama.cpp as Ollama passes it on."""
    return json.dumps({"error": error}, separators=(",", ":"))


def wanted_schema(wanted: Any) -> Json | None:
    """Return the schema that ``format`` asks for, ``None`` for none.

    Raises:
        Refused: 500 with Ollama's text: it is neither "json" nor an object.
    """
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return {"type": "object"}
    if isinstance(wanted, dict):
        return {**wanted}
    raw = json.dumps(json.dumps(wanted, ensure_ascii=False), ensure_ascii=False)
    raise Refused(500, f'invalid format: {raw}; expected "json" or a valid JSON Schema object')


def chatml(messages: list[Json]) -> str:
    r"""Return the prompt of SmolLM2's template; neighbours of one role are joined, as in Ollama.

    >>> chatml([{"role": "user", "content": "Hi"}])
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
    """
    turns: list[tuple[str, str]] = []
    for message in messages:
        role, content = message.get("role") or "", message.get("content") or ""
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{content}")
        else:
            turns.append((role, content))
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return f"{text}<|im_start|>assistant\n"


def droppable(messages: list[Json]) -> list[int]:
    """Return the places of the messages that may go: all but the system's and the last."""
    return [place for place, message in enumerate(messages[:-1]) if message.get("role") != "system"]


def without_oldest(messages: list[Json], count: int) -> list[Json]:
    """Return the messages without the ``count`` oldest that may go."""
    gone = set(droppable(messages)[:count])
    return [message for place, message in enumerate(messages) if place not in gone]


def cut_middle(tokens: list[int], num_ctx: int, keep: int) -> list[int]:
    """Return tokens that fit, with the middle missing, exactly as many as Ollama keeps.

    >>> len(cut_middle(list(range(6000)), 4096, 4))
    2050
    >>> cut_middle(list(range(20)), 10, 2)
    [0, 1, 16, 17, 18, 19]
    """
    if len(tokens) < num_ctx:
        return tokens
    first = min(num_ctx - 2, max(keep, 0))
    last = (num_ctx - first) - (num_ctx - first) // 2
    return tokens[:first] + tokens[-last:]


def _as_messages(ask: Ask) -> list[Json]:
    system = ask.text("system")
    said = [{"role": "user", "content": ask.text("prompt")}]
    return [{"role": "system", "content": system}, *said] if system else said


def _logprobs(ask: Ask) -> Json:
    if not ask.fields.get("logprobs"):
        return {}
    return {"logprobs": max(1, ask.fields.get("top_logprobs") or 0)}
