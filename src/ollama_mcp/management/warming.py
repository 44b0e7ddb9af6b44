"""Warm-up: the operator's models are loaded in the background, so that nobody's first call waits for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.per_loop import PerLoop
from ollama_mcp.jobs.store import Replies
from ollama_mcp.management.shelf import Shelf

PAUSE_S = 0.2
"""Seconds before the first load: the answer in which it was begun has left by then."""

_log = logging.getLogger(__name__)


@dataclass
class _Begun:
    """The warm-up of one event loop."""

    task: asyncio.Task[None] | None = None


class Warmer:
    """Loads models once for each event loop, one after the other.

    Args:
        shelf: Loads them.
        replies: Holds the task, and cancels it when the App closes.
        models: Their names.
    """

    def __init__(self, shelf: Shelf, replies: Replies, models: Sequence[str]) -> None:
        self._shelf = shelf
        self._replies = replies
        self._models = models
        self._begun: PerLoop[_Begun] = PerLoop(_Begun)

    def begin(self) -> None:
        """Begin in the background, and return at once; what goes on or has been done is not begun again.

        The work belongs to no call: cancelling one leaves it alone. One that a closing App has cut
        short begins anew.
        """
        begun = self._begun.here()
        if self._models and (begun.task is None or begun.task.cancelled()):
            begun.task = self._replies.spawn(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(PAUSE_S)
        for model in self._models:
            await self._load(model)

    async def _load(self, model: str) -> None:
        """One model; a failure is a line in the log, as nobody waits for it."""
        try:
            done = await self._replies.start(partial(self._shelf.load, model)).result()
        except OllamaError as error:
            _log.warning("warm-up of %s: %s", model, error)
        else:
            _log.info("warm-up of %s: loaded after %.1f s", model, done.seconds)
