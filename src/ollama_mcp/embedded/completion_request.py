"""llama.cpp's request out of Ollama's, its prompt cut as Ollama cuts. Blocking: call in a thread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_mcp.ollama_server.go_values import Refusal, as_int

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_mcp.embedded.gguf_models import GgufModel
    from ollama_mcp.embedded.llama import Llama
    from ollama_mcp.ollama_server.routes import Generation

Json = dict[str, Any]

# A toy model repeats itself for ever if it may: an answer ends here with done_reason "length".
MOST_TOKENS = 1024
NUM_KEEP = 4
# Ollama's defaults, under llama.cpp's names, which are the same but for num_predict. Its documentation
# says 1.1 for repeat_penalty; with 1.0 the answers are those of the recorded 0.33, word for word.
_SAMPLING: dict[str, float] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_WHOLE_NUMBERS = {"top_k", "repeat_last_n"}
# Compact JSON: with free white space a toy model writes blanks until it is cut off. Lenient: what the
# grammar cannot express ("uniqueItems", "not") is not enforced, as in Ollama.
_GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}


def sampling(options: Mapping[str, Any]) -> Json:
    """Return the part of llama.cpp's request that says how to choose tokens and when to stop."""
    asked = as_int(options.get("num_predict"), -1)
    chosen = {name: options.get(name, default) for name, default in _SAMPLING.items()}
    return {
        **{name: int(value) if name in _WHOLE_NUMBERS else value for name, value in chosen.items()},
        # A negative seed means a new one each time; llama.cpp wants 32 bits without a sign.
        "seed": as_int(options.get("seed"), 0) & 0xFFFFFFFF if "seed" in options else 0xFFFFFFFF,
        "n_predict": min(asked, MOST_TOKENS) if asked > 0 else MOST_TOKENS,
        "stop": list(options.get("stop", ())),
    }


@dataclass(frozen=True)
class CompletionWriter:
    """A writer of llama.cpp's requests for one loaded model."""

    model: GgufModel
    llama: Llama

    def request(self, generation: Generation) -> Json:
        """Return the request for ``Llama.complete``.

        Raises:
            Refusal: 500, a schema that cannot be enforced.
        """
        return {
            **sampling(generation.options),
            **self._grammar(generation.call.body.get("format")),
            "prompt": self._prompt(generation),
            "stream": True,
            # A chunk for each batch of the prompt: where a client that has left is noticed.
            "return_progress": True,
            # The same request gives the same answer, whatever ran before it.
            "cache_prompt": False,
        }

    def _grammar(self, wanted: Any) -> Json:
        if wanted in (None, ""):
            return {}
        schema: Json = {"type": "object"} if wanted == "json" else wanted
        grammar = f"%llguidance {{}}\nstart: %json {json.dumps(schema | {'x-guidance': _GUIDANCE})}"
        # llama.cpp ignores a grammar that does not compile, and says so in its log only. So the model
        # is pushed to a word that no JSON begins with: whoever enforces the grammar forbids it.
        forbidden = self.llama.tokens("The")[0]
        chunks: list[Json] = []
        asked = {"prompt": "x", "n_predict": 1, "temperature": 0, "logit_bias": [[forbidden, 1000]]}
        self.llama.complete(asked | {"grammar": grammar}, lambda chunk: bool(chunks.append(chunk)))
        if "error" in chunks[0] or chunks[0]["choices"][0]["text"] == "The":
            raise Refusal(500, "invalid JSON schema in format")
        return {"grammar": grammar}

    def _prompt(self, generation: Generation) -> str | list[int]:
        call, num_ctx = generation.call, self.llama.num_ctx
        messages, before = call.messages, ""
        if not generation.is_chat:
            said = {"system": call.text("system"), "user": call.text("prompt")}
            messages = [{"role": role, "content": text} for role, text in said.items() if text]
            context: list[int] = call.body.get("context") or []
            before = self.llama.text(context) if context else ""
        is_raw = not generation.is_chat and call.body.get("raw")
        text = call.text("prompt") if is_raw else before + self._templated(messages)
        # No token is shorter than a byte, so most prompts need not be counted.
        if not call.truncates or len(text.encode()) < num_ctx:
            return text
        if generation.is_chat:
            text = self._templated(self._recent(messages))
        keep = as_int(generation.options.get("num_keep"), NUM_KEEP)
        return cut_middle(self.llama.tokens(text), num_ctx, keep)

    def _templated(self, messages: list[Json]) -> str:
        return chatml(messages) if self.model.is_known else self.llama.apply_template(messages)

    def _recent(self, messages: list[Json]) -> list[Json]:
        """Return the messages without the oldest, as many as fit, found by bisection."""
        low, high = 0, len(droppable(messages))
        while low < high:
            middle = (low + high) // 2
            text = self._templated(without_oldest(messages, middle))
            if len(self.llama.tokens(text)) < self.llama.num_ctx:
                high = middle
            else:
                low = middle + 1
        return without_oldest(messages, low)


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
