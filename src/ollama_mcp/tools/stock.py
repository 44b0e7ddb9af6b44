"""Models as a result: what one is, and what has been done with one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mcp_types import CallToolResult
from pydantic import BaseModel

from ollama_mcp.services.model_manager import Copied, Deleted, Loaded, Unloaded
from ollama_mcp.services.model_summary import InMemory, Summary
from ollama_mcp.services.transfers import Transferred
from ollama_mcp.services.units import told
from ollama_mcp.tools.rendering import render
from ollama_mcp.tools.results import NOTES, facts


class ModelCard(BaseModel):
    """One model as data; the last five only where that part was asked for."""

    name: str
    digest: str
    size: int
    modified_at: str
    family: str
    parameters: str
    quantization: str
    window: int
    dimensions: int
    capabilities: list[str]
    defaults: dict[str, Any]
    is_cloud: bool
    parent: str
    requires: str
    memory: InMemory | None = None
    template: str | None = None
    system: str | None = None
    license: str | None = None
    messages: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None


Shown = tuple[Summary, str]
"""A model, and the name of the long part of it that was asked for; "" for none."""


def shown(found: Shown) -> CallToolResult:
    """The short facts of a model, and the part that was asked for."""
    summary, wanted = found
    data = {name: value for name, value in asdict(summary).items() if name != "parts"}
    data["capabilities"] = list(summary.capabilities)
    lines = [f"{label}: {value}" for label, value in _facts_of(summary).items() if value]
    if wanted:
        part = summary.part(wanted)
        data[wanted] = part or None
        lines += ["", f"{wanted}:", _as_text(part) if part else "(none)"]
    return facts("\n".join(lines), data)


def _facts_of(summary: Summary) -> dict[str, str]:
    return {
        "name": summary.name,
        "what": " ".join(filter(None, [summary.family, summary.parameters, summary.quantization])),
        "size": told(summary.size),
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
    return f"{told(memory.size)}{share}{window}"


def _as_text(part: Any) -> str:
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=1)


# --- what has been done ------------------------------------------------------------------------


@render.register(Transferred)
@render.register(Copied)
@render.register(Deleted)
@render.register(Loaded)
@render.register(Unloaded)
def done(found: Transferred | Copied | Deleted | Loaded | Unloaded) -> CallToolResult:
    """What has been done, in a sentence and as data."""
    data: Mapping[str, Any] = asdict(found)
    return facts(_sentence(found), dict(data), {NOTES: data.get("notes", [])})


def _sentence(found: Transferred | Copied | Deleted | Loaded | Unloaded) -> str:
    match found:
        case Transferred():
            size = f", {told(found.size)}" if found.size else ""
            text = f"{found.model}: {found.status} after {found.seconds:.0f} s{size}."
        case Copied():
            text = f"{found.source} is now {found.model}, too; the files are shared."
        case Deleted():
            text = f"{found.model} is deleted; at most {told(found.freed)} are free again."
        case Loaded():
            text = f"{found.model} {'was' if found.was_loaded else 'is'} loaded, {_seconds(found)}."
        case Unloaded():
            text = f"{found.model} {'is unloaded' if found.was_loaded else 'was not loaded'}."
    return "\n".join([text, *getattr(found, "notes", [])])


def _seconds(found: Loaded) -> str:
    share = "" if found.memory is None or found.memory.gpu is None else f", {found.memory.gpu:.0%} on the GPU"
    return f"after {found.seconds:.1f} s{share}"
