"""Confirmations of what cannot be taken back: of a name, and of the content behind it."""

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
    """A user's yes.

        confirmed = Confirmation("llama3.2:1b")
        await app.model_manager.delete("llama3.2:1b", confirmed=confirmed)

    Attributes:
        model: The name.
        digest: SHA-256 of the content behind the name when it was confirmed; "" where there was none. None
            where the name alone was confirmed, whatever was behind it then.
    """

    model: str
    digest: str | None = None

    @classmethod
    def of(cls, error: NotConfirmed) -> Self:
        """Make the confirmation that a failure asks for; only for a user who has said yes."""
        return cls(str(error.details.get("model", "")), str(error.details.get("digest", "")))


def bind_to_content(confirmed: Confirmation | None, digest: str) -> Confirmation | None:
    """Bind a confirmation by name alone to the content that has the name now, before time passes.

    Args:
        confirmed: The confirmation, if there is one.
        digest: SHA-256 of that content; "" where there is none.
    """
    if confirmed is None or confirmed.digest is not None:
        return confirmed
    return replace(confirmed, digest=digest)


@dataclass(frozen=True)
class Question:
    """A question that a user has to confirm.

        question = Question.about("delete", info, "its files are deleted from the Ollama server")
        question.check(confirmed)

    Attributes:
        action: The action, as a verb: delete, overwrite, push, pull.
        model: The model.
        digest: SHA-256 of its content now; "" where that is not known.
        size: Its bytes; 0 where not known.
        why: The reason to think twice, as a sentence without a final stop.
    """

    action: str
    model: str
    digest: str = ""
    size: int = 0
    why: str = ""

    @classmethod
    def about(cls, action: str, info: ModelInfo, why: str) -> Self:
        """Make the question about an installed model."""
        return cls(action, info.name, info.digest, info.size, why)

    def check(self, confirmed: Confirmation | None) -> None:
        """Return if the question was confirmed.

        Raises:
            NotConfirmed: It was not, or another model or another content was.
        """
        what = f"{self.action} {self.model}{f' ({format_bytes(self.size)})' if self.size else ''}"
        if confirmed is None:
            cause = f"to {what} was not confirmed"
        elif canonical(confirmed.model) != canonical(self.model):
            cause = f"{confirmed.model[:80]!r} was confirmed, not to {what}"
        elif confirmed.digest is not None and confirmed.digest != self.digest:
            cause = f"{self.model} has changed since it was confirmed"
        else:
            return
        details: dict[str, Any] = {
            "action": self.action,
            "model": self.model,
            "digest": self.digest,
            "bytes": self.size,
            "question": f"{what[0].upper()}{what[1:]}? ({self.why})",
        }
        raise NotConfirmed(
            f"{cause}: {self.why}", f'Ask the user first, then send confirm="{self.model}".', **details
        )


def require_yes(confirmed: Confirmation | None, name: str, what: str, why: str) -> None:
    """Return if a user has confirmed what is to be done to a thing of this exact name.

    Args:
        confirmed: What the user has confirmed; None: nobody has been asked.
        name: Name of the thing, which is no model.
        what: What is to be done, such as "forget collection notes".
        why: Sentence for the user.

    Raises:
        NotConfirmed: They have not.
    """
    if confirmed is None or confirmed.model != name:
        raise NotConfirmed(
            f"to {what} was not confirmed",
            f'Ask the user first, then send confirm="{name}".',
            question=f"{what[0].upper()}{what[1:]}? ({why})",
            model=name,
            digest="",
        )


async def keep_others(catalog: Catalog, name: str, confirmed: Confirmation | None) -> str:
    """Check that a name may be taken: it is free, or a user confirmed to replace its model.

    Returns:
        SHA-256 of the model that has the name now; "" where it is free.

    Raises:
        NotConfirmed: A model has that name.
    """
    there = await catalog.entry(name)
    if there is not None:
        Question.about("overwrite", there, "a model of that name is installed").check(confirmed)
    return there.digest if there else ""
