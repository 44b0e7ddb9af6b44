"""Retrieval over README and docs as they once were: 60 questions of users with the passages that answer them.

benchmarks/judged.py makes judged.npz, the vectors by all-MiniLM-L6-v2, from judged.json. The floors are what
was measured, less a little.
"""

import json
import math
from functools import cache
from pathlib import Path
from statistics import fmean

import anyio
import numpy as np

from ollama_mcp.jobs.answers import EmbeddingStats, Vectors
from ollama_mcp.jobs.job import Part
from ollama_mcp.services.lexical import coverage, rank_by_words
from ollama_mcp.services.retrieval import UNRELATED, Retriever, is_about
from ollama_mcp.sources import Passage

HERE = Path(__file__).parent
JUDGED = json.loads((HERE / "judged.json").read_text("utf-8"))
PASSAGES = [Passage(passage["text"], "docs", passage["title"]) for passage in JUDGED["passages"]]
TEXTS = [f"{passage.title}\n{passage.text}" for passage in PASSAGES]
ASKED = [question["question"] for question in JUDGED["questions"]]
RIGHT = [set(question["right"]) for question in JUDGED["questions"]]
OTHERS = JUDGED["others"]


class Known:
    """An embedder that has the vectors already."""

    def __init__(self):
        stored = np.load(HERE / "judged.npz")
        groups = {"passages": TEXTS, "questions": ASKED, "others": OTHERS, "unrelated": UNRELATED}
        self.vectors = {
            text: vector
            for name, texts in groups.items()
            for text, vector in zip(texts, stored[name].astype(np.float32).tolist(), strict=True)
        }

    async def run(self, spec, part):
        found = [self.vectors[text] for text in spec.texts]
        return Vectors(found, EmbeddingStats("all-minilm:22m", "known", len(found), len(found[0])))


def ndcg(order, right, depth=10):
    gain = sum(1 / math.log2(rank + 2) for rank, place in enumerate(order[:depth]) if place in right)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(len(right)))


@cache
def by_words(text):
    return rank_by_words(text, TEXTS)


def test_retrieval_finds_what_users_ask_for_and_refuses_the_rest():
    """One test, since each worker of pytest would rank all questions anew."""
    known = Known()

    async def rank():
        retriever = Retriever(known)
        return {text: await retriever.rank(text, PASSAGES, Part("texts")) for text in [*ASKED, *OTHERS]}

    found = anyio.run(rank)
    vectors = np.array([known.vectors[text] for text in TEXTS])
    places = {passage: place for place, passage in enumerate(PASSAGES)}
    scores = {"meaning": [], "words": [], "hybrid": []}
    for text, right in zip(ASKED, RIGHT, strict=True):
        by_meaning = np.argsort(-(vectors @ np.array(known.vectors[text]))).tolist()
        scores["meaning"].append(ndcg(by_meaning, right))
        scores["words"].append(ndcg(by_words(text), right))
        scores["hybrid"].append(ndcg([places[passage] for passage in found[text].passages], right))
    mean = {name: fmean(each) for name, each in scores.items()}
    assert mean["hybrid"] >= 0.70, mean
    assert mean["hybrid"] >= max(mean["meaning"], mean["words"]), mean

    refused = [text for text in ASKED if not found[text].is_about]
    assert len(refused) <= 3, refused
    accepted = [text for text in OTHERS if found[text].is_about]
    assert len(accepted) <= 3, accepted


def test_words_alone_refuse_few_questions_and_half_of_those_about_other_things():
    def answered(texts):
        covered = {text: coverage(text, TEXTS, by_words(text)[:10]) for text in texts}
        return [text for text in texts if is_about(None, covered[text], len(TEXTS))]

    assert len(answered(ASKED)) >= 55
    assert len(answered(OTHERS)) <= 9
