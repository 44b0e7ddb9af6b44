"""Comparing: one ChatSpec to several models, one after another, in one Job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_mcp.errors import CallerError, InvalidArgument, OllamaError
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.job import Job, Part
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.generation import Generator
from ollama_mcp.services.specs import ChatSpec

_MOST = 8


@dataclass(frozen=True)
class Compared:
    """What one model made of it: an answer, or why there is none."""

    model: str
    answer: Answer | None
    failure: OllamaError | None = None


@dataclass
class Comparison:
    """What each model made of it, in the order in which they were named.

    Attributes:
        rows: One for each model.
        handle: What finds it again, where it is read in pages; "" where it is not kept.
    """

    rows: list[Compared]
    handle: str = ""

    @property
    def size(self) -> int:
        """Bytes, about, that it takes."""
        return sum(row.answer.size for row in self.rows if row.answer is not None)


class Comparer:
    """Asks several models the same."""

    def __init__(self, generator: Generator, catalog: Catalog) -> None:
        self._generator = generator
        self._catalog = catalog

    async def run(self, spec: ChatSpec, models: Sequence[str], job: Job[Comparison]) -> Comparison:
        """Ask each model in turn; one that fails is a row, not the end.

        Raises:
            InvalidArgument: No model is named, or too many are.
        """
        names = list(dict.fromkeys(filter(None, (name.strip() for name in models))))
        if not 1 <= len(names) <= _MOST:
            raise InvalidArgument(
                f"{len(names)} models are named", f'Send from 1 to {_MOST} installed ones in "models".'
            )
        unknown = await self._unknown(names, spec)
        rows: list[Compared] = []
        for place, name in enumerate(names, 1):
            if name in unknown:
                rows.append(Compared(name, None, unknown[name]))
                continue
            rows.append(await self._asked(spec, name, job.part(f"model {place} of {len(names)}")))
        return Comparison(rows)

    async def _unknown(self, names: Sequence[str], spec: ChatSpec) -> dict[str, OllamaError]:
        """What is wrong with the names, found out before the first model works.

        Raises:
            CallerError: None of them can be asked.
        """
        wrong: dict[str, OllamaError] = {}
        for name in names:
            try:
                await self._catalog.resolve(name, spec.needs, default="")
            except CallerError as error:
                wrong[name] = error
        if len(wrong) == len(names):
            raise wrong[names[0]]
        return wrong

    async def _asked(self, spec: ChatSpec, model: str, part: Part) -> Compared:
        own = replace(spec, request=spec.request.model_copy(update={"model": model}))
        try:
            return Compared(model, await self._generator.run(own, part))
        except OllamaError as error:
            return Compared(model, None, error)
