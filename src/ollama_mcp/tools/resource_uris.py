"""Resources of ours as the SDK has them, and where on a server the numbers of vectors can be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resources import Resource, ResourceSecurity, ResourceTemplate, TextResource
from mcp.shared.uri_template import UriTemplate
from pydantic import Field

from ollama_mcp.app import App

JSON = "application/json"
VECTORS = "embeddings"
"""The kind of the template that has vectors."""


class PublishedTemplate(ResourceTemplate):
    """A template of ours: its one variable may have slashes in it, encoded or not.

    It is published as `{name}`, which every client can fill, and read as `{+name}`.
    """

    app: Any = Field(exclude=True)
    kind: str = Field(exclude=True)

    async def create_resource(self, uri: str, params: dict[str, Any], context: Context[Any, Any]) -> Resource:
        """Read it; the function tells its failures as `ResourceError`."""
        text = await self.fn(**params)
        return TextResource(uri=uri, name=self.name, mime_type=self.mime_type, text=text)


def template(
    app: App,
    kind: str,
    uri: str,
    name: str,
    title: str,
    description: str,
    read: Callable[..., Awaitable[str]],
) -> PublishedTemplate:
    """Make a template.

    Args:
        app: Whose it is.
        kind: What it has.
        uri: With one variable in braces, which is a parameter of `read`.
        name: For programs.
        title: For people.
        description: For people and models.
        read: Returns the JSON text.
    """
    variable = uri[uri.index("{") + 1 : -1]
    return PublishedTemplate(
        app=app,
        kind=kind,
        uri_template=uri,
        name=name,
        title=title,
        description=description,
        mime_type=JSON,
        fn=read,
        parameters={},
        context_kwarg=None,
        parsed_template=UriTemplate.parse(uri.replace("{", "{+")),
        # What it may be is checked where it is looked up: a model `c:8b` is no path.
        security=ResourceSecurity(exempt_params={variable}),
    )


def vectors_uri(ctx: Context[Any, Any] | None, app: App, handle: str) -> str:
    """Return the address of a kept job's vectors on the server that was called; "" where it offers none."""
    for one in _templates(ctx):
        if isinstance(one, PublishedTemplate) and one.app is app and one.kind == VECTORS:
            return one.uri_template.replace("{id}", handle)
    return ""


def _templates(ctx: Context[Any, Any] | None) -> list[ResourceTemplate]:
    if ctx is None:
        return []
    try:
        host: MCPServer[Any] = ctx.mcp_server
    except ValueError:  # a Context without a server
        return []
    return host._resource_manager.list_templates()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
