"""What somebody has confirmed, and what is to be confirmed: a name, and the content behind it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from ollama_mcp.catalog import Catalog
from ollama_mcp.errors import NotConfirmed
from ollama_mcp.management.amounts import told
from ollama_mcp.names import canonical
from ollama_mcp.wire import ModelInfo

ASKED_S = 600.0


@dataclass(frozen=True)
class Confirmation:
    """What somebody confirmed.

    Attributes:
        model: The name.
        digest: The content that stood behind the name when it was confirmed; "" where nothing did. None
            where the name alone was confirmed, whatever stood behind it then.
    """

    model: str
    digest: str | None = None

    @classmethod
    def of(cls, error: NotConfirmed) -> Self:
        """What that failure asks for; to make only when somebody has said yes."""
        return cls(str(error.details.get("model", "")), str(error.details.get("digest", "")))


def meant(confirmed: Confirmation | None, digest: str) -> Confirmation | None:
    """A confirmation, for later: by name alone it is one of the content that has the name now, or of none."""
    if confirmed is None or confirmed.digest is not None:
        return confirmed
    return replace(confirmed, digest=digest)


class Asked:
    """Questions whose answers come with a later call: each is for who was asked, for ten minutes, and once.

    The questions travel with the calls, sealed by the ring above; only the numbers of those that have
    been answered are remembered, for as long as they could come again.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._answered: dict[str, float] = {}

    def ask(self, wanted: Confirmation, principal: str) -> str:
        """What is to come back with the answer."""
        return json.dumps([wanted.model, wanted.digest, principal, secrets.token_hex(16), self._clock()])

    def answered(self, state: str, principal: str) -> Confirmation:
        """What was asked, for the one answer to it.

        Raises:
            NotConfirmed: It was answered before, too long ago, or was asked of somebody else.
        """
        model, digest, asked, number, at = json.loads(state)
        oldest = self._clock() - ASKED_S
        self._answered = {known: when for known, when in self._answered.items() if when > oldest}
        if asked != principal or number in self._answered or at <= oldest:
            raise NotConfirmed(
                "that question was answered before, or is too old",
                "Call again without the answer; the user is asked anew.",
            )
        self._answered[number] = at
        return Confirmation(model, digest)


@dataclass(frozen=True)
class Question:
    """What has to be confirmed.

    Attributes:
        action: What would happen, as a verb: delete, overwrite, push, pull.
        model: To which model.
        digest: Its content now; "" where that is not known.
        size: Its bytes; 0 where not known.
        why: What is to be considered, as a sentence without a final stop.
    """

    action: str
    model: str
    digest: str = ""
    size: int = 0
    why: str = ""

    @classmethod
    def about(cls, action: str, info: ModelInfo, why: str) -> Self:
        """The question about an installed model."""
        return cls(action, info.name, info.digest, info.size, why)

    def check(self, confirmed: Confirmation | None) -> None:
        """Let pass what was confirmed.

        Raises:
            NotConfirmed: It was not, or another model or another content was.
        """
        if confirmed is None:
            raise self._refusal(f"{self._what()} was not confirmed")
        if canonical(confirmed.model) != canonical(self.model):
            raise self._refusal(f"{confirmed.model[:80]!r} was confirmed, not {self._what()}")
        if confirmed.digest is not None and confirmed.digest != self.digest:
            raise self._refusal(f"{self.model} has changed since it was confirmed")

    def _what(self) -> str:
        return f"to {self.action} {self.model}{f' ({told(self.size)})' if self.size else ''}"

    def _refusal(self, cause: str) -> NotConfirmed:
        what = self._what().removeprefix("to ")
        details: dict[str, Any] = {
            "action": self.action,
            "model": self.model,
            "digest": self.digest,
            "bytes": self.size,
            "question": f"{what[0].upper()}{what[1:]}? ({self.why})",
        }
        return NotConfirmed(
            f"{cause}: {self.why}", f'Ask the user first, then send confirm="{self.model}".', **details
        )


async def keep_others(catalog: Catalog, name: str, confirmed: Confirmation | None) -> str:
    """Let a name be taken that is free, or that somebody confirmed to replace.

    Returns:
        The digest of what has the name now; "" where it is free.

    Raises:
        NotConfirmed: A model has that name.
    """
    there = await catalog.entry(name)
    if there is not None:
        Question.about("overwrite", there, "a model of that name is installed").check(confirmed)
    return there.digest if there else ""
