"""Embeddings: texts into vectors, in batches that are one job; and texts in the order of their meaning."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import Any, get_args

import anyio.to_thread

from ollama_mcp.errors import (
    BadUpstream,
    ContextOverflow,
    InvalidArgument,
    NotOllama,
    OllamaError,
    Upstream,
)
from ollama_mcp.jobs.answers import EmbeddingStats, Form, Vectors
from ollama_mcp.jobs.job import Job, JobState, Part
from ollama_mcp.ollama.api_models import EmbedRequest, EmbedResponse, LegacyEmbeddingsRequest
from ollama_mcp.ollama.endpoints import EMBED, EMBEDDINGS
from ollama_mcp.ollama.options import Options
from ollama_mcp.ollama.parameters import check_kind
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Choice
from ollama_mcp.services.context_window import Attempt, PromptSize, WindowGrowth
from ollama_mcp.services.embedding_prefixes import Prefixes, prefixes_of
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits, check_texts

BATCH = 32
"""Texts in one request: the server runs them one by one, so more gain nothing and risk more."""
_TRIES = 3
"""Texts of a failing batch after which, where all have failed, no other is tried."""
_LARGEST = 3.4028235e38
"""Of float32, which is what vectors are; NaN is not below it either."""


@dataclass(frozen=True)
class EmbedSpec:
    """Embeddings that are asked for.

    Attributes:
        texts: What to embed; one text alone is a list of one.
        model: Its name, or "" to choose one.
        dimensions: Length of the vectors; None is the model's own.
        truncate: Whether texts that are too long may be cut.
        form: How the caller wants to see the vectors.
        label: What the caller calls the text at a place.
        queries: How many of the first texts ask for the others: each gets the prefix that its model was
            trained with. None is put before any text where this is None.

    Raises:
        InvalidArgument: There is no text, or something is of the wrong kind.
    """

    texts: Sequence[str]
    model: str = ""
    dimensions: int | None = None
    truncate: bool = False
    form: Form = "summary"
    label: Callable[[int], str] = "input[{}]".format
    queries: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):  # a sequence, too: of its characters
            object.__setattr__(self, "texts", [self.texts])
        check_kind("input", self.texts, Sequence, str)
        check_kind("model", self.model, str)
        check_kind("truncate", self.truncate, bool)
        if self.dimensions is not None:
            check_kind("dimensions", self.dimensions, int)
        if self.form not in get_args(Form):
            raise InvalidArgument(
                f'"vectors" is {str(self.form)[:40]!r}', 'Send "vectors" as "summary", "full" or "base64".'
            )
        if not self.texts:
            raise InvalidArgument("there is nothing to embed", 'Send "input", a list of at least one text.')


def build_embed(
    texts: Sequence[str],
    model: str = "",
    dimensions: int | None = None,
    *,
    truncate: bool = False,
    form: Form = "summary",
    limits: Limits = DEFAULT_LIMITS,
) -> EmbedSpec:
    """Check what a caller wants embedded, before anything waits or runs.

    Raises:
        TooLarge: There are too many texts, or too long ones.
        InvalidArgument: The dimensions are none.
    """
    spec = EmbedSpec(texts, model, dimensions, truncate, form)
    check_texts(limits, spec.texts)
    _check_dimensions(dimensions)
    return spec


@dataclass
class _Run:
    spec: EmbedSpec
    choice: Choice
    job: Part
    options: Options | None = None
    grown: bool = False
    legacy: bool = False
    prompt_tokens: int = 0
    batches: int = 0
    prefixes: Prefixes = field(default_factory=Prefixes)
    failed: dict[int, OllamaError] = field(default_factory=dict[int, OllamaError])

    @property
    def model(self) -> str:
        return self.choice.model.name

    def grow(self, window: int) -> None:
        """Ask for a larger window from now on."""
        self.grown = True
        self.options = (self.options or Options()).model_copy(update={"num_ctx": window})


class Embedder:
    """Runs EmbeddingAsks."""

    def __init__(self, backend: OllamaBackend) -> None:
        self._client = backend.client
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._growth = WindowGrowth(backend)
        self._model_queue = backend.model_queue
        self._settings = backend.settings

    async def run(self, spec: EmbedSpec, job: Part) -> Vectors:
        """Embed all texts; `job` counts them. A text that the model cannot embed has an empty vector.

        Raises:
            OllamaError: Any of the tree.
        """
        _check_dimensions(spec.dimensions)
        run = await self._begin(spec, job)
        async with self._model_queue.admit(run.model, job.caller, job.queue):
            job.enter()
            async with self._catalog.explaining(run.model):
                vectors = await self._batches(run)
        if len(run.failed) == len(vectors) and run.failed:
            raise next(iter(run.failed.values()))
        bad = run.failed.items()
        job.notes += [f"{spec.label(place)} has no vector: {error.cause}" for place, error in bad]
        stats = self._stats(run, vectors)
        return Vectors(vectors, stats, list(job.notes), spec.form, failed=sorted(run.failed))

    async def _batches(self, run: _Run) -> list[list[float]]:
        vectors: list[list[float]] = []
        for batch in _batches(run.spec.texts):
            try:
                found = _checked(await self._batch(run, batch, len(vectors)), batch, vectors, run.spec)
            except Upstream as error:
                if (len(batch) == 1 and not vectors) or not _may_be_of_one(error):
                    raise
                found = await self._one_by_one(run, batch, vectors)
            vectors += _finite(run, found, len(vectors))
            run.batches += 1
            run.job.advance(JobState.WRITING, len(batch))
        return vectors

    async def _one_by_one(
        self, run: _Run, batch: Sequence[str], before: list[list[float]]
    ) -> list[list[float]]:
        """The vectors of a batch that failed: of each text that can have one."""
        found: list[list[float]] = []
        for place, text in enumerate(batch, len(before)):
            known = [vector for vector in [*before, *found] if vector]
            try:
                found += _checked(await self._batch(run, [text], place), [text], known, run.spec)
            except Upstream as error:
                if not _may_be_of_one(error):
                    raise
                if place == len(before) + _TRIES and not any(found):
                    await self._still_works(run, before, error)
                run.failed[place] = error
                found.append([])
        return found

    async def _still_works(self, run: _Run, before: list[list[float]], error: OllamaError) -> None:
        """Ask once more for a text that had a vector: where that fails, too, it is not the texts."""
        known = next((place for place, vector in enumerate(before) if vector), None)
        if known is None:
            raise error
        await self._batch(run, [run.spec.texts[known]], known)

    async def _begin(self, spec: EmbedSpec, job: Part) -> _Run:
        choice = await self._catalog.resolve(
            spec.model, ["embedding"], default=self._settings.embedding_model
        )
        job.model, job.total = choice.model.name, len(spec.texts)
        job.look = partial(job.find_out, self._catalog.is_loaded)
        options: dict[str, Any] = dict(self._settings.defaults_for(choice.model.name).options)
        window = self._windows.of(choice.model.name)
        if window:
            options["num_ctx"] = max(window, options.get("num_ctx", 0))
        run = _Run(spec, choice, job, Options(**options) if options else None)
        if spec.queries is not None:
            run.prefixes = prefixes_of(choice.model.name)
            run.spec = replace(spec, texts=_prefixed(spec.texts, spec.queries, run.prefixes))
        return run

    async def _batch(self, run: _Run, batch: Sequence[str], begin: int) -> EmbedResponse:
        attempt = Attempt(
            send=partial(self._send, run, batch),
            measure=partial(self._need, run, batch),
            grow=run.grow,
            window=run.options.num_ctx if run.options else None,
            has_grown=run.grown,
            may_be_cut=run.spec.truncate,
            what=f"{run.spec.label(_longest(batch, begin))}, the longest text,",
        )
        return await self._growth.run(run.choice.model, run.job, attempt)

    async def _need(self, run: _Run, batch: Sequence[str], error: ContextOverflow) -> PromptSize:
        window = error.details.get("window") or (run.options.num_ctx if run.options else None)
        return PromptSize(
            tokens=error.details.get("tokens"),
            size=max(len(text.encode(errors="replace")) for text in batch),
            answer=1,
            window=window or await self._catalog.window(run.model),
        )

    async def _send(self, run: _Run, batch: Sequence[str]) -> EmbedResponse:
        if run.legacy:
            return await self._send_legacy(run, batch)
        request = EmbedRequest(
            model=run.model,
            input=list(batch),
            truncate=run.spec.truncate,
            dimensions=run.spec.dimensions,
            keep_alive=self._settings.defaults_for(run.model).keep_alive,
            options=run.options,
        )
        try:
            response = await self._client.call(EMBED, request)
        except NotOllama as error:
            if error.upstream_status != 404:
                raise
            run.legacy = True
            return await self._send_legacy(run, batch)
        run.prompt_tokens += response.prompt_eval_count
        return response

    async def _send_legacy(self, run: _Run, batch: Sequence[str]) -> EmbedResponse:
        """A server without /api/embed: one text a call, brought to length 1 here."""
        vectors: list[list[float]] = []
        keep_alive = self._settings.defaults_for(run.model).keep_alive
        for text in batch:
            request = LegacyEmbeddingsRequest(
                model=run.model, prompt=text, keep_alive=keep_alive, options=run.options
            )
            vectors.append((await self._client.call(EMBEDDINGS, request)).normalised())
        return EmbedResponse(embeddings=vectors)

    def _stats(self, run: _Run, vectors: list[list[float]]) -> EmbeddingStats:
        return EmbeddingStats(
            model=run.model,
            chosen=run.choice.why,
            count=len(vectors),
            dimensions=next((len(vector) for vector in vectors if vector), 0),
            prompt_tokens=run.prompt_tokens or None,
            batches=run.batches,
            total_s=round(time.monotonic() - run.job.started_at, 3),
            context_window=run.options.num_ctx if run.options else None,
            context_grown=run.grown,
            legacy=run.legacy,
            query_prefix=run.prefixes.query,
            document_prefix=run.prefixes.document,
            cloud=run.choice.model.is_cloud,
        )


def _may_be_of_one(error: OllamaError) -> bool:
    """Whether one text alone may be what the model fails of: the others are tried then."""
    return error.retryable and (error.upstream_status or 0) >= 500


def _finite(run: _Run, found: list[list[float]], begin: int) -> list[list[float]]:
    """The vectors of a batch; one with a number that is none is empty, and its text has failed."""
    for place, vector in enumerate(found):
        if not all(abs(x) <= _LARGEST for x in vector):
            run.failed[begin + place] = _bad("a vector with a number that is not finite")
            found[place] = []
    return found


def _prefixed(texts: Sequence[str], queries: int, prefixes: Prefixes) -> list[str]:
    return [
        (prefixes.query if place < queries else prefixes.document) + text for place, text in enumerate(texts)
    ]


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


def _longest(batch: Sequence[str], begin: int) -> int:
    """Place of the text that does not fit, as far as can be told: the server names none."""
    return begin + max(range(len(batch)), key=lambda place: len(batch[place]))


def _check_dimensions(dimensions: int | None) -> None:
    if dimensions is not None and dimensions < 1:
        raise InvalidArgument(
            f"dimensions is {dimensions}", 'Send "dimensions" above 0, or 0 for the model\'s own.'
        )


def _checked(
    response: EmbedResponse, batch: Sequence[str], before: list[list[float]], spec: EmbedSpec
) -> list[list[float]]:
    """The vectors of a batch: as many as texts, all of one length."""
    found = response.embeddings
    if not any(found) and not any(batch) and len(spec.texts) == 1:
        return []  # Ollama gives no vector for an empty text that stands alone
    if any(not text and not vector for text, vector in zip_longest(batch, found)):
        raise InvalidArgument("input has empty texts", "Leave them out.")
    if len(found) != len(batch):
        raise _bad(f"{len(found)} vectors for {len(batch)} texts")
    length = next((len(vector) for vector in [*before, *found] if vector), 0)
    if length == 0 or any(len(vector) != length for vector in found):
        raise _bad("vectors of different lengths, or of none")
    if spec.dimensions is not None and length != spec.dimensions:
        raise _other_length(length, spec.dimensions)
    return found


def _other_length(length: int, wanted: int) -> BadUpstream:
    return BadUpstream(
        f"Ollama sent vectors of length {length} where {wanted} was asked for",
        f'Send "dimensions" of at most {length}, or 0 for the model\'s own.',
    )


def _bad(what: str) -> BadUpstream:
    return BadUpstream(f"Ollama sent {what}", "Name another embedding model, or update Ollama.")


def similarity(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine similarity of two vectors, -1 to 1; 0 where one of them is zero.

    >>> similarity([1.0, 0.0], [0.0, 2.0]), similarity([1.0, 1.0], [2.0, 2.0])
    (0.0, 1.0)
    """
    if not a or not b:  # a text without a vector
        return 0.0
    lengths = math.hypot(*a) * math.hypot(*b)
    return round(sum(x * y for x, y in zip(a, b, strict=True)) / lengths, 6) if lengths else 0.0


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

    async def run(self, spec: EmbedSpec, top: int, job: Job[Any]) -> Ranking:
        """Rank the texts of an ask behind its first one, which is the query.

        Args:
            spec: The query, and the candidates.
            top: How many to return; 0 is all.
            job: Counts the texts.

        Raises:
            InvalidArgument: The query or a candidate is empty, or there are none.
            OllamaError: Any of the tree.
        """
        if len(spec.texts) < 2 or not all(spec.texts):
            raise InvalidArgument(
                "there is nothing to rank", 'Send "query" and "candidates", none of them empty.'
            )
        found = await self._embedder.run(replace(spec, label=_label), job)
        if 0 in found.failed:
            raise Upstream(f"the model fails of the query: {found.notes[0]}", "Send another query.")
        rank = partial(_ranked, found, spec.texts[1:])
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
