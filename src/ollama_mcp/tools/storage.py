"""Toolset storage: collections of documents, which need a store, and conversations."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from textwrap import indent
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import BaseModel

from ollama_mcp.app import App
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.collections import changed_since
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.indexing import Indexed, build_index
from ollama_mcp.settings.limits import check_text
from ollama_mcp.stores.collection_store import Collection, StoredPassage
from ollama_mcp.stores.conversation_store import Conversation, Stored
from ollama_mcp.tools.attachments import allowed_folders, document_of
from ollama_mcp.tools.caller import caller_id
from ollama_mcp.tools.calls import run_job, run_with_confirmation
from ollama_mcp.tools.results import columns, render, table_result, text_result
from ollama_mcp.tools.toolset import TEXTS, OnlyWith, Toolset, WaitS, describe

storage: Toolset = Toolset("storage")

_NO_TEXTS: list[str] = []
_NO_ENTRIES: list[Any] = []
_TOP = 8
_MOST_FAILED = 10
"""Documents that could not be indexed, as the text of a result names them."""


class HitRow(BaseModel):
    """A passage that was found."""

    document: str
    line: int | None = None
    title: str = ""
    text: str
    before: str = ""
    after: str = ""
    similarity: float | None = None
    uri: str = ""
    change: str = ""


class SearchReport(BaseModel):
    """Passages, the nearest first."""

    collection: str
    model: str
    hits: list[HitRow]
    about: bool = True


@dataclass(frozen=True)
class Hits:
    """What a search found.

    Attributes:
        collection: Name of the collection.
        model: Model of its vectors.
        passages: Passages, the nearest first.
        cosines: Cosine similarity of each; None where it was found by words.
        changes: What happened to documents since they were indexed, by their identifiers.
        is_about: False if none of them seems to be about the question.
        notes: Notes for the caller.
    """

    collection: str
    model: str
    passages: list[StoredPassage]
    cosines: list[float | None]
    changes: dict[str, str]
    is_about: bool
    notes: list[str] = field(default_factory=list[str])


@render.register
def hits_result(found: Hits) -> CallToolResult:
    """Return passages as text and as rows."""
    rows = [
        HitRow(
            document=one.document.name,
            line=one.line if one.document.stamp else None,
            title=one.title if one.title != one.document.name else "",
            text=one.text,
            before=one.before,
            after=one.after,
            similarity=None if cosine is None else round(cosine, 3),
            uri=one.uri,
            change=found.changes.get(one.document.id, ""),
        )
        for one, cosine in zip(found.passages, found.cosines, strict=True)
    ]
    blocks: list[str] = []
    for number, (row, one) in enumerate(zip(rows, found.passages, strict=True), 1):
        near = "" if row.similarity is None else f"similarity {row.similarity:.2f}"
        head = " · ".join(filter(None, [one.label, row.uri, near, row.change]))
        text = f"{'…' * bool(row.before)}{row.text}{'…' * bool(row.after)}"
        # Indented, so that no passage can write what looks like the head of another.
        blocks.append(f"{number}. {head}\n" + "\n".join(f"   {line}" for line in text.splitlines()))
    first = "" if found.is_about else "None of these passages seems to be about the question."
    empty = "" if blocks else f"Collection {found.collection} has no such passage."
    data = {"collection": found.collection, "model": found.model, "about": found.is_about}
    return table_result(
        "\n\n".join(filter(None, [first, empty, *blocks, *found.notes])),
        data | {"hits": [row.model_dump() for row in rows]},
    )


@storage.tool(
    "Search documents",
    hits_result,
    Annotated[CallToolResult, SearchReport],
    example={"query": "How long does green tea steep?"},
    only_with="store",
)
async def ollama_search(
    app: App,
    query: Annotated[str, describe("What is looked for: a question or words.")],
    collection: Annotated[str, describe('Collection. "" (default): the only one.')] = "",
    top: Annotated[int, describe("Passages at most. Default 8.")] = _TOP,
    under: Annotated[str, describe('Only documents whose path begins so. Default "".')] = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Hits:
    """Find passages of indexed documents by meaning and by words. ollama_rag_query answers from them."""
    check_text(app.settings.limits, "query", query)
    if not query.strip():
        raise InvalidArgument("there is no question", 'Send "query".')
    if not 1 <= top <= 100:
        raise InvalidArgument(f'"top" is {top}', 'Send "top" from 1 to 100.')

    async def search(job: Job[Hits]) -> Hits:
        index = await app.collections.open(job.caller, collection)
        ranked = await app.retriever.rank(query, [], job, index, under)
        passages = [one for one in ranked.passages[:top] if isinstance(one, StoredPassage)]
        changes = await changed_since([one.document for one in passages])
        return Hits(
            index.collection.key.name, index.model, passages, ranked.cosines[:top], changes, ranked.is_about,
            list(ranked.notes),
        )  # fmt: skip

    return await run_job(app, search, ctx, wait_s, unit="texts")


class IndexReport(BaseModel):
    """What came of indexing: numbers of documents."""

    collection: str
    model: str
    dimensions: int
    documents: int
    passages: int
    read: int
    unchanged: int
    removed: int
    failed: dict[str, str] = {}
    seconds: float = 0


@render.register
def indexed_result(found: Indexed) -> CallToolResult:
    """Return the numbers, and why documents failed."""
    counts = {
        "read": found.read,
        "unchanged": found.unchanged,
        "removed": found.removed,
        "failed": len(found.failed),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "read")
    first = (
        f"Collection {found.collection}: {told}. It has {found.documents} documents in {found.passages} "
        f"passages, by {found.model} ({found.dimensions} dimensions)."
    )
    failed = [f"- {name}: {why}" for name, why in list(found.failed.items())[:_MOST_FAILED]]
    if len(found.failed) > _MOST_FAILED:
        failed.append(f"- and {len(found.failed) - _MOST_FAILED} more")
    data = {name: value for name, value in vars(found).items() if name not in {"notes", "stored"}}
    return table_result("\n".join([first, *failed, *found.notes]), data)


@storage.tool(
    "Index documents",
    indexed_result,
    Annotated[CallToolResult, IndexReport],
    hints=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
    example={"collection": "notes", "documents": ["Green tea steeps for two minutes."]},
    only_with="store",
)
async def ollama_index(
    app: App,
    collection: Annotated[str, describe("Name of the collection; a new one is made.")],
    files: Annotated[
        list[str],
        describe("Paths or patterns such as notes/**/*.md. Default []: those of last time, if changed."),
        OnlyWith("roots", "Send documents; the operator has allowed no folders (OLLAMA_MCP_ROOTS)."),
    ] = _NO_TEXTS,
    documents: Annotated[list[Any], TEXTS, describe("Texts to index. Default [].")] = _NO_ENTRIES,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Indexed:
    """Index documents for ollama_search and ollama_rag_query. Only what has changed is read again."""
    texts = [document_of(number, raw) for number, raw in enumerate(documents, 1)]
    spec = build_index(app.settings.limits, collection, files, texts)
    roots = allowed_folders(app) if (app.settings.roots and not texts) or files else ()
    return await run_job(app, partial(app.indexer.run, spec, roots), ctx, wait_s, unit="documents")


class CollectionRow(BaseModel):
    """A collection."""

    name: str
    documents: int
    passages: int
    model: str
    indexed_at: str
    shared: bool = False


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class CollectionTable(BaseModel):
    """Collections by name."""

    collections: list[CollectionRow]


def collection_table(found: list[Collection]) -> CallToolResult:
    """Return collections as a table and as rows."""
    rows = [
        CollectionRow(
            name=one.key.name,
            documents=one.documents,
            passages=one.passages,
            model=one.fingerprint.model,
            indexed_at=_time(one.indexed_at),
            shared=one.key.owner != caller_id(),
        )
        for one in found
    ]
    cells = [
        (row.name, str(row.documents), str(row.passages), row.model, row.indexed_at[:10]) for row in rows
    ]
    head = ("name", "documents", "passages", "model", "indexed")
    text = columns([head, *cells]) if cells else "No documents are indexed. ollama_index does that."
    return table_result(text, {"collections": [row.model_dump() for row in rows]})


@storage.tool(
    "List collections",
    collection_table,
    Annotated[CallToolResult, CollectionTable],
    example={},
    only_with="store",
    bypasses_queue=True,
)
async def ollama_collections(app: App, ctx: Context[Any, Any] | None = None) -> list[Collection]:
    """List collections of indexed documents."""
    return await app.collections.listed(caller_id())


_MOST_SHOWN, _LONGEST_SHOWN = 20, 2000
"""Messages of a conversation that a result shows, and characters of each; the resource has all."""


def conversation_text(found: list[Conversation] | Stored) -> CallToolResult:
    """Return conversations as a table, or the newest messages of one."""
    if isinstance(found, Stored):
        shown = found.messages[-_MOST_SHOWN:]
        # Indented, so that no message can write what looks like another one.
        texts = [
            one.content if len(one.content) <= _LONGEST_SHOWN else f"{one.content[:_LONGEST_SHOWN]}…"
            for one in shown
        ]
        blocks = [f"{one.role}:\n{indent(text, '  ')}" for one, text in zip(shown, texts, strict=True)]
        conversation = found.conversation
        first = f"{conversation.key.name}: {conversation.count} messages, the newest {len(shown)} of them:"
        return text_result("\n\n".join([first, *blocks]), {})
    if not found:
        return text_result(
            "There are no conversations. ollama_chat begins one with the argument conversation.", {}
        )
    rows = [(one.key.name, str(one.count), _time(one.used_at)[:16], one.model) for one in found]
    return text_result(columns([("name", "messages", "used", "model"), *rows]), {})


@storage.tool(
    "List or read conversations",
    conversation_text,
    example={},
    bypasses_queue=True,
)
async def ollama_conversations(
    app: App,
    name: Annotated[str, describe('One to read. "" (default): a list.')] = "",
    ctx: Context[Any, Any] | None = None,
) -> list[Conversation] | Stored:
    """List remembered conversations, or read the newest messages of one."""
    if name:
        return await app.conversations.read(caller_id(), name)
    return await app.conversations.listed(caller_id())


def forgotten(found: Collection | Conversation) -> CallToolResult:
    """Say what was forgotten."""
    if isinstance(found, Conversation):
        return text_result(f"Conversation {found.key.name} with {found.count} messages is forgotten.", {})
    return text_result(
        f"Collection {found.key.name} with {found.documents} documents is forgotten. Its files stay.", {}
    )


@storage.tool(
    "Forget a collection or conversation",
    forgotten,
    hints=ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
    ),
    example={"conversation": "tea", "confirm": "tea"},
)
async def ollama_forget(
    app: App,
    conversation: Annotated[str, describe('Conversation to remove. Default "".')] = "",
    collection: Annotated[
        str,
        describe('Collection to remove; its files stay. Default "".'),
        OnlyWith("store", "Leave it out; the operator has set no OLLAMA_MCP_STORE."),
    ] = "",
    confirm: Annotated[str, describe('Its name again, once the user agreed. Default "": ask.')] = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Collection | Conversation:
    """Remove a conversation, or a collection of documents, for good."""
    if bool(conversation) == bool(collection):
        raise InvalidArgument(
            "there is nothing to forget", 'Send "conversation" or "collection", one of them.'
        )

    async def forget(
        job: Job[Collection | Conversation], yes: Confirmation | None
    ) -> Collection | Conversation:
        if conversation:
            return await app.conversations.forget(job.caller, conversation, yes)
        return await app.collections.forget(job.caller, collection, yes)

    return await run_with_confirmation(
        app, forget, ctx, wait_s, confirm=confirm, subject=f"forget {conversation or collection}"
    )
