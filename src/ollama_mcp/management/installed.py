"""Names of installed models for somebody who types one: at once, or none at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio

from ollama_mcp.catalog import Catalog
from ollama_mcp.errors import OllamaError
from ollama_mcp.loops import PerLoop
from ollama_mcp.names import is_cloud_name
from ollama_mcp.plain import clean_text
from ollama_mcp.replies import Replies
from ollama_mcp.settings import Settings
from ollama_mcp.wire import ModelInfo

PATIENCE_S = 0.4
"""Seconds to wait for the server: the next key is pressed by then."""
_FRESH_S = 5.0
_CLOCK_S = 5.0


@dataclass
class _Seen:
    """What one event loop knows, and the asking that goes on there."""

    probe: asyncio.Task[list[ModelInfo]] | None = None
    at: float = -_FRESH_S
    infos: list[ModelInfo] = field(default_factory=list[ModelInfo])


class InstalledNames:
    """The names of installed models, remembered for seconds and asked for once at a time.

    Args:
        catalog: Asks the server.
        replies: Holds what asks it: that goes on when nobody waits any more, for the next key.
        settings: Whether cloud models may be named.
    """

    def __init__(self, catalog: Catalog, replies: Replies, settings: Settings) -> None:
        self._catalog = catalog
        self._replies = replies
        self._settings = settings
        self._seen: PerLoop[_Seen] = PerLoop(_Seen)

    async def like(self, text: str, capability: str = "") -> list[str]:
        """Names that begin with a text, and then those that have it elsewhere; modified last first.

        Never fails: what the server said last where it does not answer in time, or nothing.

        Args:
            text: What is typed so far; case does not matter.
            capability: Leave out models of which the server says that they lack it.
        """
        infos = await self._infos()
        typed = text.strip().lower()
        names = [clean_text(info.name) for info in infos if self._may_be_named(info, capability)]
        return sorted(_having(typed, names), key=lambda name: not name.lower().startswith(typed))

    def _may_be_named(self, info: ModelInfo, capability: str) -> bool:
        leaves = is_cloud_name(info.name) or bool(info.remote_host)
        lacks = bool(capability and info.capabilities) and capability not in (info.capabilities or ())
        return bool(info.name) and not lacks and (self._settings.cloud or not leaves)

    async def _infos(self) -> list[ModelInfo]:
        seen = self._seen.here()
        self._harvest(seen)
        if time.monotonic() - seen.at >= _FRESH_S:
            if seen.probe is None:
                seen.probe = self._replies.spawn(self._ask())
            await asyncio.wait([seen.probe], timeout=PATIENCE_S)
            self._harvest(seen)
        return seen.infos

    def _harvest(self, seen: _Seen) -> None:
        """Take what came of the asking, whoever began it."""
        probe = seen.probe
        if probe is None or not probe.done():
            return
        seen.probe = None
        if not probe.cancelled():
            seen.infos, seen.at = probe.result(), time.monotonic()

    async def _ask(self) -> list[ModelInfo]:
        """The list, or nothing: a person who types has no use for an error."""
        try:
            with anyio.move_on_after(_CLOCK_S):
                return await self._catalog.entries()
        except OllamaError:
            pass
        return []


def _having(typed: str, names: Iterable[str]) -> Iterable[str]:
    return (name for name in names if typed in name.lower())
