"""A request whose prompt does not fit is sent once more, in a larger window; beyond that it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ollama_mcp.errors import ContextOverflow, Upstream
from ollama_mcp.jobs.job import Part
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Model
from ollama_mcp.services.context_window import Need, did_not_load, grown_window, overflow, window_limit

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """A request as it stands.

    Attributes:
        send: Sends it.
        need: What it needs, once it did not fit.
        grow: Gives it a larger window, and whatever is sent after it.
        window: The window that it asks for; None for the server's own.
        is_final: Whether its window has grown already, so that it does not grow again.
        is_given: Whether the caller chose the window, which then is left alone.
        is_cut: Whether the caller lets it be cut, which the server may not do.
        what: What may not fit.
    """

    send: Callable[[], Awaitable[T]]
    need: Callable[[ContextOverflow], Awaitable[Need]]
    grow: Callable[[int], None]
    window: int | None
    is_final: bool
    is_given: bool = False
    is_cut: bool = False
    what: str = "the prompt"


class WindowGrowth:
    """Makes Attempts, and remembers what windows models have grown to."""

    def __init__(self, backend: OllamaBackend) -> None:
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._settings = backend.settings

    async def run(self, model: Model, job: Part, attempt: Attempt[T]) -> T:
        """Send it; where it does not fit, send it in a larger window, if there may be one.

        Raises:
            ContextOverflow: It does not fit, and will not.
            OllamaError: Any other failure of what is sent.
        """
        kept, before = self._windows.of(model.name), job.count
        try:
            return await attempt.send()
        except ContextOverflow as error:
            need = await attempt.need(error)
        except Upstream as error:
            if kept and kept == attempt.window and job.count == before and did_not_load(error):
                self._windows.give_up(model.name, kept, None)
            raise
        return await self._again(model, job, attempt, need)

    async def _again(self, model: Model, job: Part, attempt: Attempt[T], need: Need) -> T:
        limit = window_limit(model.max_context, self._settings.max_context)
        refusal = overflow(
            model.name,
            need,
            limit=limit,
            model_max=model.max_context,
            given=attempt.is_given,
            may_cut=not attempt.is_cut,
            what=attempt.what,
        )
        window = None if attempt.is_given or attempt.is_final else grown_window(need, limit)
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
            if job.count != before or not did_not_load(error):
                raise
            self._windows.give_up(model.name, window, kept)
            raise refusal from error
