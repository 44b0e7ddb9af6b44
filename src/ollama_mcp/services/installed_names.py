"""Names of installed models for the completion of one that a user types: at once, or none at all."""

from __future__ import annotations

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
"""Seconds for which the list of names is taken as it is."""
_CLOCK_S = 5.0
"""Seconds for a look in the background."""


class InstalledNames:
    """The names of installed models, remembered for seconds, with one request at a time.

        names = InstalledNames(catalog, jobs, settings)
        await names.like("qwen")  # ["qwen3:8b", "qwen2.5-coder:7b"]

    Args:
        catalog: Asks the server.
        jobs: Holds the request, which goes on for the next key when no completion waits any more.
        settings: Whether cloud models may be named.
    """

    def __init__(self, catalog: Catalog, jobs: JobStore, settings: Settings) -> None:
        self._installed = catalog.snapshot.installed
        self._settings = settings
        self._look: Background[list[ModelInfo]] = Background(self._ask, jobs.spawn)

    async def like(self, text: str, capability: str = "") -> list[str]:
        """Return names that begin with a text, and then those that have it elsewhere; modified last first.

        It never fails: where the server does not answer in time, the last list is taken, or none.

        Args:
            text: The text typed so far; case does not matter.
            capability: Leave out models of which the server says that they lack it.
        """
        if self._installed.age_s >= _FRESH_S:
            await self._look.run(PATIENCE_S)
        typed = text.strip().lower()
        names: list[str] = []
        for info in self._installed.known or []:
            leaves = is_cloud_name(info.name) or bool(info.remote_host)
            lacks = bool(capability and info.capabilities) and capability not in (info.capabilities or ())
            name = sanitize_text(info.name)
            if name and not lacks and (self._settings.cloud or not leaves) and typed in name.lower():
                names.append(name)
        return sorted(names, key=lambda name: not name.lower().startswith(typed))

    async def _ask(self) -> list[ModelInfo]:
        with anyio.fail_after(_CLOCK_S):
            return await self._installed.now()
