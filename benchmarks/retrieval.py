"""Retrieval over the Cranfield collection: order, packed prompts, refusals, time.

    python benchmarks/retrieval.py FOLDER [URL]

URL is that of an empty PostgreSQL database with pgvector, which is measured, too. FOLDER has `cran.all.1400`,
`cran.qry` and `cranqrel` of the public collection, and the vectors of its abstracts and questions by
all-MiniLM-L6-v2 in `cranfield-minilm-l6-v2-f16.npz` (`documents` and `queries`, in the files' order). The
collection has no licence, so that nothing of it is here. The questions that it cannot answer are ours
(unanswerable.txt); the embedded engine makes their vectors.
"""

from __future__ import annotations

import asyncio
import math
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from minilm import MODEL, Matrix, embed, unit

from ollama_mcp.jobs.answers import EmbeddingStats, Vectors
from ollama_mcp.jobs.job import Part
from ollama_mcp.services.collections import CANDIDATES, OpenCollection
from ollama_mcp.services.embedding import EmbedSpec
from ollama_mcp.services.grounded_answer import pack
from ollama_mcp.services.lexical import coverage, rank_by_words
from ollama_mcp.services.retrieval import (
    MOST_EMBEDDED,
    THRESHOLDS,
    UNRELATED,
    Retriever,
    Thresholds,
    fuse,
    is_about,
    nearness,
    spread_of,
)
from ollama_mcp.settings.readers import read_store
from ollama_mcp.sources import Passage
from ollama_mcp.stores.collection_store import (
    CollectionKey,
    CollectionStore,
    Document,
    Fingerprint,
    NewPassage,
    StoredPassage,
)
from ollama_mcp.stores.configured import configured_collections

WINDOWS = {2048: 0.78, 4096: 0.87, 8192: 0.93}
"""Context windows, and the share of questions that shall have a relevant passage in the prompt."""
SUBSETS = {3: 4, 8: 4, 30: 4, 200: 1}
"""Sizes of random subsets, and how often each question gets one."""
MOST_REFUSED, LEAST_REFUSED = 0.02, 0.80
"""Goals: of the collection's questions, and of those that it cannot answer."""
AROUND = [
    THRESHOLDS,
    *(replace(THRESHOLDS, least=least) for least in (0.9, 1.3, 2.1, 2.5)),
    *(replace(THRESHOLDS, of_count=each) for each in (0.3, 0.4, 0.6)),
    *(replace(THRESHOLDS, of_words=worth) for worth in (0.0, 3.0, 9.0)),
]
ALONE = [replace(THRESHOLDS, alone=alone) for alone in (0.02, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06)]


@dataclass(frozen=True)
class Question:
    """A question with its vector, cosines to the unrelated texts and their spread, and what answers it."""

    text: str
    vector: Matrix
    unrelated: list[float]
    spread: float
    relevant: frozenset[int] = frozenset()


def question_of(
    text: str, vector: Matrix, unrelated: Matrix, relevant: frozenset[int] = frozenset()
) -> Question:
    """Return a question with what can be told from the vectors of the unrelated texts."""
    return Question(text, vector, (unrelated @ vector).tolist(), spread_of(unrelated.tolist()), relevant)


@dataclass(frozen=True)
class Collection:
    """Passages with their vectors, and the questions that they answer."""

    passages: list[Passage]
    vectors: Matrix
    questions: list[Question]

    @property
    def texts(self) -> list[str]:
        """Texts as Retriever ranks them."""
        return [f"{passage.title}\n{passage.text}".strip() for passage in self.passages]

    def part(self, places: Sequence[int]) -> Collection:
        """Return the passages at some places, without questions."""
        return Collection([self.passages[place] for place in places], self.vectors[places], [])


def read(folder: Path, unrelated: Matrix) -> Collection:
    """Read the Cranfield collection."""
    passages: list[Passage] = []
    places: dict[str, int] = {}
    for number, fields in _records(folder / "cran.all.1400"):
        places[number] = len(passages)
        title = " ".join(fields["T"].split())
        passages.append(Passage(fields["W"].strip(), "cranfield", title))
    relevant: dict[int, set[int]] = {}
    for line in filter(str.strip, (folder / "cranqrel").read_text().splitlines()):
        query, document, grade = line.split()[:3]
        if int(grade) > 0 and document in places:
            relevant.setdefault(int(query), set()).add(places[document])
    stored = np.load(folder / "cranfield-minilm-l6-v2-f16.npz")
    asked = [" ".join(fields["W"].split()) for _, fields in _records(folder / "cran.qry")]
    questions = [
        question_of(text, vector, unrelated, frozenset(relevant.get(number, ())))
        for number, (text, vector) in enumerate(zip(asked, unit(stored["queries"]), strict=True), 1)
    ]
    return Collection(passages, unit(stored["documents"]), questions)


def _records(file: Path) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    for record in re.split(r"(?m)^\.I ", file.read_text(errors="replace"))[1:]:
        number, rest = record.split("\n", 1)
        parts = re.split(r"(?m)^\.([A-Z])[ ]*\n", rest)
        found.append((number.strip(), dict(zip(parts[1::2], parts[2::2], strict=True))))
    return found


def by_meaning(question: Question, collection: Collection, places: Sequence[int]) -> list[int]:
    """Return places in the order of their cosines."""
    scores = collection.vectors[places] @ question.vector
    return [places[at] for at in np.argsort(-scores, kind="stable")]


def embedded(by_words: Sequence[int], count: int) -> list[int]:
    """Return the places of the passages that Retriever embeds."""
    rest = sorted(set(range(count)) - set(by_words)) if count > MOST_EMBEDDED else range(count)
    return [*by_words, *rest][:MOST_EMBEDDED] if count > MOST_EMBEDDED else list(rest)


def ndcg(order: Sequence[int], relevant: frozenset[int], depth: int = 10) -> float:
    """Return the normalised discounted cumulative gain of an order, where a passage is relevant or not."""
    gain = sum(1 / math.log2(rank + 1) for rank, place in enumerate(order[:depth], 1) if place in relevant)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), depth) + 1))
    return gain / best if best else 0.0


def measure_order(collection: Collection) -> None:
    """Print how good each order is, and how often a relevant passage is in the packed prompt."""
    texts, everything = collection.texts, list(range(len(collection.passages)))
    scores: dict[str, list[float]] = {"meaning": [], "words": [], "hybrid": [], "as shipped": []}
    packed: dict[int, list[bool]] = {window: [] for window in WINDOWS}
    for question in collection.questions:
        words = rank_by_words(question.text, texts)
        meaning = by_meaning(question, collection, everything)
        shipped = fuse(by_meaning(question, collection, embedded(words, len(texts))), words)
        orders = (meaning, words, fuse(meaning, words), shipped)
        for name, order in zip(scores, orders, strict=True):
            scores[name].append(ndcg(order, question.relevant))
        for window, hits in packed.items():
            ranked = [collection.passages[place] for place in shipped]
            prompt = pack(ranked, window, question.text)
            hits.append(not question.relevant.isdisjoint(shipped[at] for at in _places(ranked, prompt)))
    mean = {name: fmean(found) for name, found in scores.items()}
    print(
        f"\nnDCG@10 over {len(collection.questions)} questions (goal: hybrid 0.435, 1.05 x the better half)"
    )
    for name, value in mean.items():
        ratio = value / max(mean["meaning"], mean["words"])
        note = f" (the {MOST_EMBEDDED} nearest by words by meaning, too)" if name == "as shipped" else ""
        print(f"  {name:10} {value:.3f}  {ratio:.3f} x the better half{note}")
    print("\na relevant passage is in the packed prompt")
    for window, hits in packed.items():
        print(f"  {window:5} tokens  {fmean(hits):6.1%}  (goal {WINDOWS[window]:.0%})")


def _places(ranked: Sequence[Passage], packed: Sequence[Passage]) -> list[int]:
    chosen = set(map(id, packed))
    return [at for at, passage in enumerate(ranked) if id(passage) in chosen]


@dataclass(frozen=True)
class Evidence:
    """Figures by which a question is refused; the second coverage is that without vectors."""

    near: float
    covered: float
    covered_alone: float
    count: int

    def is_refused(self, thresholds: Thresholds) -> bool:
        """Return whether Retriever refuses it, with vectors."""
        return not is_about(self.near, self.covered, self.count, thresholds)

    def is_refused_alone(self, thresholds: Thresholds) -> bool:
        """Return whether Retriever refuses it, without vectors."""
        return not is_about(None, self.covered_alone, self.count, thresholds)


def evidence(question: Question, collection: Collection) -> Evidence:
    """Return by what a question would be refused from these passages."""
    texts = collection.texts
    words = rank_by_words(question.text, texts)
    meaning = by_meaning(question, collection, embedded(words, len(texts)))
    best = float(collection.vectors[meaning[0]] @ question.vector)
    return Evidence(
        nearness(best, question.unrelated, question.spread),
        coverage(question.text, texts, meaning[:10]),
        coverage(question.text, texts, words[:10]),
        len(texts),
    )


Judged = dict[str, tuple[list[Evidence], list[Evidence]]]
"""Evidence of the collection's questions and of the unanswerable ones, by the passages asked."""


def gather_evidence(collection: Collection, unanswerable: Sequence[Question]) -> Judged:
    """Collect evidence from the whole collection and from random subsets."""
    chance = np.random.default_rng(1)
    count = len(collection.passages)

    def some(size: int, relevant: Sequence[int] = ()) -> Collection:
        others = np.setdiff1d(np.arange(count), relevant)
        return collection.part([*relevant, *chance.choice(others, size - len(relevant), replace=False)])

    asked = collection.questions
    found: Judged = {
        "all": (
            [evidence(question, collection) for question in asked],
            [evidence(question, collection) for question in unanswerable],
        )
    }
    for size, draws in SUBSETS.items():
        found[str(size)] = (
            [
                evidence(question, some(size, chance.permutation(sorted(question.relevant))[:2]))
                for _ in range(draws)
                for question in asked
                if len(question.relevant) > 1
            ],
            [evidence(question, some(size)) for _ in range(draws) for question in unanswerable],
        )
    return found


Refuses = Callable[[Evidence, Thresholds], bool]


def curve(title: str, judged: Judged, rows: Sequence[tuple[str, Thresholds]], refuses: Refuses) -> None:
    """Print the shares refused at each threshold."""
    print(f"\n{title}: refused, of the collection's questions and of the unanswerable ones")
    print(f"  {'passages':32}" + "".join(f"{size:>15}" for size in judged))
    for name, thresholds in rows:
        shares = [
            tuple(fmean(refuses(found, thresholds) for found in group) for group in groups)
            for groups in judged.values()
        ]
        is_met = all(real <= MOST_REFUSED and other >= LEAST_REFUSED for real, other in shares)
        cells = "".join(f"{real:8.1%} {other:5.0%} " for real, other in shares)
        print(f"  {name:32}{cells}{'  meets the goals' if is_met else ''}")


def measure_refusals(judged: Judged) -> None:
    """Print the curve with vectors and that of words alone."""
    rows = [(f"{t.least:g} + {t.of_count:g} ln n, words {t.of_words:g}", t) for t in AROUND]
    curve("With vectors, the first in force", judged, rows, Evidence.is_refused)
    alone = [(f"{t.alone:g} ln n{' (in force)' * (t == THRESHOLDS)}", t) for t in ALONE]
    curve("Words alone", judged, alone, Evidence.is_refused_alone)


class _Known:
    """An embedder that has the vectors already."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    async def run(self, spec: EmbedSpec, part: Part) -> Vectors:
        """Return the vectors of the texts."""
        found = [self._vectors[text] for text in spec.texts]
        return Vectors(found, EmbeddingStats(MODEL, "known", len(found), len(found[0])))


def measure_time(collection: Collection, unrelated: Matrix) -> None:
    """Print how long Retriever takes beside the embedding."""
    print("milliseconds a question, without the embedding (median of 9)")
    for count in (MOST_EMBEDDED, 2000):
        numbered = [
            replace(passage, title=f"{passage.title} {number}")
            for number, passage in enumerate([*collection.passages, *collection.passages][:count])
        ]
        texts = [f"{passage.title}\n{passage.text}".strip() for passage in numbered]
        vectors: dict[str, Any] = dict(zip(UNRELATED, unrelated.tolist(), strict=True))
        vectors |= zip(texts, np.vstack([collection.vectors] * 2).tolist(), strict=False)
        vectors |= {question.text: question.vector.tolist() for question in collection.questions}
        retriever = Retriever(_Known(vectors))  # pyright: ignore[reportArgumentType]
        words, whole = [], []
        for question in collection.questions[:9]:
            begun = time.perf_counter()
            rank_by_words(question.text, texts)
            words.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            asyncio.run(retriever.rank(question.text, numbered, Part("texts")))
            whole.append(time.perf_counter() - begun)
        of_words, of_all = np.median(words) * 1e3, np.median(whole) * 1e3
        print(f"  {count:5} passages: rank_by_words {of_words:.0f}, all {of_all:.0f}")


KEY = CollectionKey("", "cranfield")


async def measure_store(
    store: CollectionStore, collection: Collection, unrelated: Matrix, unanswerable: Sequence[Question]
) -> None:
    """Print how good the order of a store is, with what it refuses and how long a search takes."""
    await store.ensure(KEY, Fingerprint(MODEL, "known", collection.vectors.shape[1]))
    for place, (passage, vector) in enumerate(zip(collection.passages, collection.vectors, strict=True)):
        document = Document(str(place), passage.title, "")
        await store.put(KEY, document, [NewPassage(passage.title, passage.text, 1)], [vector.tolist()])
    questions = [*collection.questions, *unanswerable]
    vectors: dict[str, Any] = dict(zip(UNRELATED, unrelated.tolist(), strict=True))
    vectors |= {question.text: question.vector.tolist() for question in questions}
    retriever = Retriever(_Known(vectors))  # pyright: ignore[reportArgumentType]
    (there,) = await store.collections("")
    index = OpenCollection(store, there, "known")
    scores: list[float] = []
    packed: dict[int, list[bool]] = {window: [] for window in WINDOWS}
    refused: list[bool] = []
    times: list[float] = []
    for question in questions:
        begun = time.perf_counter()
        found = await retriever.rank(question.text, [], Part("texts"), index)
        times.append(time.perf_counter() - begun)
        refused.append(not found.is_about)
        ranked = [one for one in found.passages if isinstance(one, StoredPassage)]
        if question.relevant:
            order = [int(one.document.id) for one in ranked]
            scores.append(ndcg(order, question.relevant))
            for window, hits in packed.items():
                prompt = [
                    one for one in pack(ranked, window, question.text) if isinstance(one, StoredPassage)
                ]
                hits.append(not question.relevant.isdisjoint(int(one.document.id) for one in prompt))
    real = len(collection.questions)
    print(f"\n{type(store).__name__}: nDCG@10 {fmean(scores):.3f}, median {np.median(times) * 1e3:.1f} ms")
    for window, hits in packed.items():
        print(f"  {window:5} tokens  {fmean(hits):6.1%}  (goal {WINDOWS[window]:.0%})")
    print(f"  refused: {fmean(refused[:real]):.1%} of its questions, {fmean(refused[real:]):.0%} of others")


async def measure_size(store: CollectionStore, count: int) -> None:
    """Print the time and memory of searches among many passages, with random vectors and words."""
    key = CollectionKey("", f"of-{count}")
    chance = np.random.default_rng(1)
    words = np.array([f"w{number}" for number in range(5000)])
    await store.ensure(key, Fingerprint(MODEL, "known", 384))
    begun = time.perf_counter()
    for number in range(count // 100):
        texts = [" ".join(chance.choice(words, 120)) for _ in range(100)]
        some = chance.normal(size=(100, 384)).tolist()
        await store.put(
            key, Document(str(number), str(number), ""), [NewPassage("", t, 1) for t in texts], some
        )
    print(
        f"\n{type(store).__name__}, {count} passages (random): stored in {time.perf_counter() - begun:.0f} s"
    )
    await store.aclose()
    before = _resident()
    times: list[float] = []
    for _ in range(30):
        query, asked = chance.normal(size=384).tolist(), chance.choice(words, 6).tolist()
        begun = time.perf_counter()
        await store.search(key, query, asked, CANDIDATES, "")
        times.append((time.perf_counter() - begun) * 1e3)
    grown = (_resident() - before) / 2**20
    first, warm = times[0], np.median(times[1:])
    print(
        f"  first search {first:.0f} ms (goal 300), median {warm:.1f} ms (goal 15), "
        f"+ {grown:.0f} MiB (goal 40)"
    )
    await store.drop(key)


def _resident() -> int:
    """Return the resident memory of this process, in bytes; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def measure_stores(
    collection: Collection, unrelated: Matrix, unanswerable: Sequence[Question], url: str
) -> None:
    """Measure SQLite in a folder of its own, and PostgreSQL where there is a URL."""
    with tempfile.TemporaryDirectory() as folder:
        for place in filter(None, (folder, read_store(url))):
            store = configured_collections(place)
            assert store is not None
            await measure_store(store, collection, unrelated, unanswerable)
            await store.drop(KEY)
            for count in (20_000, 100_000):
                await measure_size(store, count)
            await store.aclose()


def main(folder: Path, url: str) -> None:
    """Print all figures."""
    asked = (Path(__file__).parent / "unanswerable.txt").read_text().splitlines()
    made = embed([*asked, *UNRELATED])
    unrelated = made[len(asked) :]
    unanswerable = [question_of(text, vector, unrelated) for text, vector in zip(asked, made, strict=False)]
    collection = read(folder, unrelated)
    measure_time(collection, unrelated)
    measure_order(collection)
    asyncio.run(measure_stores(collection, unrelated, unanswerable, url))
    measure_refusals(gather_evidence(collection, unanswerable))


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else "")
