"""Completion: names of models while somebody types one, for our prompts and for anybody's."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from ollama_mcp.app import App

MOST = 100
"""Values in one answer; the protocol allows no more."""


async def complete_models(
    app: App, ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument
) -> Completion | None:
    """Complete the name of a model; a server's one completion handler can delegate to it.

    Args:
        app: Whose models.
        ref: What is filled in: any prompt, or our template of a model.
        argument: `model` of a prompt, or `name` of the template, and what is typed of it.

    Returns:
        Installed models that begin with it, then those that have it in their names; nothing where Ollama
        does not answer at once. None where it is not the name of a model that is asked for.
    """
    if isinstance(ref, PromptReference):
        is_ours, capability = argument.name == "model", "completion"
    else:
        is_ours, capability = _is_models(ref.uri) and argument.name == "name", ""
    if not is_ours:
        return None
    names = await app.names.like(argument.value, capability)
    return Completion(values=names[:MOST], total=len(names), has_more=len(names) > MOST)


def complete(host: MCPServer[Any], app: App) -> None:
    """Let a server of ours complete; on somebody else's the handler is theirs, as there is only one."""

    @host.completion()
    async def handle(  # pyright: ignore[reportUnusedFunction]
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _: CompletionContext | None,
    ) -> Completion | None:
        return await complete_models(app, ref, argument)


def _is_models(uri: str) -> bool:
    """Whether that is our template, with a prefix or without."""
    return uri.startswith("ollama://") and uri.endswith("models/{name}")
