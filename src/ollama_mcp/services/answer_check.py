"""Errors of finished answers: an empty or a cut one must not look like a success.

The text says what the reader has to know, since no client shows the rest of a result to its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollama_mcp.errors import BadUpstream, OllamaError, Truncated, Upstream

_SHOWN = 120
"""Characters of the end of a thinking that stands alone: the answer may be there."""


@dataclass(frozen=True)
class Completion:
    """A finished generation, and how it ended.

        end = Completion("The sky", "", "length", prompt_tokens=9, tokens=2, limit=2, window=4096)
        end.cut_line  # "[cut off at 2 tokens (num_predict)]"

    Attributes:
        text: The text of the answer.
        thinking: The text of the thinking.
        reason: Ollama's done_reason: stop, length, load or unload.
        prompt_tokens: Tokens of the prompt; 0 where the server did not say.
        tokens: Tokens that were generated, thinking included; 0 where the server did not say.
        limit: The num_predict; None if there was none.
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
        """Whether the context window ended it, rather than num_predict."""
        if not self.window or (self.limit and self.tokens >= self.limit):
            return False
        return self.prompt_tokens + self.tokens >= self.window - 1

    @property
    def option(self) -> str:
        """The option that has to be larger."""
        return "num_ctx" if self.window_is_full else "num_predict"

    @property
    def cut_line(self) -> str:
        """The line to put behind a text that was cut off; "" behind one that was not."""
        if not self.is_cut:
            return ""
        if self.window_is_full:
            return f"[cut off at {_tokens(self.tokens)}: the context window of {self.window} tokens is full]"
        count = self.limit or self.tokens
        return f"[cut off at {_tokens(count)} (num_predict)]" if count else "[cut off at its token limit]"


def no_answer(end: Completion) -> OllamaError:
    """Return why there is neither text nor a tool call, and what to send."""
    without_thinking: list[tuple[str, str]] = []
    if end.thinking and end.may_stop_thinking:
        without_thinking.append(("think", 'send think="false"'))
    if end.is_cut:
        count = end.limit or end.tokens
        spent = f"all {_tokens(count)}" if count else "all tokens"
        full = f", and the context window of {end.window} tokens is full" if end.window_is_full else ""
        where = "went into thinking" if end.thinking else "were used before a word was written"
        error = Truncated(
            f"no answer: {spent} {where}{full}",
            ways=[("options", f'send a larger "{end.option}" in options'), *without_thinking],
        )
        error.retryable = False
        return error
    if end.reason in {"load", "unload"}:
        return BadUpstream(
            f"no answer: the model was only {end.reason}ed, since there was nothing to answer",
            "Send a prompt, or a message of the user.",
        )
    if end.thinking:
        last = " ".join(end.thinking.split())
        last = last if len(last) <= _SHOWN else f"…{last[-_SHOWN:]}"
        return BadUpstream(
            f"no answer: the model stopped after its thinking, which ends: {last}",
            ways=[*without_thinking, ("", "ask for the answer in other words")],
        )
    return BadUpstream(
        "no answer: the model stopped at once",
        "Ask in other words, or name another model.",
    )


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"


def is_closed(text: str) -> bool:
    """Return whether JSON that can be read was also meant to end there: a number may have gone on.

    >>> is_closed('{"age": 12} '), is_closed("12")
    (True, False)
    """
    return text.rstrip()[-1:] in ("}", "]", '"')


def cut_json(end: Completion) -> OllamaError:
    """Return the error of JSON that was cut off, with what was written."""
    error = Truncated(
        f"the JSON is not complete: {end.cut_line[1:-1]}",
        f'Send a larger "{end.option}" in options, or ask for less.',
        partial_text=end.text,
    )
    error.retryable = False
    return error


def does_not_fit(
    end: Completion, violations: list[str], schema: Mapping[str, Any], *, repaired: bool
) -> OllamaError:
    """Return the error of an answer that does not fit its schema.

    Args:
        end: The answer.
        violations: What is wrong with it.
        schema: The schema; an empty one is that of any JSON.
        repaired: Whether the model was asked a second time.
    """
    tries = " twice" if repaired else ""
    wrong = f"does not fit the schema{tries}: {'; '.join(violations)}" if schema else f"is not JSON{tries}"
    simpler = "Simplify the schema, or name" if schema else "Name"
    return Upstream(f"the model's answer {wrong}", f"{simpler} a more capable model.", partial_text=end.text)
