"""Passages in the order of their nearness to a question, and whether they are about it at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.jobs.job import Part
from ollama_mcp.services.lexical import coverage, rank_by_words, words_of
from ollama_mcp.services.retrieval import MOST_EMBEDDED, Retriever, fuse
from ollama_mcp.services.splitting import PIECE, split_passages, split_text
from ollama_mcp.sources import Passage
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio
TEXTS = ["the cat sat on a mat", "lift of a delta wing at low speed", "a wing of the museum", "soup at noon"]


@given(st.text(max_size=200), st.integers(1, 40))
def test_pieces_hold_all_words_and_are_short_enough(text, size):
    pieces = split_text(text, size)
    assert all(len(piece) <= size and piece.strip() == piece and piece for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


PLACES = st.lists(st.integers(0, 20), unique=True)


@given(PLACES, PLACES)
def test_a_fused_order_has_each_place_once(by_meaning, by_words):
    assert sorted(fuse(by_meaning, by_words)) == sorted({*by_meaning, *by_words})


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=8))
def test_any_question_ranks_any_texts(query, texts):
    found = rank_by_words(query, texts)
    assert len(set(found)) == len(found)
    assert set(found) <= set(range(len(texts)))
    assert 0 <= coverage(query, texts, found) <= 1.0001


@pytest.mark.parametrize("query", ['" OR *', "NEAR(a b)", "delta AND", "col:wing", "(wing", "wing*", "-wing"])
def test_operators_of_the_full_text_search_are_words(query):
    assert set(rank_by_words(query, TEXTS)) <= {0, 1, 2}


def test_scripts_without_blanks_are_found_by_pairs_of_characters():
    texts = ["猫坐在垫子上", "绿茶要泡两分钟", "soup"]
    assert rank_by_words("绿茶泡多久?", texts) == [1]
    assert coverage("绿茶泡多久?", texts, [1]) > coverage("绿茶泡多久?", texts, [0]) == 0


def test_a_question_of_stopwords_alone_keeps_them():
    assert words_of("what is this") == ["what", "is", "this"]


def test_the_same_text_is_one_passage_and_the_first_source_is_named():
    passages = [Passage("same", "a"), Passage("other", "b"), Passage("same", "c"), Passage("  ", "d")]
    assert split_passages(passages) == [Passage("same", "a"), Passage("other", "b")]
    assert all(len(p.text) <= PIECE for p in split_passages([Passage("word " * 1000, "a", "t", "u")]))


def test_no_passage_is_dropped_in_silence_however_many_there_are():
    assert len(split_passages([Passage(f"passage {n}", "a") for n in range(12_000)])) == 12_000


def passages(*texts):
    return [Passage(text, "test") for text in texts]


async def test_meaning_and_words_rank_together_and_the_vectors_of_unrelated_texts_are_kept(bench):
    async with bench() as b:
        retriever = Retriever(b.app.embedder)
        for _ in range(2):
            found = await retriever.rank("delta wing lift", passages(*TEXTS), Part("texts"))
            assert found.passages[0].text == TEXTS[1]
            assert found.is_about
            assert not found.notes
        sent = [len(body["input"]) for body in b.sent("/api/embed")]
        assert sum(sent) == 2 * (1 + len(TEXTS)) + 24


async def test_an_embedding_model_that_was_made_again_has_other_vectors(bench):
    async with bench(Model("e", ("embedding",), dimensions=8)) as b:
        retriever = Retriever(b.app.embedder)
        for dimensions in (8, 16, 16):
            b.fake.models["e:latest"] = Model("e", ("embedding",), dimensions=dimensions)
            found = await retriever.rank("delta wing lift", passages(*TEXTS), Part("texts"))
            assert found.passages[0].text == TEXTS[1]
        texts = sum(len(body["input"]) for body in b.sent("/api/embed"))
    assert texts == 3 * (1 + len(TEXTS)) + 24 + 25  # those of the baseline once more, and the question


async def test_without_an_embedding_model_words_rank_alone_and_it_is_said(bench):
    async with bench(Model("chat", ("completion",))) as b:
        found = await Retriever(b.app.embedder).rank("delta wing lift", passages(*TEXTS), Part("texts"))
    assert found.passages[0].text == TEXTS[1]
    assert len(found.passages) == len(TEXTS)
    assert found.is_about
    assert found.notes[0].startswith("passages were ranked by words only: MODEL_NOT_FOUND")


async def test_of_very_many_passages_the_nearest_by_words_are_embedded(bench):
    many = [f"passage {n} is about nothing" for n in range(MOST_EMBEDDED + 50)] + ["lift of a delta wing"]
    async with bench() as b:
        found = await Retriever(b.app.embedder).rank("delta wing", passages(*many), Part("texts"))
        texts = [text for body in b.sent("/api/embed") for text in body["input"]]
    assert found.passages[0].text == "lift of a delta wing"
    assert len(texts) == 1 + MOST_EMBEDDED + 24
    assert f"of {len(many)} passages" in found.notes[0]


async def test_passages_about_other_things_are_not_about_the_question(bench):
    async with bench() as b:
        retriever = Retriever(b.app.embedder)
        found = await retriever.rank("how long do i boil an egg", passages(*TEXTS), Part("texts"))
        assert not found.is_about
        assert (await retriever.rank("soup", passages(*TEXTS), Part("texts"))).is_about


async def test_a_model_that_cannot_embed_a_passage_does_not_lose_it(bench):
    async with bench() as b:
        error = "failed to encode response: json: unsupported value: NaN"
        b.fake.script(Script(status=500, body={"error": error}), path="/api/embed")
        found = await Retriever(b.app.embedder).rank("soup", passages(*TEXTS), Part("texts"))
    assert len(found.passages) == len(TEXTS)
    assert found.passages[0].text == "soup at noon"
