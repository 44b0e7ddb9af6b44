"""What somebody has confirmed, and what is to be confirmed: a name, and the content behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from ollama_mcp.errors import NotConfirmed
from ollama_mcp.ollama.api_models import ModelInfo
from ollama_mcp.ollama.model_names import canonical
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.units import format_bytes


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
        return f"to {self.action} {self.model}{f' ({format_bytes(self.size)})' if self.size else ''}"

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
