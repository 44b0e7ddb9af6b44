"""One text of which the model fails is named, and the others have their vectors; prefixes of the families."""

import pytest

from ollama_mcp.errors import Upstream
from ollama_mcp.services.embedding_prefixes import prefixes_of
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio
NAN = "failed to encode response: json: unsupported value: NaN"


def fails_of(*bad: str, **how):
    def schema_validator(request):
        given = request.json["input"]
        given = [given] if isinstance(given, str) else given
        return Script(status=500, body={"error": NAN}) if set(bad) & set(given) else Script(**how)

    return schema_validator


async def test_the_others_have_their_vectors_and_the_bad_one_is_named(bench):
    async with bench(Model("e", capabilities=["embedding"], dimensions=8)) as b:
        b.fake.script(fails_of("bad"), path="/api/embed")
        found = await b.embed(*"abc", "bad", *map(str, range(40)))
        assert [place for place, vector in enumerate(found) if not vector] == [3] == list(found.failed)
        assert found.notes == [f"input[3] has no vector: Ollama failed: {NAN}"]
        assert found.stats.dimensions == len(found[0])
        assert len(found) == 44


@pytest.mark.parametrize("place", [0, 31, 32, 33, 64])
async def test_wherever_it_stands_the_others_are_kept(bench, place):
    texts = [f"t{number}" for number in range(65)]
    texts[place] = "bad"
    async with bench(Model("e", capabilities=["embedding"], dimensions=8)) as b:
        b.fake.script(fails_of("bad"), path="/api/embed")
        found = await b.embed(*texts)
        assert list(found.failed) == [place]
        assert sum(map(bool, found)) == 64


async def test_many_bad_ones_in_a_row_are_each_named(bench):
    texts = [f"t{number}" for number in range(40)]
    texts[32:38] = ["bad"] * 6
    async with bench(Model("e", capabilities=["embedding"], dimensions=8)) as b:
        b.fake.script(fails_of("bad"), path="/api/embed")
        assert list((await b.embed(*texts)).failed) == [32, 33, 34, 35, 36, 37]


async def test_where_all_are_bad_the_failure_is_theirs(bench):
    async with bench(Model("e", capabilities=["embedding"], dimensions=8)) as b:
        b.fake.script(fails_of("bad", "worse"), path="/api/embed")
        for texts in (["bad"], ["bad", "worse"]):
            with pytest.raises(Upstream, match="NaN"):
                await b.embed(*texts)


async def test_a_model_that_does_not_fit_into_memory_is_asked_once(bench):
    async with bench(Model("e", capabilities=["embedding"], dimensions=8)) as b:
        b.fake.script(Script(status=500, body={"error": "CUDA error: out of memory"}), path="/api/embed")
        with pytest.raises(Upstream, match="memory"):
            await b.embed("a", "b")
        assert len(b.sent("/api/embed")) == 1


@pytest.mark.parametrize(
    ("model", "query", "document"),
    [
        ("nomic-embed-text:latest", "search_query: ", "search_document: "),
        ("hf.co/nomic-ai/nomic-embed-text-v2-moe-GGUF:Q8_0", "search_query: ", "search_document: "),
        ("jeffh/intfloat-multilingual-e5-large:f16", "query: ", "passage: "),
        ("hf.co/x/e5-base-v2-GGUF", "query: ", "passage: "),
        ("jeffh/intfloat-e5-mistral-7b-instruct", "Instruct: ", ""),
        ("me/e5-mistral:7b", "Instruct: ", ""),
        ("bge-large-en-v1.5", "Represent this sentence", ""),
        ("quentinz/bge-large-zh-v1.5:latest", "为这个句子生成表示以用于检索相关文章：", ""),
        ("bge-m3:latest", "", ""),
        ("mxbai-embed-large:335m", "Represent this sentence", ""),
        ("snowflake-arctic-embed:22m", "Represent this sentence", ""),
        ("snowflake-arctic-embed2:568m", "query: ", ""),
        ("embeddinggemma-2:270m", "task: search result | query: ", "title: none | text: "),
        ("embeddinggemma:300m", "task: search result | query: ", "title: none | text: "),
        ("qwen3-embedding:0.6b", "Instruct: ", ""),
        ("all-minilm:22m", "", ""),
    ],
)
def test_each_family_has_its_own(model, query, document):
    found = prefixes_of(model)
    assert found.query.startswith(query)
    assert bool(found.query) == bool(query)
    assert found.document == document
