"""Words: texts ranked by BM25, and how much of a question's words a text has.

BM25 is that of SQLite's FTS5, in memory. A Python that is built without it ranks no text by words.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing

_WORD = re.compile(r"\w+")
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUN = re.compile(f"[{_UNSPACED}]+")
"""Scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_USUAL = """
a about after again all also am an and any are as at be because been before being between both but
by can could did do does doing down during each few for from further had has have having he her here
hers him his how i if in into is it its just me more most my no nor not now of off on once only or
other our out over own same she should so some such than that the their them then there these they
this those through to too under until up very was we were what when where which while who whom why
will with would you your
"""
_STOPWORDS = frozenset(_USUAL.split())
_ENDINGS = (
    "ational", "ization", "ingly", "ments", "ment", "ings", "ing", "edly", "ness", "ies", "ed", "es",
    "ly", "s",
)  # fmt: skip
_MOST_WORDS = 64
"""Words of a question that count; a longer question is a text."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without stopwords where others are left.

    In scripts without blanks, each two characters that stand together are one.

    >>> words_of("What is the lift of a delta wing?"), words_of("To be or not to be")
    (['lift', 'delta', 'wing'], ['to', 'be', 'or', 'not', 'to', 'be'])
    >>> words_of("绿茶泡 2 min")
    ['绿茶', '茶泡', '2', 'min']
    """
    found = _WORD.findall(_spaced(text.lower()))
    return [word for word in found if word not in _STOPWORDS] or found


def _spaced(text: str) -> str:
    """Put blanks between each two characters of scripts that have none."""

    def pairs(run: re.Match[str]) -> str:
        word = run[0]
        return f" {' '.join(word[at : at + 2] for at in range(max(len(word) - 1, 1)))} "

    return _RUN.sub(pairs, text)


def rank_by_words(query: str, texts: Sequence[str]) -> list[int]:
    """Return the places of the texts that share words with the query, the best first.

    >>> rank_by_words("delta wings", ["the cat sat", "lift of a delta wing", "a wing"])
    [1, 2]
    """
    asked = asked_words(query)
    if not asked or not texts:
        return []
    with closing(sqlite3.connect(":memory:")) as db:
        try:
            db.execute("CREATE VIRTUAL TABLE t USING fts5(text, content='', tokenize='porter unicode61')")
        except sqlite3.OperationalError:
            return []
        db.executemany("INSERT INTO t(rowid, text) VALUES (?, ?)", enumerate(map(_spaced, texts)))
        match = " OR ".join(f'"{word}"' for word in asked)  # quoted: an operator of FTS5 is a word here
        rows = db.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY bm25(t)", (match,))
        return [place for (place,) in rows]


def asked_words(query: str) -> list[str]:
    """Return the words of a question that count, each once."""
    return list(dict.fromkeys(words_of(query)))[:_MOST_WORDS]


def _stem(word: str) -> str:
    """Cut a usual English ending off; crude, and the same for question and text."""
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), "")
    return word.removesuffix(ending)


def rarities(
    query: str, texts: Sequence[str], counted: Mapping[str, int] | None = None, count: int = 0
) -> dict[str, float]:
    """Return how rare each word of a query is in texts, by its stem: the logarithm of one in how many has it.

    Args:
        query: The question.
        texts: Texts that are looked through.
        counted: Number of other texts that have a word, which were counted before.
        count: Number of those other texts.

    >>> found = rarities("delta wing", ["a delta wing", "a wing", "soup"])
    >>> found["delta"] > found["wing"]
    True
    """
    asked = set(map(_stem, asked_words(query)))
    held = _finder(asked)
    numbers = dict.fromkeys(asked, 0)
    for word, number in (counted or {}).items():
        stem = _stem(word)
        numbers[stem] = max(numbers.get(stem, 0), number)
    for text in texts:
        for stem in held(text):
            numbers[stem] += 1
    return {stem: math.log((count + len(texts) + 1) / (number + 0.5)) for stem, number in numbers.items()}


def _finder(stems: Collection[str]) -> Callable[[str], set[str]]:
    """Return what finds the stems of a text: only what begins so is stemmed, in a quarter of the time."""
    pairs = {stem for stem in stems if _RUN.match(stem)}
    others = set(stems) - pairs
    begin_so = re.compile(rf"\b(?:{'|'.join(map(re.escape, others))})\w*")

    def held(text: str) -> set[str]:
        text = text.lower()
        return {pair for pair in pairs if pair in text} | (set(map(_stem, begin_so.findall(text))) & others)

    return held


def coverage(
    query: str, texts: Sequence[str], best: Sequence[int], rarity: Mapping[str, float] | None = None
) -> float:
    """Return the share of a query's words, weighted by rarity, that the best of some texts has: 0 to 1.

    Args:
        query: The question.
        texts: All texts.
        best: Places of the texts that are looked at.
        rarity: Rarity of each word, as of `rarities`; None: in these texts.

    >>> coverage("delta wing", ["lift of a delta wing", "soup"], [0]), coverage("soup", ["a wing"], [0])
    (1.0, 0.0)
    """
    asked = set(map(_stem, asked_words(query)))
    rarity = rarities(query, texts) if rarity is None else rarity
    find = _finder(asked)
    held = [find(texts[place]) for place in best]
    whole = sum(rarity.values())
    if whole <= 0 or not best:
        return 0.0
    return max(sum(rarity[word] for word in words) for words in held) / whole
