"""Putting our resources and prompts on a server that has tools of ours."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from mcp.server.mcpserver import MCPServer

from ollama_mcp.app import App
from ollama_mcp.tools.binding import PublishedTool
from ollama_mcp.tools.prompts import NEEDS, add_prompts
from ollama_mcp.tools.resources import resources


def tools_of(host: MCPServer[Any], app: App) -> dict[str, str]:
    """The tools of an App that a server has: our names, and theirs there."""
    registry = host._tool_manager._tools  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    published = {name: tool.fn for name, tool in registry.items() if isinstance(tool, PublishedTool)}
    return {fn.__name__: name for name, fn in published.items() if getattr(fn, "__self__", None) is app}


def add_offers(host: MCPServer[Any], app: App, tools: Mapping[str, str], prefix: str = "") -> None:
    """Add the resources and prompts that belong to those tools; all of them, or with a failure none.

    Raises:
        ValueError: The host already has one of that name.
    """
    fixed, templates = resources(app, tools, prefix)
    by_uri = {str(one.uri): one for one in fixed}
    by_template = {one.uri_template: one for one in templates}
    written = [prefix + name for name, needed in NEEDS.items() if needed in tools]
    has, menu = host._resource_manager, host._prompt_manager  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    pairs: list[tuple[dict[str, Any], Mapping[str, Any]]] = [
        (has._resources, by_uri),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        (has._templates, by_template),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    ]
    taken = {name for old, new in pairs for name in old.keys() & new.keys()}
    refuse_taken(taken | {name for name in written if menu.get_prompt(name) is not None}, "offer")
    for old, new in pairs:
        old.update(new)
    if written:
        add_prompts(host, tools, app.settings.limits, prefix)


def refuse_taken(taken: AbstractSet[str], function: str) -> None:
    """Raise ValueError for names that a host has already."""
    if taken:
        raise ValueError(f"the server already has {', '.join(sorted(taken))}; give {function}() a prefix")
