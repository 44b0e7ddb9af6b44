"""Toolset models: what is installed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import BaseModel

from ollama_mcp.app import App
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.parameters import check_kind, parse_keep_alive
from ollama_mcp.services.catalog import Listed, example
from ollama_mcp.services.model_manager import Loaded, Unloaded
from ollama_mcp.services.server_status import Status
from ollama_mcp.tools.caller import caller_id, is_shared_caller
from ollama_mcp.tools.calls import run_job
from ollama_mcp.tools.model_reports import ModelCard, Shown, StatusReport, done, shown, status_report
from ollama_mcp.tools.results import columns, size_of, table_result
from ollama_mcp.tools.toolset import Toolset, WaitS, describe

models: Toolset = Toolset("models")


class ModelRow(BaseModel):
    """An installed model; sizes in bytes, windows in tokens; without what the server does not say."""

    name: str
    size: int
    parameters: str
    quantization: str
    context_length: int | None = None
    capabilities: list[str]
    modified_at: str
    loaded: bool | None = None
    location: str
    digest: str


class ModelTable(BaseModel):
    """The list as data."""

    models: list[ModelRow]


class Models(list[Listed]):
    """The rows of the list, and the capability that all of them have; "" where none was asked for."""

    capability: str = ""


def table(rows: Models) -> CallToolResult:
    """The list for people, and the same with digests as data."""
    entries = [_entry(row) for row in rows]
    return table_result(_table(entries, rows.capability), {"models": entries})


def _entry(row: Listed) -> dict[str, Any]:
    info = row.info
    return {
        "name": info.name or info.model,
        "size": info.size,
        "parameters": info.details.parameter_size,
        "quantization": info.details.quantization_level,
        "context_length": row.model.max_context or None,
        "capabilities": sorted(row.model.capabilities),
        "modified_at": info.modified_at,
        "loaded": row.is_loaded,
        "location": "cloud" if row.model.is_cloud else "local",
        "digest": info.digest,
    }


_COLUMNS = ("name", "size", "params", "quant", "window", "can", "modified", "loaded", "where")


def _table(entries: list[dict[str, Any]], capability: str) -> str:
    if not entries:
        return _nothing(capability)
    rows = [_COLUMNS, *(_cells(entry) for entry in entries)]
    if all(entry["loaded"] is None for entry in entries):  # the server does not say
        rows = [(*row[:-2], row[-1]) for row in rows]
    return columns(rows)


def _nothing(capability: str) -> str:
    having, model = f" that has {capability}" if capability else "", example([capability or "completion"])
    how = f"Install one with `ollama pull {model}`." if model else "https://ollama.com/search shows which do."
    return f"No model{having} is installed. {how}"


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["name"],
        size_of(entry["size"]),
        entry["parameters"] or "-",
        entry["quantization"] or "-",
        str(entry["context_length"] or "-"),
        ",".join(entry["capabilities"]) or "-",
        entry["modified_at"][:10] or "-",
        "yes" if entry["loaded"] else "no",
        entry["location"],
    )


CAPABILITIES = ("completion", "vision", "tools", "thinking", "insert", "embedding", "audio")


def asked_for(capability: str) -> str:
    """The capability that is meant; a new one of Ollama's, which is like none that we know, is left to it.

    Raises:
        InvalidArgument: It is a misspelt one; the remedy has the right name.
    """
    check_kind("capability", capability, str)
    wanted = capability.strip().lower()
    close = difflib.get_close_matches(wanted, CAPABILITIES, n=1)
    if wanted not in CAPABILITIES and close:
        raise _no_capability(wanted, close)
    return wanted


def having(rows: list[Listed], wanted: str) -> Models:
    """The models that have a capability; all for "".

    Raises:
        InvalidArgument: No model could have it; the remedy has those that there are.
    """
    found = Models(row for row in rows if not wanted or wanted in row.model.capabilities)
    if not found and wanted and wanted not in CAPABILITIES:
        raise _no_capability(wanted, CAPABILITIES)
    found.capability = wanted
    return found


def _no_capability(wanted: str, instead: Iterable[str]) -> InvalidArgument:
    names = " or ".join(f'"{name}"' for name in instead)
    return InvalidArgument(f'no model can have the capability "{wanted[:40]}"', f"Send {names}.")


@models.tool(
    "List local models",
    table,
    Annotated[CallToolResult, ModelTable],
    bypasses_queue=True,
    example={"capability": "vision"},
)
async def ollama_list_models(
    app: App,
    capability: Annotated[
        str,
        describe(
            'Only models with it: completion, vision, tools, thinking, insert, embedding. Default "": all.'
        ),
    ] = "",
    ctx: Context[Any, Any] | None = None,
) -> list[Listed]:
    """List the models in Ollama on this machine, newest first: size, context window, what they can do.

    From Python: `app` is as for `ollama_chat`; `ctx` has no effect.

    Returns:
        A list of rows: `info` as Ollama lists it, `model` with what it can do, `running` where it is loaded.

    Raises:
        InvalidArgument: No model can have that capability.
        OllamaError: The server does not answer.
    """
    wanted = asked_for(capability)
    return having(await app.catalog.listed(), wanted)


Name = Annotated[str, describe("Model name.")]
_IN_MEMORY = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)


@models.tool("Show a model", shown, Annotated[CallToolResult, ModelCard], example={"model": "llama3.2:3b"})
async def ollama_show_model(
    app: App,
    model: Name,
    part: Annotated[
        Literal["", "template", "system", "license", "messages", "metadata"],
        describe('A long part to add. Default "".'),
    ] = "",
    ctx: Context[Any, Any] | None = None,
) -> Shown:
    """Show what an installed model is and can do, how large it is, and how it is loaded."""
    return await app.model_manager.summary(model), part


@models.tool(
    "Load a model",
    done,
    Annotated[CallToolResult, Loaded],
    hints=_IN_MEMORY,
    example={"model": "llama3.2:3b", "keep_alive": "10m"},
)
async def ollama_load_model(
    app: App,
    model: Name,
    keep_alive: Annotated[str, describe('How long it stays: 10m, 1h. Default "": 5m.')] = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Loaded:
    """Load a model into memory, so that its next call need not wait."""
    load = partial(app.model_manager.load, model, keep_alive=parse_keep_alive(keep_alive))
    return await run_job(app, load, ctx, wait_s)


@models.tool(
    "Unload a model",
    done,
    Annotated[CallToolResult, Unloaded],
    hints=_IN_MEMORY,
    example={"model": "llama3.2:3b"},
)
async def ollama_unload_model(app: App, model: Name, ctx: Context[Any, Any] | None = None) -> Unloaded:
    """Take a model out of memory; it stays installed."""
    return await app.model_manager.unload(model)


@models.tool(
    "Show what goes on",
    status_report,
    Annotated[CallToolResult, StatusReport],
    bypasses_queue=True,
    example={},
)
async def ollama_status(app: App, ctx: Context[Any, Any] | None = None) -> Status:
    """Show whether Ollama answers, what is loaded (on the GPU?), runs and waits, and past speeds.

    From Python: `app` is as for `ollama_chat`; `ctx` has no effect.

    Returns:
        The status; that the server does not answer is its `trouble`, and no failure.
    """
    return await status_for_caller(app)


async def status_for_caller(app: App) -> Status:
    """The status as the caller may see it: handles only where they are nobody else's."""
    status = await app.status_probe.status(caller_id())
    return replace(status, running=[]) if is_shared_caller() else status
