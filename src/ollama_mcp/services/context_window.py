"""Context windows: one that grows once, instead of a prompt that Ollama cuts in silence.

`WindowGrowth` sends a request again in a larger window where its prompt does not fit, `ContextWindows`
remembers which windows models have grown to, and `was_prompt_cut` recognises a prompt that was cut.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ollama_mcp.errors import ContextOverflow, Upstream
from ollama_mcp.ollama.model_names import canonical

if TYPE_CHECKING:
    from ollama_mcp.jobs.job import Part
    from ollama_mcp.services.backend import OllamaBackend
    from ollama_mcp.services.catalog import Model

T = TypeVar("T")

_ANSWER_ROOM = 1024
"""Tokens kept for an answer whose length nobody limited."""
_DEFAULT_KEEP = 4
"""Ollama's own num_keep."""
_REFUSES_SINCE = (0, 12, 6)
"""The first Ollama that knows `truncate`; an older one cuts whatever the request says."""
_IDLE_S = 600.0
"""Seconds; twice as long as Ollama itself keeps a model that nobody uses."""


class ContextWindows:
    """The windows that models have grown to here: a num_ctx that changes would reload them at every call.

    One long prompt does not change them for good: a model that nobody has used for ten minutes has its own
    window again, as one that was unloaded.

        windows = ContextWindows()
        windows.keep("qwen3:8b", 16384)
        windows.of("qwen3:8b")  # 16384
    """

    def __init__(self) -> None:
        self._grown: dict[str, tuple[int, float]] = {}
        """By canonical name: the window in tokens, and when it was used last."""

    def of(self, model: str) -> int | None:
        """Return the grown window of a model, in tokens, for a call that uses it now."""
        name = canonical(model)
        window = self._window(name)
        if window is not None:
            self._grown[name] = window, time.monotonic()
        return window

    def _window(self, name: str) -> int | None:
        window, used_at = self._grown.get(name, (None, 0.0))
        return window if time.monotonic() - used_at <= _IDLE_S else None

    def keep(self, model: str, window: int) -> int:
        """Use a window from now on, or the larger one that the model has already.

        Returns:
            The window that the model has now, in tokens.
        """
        name = canonical(model)
        window = max(window, self._window(name) or 0)
        self._grown[name] = window, time.monotonic()
        return window

    def forget(self, model: str) -> None:
        """Forget the window of a model that was unloaded."""
        self._grown.pop(canonical(model), None)

    def give_up(self, model: str, window: int, before: int | None) -> None:
        """Take back a window with which the model does not load, unless another call has grown it since.

        Args:
            model: The model.
            window: The window to give up, in tokens.
            before: The window that it had before; None for its own.
        """
        name = canonical(model)
        if self._window(name) != window:
            return
        if before is None or before == window:
            self._grown.pop(name, None)
        else:
            self._grown[name] = before, time.monotonic()


@dataclass(frozen=True)
class PromptSize:
    """The size of a prompt that did not fit.

    Attributes:
        tokens: Length of the prompt; None where the server did not say.
        size: Length of the prompt in bytes, from which the tokens are estimated.
        answer: Tokens that the caller wants at most (num_predict); None if without limit.
        window: The window that was too small, in tokens; None if unknown.
    """

    tokens: int | None
    size: int
    answer: int | None
    window: int | None


def window_limit(model_max: int, allowed: int) -> int:
    """Return the largest window, in tokens, of a model: its own maximum (0: unknown) or the operator's.

    >>> window_limit(8192, 32768), window_limit(131072, 32768), window_limit(0, 32768)
    (8192, 32768, 32768)
    """
    return min(model_max or allowed, allowed)


def grown_window(prompt: PromptSize, limit: int) -> int | None:
    """Return the next power of two that holds prompt and answer, at most `limit`; None if that is too small.

    >>> grown_window(PromptSize(tokens=5000, size=0, answer=None, window=4096), 32768)
    8192
    >>> grown_window(PromptSize(tokens=7900, size=0, answer=None, window=4096), 8192)
    8192
    >>> grown_window(PromptSize(tokens=7900, size=0, answer=2000, window=4096), 8192)
    """
    if prompt.window is not None and prompt.window >= limit:
        return None
    if prompt.tokens is not None and prompt.tokens + (prompt.answer or 1) > limit:
        return None
    tokens = prompt.tokens
    if tokens is None:  # at two bytes a token an estimate is rather too large than too small
        tokens = max(prompt.size // 2, prompt.window or 0)
    least = max(tokens + (prompt.answer or _ANSWER_ROOM), (prompt.window or 0) + 1)
    return min(1 << max(least - 1, 1).bit_length(), limit)


def overflow(
    model: str, prompt: PromptSize, *, limit: int, model_max: int, given: bool, may_cut: bool, what: str
) -> ContextOverflow:
    """Return CONTEXT_OVERFLOW with both counts, and what to send next.

    Args:
        model: The model.
        prompt: The prompt that did not fit.
        limit: The largest window that could be given, in tokens.
        model_max: The model's own maximum, in tokens; 0 where unknown.
        given: Whether the caller chose the window.
        may_cut: Whether the prompt can still be sent to be cut.
        what: The name of the prompt in the text.
    """
    tokens = f" of {prompt.tokens} tokens" if prompt.tokens else ""
    window = prompt.window or limit
    own = f", the model's maximum is {model_max}" if model_max else ""
    if limit < model_max:
        own += f", OLLAMA_MCP_MAX_CONTEXT allows {limit}"
    remedy = ""
    fitting = grown_window(PromptSize(prompt.tokens, prompt.size, prompt.answer, None), limit)
    if given and fitting and (prompt.window is None or fitting > prompt.window):
        remedy = f'Send options={{"num_ctx": {fitting}}}, or leave num_ctx out.'
    elif prompt.answer and prompt.tokens and prompt.tokens < limit < prompt.tokens + prompt.answer:
        room = limit - prompt.tokens
        remedy = f'Send a "num_predict" of at most {room} in options, or a shorter prompt.'
    ways = [("", "send a shorter text"), ("", "name a model with a larger window")]
    if may_cut:
        ways.append(("truncate", "send truncate=true to have it cut"))
    return ContextOverflow(
        f"{what}{tokens} does not fit: {model} has a window of {window} tokens{own}",
        remedy,
        ways=ways,
        tokens=prompt.tokens,
        window=window,
        model_max=model_max or None,
    )


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """A request whose window may grow.

    Attributes:
        send: Sends it.
        measure: Measures the prompt, once it did not fit.
        grow: Gives the request, and all that are sent after it, a larger window.
        window: The window that it asks for, in tokens; None for the server's own.
        has_grown: Whether its window has grown already, so that it does not grow again.
        is_given: Whether the caller chose the window, which then is left alone.
        may_be_cut: Whether the caller lets the prompt be cut, which the server may not do.
        what: The name of the prompt in the text of an error.
    """

    send: Callable[[], Awaitable[T]]
    measure: Callable[[ContextOverflow], Awaitable[PromptSize]]
    grow: Callable[[int], None]
    window: int | None
    has_grown: bool
    is_given: bool = False
    may_be_cut: bool = False
    what: str = "the prompt"


class WindowGrowth:
    """Sends requests, in a larger window where a prompt does not fit.

    attempt = Attempt(send=…, measure=…, grow=…, window=None, has_grown=False)
    output = await WindowGrowth(backend).run(model, job, attempt)
    """

    def __init__(self, backend: OllamaBackend) -> None:
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._settings = backend.settings

    async def run(self, model: Model, job: Part, attempt: Attempt[T]) -> T:
        """Send a request; where it does not fit, send it once more in a larger window, if there may be one.

        Raises:
            ContextOverflow: It does not fit, and will not.
            OllamaError: Any other failure of what is sent.
        """
        kept, before = self._windows.of(model.name), job.count
        try:
            return await attempt.send()
        except ContextOverflow as error:
            prompt = await attempt.measure(error)
        except Upstream as error:
            # A window that an earlier call has grown may be what the model does not load with now.
            if kept and kept == attempt.window and job.count == before and _did_not_load(error):
                self._windows.give_up(model.name, kept, None)
            raise
        limit = window_limit(model.max_context, self._settings.max_context)
        refusal = overflow(
            model.name,
            prompt,
            limit=limit,
            model_max=model.max_context,
            given=attempt.is_given,
            may_cut=not attempt.may_be_cut,
            what=attempt.what,
        )
        window = None if attempt.is_given or attempt.has_grown else grown_window(prompt, limit)
        if window is None:
            raise refusal
        kept, before = self._windows.of(model.name), job.count
        window = self._windows.keep(model.name, window)
        attempt.grow(window)
        job.notes.append(f"window grown to {window}")
        self._catalog.forget_window()
        try:
            return await attempt.send()
        except (ContextOverflow, Upstream) as error:
            if job.count != before or not _did_not_load(error):
                raise
            self._windows.give_up(model.name, window, kept)
            raise refusal from error


def _did_not_load(error: ContextOverflow | Upstream) -> bool:
    """Return whether a model refused its window; a runner that dies later says so in a line of a 200."""
    return isinstance(error, ContextOverflow) or (error.upstream_status or 0) >= 500


def was_prompt_cut(
    seen: int, window: int | None, keep: int | None, *, version: tuple[int, ...] | None
) -> bool:
    """Return whether a count of tokens is the trace of a prompt that was cut in silence.

    Older servers cut to exactly the window, newer ones to what is left when half of it goes.

    Args:
        seen: Ollama's prompt_eval_count.
        window: The window of the model, in tokens.
        keep: The option num_keep.
        version: The server's version if it was told not to cut, None if it was allowed to.
    """
    if not window or not seen or (version is not None and version >= _REFUSES_SINCE):
        return False
    half = window - (window - (_DEFAULT_KEEP if keep is None else keep)) // 2
    return seen in {window, half, half + 1}
