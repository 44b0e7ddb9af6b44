"""Retrieval: passages in the order in which they are near to a question, by meaning and by words.

Both orders are made one by reciprocal rank fusion. Measured on Cranfield (nDCG@10): meaning 0.399, words
0.388, both 0.440. Whether the passages are about the question at all is decided here, too, before a model
is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from statistics import fmean, pstdev

import anyio

from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.job import Part
from ollama_mcp.services.collections import NOTHING_FOUND, OpenCollection
from ollama_mcp.services.embedding import Embedder, EmbedSpec, similarity
from ollama_mcp.services.lexical import asked_words, coverage, rank_by_words, rarities
from ollama_mcp.sources import Passage

MOST_EMBEDDED = 256
"""Passages that are ranked by meaning, too; of more those that are nearest by words."""
_K, _MEANING = 20, 1.5
"""Constant of reciprocal rank fusion, and the weight of the order by meaning; 60 and 1 are usual.

nDCG@10 with these and with the usual ones: 0.440 and 0.437 on Cranfield, 0.71 and 0.68 on our own docs, whose
questions share fewer words with the answers.
"""


def fuse(by_meaning: Sequence[int], by_words: Sequence[int]) -> list[int]:
    """Return places of two orders as one order, by reciprocal rank fusion.

    >>> fuse([3, 1, 2], [1, 4])
    [1, 3, 2, 4]
    """
    scores: dict[int, float] = {}
    for order, weight in ((by_meaning, _MEANING), (by_words, 1.0)):
        for rank, place in enumerate(order, 1):
            scores[place] = scores.get(place, 0.0) + weight / (_K + rank)
    return sorted(scores, key=lambda place: -scores[place])


@dataclass(frozen=True)
class Retrieved:
    """Passages in the order of their nearness to a question.

    Attributes:
        passages: All of them, the nearest first.
        is_about: False if none of them is about the question.
        notes: Notes for the caller, such as that there is no embedding model.
        cosines: Cosine similarity of each to the question; None where it was found by words alone.
        count: Passages that were looked through.
    """

    passages: list[Passage]
    is_about: bool
    notes: tuple[str, ...] = ()
    cosines: list[float | None] = field(default_factory=list[float | None])
    count: int = 0


UNRELATED = (
    "The recipe needs two eggs, a cup of flour and a pinch of salt.",
    "The court decided that the contract was not valid.",
    "Patients were given the medicine twice a day for three weeks.",
    "The river rises in the mountains and flows into the sea.",
    "The team won the match after extra time.",
    "Click on Settings and choose a new password.",
    "The king signed the treaty, and the war was over.",
    "Interest rates rose for the third time this year.",
    "She put the letter on the table and left the room.",
    "The plant grows best in dry soil with plenty of sun.",
    "The function returns a list of names in alphabetical order.",
    "The painting shows a harbour at night.",
    "Children learn to read at the age of six.",
    "The engine is mounted behind the rear axle.",
    "The telescope found a planet that circles a distant star.",
    "Visitors can park their cars behind the museum.",
    "The union and the company agreed on higher wages.",
    "The mixture is heated until all of the sugar has dissolved.",
    "The orchestra played two symphonies in the first half.",
    "Wolves live in packs and hunt at night.",
    "The bridge was closed for repairs in spring.",
    "Voters will choose a new parliament in May.",
    "The shop sells shoes, coats and hats.",
    "The proof follows from the previous theorem by induction.",
)
"""Texts about everything, which tell how near a model calls a question to what it has nothing to do with.

Cosines differ by model, so that no number of them means "near". The distance of the best passage from these
texts, in units of the spread that they have among themselves, means the same for every model.
"""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds below which passages are not about a question.

    A question is refused if nearness and coverage together are too small. The nearest of many passages is
    nearer by chance than the nearest of few, so that many have to be nearer. Measured by
    benchmarks/retrieval.py, with the figures of other thresholds.

    Attributes:
        least: Nearness that one passage without a word of the question needs.
        of_count: Nearness to be added for each e-fold number of passages.
        of_words: Nearness that all words of the question are worth.
        alone: Coverage to be exceeded for each e-fold number of passages, where there are no vectors.
    """

    least: float = 1.7
    of_count: float = 0.5
    of_words: float = 6.0
    alone: float = 0.04


THRESHOLDS = Thresholds()


def spread_of(unrelated: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of the cosines of unrelated texts to one another: a model's unit."""
    cosines = [similarity(a, b) for a, b in combinations(filter(None, unrelated), 2)]
    return pstdev(cosines) if cosines else 0.0


def nearness(best: float, unrelated: Sequence[float], spread: float) -> float:
    """Return how much nearer the best passage is to a question than unrelated texts are.

    Args:
        best: Its cosine.
        unrelated: Cosines of the unrelated texts.
        spread: Unit of the result, as of `spread_of`.

    >>> round(nearness(0.5, [0.0, 0.1, 0.2], 0.1), 2)
    4.0
    """
    return (best - fmean(unrelated)) / (spread or 1e-9)


def is_about(near: float | None, covered: float, count: int, thresholds: Thresholds = THRESHOLDS) -> bool:
    """Return whether passages are about a question.

    Args:
        near: Their `nearness`; None where there are no vectors.
        covered: Their `coverage`.
        count: Their number.
        thresholds: Numbers to decide by.
    """
    size = math.log(count)
    if near is None:
        return covered > thresholds.alone * size
    return near + thresholds.of_words * covered >= thresholds.least + thresholds.of_count * size


@dataclass(frozen=True)
class _Baseline:
    """Vectors of the unrelated texts by one model."""

    model: str
    vectors: list[list[float]]

    @cached_property
    def dimensions(self) -> int:
        return max(map(len, self.vectors), default=0)  # a text that could not be embedded has none

    @cached_property
    def spread(self) -> float:
        return spread_of(self.vectors)


class Retriever:
    """Ranks passages for a question, those of a collection among them.

    The vectors of the unrelated texts are kept for as long as the embedding model stays the same.

        found = await retriever.rank("Where do I park?", passages, Part("texts"))
        found.passages[0].text
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._baseline: _Baseline | None = None

    async def rank(
        self,
        query: str,
        passages: Sequence[Passage],
        part: Part,
        index: OpenCollection | None = None,
        under: str = "",
    ) -> Retrieved:
        """Rank passages by meaning and by words; by words alone where no model embeds.

        Args:
            query: The question.
            passages: Pieces, as of `split_passages`.
            part: Part of a job that counts the texts.
            index: Collection whose nearest passages are ranked with them; its model embeds.
            under: Beginning of the names of the documents of the collection that are searched.
        """
        texts = list(map(_text_of, passages))
        by_words = await anyio.to_thread.run_sync(rank_by_words, query, texts)
        notes: list[str] = []
        places = list(range(len(texts)))
        if len(texts) > MOST_EMBEDDED:
            rest = sorted(set(places) - set(by_words))
            places = [*by_words, *rest][:MOST_EMBEDDED]
            notes.append(
                f"of {len(texts)} passages the {MOST_EMBEDDED} nearest by words were ranked by meaning"
            )
        question: list[float] | None = None
        vectors: dict[int, list[float]] = {}
        baseline = _Baseline("", [])
        try:
            if index is not None:
                index.require_model()
            model = index.model if index else ""
            found, baseline = await self._embed(query, [texts[place] for place in places], part, model)
            question, *others = found
            vectors = {place: vector for place, vector in zip(places, others, strict=True) if vector}
        except OllamaError as error:
            notes = [f"passages were ranked by words only: {error.code}: {error.cause}"]
        stored = await index.search(question or None, asked_words(query), under) if index else NOTHING_FOUND
        every = [*stored.passages, *passages]

        def decide() -> Retrieved:
            cosines: list[float | None] = [
                *stored.cosines,
                *(
                    similarity(question, vectors[n]) if question and n in vectors else None
                    for n in range(len(texts))
                ),
            ]
            by_meaning = sorted(
                (place for place, cosine in enumerate(cosines) if cosine is not None),
                key=lambda place: -(cosines[place] or 0.0),
            )
            all_texts = [*map(_text_of, stored.passages), *texts]
            words = by_words if not stored.passages else stored.by_words
            if stored.passages and texts:
                words = rank_by_words(query, all_texts)
            order = fuse(by_meaning, words)
            order += sorted(set(range(len(every))) - set(order))
            count = stored.count + len(texts)
            share = coverage(
                query,
                all_texts,
                (by_meaning or words)[:10],
                rarities(query, texts, stored.frequencies, stored.count),
            )
            near = None
            if question:
                unrelated = [similarity(question, vector) for vector in baseline.vectors if vector]
                best = cosines[by_meaning[0]] if by_meaning else 0.0
                near = nearness(best, unrelated, baseline.spread) if best and unrelated else 0.0
            return Retrieved(
                [every[place] for place in order],
                count > 0 and is_about(near, share, count),
                tuple(notes),
                [cosines[place] for place in order],
                count,
            )

        return await anyio.to_thread.run_sync(decide)  # up to 100,000 multiplications

    async def _embed(
        self, query: str, texts: Sequence[str], part: Part, model: str
    ) -> tuple[list[list[float]], _Baseline]:
        """Return the vectors of the query and the texts, and those of the unrelated texts."""
        known = self._baseline if not model or (self._baseline and self._baseline.model == model) else None
        more = () if known else UNRELATED
        spec = EmbedSpec([query, *texts, *more], model, queries=1, truncate=True)
        found = await self._embedder.run(spec, part)
        vectors, model = found.vectors[: 1 + len(texts)], found.stats.model
        if known is None:
            known = _Baseline(model, found.vectors[len(vectors) :])
        elif known.model != model or (vectors[0] and len(vectors[0]) != known.dimensions):
            # Another model is configured, loaded or newest by now, or another one has its name.
            spec = EmbedSpec([query, *UNRELATED], model, queries=1)
            known = _Baseline(model, (await self._embedder.run(spec, part)).vectors[1:])
        self._baseline = known
        return vectors, known


def _text_of(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}".strip()
