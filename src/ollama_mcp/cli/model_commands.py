"""`ollama-mcp models`, `pull` and `status`: Ollama's models for a person at a terminal."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from typing import Any

import anyio
from mcp_types import CallToolResult, TextContent

from ollama_mcp.app import App
from ollama_mcp.cli.jobs import complain, run_job
from ollama_mcp.cli.output import StatusLine, mark
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.catalog import Listed
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.transfers import Transferred
from ollama_mcp.services.units import format_bytes
from ollama_mcp.settings import Settings
from ollama_mcp.tools.model_reports import status_report
from ollama_mcp.tools.results import columns, size_of

_REACH_S = 10.0
_EVERY_S = 2.0


def models(settings: Settings, *, as_json: bool) -> int:
    """List the installed models; returns the exit status."""

    async def listed() -> list[Listed]:
        async with App.create(settings) as app:
            return await app.catalog.listed()

    try:
        rows = asyncio.run(listed())
    except OllamaError as error:
        return complain(error)
    if as_json:
        print(json.dumps([_as_data(row) for row in rows], indent=2))
    elif rows:
        head = ("name", "size", "kind", "window", "can", "loaded")
        print(columns([head, *map(_cells, rows)]))
    else:
        print("No model is installed. `ollama-mcp pull qwen3:4b` installs one (2.5 GB).")
    return 0


def _as_data(row: Listed) -> dict[str, object]:
    return {
        "name": row.info.name,
        "size": row.info.size,
        "parameters": row.info.details.parameter_size,
        "quantization": row.info.details.quantization_level,
        "window": row.model.max_context,
        "capabilities": sorted(row.model.capabilities),
        "is_cloud": row.model.is_cloud,
        "is_loaded": row.is_loaded,
    }


def _cells(row: Listed) -> tuple[str, ...]:
    details = row.info.details
    share = row.running.gpu_share if row.running else None
    loaded = "-" if row.running is None else "yes" if share is None else f"{share:.0%} on GPU"
    return (
        row.info.name,
        "cloud" if row.model.is_cloud else size_of(row.info.size),
        " ".join(filter(None, [details.parameter_size, details.quantization_level])) or "-",
        str(row.model.max_context or "-"),
        ", ".join(sorted(row.model.capabilities)) or "-",
        loaded,
    )


def pull(settings: Settings, names: list[str]) -> int:
    """Install models, one after another; who types the name has confirmed its size; returns the status."""

    async def fetch(app: App, job: Job[Transferred], name: str) -> Transferred:
        return await app.transfers.pull(name, job, confirmed=Confirmation(name))

    try:
        for name in names:
            found = run_job(settings, partial(fetch, name=name), shows_text=False)
            if found is None:
                return 1
            size = f", {format_bytes(found.size)}" if found.size else ""
            print(f"{mark(True)} {found.model} is installed{size}, {found.seconds:.0f} s")
            for note in found.notes:
                print(f"  {note}")
    except KeyboardInterrupt:
        print("Stopped. The same command goes on where it was.", file=sys.stderr)
        raise
    return 0


def status(settings: Settings, *, watches: bool, as_json: bool) -> int:
    """Show the status of Ollama, once or until Ctrl-C; returns 0 if it answers."""
    return asyncio.run(_status(settings, watches=watches, as_json=as_json))


async def _status(settings: Settings, *, watches: bool, as_json: bool) -> int:
    line = StatusLine()
    async with App.create(settings) as app:
        while True:
            line.show(f"asking {app.client.address}")
            with anyio.move_on_after(_REACH_S):
                await app.status_probe.is_up()
            report = status_report(await app.status_probe.status())
            line.clear()
            data: dict[str, Any] = report.structured_content or {}
            if watches and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            if as_json:
                print(json.dumps(data, indent=None if watches else 2), flush=True)
            else:
                at = f"{time.strftime('%H:%M:%S')}  " if watches else ""
                print(
                    f"{mark(bool(data['reachable']))} {at}{app.client.address}: {_text(report)}", flush=True
                )
            if not watches:
                return 0 if data["reachable"] else 1
            await asyncio.sleep(_EVERY_S)


def _text(report: CallToolResult) -> str:
    (block,) = report.content
    return block.text if isinstance(block, TextContent) else ""
