"""Conversations: messages under a name of the caller's, of which each answer adds some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from ollama_mcp.ollama.api_models import Message

MOST_MESSAGES = 1000
"""Messages of a conversation that are kept; the oldest go first."""
MOST_BYTES = 32 << 20
"""Bytes of a conversation that are kept, with its images."""


class ConversationKey(NamedTuple):
    """Key of a conversation: its owner, "" for the operating system's user, and its name."""

    owner: str
    name: str


@dataclass(frozen=True)
class Conversation:
    """A conversation, without its messages.

    Attributes:
        key: Owner and name.
        count: Number of messages that were ever added.
        size: Bytes of the messages that are kept.
        used_at: Time of the last message, in seconds since 1970.
        model: Model of the last answer.
        system: System prompt of the last answer.
        begin: Number of the first message that still fits into the model's context window.
        summary: Summary of those before; "" without one.
        per_token: Bytes of a token, as far as prompts have shown; 0 where not known.
    """

    key: ConversationKey
    count: int = 0
    size: int = 0
    used_at: float = 0.0
    model: str = ""
    system: str = ""
    begin: int = 0
    summary: str = ""
    per_token: float = 0.0

    def behind(self, before: int) -> Conversation:
        """Return what is to be stored of it where there are so many messages now.

        Fewer than were read: it was forgotten meanwhile, so that what was left out is not left out of it.
        """
        return self if before >= self.count else replace(self, begin=0, summary="")


@dataclass(frozen=True)
class Stored:
    """A conversation with its messages.

    Attributes:
        conversation: Itself.
        first: Number of the first message that is kept.
        messages: Messages that are kept, the oldest first.
    """

    conversation: Conversation
    first: int
    messages: list[Message]


def stored(conversation: Conversation, rows: Sequence[tuple[int, str]], images: Mapping[str, str]) -> Stored:
    """Return a conversation of what a store keeps.

    Args:
        conversation: Itself.
        rows: Number and JSON of each message, the oldest first; images are named by their hashes.
        images: Images in base64, by their hashes.
    """
    messages: list[Message] = []
    for _, text in rows:
        message = Message.model_validate_json(text)
        if message.images:
            named = [images[one] for one in message.images if one in images]
            message = message.model_copy(update={"images": named or None})
        messages.append(message)
    return Stored(conversation, rows[0][0] if rows else conversation.count, messages)


class ConversationStore(Protocol):
    """A place for conversations. Every change is one transaction, and other processes may make some, too."""

    async def read(self, key: ConversationKey) -> Stored:
        """Return a conversation; an empty one where there is none."""
        ...

    async def append(self, conversation: Conversation, messages: Sequence[Message]) -> int:
        """Add messages behind those that there are now, and store what else is known of the conversation.

        Returns:
            Number of messages that there were before. It is more than the conversation's `count` where
            somebody went on with it meanwhile; their messages stay.
        """
        ...

    async def listed(self, owner: str) -> list[Conversation]:
        """Return the conversations of an owner, the newest first."""
        ...

    async def drop(self, key: ConversationKey) -> bool:
        """Remove a conversation; returns whether there was one."""
        ...

    async def purge(self, owner: str | None, before: float) -> int:
        """Remove conversations that were last used before a time; returns how many.

        Args:
            owner: Their owner; None: of everybody.
            before: Seconds since 1970.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open; the next use opens it again."""
        ...
