"""Texts in the order in which they fit a query."""

import json

import anyio
import pytest

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.embedding import EmbedSpec, Ranked, Ranker, Ranking
from ollama_mcp.settings import ModelDefaults
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

# By the vectors of a model of two dimensions: the query looks east.
PLACES = {
    "east": [1.0, 0.0],
    "north east": [3.0, 4.0],
    "north": [0.0, 1.0],
    "north again": [0.0, 2.0],
    "west": [-1.0, 0.0],
}
TEXTS = ["west", "north", "east", "north again", "north east"]


async def ranked(b, *candidates: str, query: str = "east", top: int = 0) -> Ranking:
    job = Job[Ranking]("texts")
    vectors = [PLACES[text] for text in (query, *candidates) if text]
    body = json.dumps({"embeddings": vectors}).encode()
    b.fake.script(Script(body=body, headers={"Content-Type": "application/json"}), path="/api/embed")
    return await Ranker(b.app.embedder).run(EmbedSpec([query, *candidates]), top, job)


@pytest.fixture
def embedder() -> Model:
    return Model("e", ("embedding",), 2048, dimensions=2, family="nomic-bert")


async def test_the_best_come_first_each_with_its_place_among_the_candidates(bench, embedder):
    with anyio.fail_after(5):
        async with bench(embedder) as b:
            found = await ranked(b, *TEXTS)
    assert found.rows == [
        Ranked(2, 1.0, "east"),
        Ranked(4, 0.6, "north east"),
        Ranked(1, 0.0, "north"),  # of two that fit alike the first comes first
        Ranked(3, 0.0, "north again"),
        Ranked(0, -1.0, "west"),
    ]


@pytest.mark.parametrize(("top", "count"), [(0, 5), (1, 1), (3, 3), (5, 5), (9, 5)])
async def test_as_many_come_as_were_asked_for(bench, embedder, top, count):
    with anyio.fail_after(5):
        async with bench(embedder) as b:
            found = await ranked(b, *TEXTS, top=top)
    assert [row.index for row in found.rows] == [2, 4, 1, 3, 0][:count]


async def test_one_candidate_is_enough(bench, embedder):
    with anyio.fail_after(5):
        async with bench(embedder) as b:
            found = await ranked(b, "west")
    assert found.rows == [Ranked(0, -1.0, "west")]


@pytest.mark.parametrize("texts", [["", "east"], ["east", ""], ["east", "west", ""], ["east"]], ids=str)
async def test_without_a_query_or_candidates_there_is_nothing_to_rank(bench, embedder, texts):
    with anyio.fail_after(5):
        async with bench(embedder) as b:
            with pytest.raises(InvalidArgument, match=r"nothing to rank.*\"query\" and \"candidates\""):
                await ranked(b, *texts[1:], query=texts[0])
            assert not b.sent("/api/embed")


async def test_the_numbers_and_notes_of_the_embedding_come_with_it(bench, embedder):
    async with bench(embedder, embedding_model="e", defaults=ModelDefaults(options={"num_ctx": 64})) as b:
        with anyio.fail_after(5):
            job = Job[Ranking]("texts")
            job.notes.append("a note")
            found = await Ranker(b.app.embedder).run(EmbedSpec(["a", "b", "c"]), 0, job)
    assert (found.stats.model, found.stats.count, found.stats.dimensions) == ("e", 3, 2)
    assert found.notes == ["a note"]
    assert (job.count, job.total) == (3, 3)


def test_a_ranking_is_as_large_as_its_texts_and_some_more_for_each():
    rows = [Ranked(0, 1.0, "x" * 1000), Ranked(1, 0.5, "y")]
    size = Ranking(rows, None).size
    assert 1001 < size < 2001
    assert Ranking(rows[:1], None).size < size
