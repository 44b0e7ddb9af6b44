"""`ollama-mcp conversations`: list, show, export, delete, purge."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime

from ollama_mcp.errors import OllamaError
from ollama_mcp.services.conversations import key_of
from ollama_mcp.settings import Settings
from ollama_mcp.stores.configured import configured_conversations
from ollama_mcp.stores.conversation_store import ConversationStore, Stored
from ollama_mcp.tools.results import columns


def conversations(settings: Settings, action: str, name: str, *, as_json: bool, days: float) -> int:
    """Do something with the conversations of this operating-system user; returns the exit status.

    Args:
        settings: Settings with the store.
        action: One of list, show, export, delete, purge.
        name: Name of the conversation, for show, export and delete.
        as_json: Whether export writes JSON instead of Markdown.
        days: Days that a conversation may not have been used for, to be kept by purge.
    """
    if not settings.store:
        print(
            "ollama-mcp: nothing is stored; set OLLAMA_MCP_STORE to a folder.",
            file=sys.stderr,
        )
        return 1
    try:
        return asyncio.run(
            _run(
                configured_conversations(settings.store, settings.conversation_days),
                action,
                name,
                as_json,
                days,
            )
        )
    except OllamaError as error:
        print(f"ollama-mcp: {error.cause}. {error.remedy}", file=sys.stderr)
        return 1


async def _run(store: ConversationStore, action: str, name: str, as_json: bool, days: float) -> int:
    if action == "list":
        rows = [
            (one.key.name, str(one.count), f"{datetime.fromtimestamp(one.used_at):%Y-%m-%d %H:%M}", one.model)  # noqa: DTZ006
            for one in await store.listed("")
        ]
        print(
            columns([("name", "messages", "used", "model"), *rows]) if rows else "There are no conversations."
        )
        return 0
    if action == "purge":
        count = await store.purge(None, time.time() - days * 86400)
        print(f"{count} conversations are removed.")
        return 0
    key = key_of("", name)
    found = await store.read(key)
    if not found.conversation.count:
        print(f"ollama-mcp: there is no conversation {name!r}.", file=sys.stderr)
        return 1
    if action == "delete":
        await store.drop(key)
        print(f"Conversation {name} with {found.conversation.count} messages is deleted.")
    else:
        print(_as_json(found) if as_json else _as_markdown(found))
    return 0


def _as_json(found: Stored) -> str:
    messages = [message.model_dump(exclude_none=True) for message in found.messages]
    return json.dumps(
        {"name": found.conversation.key.name, "messages": messages}, indent=2, ensure_ascii=False
    )


def _as_markdown(found: Stored) -> str:
    head = f"# {found.conversation.key.name}"
    parts = [f"**{message.role}**\n\n{message.content}" for message in found.messages]
    return "\n\n".join([head, *parts])
