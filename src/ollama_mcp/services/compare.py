"""Comparing: one ChatSpec to several models, one after another, in one Job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_mcp.errors import CallerError, InvalidArgument, OllamaError
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.catalog import Catalog
from ollama_mcp.services.generation import Generator
from ollama_mcp.services.specs import ChatSpec

_MOST = 8
"""Models in one comparison."""


@dataclass(frozen=True)
class Compared:
    """The row of one model: an answer, or the failure that stands for it."""

    model: str
    answer: Answer | None
    failure: OllamaError | None = None


@dataclass
class Comparison:
    """The answers of several models, in the order in which they were named.

    Attributes:
        rows: A row for each model.
        handle: The handle to read it in pages; "" where it is not kept.
    """

    rows: list[Compared]
    handle: str = ""

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, about."""
        return sum(row.answer.size for row in self.rows if row.answer is not None)


class Comparer:
    """Asks several models the same.

    comparison = await comparer.run(build_chat(prompt="hi"), ["qwen3:8b", "llama3.2:3b"], job)
    [row.model for row in comparison.rows if row.answer is not None]
    """

    def __init__(self, generator: Generator, catalog: Catalog) -> None:
        self._generator = generator
        self._catalog = catalog

    async def run(self, spec: ChatSpec, models: Sequence[str], job: Job[Comparison]) -> Comparison:
        """Ask each model in turn; a failure of one is its row, and the others go on.

        Args:
            spec: The request; its model does not count.
            models: Names of 1 to 8 installed models.
            job: Shows each model as a part.

        Raises:
            InvalidArgument: No model is named, too many are, or the schema is none.
            CallerError: None of the models can be asked.
        """
        names = list(dict.fromkeys(filter(None, (name.strip() for name in models))))
        if not 1 <= len(names) <= _MOST:
            raise InvalidArgument(
                f"{len(names)} models are named", f'Send from 1 to {_MOST} installed ones in "models".'
            )
        # All names are looked up before the first model works: a caller who cannot ask any is told at once.
        failures: dict[str, OllamaError] = {}
        for name in names:
            try:
                await self._catalog.resolve(name, spec.needs, default="")
            except CallerError as error:
                failures[name] = error
        if len(failures) == len(names):
            raise failures[names[0]]
        await self._generator.check(spec)
        rows: list[Compared] = []
        for place, name in enumerate(names, 1):
            if name in failures:
                rows.append(Compared(name, None, failures[name]))
                continue
            part = job.part(f"model {place} of {len(names)}")
            own = replace(spec, request=spec.request.model_copy(update={"model": name}))
            try:
                answer = await self._generator.answer(own, part, bounded=not rows)
                rows.append(Compared(name, answer))
                job.keep(f"{name}:\n{answer}\n\n")
            except OllamaError as error:
                rows.append(Compared(name, None, error))
        return Comparison(rows)
