"""Ranking: texts in the order in which they fit a query, by the vectors of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio.to_thread

from ollama_mcp.errors import InvalidArgument, Upstream
from ollama_mcp.jobs.answers import EmbeddingStats, Vectors
from ollama_mcp.jobs.job import Reply
from ollama_mcp.replies.embedding import Embedder, EmbeddingAsk, similarity

_MANY = 100_000
"""Numbers that are worked through on the event loop; more would hold everybody else up."""


@dataclass(frozen=True)
class Ranked:
    """One text: its place among the candidates, from 0, and its cosine similarity to the query."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class Ranking:
    """The best candidates, the best first."""

    rows: list[Ranked]
    stats: EmbeddingStats
    notes: list[str] = field(default_factory=list[str])

    @property
    def size(self) -> int:
        """Bytes, about, that it takes."""
        return sum(len(row.text) for row in self.rows) + 200 * len(self.rows)


class Ranker:
    """Ranks by what an Embedder makes of the texts."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def run(self, ask: EmbeddingAsk, top: int, reply: Reply[Any]) -> Ranking:
        """Rank the texts of an ask behind its first one, which is the query.

        Args:
            ask: The query, and the candidates.
            top: How many to return; 0 is all.
            reply: Counts the texts.

        Raises:
            InvalidArgument: The query or a candidate is empty, or there are none.
            OllamaError: Any of the tree.
        """
        if len(ask.texts) < 2 or not all(ask.texts):
            raise InvalidArgument(
                "there is nothing to rank", 'Send "query" and "candidates", none of them empty.'
            )
        found = await self._embedder.run(replace(ask, label=_label), reply)
        if 0 in found.failed:
            raise Upstream(f"the model fails of the query: {found.notes[0]}", "Send another query.")
        rank = partial(_ranked, found, ask.texts[1:])
        is_long = found.count > _MANY
        rows = await anyio.to_thread.run_sync(rank, abandon_on_cancel=True) if is_long else rank()
        return Ranking(rows[:top] if top else rows, found.stats, found.notes)


def _label(place: int) -> str:
    return f"candidates[{place - 1}]" if place else "query"


def _ranked(found: Vectors, candidates: Sequence[str]) -> list[Ranked]:
    query, *vectors = found.vectors
    rows = [
        Ranked(index, similarity(query, vector), text)
        for index, (vector, text) in enumerate(zip(vectors, candidates, strict=True))
        if vector
    ]
    return sorted(rows, key=lambda row: -row.score)
