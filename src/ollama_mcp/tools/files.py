"""Toolset files: work of a local model on files of this machine, which the caller need not read."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations

from ollama_mcp.app import App
from ollama_mcp.services.files.batch import Mapped, map_ask
from ollama_mcp.tools.attaching import allowed_folders
from ollama_mcp.tools.following import answered
from ollama_mcp.tools.mapped import MapReport, map_report
from ollama_mcp.tools.toolset import OnlyWith, Toolset, WaitS, says

files: Toolset = Toolset("files")

_WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_NOTHING: dict[str, Any] = {}


@files.tool(
    "Ask the same of many files",
    map_report,
    Annotated[CallToolResult, MapReport],
    hints=_WRITES,
)
async def ollama_map_files(
    app: App,
    prompt: Annotated[str, says("What to do with each file: summarize, label, extract …")],
    files: Annotated[list[str], says("Paths or patterns under the allowed folders, such as notes/**/*.md.")],
    model: Annotated[str, says('Model name. "" (default): configured, loaded or newest.')] = "",
    schema: Annotated[dict[str, Any], says("JSON Schema that each answer must fit. Default {}.")] = _NOTHING,
    system: Annotated[str, says('System prompt. Default "".')] = "",
    options: Annotated[dict[str, Any], says("Ollama options. Default {}.")] = _NOTHING,
    output: Annotated[
        str,
        says('Folder for the answers, a new file each. "" (default): they come in the result.'),
        OnlyWith("output", "Leave it out; the operator has allowed no folder (OLLAMA_MCP_OUTPUT)."),
    ] = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Mapped:
    """Give a local model one prompt for each of many files: an answer per file. Called again, it goes on."""
    ask = map_ask(
        app.settings, prompt=prompt, files=files, model=model, schema=schema, system=system, options=options,
        output=output,
    )  # fmt: skip
    work = partial(app.mapper.run, ask, await allowed_folders(app, ctx))
    return await answered(app, work, ctx, wait_s, unit="files")
