"""Embeddings: vectors of texts, in batches that are one job; and candidates ranked by similarity."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from operator import mul
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
"""The largest float32, which is what vectors are made of; NaN is not below it either."""
_LARGE = 100_000
"""Numbers that are worked through on the event loop; more would hold other calls up."""


@dataclass(frozen=True)
class EmbedSpec:
    """A checked request for embeddings.

        spec = build_embed(["a llama", "an alpaca"], "nomic-embed-text")
        vectors = await app.embedder.run(spec, job)

    Attributes:
        texts: The texts to embed; a text alone becomes a list.
        model: Its name, or "" to choose one.
        dimensions: Length of the vectors; None is the model's own.
        truncate: Whether texts that are too long may be cut.
        form: The form of the vectors in the result.
        label: Returns the caller's name of the text at a place.
        queries: Number of the first texts that are queries for the others: each text gets the prefix that
            its model was trained with. None puts none before any.

    Raises:
        InvalidArgument: There is no text, or a value is of the wrong kind.
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
    """Check a request for embeddings, before it waits or runs; the parameters are those of an EmbedSpec.

    Raises:
        TooLarge: There are too many texts, or too long ones.
        InvalidArgument: A value is of the wrong kind, or the dimensions are below 1.
    """
    spec = EmbedSpec(texts, model, dimensions, truncate, form)
    check_texts(limits, spec.texts)
    _check_dimensions(dimensions)
    return spec


def _check_dimensions(dimensions: int | None) -> None:
    if dimensions is not None and dimensions < 1:
        raise InvalidArgument(
            f"dimensions is {dimensions}", 'Send "dimensions" above 0, or 0 for the model\'s own.'
        )


@dataclass
class _Run:
    """The run of an EmbedSpec: its model, its options, and the texts that failed."""

    spec: EmbedSpec
    choice: Choice
    job: Part
    options: Options | None = None
    has_grown: bool = False
    is_legacy: bool = False
    prompt_tokens: int = 0
    batches: int = 0
    prefixes: Prefixes = field(default_factory=Prefixes)
    failed: dict[int, OllamaError] = field(default_factory=dict[int, OllamaError])
    """Texts without a vector, by their place."""

    @property
    def model(self) -> str:
        return self.choice.model.name

    def grow(self, window: int) -> None:
        """Ask for a larger window, in tokens, from now on."""
        self.has_grown = True
        self.options = (self.options or Options()).model_copy(update={"num_ctx": window})


class Embedder:
    """Answers EmbedSpecs with a model.

    vectors = await Embedder(backend).run(build_embed(["a llama"]), job)
    len(vectors[0])  # the model's dimensions
    """

    def __init__(self, backend: OllamaBackend) -> None:
        self._client = backend.client
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._growth = WindowGrowth(backend)
        self._model_queue = backend.model_queue
        self._settings = backend.settings

    async def run(self, spec: EmbedSpec, job: Part) -> Vectors:
        """Embed all texts. A text that the model cannot embed has an empty vector, and a note.

        Args:
            spec: The request.
            job: Counts the texts, and gets the notes.

        Returns:
            A list of floats for each text, in their order.

        Raises:
            OllamaError: Any of the tree.
        """
        _check_dimensions(spec.dimensions)
        choice = await self._catalog.resolve(
            spec.model, ["embedding"], default=self._settings.embedding_model
        )
        model = choice.model
        job.model, job.total = model.name, len(spec.texts)
        job.look = partial(job.find_out, self._catalog.is_loaded)
        options: dict[str, Any] = dict(self._settings.defaults_for(model.name).options)
        window = self._windows.of(model.name)
        if window:
            options["num_ctx"] = max(window, options.get("num_ctx", 0))
        run = _Run(spec, choice, job, Options(**options) if options else None)
        if spec.queries is not None:
            run.prefixes = prefixes = prefixes_of(model.name)
            texts = [
                (prefixes.query if place < spec.queries else prefixes.document) + text
                for place, text in enumerate(spec.texts)
            ]
            run.spec = replace(spec, texts=texts)
        async with self._model_queue.admit(model.name, job.caller, job.queue):
            job.enter()
            async with self._catalog.explaining(model.name):
                vectors = await self._embed_all(run)
        if len(run.failed) == len(vectors) and run.failed:
            raise next(iter(run.failed.values()))
        job.notes += [f"{spec.label(place)} has no vector: {e.cause}" for place, e in run.failed.items()]
        stats = EmbeddingStats(
            model=model.name,
            chosen=choice.why,
            count=len(vectors),
            dimensions=next((len(vector) for vector in vectors if vector), 0),
            prompt_tokens=run.prompt_tokens or None,
            batches=run.batches,
            total_s=round(time.monotonic() - job.started_at, 3),
            context_window=run.options.num_ctx if run.options else None,
            context_grown=run.has_grown,
            legacy=run.is_legacy,
            query_prefix=run.prefixes.query,
            document_prefix=run.prefixes.document,
            cloud=model.is_cloud,
        )
        return Vectors(vectors, stats, list(job.notes), spec.form, failed=sorted(run.failed))

    async def _embed_all(self, run: _Run) -> list[list[float]]:
        vectors: list[list[float]] = []
        for begin in range(0, len(run.spec.texts), BATCH):
            batch = run.spec.texts[begin : begin + BATCH]
            try:
                found = _check_vectors(await self._embed(run, batch, begin), batch, vectors, run.spec)
            except Upstream as error:
                if (len(batch) == 1 and not vectors) or not _may_be_one_text(error):
                    raise
                found = await self._one_by_one(run, batch, vectors)
            for place, vector in enumerate(found):
                if not all(abs(x) <= _LARGEST for x in vector):
                    run.failed[begin + place] = _bad("a vector with a number that is not finite")
                    found[place] = []
            vectors += found
            run.batches += 1
            run.job.advance(JobState.WRITING, len(batch))
        return vectors

    async def _one_by_one(
        self, run: _Run, batch: Sequence[str], before: list[list[float]]
    ) -> list[list[float]]:
        """Embed each text of a batch that failed, alone; `before` has the vectors of the texts before it."""
        found: list[list[float]] = []
        for place, text in enumerate(batch, len(before)):
            known = [vector for vector in [*before, *found] if vector]
            try:
                found += _check_vectors(await self._embed(run, [text], place), [text], known, run.spec)
            except Upstream as error:
                if not _may_be_one_text(error):
                    raise
                if place == len(before) + _TRIES and not any(found):
                    # A text that had a vector is asked for again: where that fails, too, the texts are
                    # not at fault.
                    worked = next((place for place, vector in enumerate(before) if vector), None)
                    if worked is None:
                        raise
                    await self._embed(run, [run.spec.texts[worked]], worked)
                run.failed[place] = error
                found.append([])
        return found

    async def _embed(self, run: _Run, batch: Sequence[str], begin: int) -> EmbedResponse:
        """Embed one batch, whose first text is at `begin`, in a larger window where it needs one."""
        longest = begin + max(range(len(batch)), key=lambda place: len(batch[place]))

        async def measure(error: ContextOverflow) -> PromptSize:
            window = error.details.get("window") or (run.options.num_ctx if run.options else None)
            return PromptSize(
                tokens=error.details.get("tokens"),
                size=max(len(text.encode(errors="replace")) for text in batch),
                answer=1,
                window=window or await self._catalog.window(run.model),
            )

        attempt = Attempt(
            send=partial(self._send, run, batch),
            measure=measure,
            grow=run.grow,
            window=run.options.num_ctx if run.options else None,
            has_grown=run.has_grown,
            may_be_cut=run.spec.truncate,
            what=f"{run.spec.label(longest)}, the longest text,",  # the server does not say which it is
        )
        return await self._growth.run(run.choice.model, run.job, attempt)

    async def _send(self, run: _Run, batch: Sequence[str]) -> EmbedResponse:
        keep_alive = self._settings.defaults_for(run.model).keep_alive
        if not run.is_legacy:
            request = EmbedRequest(
                model=run.model,
                input=list(batch),
                truncate=run.spec.truncate,
                dimensions=run.spec.dimensions,
                keep_alive=keep_alive,
                options=run.options,
            )
            try:
                response = await self._client.call(EMBED, request)
            except NotOllama as error:
                if error.upstream_status != 404:
                    raise
                run.is_legacy = True
            else:
                run.prompt_tokens += response.prompt_eval_count
                return response
        # A server without /api/embed takes one text a call, and leaves vectors at the model's length.
        vectors: list[list[float]] = []
        for text in batch:
            legacy = LegacyEmbeddingsRequest(
                model=run.model, prompt=text, keep_alive=keep_alive, options=run.options
            )
            vectors.append((await self._client.call(EMBEDDINGS, legacy)).normalised())
        return EmbedResponse(embeddings=vectors)


def _may_be_one_text(error: OllamaError) -> bool:
    """Return whether one text alone may be what the model fails on: the others are tried then."""
    return error.retryable and (error.upstream_status or 0) >= 500


def _check_vectors(
    response: EmbedResponse, batch: Sequence[str], before: list[list[float]], spec: EmbedSpec
) -> list[list[float]]:
    """Return the vectors of a batch: as many as texts, all of one length.

    Args:
        response: Ollama's answer.
        batch: The texts.
        before: Vectors of the texts before, which have the same length.
        spec: The request.

    Raises:
        InvalidArgument: There are empty texts, for which Ollama leaves vectors out.
        BadUpstream: There are too few vectors, or of another length.
    """
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
        raise BadUpstream(
            f"Ollama sent vectors of length {length} where {spec.dimensions} was asked for",
            f'Send "dimensions" of at most {length}, or 0 for the model\'s own.',
        )
    return found


def _bad(what: str) -> BadUpstream:
    return BadUpstream(f"Ollama sent {what}", "Name another embedding model, or update Ollama.")


def similarity(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the cosine similarity of two vectors, -1 to 1; 0 where one of them is zero or empty.

    >>> similarity([1.0, 0.0], [0.0, 2.0]), similarity([1.0, 1.0], [2.0, 2.0])
    (0.0, 1.0)
    """
    if not a or not b:  # a text without a vector
        return 0.0
    if len(a) != len(b):
        raise ValueError(f"one vector is shorter: {len(a)} and {len(b)} numbers")
    lengths = math.hypot(*a) * math.hypot(*b)
    return round(sum(map(mul, a, b)) / lengths, 6) if lengths else 0.0


@dataclass(frozen=True)
class Ranked:
    """A ranked text: its place among the candidates, from 0, and its cosine similarity to the query."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class Ranking:
    """The best candidates, the best first.

    Attributes:
        rows: The candidates.
        stats: The numbers of the embedding.
        notes: Notes for the caller.
    """

    rows: list[Ranked]
    stats: EmbeddingStats
    notes: list[str] = field(default_factory=list[str])

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, about."""
        return sum(len(row.text) for row in self.rows) + 200 * len(self.rows)


class Ranker:
    """Ranks texts by the vectors of an Embedder.

    spec = build_embed(["camels", "a llama", "a car"])
    ranking = await Ranker(embedder).run(spec, top=1, job=job)
    ranking.rows[0].text  # "a llama"
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def run(self, spec: EmbedSpec, top: int, job: Job[Any]) -> Ranking:
        """Rank the texts of a spec behind its first one, which is the query.

        Args:
            spec: The query, and the candidates.
            top: Number of candidates to return; 0 is all.
            job: Counts the texts.

        Raises:
            InvalidArgument: The query or a candidate is empty, or there are none.
            OllamaError: Any of the tree.
        """
        if len(spec.texts) < 2 or not all(spec.texts):
            raise InvalidArgument(
                "there is nothing to rank", 'Send "query" and "candidates", none of them empty.'
            )

        def label(place: int) -> str:
            return f"candidates[{place - 1}]" if place else "query"

        found = await self._embedder.run(replace(spec, label=label), job)
        if 0 in found.failed:
            raise Upstream(f"the model fails of the query: {found.notes[0]}", "Send another query.")

        def rank() -> list[Ranked]:
            query, *vectors = found.vectors
            rows = [
                Ranked(index, similarity(query, vector), text)
                for index, (vector, text) in enumerate(zip(vectors, spec.texts[1:], strict=True))
                if vector
            ]
            return sorted(rows, key=lambda row: -row.score)

        is_large = found.count > _LARGE
        rows = await anyio.to_thread.run_sync(rank, abandon_on_cancel=True) if is_large else rank()
        return Ranking(rows[:top] if top else rows, found.stats, found.notes)
