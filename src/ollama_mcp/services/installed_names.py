"""Names of installed models for somebody who types one: at once, or none at all."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from ollama_mcp.jobs.per_loop import Background
from ollama_mcp.jobs.store import JobStore
from ollama_mcp.ollama.api_models import ModelInfo
from ollama_mcp.ollama.model_names import is_cloud_name
from ollama_mcp.ollama.sanitize import sanitize_text
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.settings import Settings

PATIENCE_S = 0.4
"""Seconds to wait for the server: the next key is pressed by then."""
_FRESH_S = 5.0
_CLOCK_S = 5.0


class InstalledNames:
    """The names of installed models, remembered for seconds and asked for once at a time.

    Args:
        catalog: Asks the server.
        jobs: Holds what asks it: that goes on when nobody waits any more, for the next key.
        settings: Whether cloud models may be named.
    """

    def __init__(self, catalog: Catalog, jobs: JobStore, settings: Settings) -> None:
        self._installed = catalog.snapshot.installed
        self._settings = settings
        self._look: Background[list[ModelInfo]] = Background(self._ask, jobs.spawn)

    async def like(self, text: str, capability: str = "") -> list[str]:
        """Names that begin with a text, and then those that have it elsewhere; modified last first.

        Never fails: what the server said last where it does not answer in time, or nothing.

        Args:
            text: What is typed so far; case does not matter.
            capability: Leave out models of which the server says that they lack it.
        """
        infos = await self._infos()
        typed = text.strip().lower()
        names = [sanitize_text(info.name) for info in infos if self._may_be_named(info, capability)]
        return sorted(_having(typed, names), key=lambda name: not name.lower().startswith(typed))

    def _may_be_named(self, info: ModelInfo, capability: str) -> bool:
        leaves = is_cloud_name(info.name) or bool(info.remote_host)
        lacks = bool(capability and info.capabilities) and capability not in (info.capabilities or ())
        return bool(info.name) and not lacks and (self._settings.cloud or not leaves)

    async def _infos(self) -> list[ModelInfo]:
        if self._installed.age_s >= _FRESH_S:
            await self._look.run(PATIENCE_S)
        return self._installed.known or []

    async def _ask(self) -> list[ModelInfo]:
        with anyio.fail_after(_CLOCK_S):
            return await self._installed.now()


def _having(typed: str, names: Iterable[str]) -> Iterable[str]:
    return (name for name in names if typed in name.lower())
