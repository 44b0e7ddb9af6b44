"""Whether a finished draft is an answer: an empty or cut one must not look like a success.

Every tool that lets a model write is judged here, in this order: is there a tool call, is there text,
was it cut off, does it have the form that was asked for. What the reader has to know is in the text,
since no client shows the rest to its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollama_mcp.errors import BadUpstream, OllamaError, Truncated, Upstream

_SHOWN = 120
"""Characters of the end of a thinking that stands alone: the answer may be there."""


@dataclass(frozen=True)
class Ending:
    """How a draft ended.

    Attributes:
        text: What was written.
        thinking: What was thought.
        reason: Ollama's done_reason: stop, length, load or unload.
        prompt_tokens: Tokens of the prompt; 0 where the server did not say.
        tokens: Tokens that were generated, thinking included; 0 where the server did not say.
        limit: num_predict; None if there was none.
        window: Tokens of the context window; None where unknown.
        may_stop_thinking: Whether the caller could ask for an answer without thinking.
    """

    text: str
    thinking: str
    reason: str
    prompt_tokens: int
    tokens: int
    limit: int | None
    window: int | None
    may_stop_thinking: bool = True

    @property
    def is_cut(self) -> bool:
        """Whether more would have come."""
        return self.reason == "length"

    @property
    def window_is_full(self) -> bool:
        """Whether it was the context window that ended it."""
        if not self.window or (self.limit and self.tokens >= self.limit):
            return False
        return self.prompt_tokens + self.tokens >= self.window - 1

    @property
    def option(self) -> str:
        """The option that is to be larger."""
        return "num_ctx" if self.window_is_full else "num_predict"

    @property
    def cut_line(self) -> str:
        """What stands behind a text that was cut off; "" behind one that was not."""
        if not self.is_cut:
            return ""
        if self.window_is_full:
            return f"[cut off at {_tokens(self.tokens)}: the context window of {self.window} tokens is full]"
        count = self.limit or self.tokens
        return f"[cut off at {_tokens(count)} (num_predict)]" if count else "[cut off at its token limit]"


def no_answer(ending: Ending) -> OllamaError:
    """Why there is neither text nor a tool call, and what to send."""
    if ending.is_cut:
        return _ran_out(ending)
    if ending.reason in {"load", "unload"}:
        return BadUpstream(
            f"no answer: the model was only {ending.reason}ed, since there was nothing to answer",
            "Send a prompt, or a message of the user.",
        )
    if ending.thinking:
        return BadUpstream(
            f"no answer: the model stopped after its thinking, which ends: {_end(ending.thinking)}",
            ways=[*_without_thinking(ending), ("", "ask for the answer in other words")],
        )
    return BadUpstream(
        "no answer: the model stopped at once",
        "Ask in other words, or name another model.",
    )


def _ran_out(ending: Ending) -> OllamaError:
    count = ending.limit or ending.tokens
    spent = f"all {_tokens(count)}" if count else "all tokens"
    full = f", and the context window of {ending.window} tokens is full" if ending.window_is_full else ""
    where = "went into thinking" if ending.thinking else "were used before a word was written"
    ways = [("options", f'send a larger "{ending.option}" in options'), *_without_thinking(ending)]
    return _not_again(Truncated(f"no answer: {spent} {where}{full}", ways=ways))


def _without_thinking(ending: Ending) -> list[tuple[str, str]]:
    return [("think", 'send think="false"')] if ending.thinking and ending.may_stop_thinking else []


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"


def _end(thinking: str) -> str:
    text = " ".join(thinking.split())
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


def is_closed(text: str) -> bool:
    """Whether JSON that can be read was also meant to end there: a number may have gone on.

    >>> is_closed('{"age": 12} '), is_closed("12")
    (True, False)
    """
    return text.rstrip()[-1:] in ("}", "]", '"')


def cut_json(ending: Ending) -> OllamaError:
    """JSON that was cut off, with what was written."""
    return _not_again(
        Truncated(
            f"the JSON is not complete: {ending.cut_line[1:-1]}",
            f'Send a larger "{ending.option}" in options, or ask for less.',
            partial_text=ending.text,
        )
    )


def _not_again(error: Truncated) -> Truncated:
    error.retryable = False
    return error


def does_not_fit(
    ending: Ending, found: list[str], schema: Mapping[str, Any], *, repaired: bool
) -> OllamaError:
    """An answer of the wrong form; an empty schema is that of any JSON."""
    tries = " twice" if repaired else ""
    wrong = f"does not fit the schema{tries}: {'; '.join(found)}" if schema else f"is not JSON{tries}"
    simpler = "Simplify the schema, or name" if schema else "Name"
    return Upstream(
        f"the model's answer {wrong}", f"{simpler} a more capable model.", partial_text=ending.text
    )
