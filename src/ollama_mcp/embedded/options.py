"""Ollama's options: their types, their defaults, and what llama.cpp calls them."""

from __future__ import annotations

from typing import Any, cast

from ollama_mcp.embedded.errors import Refused

# A toy model repeats itself for ever if it may: an answer ends here with done_reason "length".
MOST_TOKENS = 1024
NUM_KEEP = 4

_INTEGERS = {
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "num_ctx",
    "num_batch",
    "num_gpu",
} | {
    "main_gpu",
    "num_thread",
}
_FLOATS = {
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
}
_BOOLEANS = {"use_mmap"}

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


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are set; an unknown one is ignored, as in Ollama.

    Raises:
        Refused: 500, an option has the wrong type. Ollama says 500 too.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        wanted = _wrong_type(name, value)
        if wanted:
            raise Refused(500, f'option "{name}" must be of {wanted}')
    return given


def _wrong_type(name: str, value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS and not number:
        return "type integer"
    if name in _FLOATS and not number:
        return "type float32"
    if name in _BOOLEANS and not isinstance(value, bool):
        return "type boolean"
    return _wrong_stop(value) if name == "stop" else None


def _wrong_stop(value: Any) -> str | None:
    if not isinstance(value, list):
        return "type array"
    texts = all(isinstance(item, str) for item in cast("list[Any]", value))
    return None if texts else "an array of strings"


def integer(options: dict[str, Any], name: str) -> int | None:
    """Return an option as a whole number; Ollama cuts a fraction off."""
    return int(options[name]) if name in options else None


def sampling(options: dict[str, Any], stops: tuple[str, ...]) -> dict[str, Any]:
    """Return the part of llama.cpp's request that says how to choose tokens and when to stop."""
    asked = integer(options, "num_predict") or -1
    chosen = {name: options.get(name, default) for name, default in _SAMPLING.items()}
    return {
        **{name: int(value) if name in _INTEGERS else value for name, value in chosen.items()},
        # A negative seed means a new one each time; llama.cpp wants 32 bits without a sign.
        "seed": (integer(options, "seed") or 0) & 0xFFFFFFFF if "seed" in options else 0xFFFFFFFF,
        "n_predict": min(asked, MOST_TOKENS) if asked > 0 else MOST_TOKENS,
        "stop": list(options.get("stop", stops)),
    }
