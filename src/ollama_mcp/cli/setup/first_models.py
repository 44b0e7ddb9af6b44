"""The offer of a chat and an embedding model that fit this machine, where Ollama has none."""

from __future__ import annotations

import asyncio
import os
import sys

import anyio

from ollama_mcp.app import App
from ollama_mcp.cli.jobs import run_job
from ollama_mcp.cli.output import confirmed, mark, warn
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.transfers import Transferred
from ollama_mcp.services.units import format_bytes
from ollama_mcp.settings import Settings

_REACH_S = 10.0
# Sizes to download, from ollama.com/library/qwen3 and nomic-embed-text.
_CHAT = (
    ("qwen3:14b", 9.3e9),
    ("qwen3:8b", 5.2e9),
    ("qwen3:4b", 2.5e9),
    ("qwen3:1.7b", 1.4e9),
    ("qwen3:0.6b", 0.5e9),
)
_EMBEDDING = ("nomic-embed-text", 0.27e9)
_SHARE = 3
"""A model may have a third of the memory: its context window needs some, and so do other programs."""
_UNKNOWN = 8e9
"""Memory of another machine than this one."""


def offer_models(settings: Settings, *, asks: bool) -> None:
    """Offer to pull what is missing; `asks` is False where nobody is to be asked: then it is only said."""
    try:
        lacks = asyncio.run(_lacking(settings))
    except (OllamaError, TimeoutError) as error:
        cause = error.cause if isinstance(error, OllamaError) else "Ollama does not answer"
        warn(f"{cause}. `ollama-mcp doctor` says what to do.")
        return
    for kind in lacks:
        memory = _memory() if settings.backend.host.is_loopback else _UNKNOWN
        fitting = [row for row in _CHAT if row[1] * _SHARE <= memory] or [_CHAT[-1]]
        name, size = fitting[0] if kind == "completion" else _EMBEDDING
        what = "chat" if kind == "completion" else "embedding"
        if not asks:
            warn(f"Ollama has no {what} model: `ollama pull {name}` fetches one ({format_bytes(size)}).")
        elif confirmed(f"Ollama has no {what} model. Pull {name} ({format_bytes(size)})?"):
            done = run_job(settings, lambda app, job, name=name: _pull(app, job, name), shows_text=False)
            print(f"  {name} is there." if done else f"{mark(False)} {name} was not pulled.")


async def _lacking(settings: Settings) -> list[str]:
    """Return the capabilities that no installed model has."""
    async with App.create(settings) as app:
        with anyio.fail_after(_REACH_S):
            rows = await app.catalog.listed()
    return [
        kind
        for kind in ("completion", "embedding")
        if not any(kind in row.model.capabilities for row in rows)
    ]


async def _pull(app: App, job: Job[Transferred], name: str) -> Transferred:
    return await app.transfers.pull(name, job, confirmed=Confirmation(name))


def _memory() -> float:
    """Return the memory of this machine in bytes."""
    if sys.platform != "win32":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    import ctypes  # noqa: PLC0415 - its windll is on Windows only

    # MEMORYSTATUSEX: two numbers of 32 bits, the first one its size, then seven of 64 bits.
    status = (ctypes.c_uint64 * 8)(ctypes.sizeof(ctypes.c_uint64) * 8)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return float(status[1])
