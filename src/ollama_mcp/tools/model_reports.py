"""Models and the server's status as results: tables and data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mcp_types import CallToolResult
from pydantic import BaseModel

from ollama_mcp.jobs.job import Job
from ollama_mcp.jobs.model_queue import QueueStatistics
from ollama_mcp.ollama.api_models import RunningModel
from ollama_mcp.services.model_manager import Copied, Deleted, InMemory, Loaded, Summary, Unloaded
from ollama_mcp.services.server_status import LATE, Status
from ollama_mcp.services.transfers import Transferred
from ollama_mcp.services.units import format_bytes
from ollama_mcp.tools.results import NOTES, columns, render, size_of, table_result

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
    """The status as data; `trouble` says why Ollama does not answer.

    `upstreams` are there where any are configured: by name an object with `state`, `error` and `tools`.
    """

    reachable: bool
    version: str = ""
    trouble: str = ""
    loaded: list[LoadedRow]
    queue: list[QueueRow]
    running: list[RunningRow]
    tokens_per_s: dict[str, float] = {}
    transfers: LineRow | None = None
    # The schema of a table that most servers do not have would cost every client tokens.
    upstreams: dict[str, Any] | None = None


def status_report(status: Status) -> CallToolResult:
    """The status for people, and the same as data."""
    seen = status.seen
    data: dict[str, Any] = {
        "reachable": not status.trouble,
        "version": seen.version if seen else "",
        "trouble": _trouble(status),
        "loaded": [_loaded(model) for model in seen.loaded or ()] if seen else [],
        "queue": [{"model": line.model} | _line(line) for line in status.lines],
        "running": [_running(job) for job in status.running],
        "tokens_per_s": status.speeds,
    }
    if status.transfers is not None:
        data["transfers"] = _line(status.transfers)
    if status.upstreams:
        rows = map(asdict, status.upstreams)
        data["upstreams"] = {row.pop("name"): row for row in rows}
    return table_result("\n\n".join([_server(status), *_tables(data), *status.warnings]), data)


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


def _line(line: QueueStatistics) -> dict[str, Any]:
    mean = None if line.mean_s is None else round(line.mean_s, 1)
    return {"running": line.running, "waiting": line.waiting, "mean_s": mean}


def _running(job: Job[object]) -> dict[str, Any]:
    return {"handle": job.handle, "model": job.model, "state": job.summary()}


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
        rows = [tuple(job.values()) for job in data["running"]]
        yield columns([("handle", "model", "state"), *rows])
    if "upstreams" in data:
        yield "\n".join(_upstream(row) for row in data["upstreams"].items())


def _upstream(named: tuple[str, dict[str, Any]]) -> str:
    name, row = named
    tools = "" if row["tools"] is None else f", {row['tools']} tools may be asked"
    error = f": {row['error']}" if row["error"] else ""
    return f"Upstream {name}: {row['state']}{tools}{error}."


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


class ModelCard(BaseModel):
    """A model as data. What is unknown or empty is left out; the last five are there where asked for."""

    name: str
    digest: str
    size: int
    modified_at: str
    family: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    window: int | None = None
    dimensions: int | None = None
    capabilities: list[str]
    defaults: dict[str, Any] | None = None
    is_cloud: bool
    parent: str | None = None
    requires: str | None = None
    memory: InMemory | None = None
    template: str | None = None
    system: str | None = None
    license: str | None = None
    messages: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None


_MAY_BE_UNKNOWN = (
    "family", "parameters", "quantization", "window", "dimensions", "defaults", "parent", "requires",
)  # fmt: skip

Shown = tuple[Summary, str]
"""A model, and the name of the long part of it that was asked for; "" for none."""


def shown(found: Shown) -> CallToolResult:
    """The short facts of a model, and the part that was asked for."""
    summary, wanted = found
    data = {name: value for name, value in asdict(summary).items() if name != "parts"}
    data |= {name: data[name] or None for name in _MAY_BE_UNKNOWN}
    data["capabilities"] = list(summary.capabilities)
    lines = [f"{label}: {value}" for label, value in _facts_of(summary).items() if value]
    if wanted:
        part = summary.part(wanted)
        data[wanted] = part or None
        lines += ["", f"{wanted}:", _as_text(part) if part else "(none)"]
    return table_result("\n".join(lines), data)


def _facts_of(summary: Summary) -> dict[str, str]:
    return {
        "name": summary.name,
        "what": " ".join(filter(None, [summary.family, summary.parameters, summary.quantization])),
        "size": format_bytes(summary.size),
        "window": f"{summary.window} tokens" if summary.window else "",
        "dimensions": str(summary.dimensions or ""),
        "can": ", ".join(summary.capabilities),
        "defaults": ", ".join(f"{name}={value}" for name, value in summary.defaults.items()),
        "made from": summary.parent,
        "needs": f"Ollama {summary.requires}" if summary.requires else "",
        "where": "in the cloud: prompts leave this machine" if summary.is_cloud else "on this machine",
        "loaded": _memory(summary),
    }


def _memory(summary: Summary) -> str:
    memory = summary.memory
    if memory is None:
        return "no"
    share = "" if memory.gpu is None else f", {memory.gpu:.0%} of it on the GPU"
    window = f", with a window of {memory.window} tokens" if memory.window else ""
    return f"{format_bytes(memory.size)}{share}{window}"


def _as_text(part: Any) -> str:
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=1)


# --- what has been done ------------------------------------------------------------------------


@render.register(Transferred)
@render.register(Copied)
@render.register(Deleted)
@render.register(Loaded)
@render.register(Unloaded)
def done(found: Transferred | Copied | Deleted | Loaded | Unloaded) -> CallToolResult:
    """Say what has been done, in a sentence and as data."""
    data: Mapping[str, Any] = asdict(found)
    return table_result(_sentence(found), dict(data), {NOTES: data.get("notes", [])})


def _sentence(found: Transferred | Copied | Deleted | Loaded | Unloaded) -> str:
    match found:
        case Transferred():
            size = f", {format_bytes(found.size)}" if found.size else ""
            text = f"{found.model}: {found.status} after {found.seconds:.0f} s{size}."
        case Copied():
            text = f"{found.source} is now {found.model}, too; the files are shared."
        case Deleted():
            text = f"{found.model} is deleted; at most {format_bytes(found.freed)} are free again."
        case Loaded():
            text = f"{found.model} {'was' if found.was_loaded else 'is'} loaded, {_seconds(found)}."
        case Unloaded():
            text = f"{found.model} {'is unloaded' if found.was_loaded else 'was not loaded'}."
    return "\n".join([text, *getattr(found, "notes", [])])


def _seconds(found: Loaded) -> str:
    share = "" if found.memory is None or found.memory.gpu is None else f", {found.memory.gpu:.0%} on the GPU"
    return f"after {found.seconds:.1f} s{share}"
