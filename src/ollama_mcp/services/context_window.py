"""Honesty about the context: a window that grows once instead of a prompt that is cut in silence."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ollama_mcp.errors import ContextOverflow, Upstream
from ollama_mcp.ollama.model_names import canonical

_ANSWER_ROOM = 1024
"""Tokens kept for an answer whose length nobody limited."""
_DEFAULT_KEEP = 4
_REFUSES_SINCE = (0, 12, 6)
"""The first Ollama that knows `truncate`; an older one cuts whatever we say."""
_MOST_REMEMBERED = 256
_IDLE_S = 600.0
"""Twice as long as Ollama itself keeps a model that nobody uses."""


class ContextWindows:
    """The windows that models have grown to here: a changing num_ctx would reload them at every call.

    One long prompt does not change them for good: a model that nobody has used for ten minutes has its own
    window again, as one that was unloaded.
    """

    def __init__(self) -> None:
        self._grown: dict[str, tuple[int, float]] = {}

    def of(self, model: str) -> int | None:
        """The grown window of that model, in tokens, for a call that uses it now."""
        window = self._known(model)
        if window is not None:
            self._grown[canonical(model)] = window, time.monotonic()
        return window

    def _known(self, model: str) -> int | None:
        window, used_at = self._grown.get(canonical(model), (None, 0.0))
        return window if time.monotonic() - used_at <= _IDLE_S else None

    def keep(self, model: str, window: int) -> int:
        """Use that window from now on, or the larger one that the model has already; returns which."""
        if canonical(model) not in self._grown and len(self._grown) >= _MOST_REMEMBERED:
            self._grown.pop(next(iter(self._grown)))
        window = max(window, self._known(model) or 0)
        self._grown[canonical(model)] = window, time.monotonic()
        return window

    def forget(self, model: str) -> None:
        """The model was unloaded."""
        self._grown.pop(canonical(model), None)

    def give_up(self, model: str, window: int, before: int | None) -> None:
        """The model does not load with `window`: back to the one before, unless another call has grown it."""
        if self._known(model) != window:
            return
        if before is None or before == window:
            self.forget(model)
        else:
            self._grown[canonical(model)] = before, time.monotonic()


@dataclass(frozen=True)
class Need:
    """What a prompt that did not fit needs.

    Attributes:
        tokens: Length of the prompt; None where the server did not say.
        size: Length of the prompt in bytes, from which the tokens are guessed.
        answer: Tokens that the caller asked for (num_predict); None if without limit.
        window: The window that was too small; None if unknown.
    """

    tokens: int | None
    size: int
    answer: int | None
    window: int | None


def window_limit(model_max: int, allowed: int) -> int:
    """The largest window, in tokens, of a model: its own maximum (0: unknown) or the operator's.

    >>> window_limit(8192, 32768), window_limit(131072, 32768), window_limit(0, 32768)
    (8192, 32768, 32768)
    """
    return min(model_max or allowed, allowed)


def grown_window(need: Need, limit: int) -> int | None:
    """The next power of two that holds prompt and answer, at most `limit`; None if that is too small.

    >>> grown_window(Need(tokens=5000, size=0, answer=None, window=4096), 32768)
    8192
    >>> grown_window(Need(tokens=7900, size=0, answer=None, window=4096), 8192)
    8192
    >>> grown_window(Need(tokens=7900, size=0, answer=2000, window=4096), 8192)
    """
    if need.window is not None and need.window >= limit:
        return None
    if need.tokens is not None and need.tokens + (need.answer or 1) > limit:
        return None
    wanted = _guess(need) if need.tokens is None else need.tokens + (need.answer or _ANSWER_ROOM)
    return min(_power_of_two(max(wanted, (need.window or 0) + 1)), limit)


def _guess(need: Need) -> int:
    """More tokens than the prompt has, where the server only says that it is too long."""
    return max(need.size // 2, need.window or 0) + (need.answer or _ANSWER_ROOM)


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 1).bit_length()


def overflow(
    model: str, need: Need, *, limit: int, model_max: int, given: bool, may_cut: bool, what: str
) -> ContextOverflow:
    """CONTEXT_OVERFLOW with both counts, and what to send next.

    Args:
        model: Its name.
        need: What did not fit.
        limit: The largest window that could be given.
        model_max: The model's own maximum; 0 where unknown.
        given: Whether the caller chose the window.
        may_cut: Whether it can still be sent to be cut.
        what: What does not fit.
    """
    tokens = f" of {need.tokens} tokens" if need.tokens else ""
    window = need.window or limit
    own = f", the model's maximum is {model_max}" if model_max else ""
    if limit < model_max:
        own += f", OLLAMA_MCP_MAX_CONTEXT allows {limit}"
    return ContextOverflow(
        f"{what}{tokens} does not fit: {model} has a window of {window} tokens{own}",
        _remedy(need, limit, given=given),
        ways=_WAYS if may_cut else _WAYS[:-1],
        tokens=need.tokens,
        window=window,
        model_max=model_max or None,
    )


def _remedy(need: Need, limit: int, *, given: bool) -> str:
    fitting = grown_window(Need(need.tokens, need.size, need.answer, None), limit)
    if given and fitting and (need.window is None or fitting > need.window):
        return f'Send options={{"num_ctx": {fitting}}}, or leave num_ctx out.'
    if need.answer and need.tokens and need.tokens < limit < need.tokens + need.answer:
        return f'Send a "num_predict" of at most {limit - need.tokens} in options, or a shorter prompt.'
    return ""


_WAYS = [
    ("", "send a shorter text"),
    ("", "name a model with a larger window"),
    ("truncate", "send truncate=true to have it cut"),
]


def did_not_load(error: ContextOverflow | Upstream) -> bool:
    """Whether a model refused the window that it was given; a runner that dies later says it in a 200."""
    return isinstance(error, ContextOverflow) or (error.upstream_status or 0) >= 500


def cut_window(seen: int, window: int | None, keep: int | None, *, version: tuple[int, ...] | None) -> bool:
    """Whether a prompt count is the trace of a prompt that was cut in silence.

    Older servers cut to exactly the window, newer ones to what is left when half of it goes.

    Args:
        seen: prompt_eval_count.
        window: The window of the model, in tokens.
        keep: The option num_keep.
        version: The server's version if it was told not to cut, None if it was allowed to.
    """
    if not window or not seen or (version is not None and version >= _REFUSES_SINCE):
        return False
    half = window - (window - (_DEFAULT_KEEP if keep is None else keep)) // 2
    return seen in {window, half, half + 1}
