"""Words: texts ranked by BM25, and how much of a question's words a text has.

BM25 is that of SQLite's FTS5, in memory. Some Pythons are built without it; there a few lines count instead.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import cache

_WORD = re.compile(r"\w+")
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
_K1, _B = 1.2, 0.75
"""BM25's usual constants, as of FTS5."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without stopwords where others are left.

    >>> words_of("What is the lift of a delta wing?"), words_of("To be or not to be")
    (['lift', 'delta', 'wing'], ['to', 'be', 'or', 'not', 'to', 'be'])
    """
    found = _WORD.findall(text.lower())
    return [word for word in found if word not in _STOPWORDS] or found


def rank_by_words(query: str, texts: Sequence[str]) -> list[int]:
    """Return the places of the texts that share words with the query, the best first.

    >>> rank_by_words("delta wings", ["the cat sat", "lift of a delta wing", "a wing"])
    [1, 2]
    """
    asked = _asked(query)
    if not asked or not texts:
        return []
    if not _has_fts5():
        return _rank_plainly(asked, texts)
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE t USING fts5(text, content='', tokenize='porter unicode61')")
        db.executemany("INSERT INTO t(rowid, text) VALUES (?, ?)", enumerate(texts))
        match = " OR ".join(f'"{word}"' for word in asked)  # quoted: an operator of FTS5 is a word here
        rows = db.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY bm25(t)", (match,))
        return [place for (place,) in rows]


def _asked(query: str) -> list[str]:
    return list(dict.fromkeys(words_of(query)))[:_MOST_WORDS]


@cache
def _has_fts5() -> bool:
    try:
        with closing(sqlite3.connect(":memory:")) as db:
            db.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except sqlite3.Error:
        return False
    return True


def _rank_plainly(asked: Sequence[str], texts: Sequence[str]) -> list[int]:
    counts = [Counter(map(_stem, words_of(text))) for text in texts]
    lengths = [count.total() for count in counts]
    mean = sum(lengths) / len(lengths) or 1
    scores = [0.0] * len(texts)
    for word in dict.fromkeys(map(_stem, asked)):
        holding = [place for place, count in enumerate(counts) if word in count]
        rarity = math.log(1 + (len(texts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for place in holding:
            often = counts[place][word]
            scores[place] += (
                rarity * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * lengths[place] / mean))
            )
    return sorted((place for place, score in enumerate(scores) if score), key=lambda place: -scores[place])


def _stem(word: str) -> str:
    """Cut a usual English ending off; crude, and the same for question and text."""
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), "")
    return word.removesuffix(ending)


def coverage(query: str, texts: Sequence[str], best: Sequence[int]) -> float:
    """Return the share of a query's words, weighted by rarity, that the best of some texts has: 0 to 1.

    Args:
        query: The question.
        texts: All texts, by which rarity is told.
        best: Places of the texts that are looked at.

    >>> coverage("delta wing", ["lift of a delta wing", "soup"], [0]), coverage("soup", ["a wing"], [0])
    (1.0, 0.0)
    """
    asked = set(map(_stem, _asked(query)))
    # Only words that begin as an asked one does are stemmed: that takes a quarter of the time.
    begin_so = re.compile(rf"\b(?:{'|'.join(map(re.escape, asked))})\w*")
    held = [set(map(_stem, begin_so.findall(text.lower()))) & asked for text in texts]
    rarity = {
        word: math.log((len(texts) + 1) / (sum(word in words for words in held) + 0.5)) for word in asked
    }
    whole = sum(rarity.values())
    if whole <= 0 or not best:
        return 0.0
    return max(sum(rarity[word] for word in held[place]) for place in best) / whole
