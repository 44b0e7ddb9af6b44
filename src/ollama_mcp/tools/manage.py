"""Toolset manage: what changes the models on the Ollama server. Off until the operator turns it on."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations

from ollama_mcp.app import App
from ollama_mcp.services.create import build_create
from ollama_mcp.services.model_manager import Copied, Deleted
from ollama_mcp.services.transfers import Transferred
from ollama_mcp.tools.calls import run_with_confirmation
from ollama_mcp.tools.model_reports import done
from ollama_mcp.tools.toolset import OnlyWith, Toolset, WaitS, describe

manage: Toolset = Toolset("manage")

Name = Annotated[str, describe("Model name, such as qwen3:8b.")]
Confirm = Annotated[str, describe('Its exact name again, once the user agreed. Default "": ask.')]


def _changes(*, destroys: bool, leaves: bool = False) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=False, destructive_hint=destroys, idempotent_hint=True, open_world_hint=leaves
    )


_NO_OBJECTS: list[dict[str, Any]] = []
_NO_TEXTS: list[str] = []
_NOTHING: dict[str, Any] = {}


@manage.tool(
    "Download a model",
    done,
    Annotated[CallToolResult, Transferred],
    hints=_changes(destroys=False, leaves=True),
    example={"model": "qwen3:8b"},
)
async def ollama_pull_model(
    app: App, model: Name, confirm: Confirm = "", wait_s: WaitS = 0.0, ctx: Context[Any, Any] | None = None
) -> Transferred:
    """Download or update a model; broken off, it goes on when repeated."""
    return await run_with_confirmation(
        app,
        lambda job, yes: app.transfers.pull(model, job, confirmed=yes),
        ctx,
        wait_s,
        confirm=confirm,
        subject=f"pull {model}",
    )


@manage.tool(
    "Make a model",
    done,
    Annotated[CallToolResult, Transferred],
    hints=_changes(destroys=True),
    misplaced_arguments={"from": 'Send it as "from_model".', "source": 'Send it as "from_model".'},
    example={"model": "pirate", "from_model": "llama3.2:3b", "system": "You are a pirate."},
)
async def ollama_create_model(
    app: App,
    model: Annotated[str, describe("Name of the new model.")],
    from_model: Annotated[str, describe('Installed model to make it from. Default "".')] = "",
    system: Annotated[str, describe('Its system prompt. Default "".')] = "",
    template: Annotated[str, describe('Its prompt template. Default "".')] = "",
    parameters: Annotated[
        dict[str, Any], describe("Its options, such as temperature. Default {}.")
    ] = _NOTHING,
    messages: Annotated[
        list[dict[str, Any]], describe("Beginning of each conversation: role, content. Default [].")
    ] = _NO_OBJECTS,
    quantize: Annotated[str, describe('Such as Q4_K_M, from an F16 model. Default "".')] = "",
    files: Annotated[
        list[str],
        describe("GGUF files in allowed folders, instead of from_model. Default []."),
        OnlyWith("roots", "Name an installed model; the operator has allowed no folders (OLLAMA_MCP_ROOTS)."),
    ] = _NO_TEXTS,
    confirm: Confirm = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Transferred:
    """Make a model from an installed one, with a system prompt, options or a template of its own."""
    wanted = build_create(
        model=model, source=from_model, system=system, template=template, parameters=parameters,
        messages=messages, quantize=quantize, files=files, roots=app.settings.roots,
        limits=app.settings.limits,
    )  # fmt: skip
    return await run_with_confirmation(
        app,
        lambda job, yes: app.transfers.create(wanted, job, confirmed=yes),
        ctx,
        wait_s,
        confirm=confirm,
        subject=f"create {model}",
    )


@manage.tool(
    "Copy a model",
    done,
    Annotated[CallToolResult, Copied],
    hints=_changes(destroys=True),
    example={"source": "llama3.2:3b", "destination": "me/backup"},
)
async def ollama_copy_model(
    app: App,
    source: Annotated[str, describe("Installed model.")],
    destination: Annotated[str, describe("Its second name.")],
    confirm: Confirm = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Copied:
    """Give an installed model a second name."""
    return await run_with_confirmation(
        app,
        lambda _job, yes: app.model_manager.copy(source, destination, confirmed=yes),
        ctx,
        wait_s,
        confirm=confirm,
        subject=f"copy {source} to {destination}",
    )


@manage.tool(
    "Delete a model",
    done,
    Annotated[CallToolResult, Deleted],
    hints=_changes(destroys=True),
    example={"model": "me/backup", "confirm": "me/backup"},
)
async def ollama_delete_model(
    app: App, model: Name, confirm: Confirm = "", wait_s: WaitS = 0.0, ctx: Context[Any, Any] | None = None
) -> Deleted:
    """Delete a model from the Ollama server's disk."""
    return await run_with_confirmation(
        app,
        lambda _job, yes: app.model_manager.delete(model, confirmed=yes),
        ctx,
        wait_s,
        confirm=confirm,
        subject=f"delete {model}",
    )


@manage.tool(
    "Publish a model",
    done,
    Annotated[CallToolResult, Transferred],
    hints=_changes(destroys=True, leaves=True),
    example={"model": "me/backup", "confirm": "me/backup"},
)
async def ollama_push_model(
    app: App, model: Name, confirm: Confirm = "", wait_s: WaitS = 0.0, ctx: Context[Any, Any] | None = None
) -> Transferred:
    """Send an installed model to the registry that its name says, where others may read it."""
    return await run_with_confirmation(
        app,
        lambda job, yes: app.transfers.push(model, job, confirmed=yes),
        ctx,
        wait_s,
        confirm=confirm,
        subject=f"push {model}",
    )
