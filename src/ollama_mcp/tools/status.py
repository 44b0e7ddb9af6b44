"""The status as a result: what goes on, for people and as data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mcp_types import CallToolResult
from pydantic import BaseModel

from ollama_mcp.jobs.job import Reply
from ollama_mcp.jobs.model_queue import LineStatistics
from ollama_mcp.ollama.api_models import RunningModel
from ollama_mcp.services.server_status import LATE, Status
from ollama_mcp.tools.results import facts
from ollama_mcp.tools.tables import columns, size_of

_RECENT_S = 10
_FOREVER_S = 100 * 365 * 24 * 3600


class LoadedRow(BaseModel):
    """A model in memory: bytes, per cent on the GPU, tokens, seconds until it goes, if it does."""

    name: str
    size: int
    gpu_percent: int | None = None
    window: int | None = None
    expires_s: int | None = None


class LineRow(BaseModel):
    """Calls through this server: how many run and wait, and how long one takes on average."""

    running: int
    waiting: int
    mean_s: float | None = None


class QueueRow(LineRow):
    """The calls of one model."""

    model: str


class RunningRow(BaseModel):
    """A call of yours that goes on."""

    handle: str
    model: str
    state: str


class StatusReport(BaseModel):
    """The status as data; `trouble` says why Ollama does not answer."""

    reachable: bool
    version: str
    trouble: str
    loaded: list[LoadedRow]
    queue: list[QueueRow]
    running: list[RunningRow]
    tokens_per_s: dict[str, float]
    transfers: LineRow | None = None


def status_report(status: Status) -> CallToolResult:
    """The status for people, and the same as data."""
    seen = status.seen
    data: dict[str, Any] = {
        "reachable": not status.trouble,
        "version": seen.version if seen else "",
        "trouble": _trouble(status),
        "loaded": [_loaded(model) for model in seen.loaded or ()] if seen else [],
        "queue": [{"model": line.model} | _line(line) for line in status.lines],
        "running": [_running(reply) for reply in status.running],
        "tokens_per_s": status.speeds,
    }
    if status.transfers is not None:
        data["transfers"] = _line(status.transfers)
    return facts("\n\n".join([_server(status), *_tables(data)]), data)


def _loaded(model: RunningModel) -> dict[str, Any]:
    share = model.gpu_share
    return {
        "name": model.name or model.model,
        "size": model.size,
        "gpu_percent": None if share is None else round(100 * share),
        "window": model.context_length or None,
        "expires_s": _seconds_left(model.expires_at),
    }


def _seconds_left(at: str) -> int | None:
    """Until a time as Ollama writes it; None for never, and for what is no time."""
    try:
        left = (datetime.fromisoformat(at) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(round(left), 0) if left < _FOREVER_S else None


def _line(line: LineStatistics) -> dict[str, Any]:
    mean = None if line.mean_s is None else round(line.mean_s, 1)
    return {"running": line.running, "waiting": line.waiting, "mean_s": mean}


def _running(reply: Reply[object]) -> dict[str, Any]:
    return {"handle": reply.handle, "model": reply.model, "state": reply.summary()}


def _server(status: Status) -> str:
    seen = status.seen
    name = f"Ollama {seen.version}" if seen and seen.version else "Ollama"
    if status.trouble:
        is_late = seen is not None and status.age_s < _RECENT_S and status.trouble == LATE
        verb = "answers late" if is_late else "does not answer"
        return f"{name} {verb}: {_trouble(status)}."
    if seen is not None and seen.loaded is None:
        return f"{name} answers. It does not say which models are loaded."
    return f"{name} answers." + ("" if seen and seen.loaded else " No model is loaded.")


def _trouble(status: Status) -> str:
    """Why it does not answer, and of when the rest is then."""
    last = f"; it answered {status.age_s:.0f} s ago, and this is of then" if status.seen else ""
    return status.trouble and f"{status.trouble}{last}"


def _tables(data: dict[str, Any]) -> Iterator[str]:
    if data["loaded"]:
        rows = [_loaded_cells(model) for model in data["loaded"]]
        yield columns([("loaded", "size", "on GPU", "window", "expires in"), *rows])
    if data["queue"]:
        speeds = data["tokens_per_s"]
        rows = [_line_cells(line, speeds.get(line["model"])) for line in data["queue"]]
        yield columns([("here", "running", "waiting", "mean call", "tok/s"), *rows])
    if "transfers" in data:
        line = data["transfers"]
        yield f"Pulls, pushes and creations: {line['running']} running, {line['waiting']} waiting."
    if data["running"]:
        rows = [tuple(reply.values()) for reply in data["running"]]
        yield columns([("handle", "model", "state"), *rows])


def _loaded_cells(model: dict[str, Any]) -> tuple[str, ...]:
    share, expires = model["gpu_percent"], model["expires_s"]
    return (
        model["name"],
        size_of(model["size"]),
        "-" if share is None else f"{share} %",
        str(model["window"] or "-"),
        "-" if expires is None else f"{expires} s",
    )


def _line_cells(line: dict[str, Any], speed: float | None) -> tuple[str, ...]:
    mean = line["mean_s"]
    return (
        line["model"],
        str(line["running"]),
        str(line["waiting"]),
        "-" if mean is None else f"{mean:g} s",
        "-" if speed is None else f"{speed:g}",
    )
