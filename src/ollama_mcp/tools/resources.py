"""Resources and the completion of their arguments."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import FunctionResource
from mcp_types import (
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)
from pydantic_core import to_json

from ollama_mcp.app import App
from ollama_mcp.errors import InvalidArgument, ModelNotFound, OllamaError, UnknownHandle
from ollama_mcp.jobs.answers import Vectors
from ollama_mcp.ollama.sanitize import sanitize, sanitize_text
from ollama_mcp.tools import BYPASSES_QUEUE
from ollama_mcp.tools.binding import internal
from ollama_mcp.tools.caller import caller_id
from ollama_mcp.tools.model_reports import shown, status_report
from ollama_mcp.tools.models import having, status_for_caller, table
from ollama_mcp.tools.resource_uris import JSON, VECTORS, PublishedTemplate, template

SCHEME = "ollama://"


@dataclass(frozen=True)
class Source:
    """A resource, or a template of resources.

    Attributes:
        name: For programs; the kind of a template, too.
        path: Behind the scheme; a variable in braces is a parameter of `read`.
        needs: Tools without which it is not there; reading it counts as a call of the last one.
        title: For people.
        description: The description.
        read: Returns the JSON text.
    """

    name: str
    path: str
    needs: tuple[str, ...]
    title: str
    description: str
    read: Callable[..., Awaitable[str]]


async def _models(app: App) -> str:
    return _as_json(table(having(await app.catalog.listed(), "")))


async def _model(app: App, name: str) -> str:
    return _as_json(shown((await app.model_manager.summary(name), "")))


async def _status(app: App) -> str:
    return _as_json(status_report(await status_for_caller(app)))


async def _vectors(app: App, id: str) -> str:  # noqa: A002 - the variable's name in the URI
    found = app.jobs.result(id, caller_id(), Vectors)
    return await anyio.to_thread.run_sync(vectors_json, found)


async def _collection(app: App, name: str) -> str:
    index = await app.collections.open(caller_id(), name)
    documents = await index.store.documents(index.collection.key)
    return json.dumps(
        {
            "name": index.collection.key.name,
            "model": index.model,
            "passages": index.collection.passages,
            "documents": [{"name": one.name, "uri": one.uri} for one in documents.values()],
        },
        ensure_ascii=False,
    )


async def _conversation(app: App, name: str) -> str:
    found = await app.conversations.read(caller_id(), name)
    messages = [one.model_dump(exclude_none=True, exclude={"images"}) for one in found.messages]
    return json.dumps(
        {"name": name, "summary": found.conversation.summary, "messages": messages}, ensure_ascii=False
    )


# Vectors are kept only where ollama_continue is, like all that outlives its call.
SOURCES = (
    Source("models", "models", ("ollama_list_models",), "Local models",
           "The models that are installed in Ollama on this machine, with what each can do.", _models),
    Source("status", "status", ("ollama_status",), "What goes on",
           "Whether Ollama answers, what is loaded, what runs and waits.", _status),
    Source("model", "models/{name}", ("ollama_show_model",), "One local model",
           "What an installed model is and can do, and how it is loaded.", _model),
    Source("collection", "collections/{name}", ("ollama_collections",), "One collection",
           "The documents of a collection that ollama_index has made.", _collection),
    Source("conversation", "conversations/{name}", ("ollama_conversations",), "One conversation",
           "The messages of a conversation that ollama_chat remembers, without images.", _conversation),
    Source(VECTORS, "embeddings/{id}", ("ollama_embeddings", "ollama_continue"), "Vectors",
           "The numbers of vectors that ollama_embeddings has made, where it named this address.", _vectors),
)  # fmt: skip


def resources(
    app: App, tools: Mapping[str, str], prefix: str = ""
) -> tuple[list[FunctionResource], list[PublishedTemplate]]:
    """The resources and the templates that belong to the tools of a server.

    Args:
        app: What they tell of.
        tools: Those tools: our names, and theirs on that server.
        prefix: Put before each path and name.
    """
    offered = [source for source in SOURCES if tools.keys() >= set(source.needs)]
    fixed = [_fixed(app, source, prefix) for source in offered if "{" not in source.path]
    return fixed, [_variable(app, source, prefix) for source in offered if "{" in source.path]


def _fixed(app: App, source: Source, prefix: str) -> FunctionResource:
    return FunctionResource(
        uri=SCHEME + prefix + source.path,
        name=prefix + source.name,
        title=source.title,
        description=source.description,
        mime_type=JSON,
        fn=partial(_told, app, source),
    )


def _variable(app: App, source: Source, prefix: str) -> PublishedTemplate:
    uri, read = SCHEME + prefix + source.path, partial(_told, app, source)
    return template(app, source.name, uri, prefix + source.name, source.title, source.description, read)


async def _told(app: App, source: Source, **variables: str) -> str:
    """Read it; every failure is told in our words, which the SDK takes from a `ResourceError` only."""
    try:
        if source.needs[-1] not in BYPASSES_QUEUE:  # as for tools
            app.limit.admit(source.needs[-1], caller_id())
        return await source.read(app, **variables)
    except (ModelNotFound, UnknownHandle, InvalidArgument) as error:
        raise ResourceNotFoundError(sanitize_text(str(error))) from error
    except OllamaError as error:
        raise ResourceError(sanitize_text(str(error))) from error
    except (Exception, SystemExit) as error:  # the top, as in a tool
        raise ResourceError(str(internal(source.path))) from error


def _as_json(result: CallToolResult) -> str:
    """The structured half of a tool's result, on many lines: some clients show nothing of a long one."""
    return json.dumps(result.structured_content, ensure_ascii=False, indent=1)


def vectors_json(found: Vectors) -> str:
    """Return all numbers as JSON, a vector a line."""
    stats = found.stats
    head = {"model": stats.model, "count": stats.count, "dimensions": stats.dimensions}
    rows = (to_json(vector, inf_nan_mode="null").decode() for vector in found.vectors)
    return (
        json.dumps(sanitize(head), ensure_ascii=False)[:-1] + ', "vectors": [\n' + ",\n".join(rows) + "\n]}"
    )


MOST = 100
"""Values in one answer; the protocol allows no more."""


async def complete_models(
    app: App, ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument
) -> Completion | None:
    """Complete the name of a model or collection; a server's one completion handler can delegate to it.

    Args:
        app: Whose models.
        ref: What is filled in: any prompt, or our template of a model or collection.
        argument: `model` or `collection` of a prompt, or `name` of a template, and what is typed of it.

    Returns:
        Installed models that begin with it, then those that have it in their names; nothing where Ollama
        does not answer at once. None where it is not the name of a model or collection that is asked for.
    """
    is_prompt = isinstance(ref, PromptReference)
    if app.settings.store and (
        argument.name == "collection" if is_prompt else _is_template(ref.uri, "collections")
    ):
        listed = await app.collections.listed(caller_id())
        return _beginning_with(argument.value, [one.key.name for one in listed])
    if not is_prompt and _is_template(ref.uri, "conversations"):
        listed = await app.conversations.listed(caller_id())
        return _beginning_with(argument.value, [one.key.name for one in listed])
    if isinstance(ref, PromptReference):
        is_ours, capability = argument.name == "model", "completion"
    else:
        is_ours, capability = _is_template(ref.uri, "models") and argument.name == "name", ""
    if not is_ours:
        return None
    names = await app.names.like(argument.value, capability)
    return Completion(values=names[:MOST], total=len(names), has_more=len(names) > MOST)


def _beginning_with(typed: str, names: list[str]) -> Completion:
    found = [name for name in names if name.startswith(typed)]
    return Completion(values=found[:MOST], total=len(found), has_more=len(found) > MOST)


def complete(host: MCPServer[Any], app: App) -> None:
    """Let a server of ours complete; on somebody else's the handler is theirs, as there is only one."""

    @host.completion()
    async def handle(  # pyright: ignore[reportUnusedFunction]
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _: CompletionContext | None,
    ) -> Completion | None:
        return await complete_models(app, ref, argument)


def _is_template(uri: str, kind: str) -> bool:
    """Return whether that is our template of a kind, with a prefix or without."""
    return uri.startswith("ollama://") and uri.endswith(f"{kind}/{{name}}")
