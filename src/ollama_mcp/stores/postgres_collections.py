"""Collections in PostgreSQL: vectors by pgvector, words by BM25 over its text search.

Its own ts_rank does not know how rare a word is: with it nDCG@10 on Cranfield is 0.40, with BM25 0.44.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence

from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.stores.collection_store import (
    NEIGHBOUR,
    Collection,
    CollectionKey,
    Document,
    Fingerprint,
    Found,
    NewPassage,
    StoredPassage,
    missing,
    other_model,
    require_vectors,
)
from ollama_mcp.stores.postgres_database import PostgresDatabase, Transaction

_SCHEMA = """
CREATE TABLE collection(
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, name text NOT NULL,
    model text NOT NULL, digest text NOT NULL, dimensions integer NOT NULL,
    passages bigint NOT NULL DEFAULT 0, words bigint NOT NULL DEFAULT 0, indexed_at float8 NOT NULL,
    UNIQUE(owner, name));
CREATE TABLE document(
    collection integer NOT NULL REFERENCES collection ON DELETE CASCADE, id text NOT NULL, name text NOT NULL,
    hash text NOT NULL, uri text NOT NULL, pattern text NOT NULL, stamp text NOT NULL,
    PRIMARY KEY(collection, id));
CREATE TEXT SEARCH DICTIONARY stems (TEMPLATE = pg_catalog.snowball, LANGUAGE = english);
CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING REPLACE pg_catalog.english_stem WITH stems
"""
"""Words are cut to their stems as in PostgreSQL's `english`, but each counts: a question may ask for any."""
_OF_A_COLLECTION = """
CREATE TABLE passage_{0}(
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, document text NOT NULL, number integer NOT NULL,
    line integer NOT NULL, title text NOT NULL, text text NOT NULL,
    length integer NOT NULL, words tsvector NOT NULL, vector halfvec({1}) NOT NULL, UNIQUE(document, number))
    WITH (toast_tuple_target = 4080);
CREATE INDEX ON passage_{0} USING gin(words) WITH (fastupdate = off)
"""
"""Words and vector stay in the row: to fetch each from elsewhere took most of a search's time."""
_NEAR_INDEX = "CREATE INDEX ON passage_{0} USING hnsw(vector halfvec_cosine_ops)"
_MOST_INDEXED = 4000
"""Dimensions that an index of pgvector can have; longer vectors are compared one by one."""
_PUT_DOCUMENT = """
INSERT INTO document(collection, id, name, hash, uri, pattern, stamp) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (collection, id) DO UPDATE SET name = excluded.name, hash = excluded.hash, uri = excluded.uri,
    pattern = excluded.pattern, stamp = excluded.stamp
"""
_REMOVE_PASSAGES = """
WITH gone AS (DELETE FROM passage_{0} WHERE document = ANY(%s) RETURNING length)
SELECT count(*), coalesce(sum(length), 0)::bigint FROM gone
"""
_PUT_PASSAGE = """
INSERT INTO passage_{0}(document, number, line, title, text, length, words, vector)
VALUES (%s, %s, %s, %s, %s, %s, to_tsvector('words', %s), %s::halfvec)
"""
_NEAREST = """
SELECT id, 1 - (vector <=> %s::halfvec) FROM passage_{0} ORDER BY vector <=> %s::halfvec LIMIT %s
"""
_NEAREST_UNDER = """
WITH allowed AS MATERIALIZED (
    SELECT p.id, p.vector FROM document d JOIN passage_{0} p ON p.document = d.id
    WHERE d.collection = %s AND starts_with(d.name, %s))
SELECT id, 1 - (vector <=> %s::halfvec) FROM allowed ORDER BY vector <=> %s::halfvec LIMIT %s
"""
"""Without the index, which would stop before it comes to the few passages that are far and asked for."""
_FREQUENCIES = """
SELECT w.place, s.lexeme, (SELECT count(*) FROM passage_{0} WHERE words @@ quote_literal(s.lexeme)::tsquery)
FROM unnest(%s::text[]) WITH ORDINALITY AS w(text, place) CROSS JOIN unnest(to_tsvector('words', w.text)) AS s
"""
_BM25 = """
WITH asked AS MATERIALIZED (
    SELECT quote_literal(lexeme)::tsquery AS query, rarity
    FROM unnest(%s::text[], %s::float8[]) AS s(lexeme, rarity))
SELECT p.id FROM asked JOIN passage_{0} p ON p.words @@ query
CROSS JOIN LATERAL (
    SELECT 1 / (pi() * pi() / 6 * (1 - 10 * ts_rank(p.words, query)::float8)) - 0.5 AS times OFFSET 0) f
WHERE %s = '' OR p.document IN (SELECT id FROM document WHERE collection = %s AND starts_with(name, %s))
GROUP BY p.id
ORDER BY sum(rarity * times / (times + 1.2::float8 * (0.25 + 0.75 * p.length / %s::float8))) DESC, p.id
LIMIT %s
"""
"""How often a passage has a word is in its positions, but to unnest these takes ten times as long.

ts_rank of one word that is there n times is 0.1 of the sum of 1/i², i from 1 to n, over that of the whole
series, pi²/6. The rest of the series is nearly 1 / (n + 0.5).
"""
_PASSAGES = """
SELECT p.text, p.title, p.number, p.line, right(before.text, %s), left(after.text, %s),
    d.id, d.name, d.hash, d.uri, d.pattern, d.stamp
FROM unnest(%s::bigint[]) WITH ORDINALITY AS wanted(id, place)
JOIN passage_{0} p ON p.id = wanted.id JOIN document d ON d.collection = %s AND d.id = p.document
LEFT JOIN passage_{0} before ON before.document = p.document AND before.number = p.number - 1
LEFT JOIN passage_{0} after ON after.document = p.document AND after.number = p.number + 1
ORDER BY wanted.place
"""


class PostgresCollections:
    """A `CollectionStore` in a PostgreSQL database with pgvector, for several processes and machines.

    store = PostgresCollections(DatabaseUrl("postgresql://me@db/notes"))
    await store.ensure(CollectionKey("", "notes"), Fingerprint("all-minilm:22m", digest, 384))
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self._database = PostgresDatabase(url, "collection", _SCHEMA)

    async def collections(self, owner: str) -> list[Collection]:
        """Return the collections of an owner; as of `CollectionStore`."""

        def work(do: Transaction) -> list[Collection]:
            rows = do.rows(
                "SELECT name, model, digest, dimensions, "
                "(SELECT count(*) FROM document WHERE collection = collection.id), passages, indexed_at "
                'FROM collection WHERE owner = %s ORDER BY name COLLATE "C"',
                owner,
            )
            return [
                Collection(CollectionKey(owner, row[0]), Fingerprint(*row[1:4]), *row[4:]) for row in rows
            ]

        return await self._database.read(work)

    async def ensure(self, key: CollectionKey, fingerprint: Fingerprint) -> None:
        """Make a collection; as of `CollectionStore`."""

        def work(do: Transaction) -> Fingerprint:
            made = do.row(
                "INSERT INTO collection(owner, name, model, digest, dimensions, indexed_at) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (owner, name) DO NOTHING RETURNING id",
                *key, fingerprint.model, fingerprint.digest, fingerprint.dimensions, time.time(),
            )  # fmt: skip
            if made:
                do.rows(_OF_A_COLLECTION.format(made[0], fingerprint.dimensions))
                if fingerprint.dimensions <= _MOST_INDEXED:
                    do.rows(_NEAR_INDEX.format(made[0]))
                return fingerprint
            return _entry(do, key)[1]

        there = await self._database.write(work)
        if there != fingerprint:
            raise other_model(key, there, fingerprint)

    async def documents(self, key: CollectionKey) -> dict[str, Document]:
        """Return the documents of a collection; as of `CollectionStore`."""

        def work(do: Transaction) -> dict[str, Document]:
            number, _ = _entry(do, key)
            rows = do.rows(
                "SELECT id, name, hash, uri, pattern, stamp FROM document WHERE collection = %s", number
            )
            return {row[0]: Document(*row) for row in rows}

        return await self._database.read(work)

    async def put(
        self,
        key: CollectionKey,
        document: Document,
        passages: Sequence[NewPassage],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """Store a document; as of `CollectionStore`."""

        def work(do: Transaction) -> None:
            number, fingerprint = _entry(do, key, _TO_CHANGE)
            require_vectors(vectors, len(passages), fingerprint.dimensions)
            words = [_plain(f"{passage.title} {passage.text}") for passage in passages]
            lengths = [text.count(" ") + 1 for text in words]
            _remove_passages(do, number, [document.id])
            do.rows(_PUT_DOCUMENT, number, *vars(document).values())
            do.each(
                _PUT_PASSAGE.format(number),
                [
                    (document.id, place, one.line, one.title, one.text, lengths[place], words[place],
                     _written(vectors[place]))
                    for place, one in enumerate(passages)
                ],
            )  # fmt: skip
            _changed(do, number, len(passages), sum(lengths))

        await self._database.write(work)

    async def restamp(self, key: CollectionKey, document: Document) -> None:
        """Store how and where a document was found; as of `CollectionStore`."""

        def work(do: Transaction) -> None:
            number, _ = _entry(do, key, _TO_CHANGE)
            id, *values = vars(document).values()  # noqa: A001 - the column's name
            # No INSERT: another process may have removed it, and it would come back without passages.
            do.rows(
                "UPDATE document SET name = %s, hash = %s, uri = %s, pattern = %s, stamp = %s "
                "WHERE collection = %s AND id = %s",
                *values, number, id,
            )  # fmt: skip

        await self._database.write(work)

    async def remove(self, key: CollectionKey, ids: Sequence[str]) -> None:
        """Remove documents; as of `CollectionStore`."""

        def work(do: Transaction) -> None:
            number, _ = _entry(do, key, _TO_CHANGE)
            _remove_passages(do, number, ids)
            do.rows("DELETE FROM document WHERE collection = %s AND id = ANY(%s)", number, list(ids))

        await self._database.write(work)

    async def search(
        self, key: CollectionKey, vector: Sequence[float] | None, words: Sequence[str], most: int, under: str
    ) -> Found:
        """Return the passages nearest to a query; as of `CollectionStore`."""

        def work(do: Transaction) -> Found:
            number, _ = _entry(do, key)
            count, length = do.rows("SELECT passages, words FROM collection WHERE id = %s", number)[0]
            near: dict[int, float] = {}
            if vector is not None:
                asked = _written(vector)
                if under:
                    found = do.rows(_NEAREST_UNDER.format(number), number, under, asked, asked, most)
                else:
                    # Passages that were replaced are in the index until PostgreSQL has cleaned up.
                    do.rows("SET LOCAL hnsw.iterative_scan = strict_order")
                    do.rows(f"SET LOCAL hnsw.ef_search = {min(1000, max(40, 2 * most))}")
                    found = do.rows(_NEAREST.format(number), asked, asked, most)
                near = dict(found)  # pyright: ignore[reportArgumentType]
            counts: dict[str, list[int]] = {}
            having: dict[str, int] = {}
            for place, lexeme, number_of in do.rows(_FREQUENCIES.format(number), list(map(_plain, words))):
                counts.setdefault(words[int(place) - 1], []).append(number_of)
                having[lexeme] = number_of
            # A word of more than half of the passages says nothing, and takes most of the time.
            telling = {lexeme: n for lexeme, n in having.items() if n <= count / 2} or having
            rarities = {lexeme: math.log(1 + (count - n + 0.5) / (n + 0.5)) for lexeme, n in telling.items()}
            matched: list[int] = []
            if any(telling.values()):
                rows = do.rows(
                    _BM25.format(number), list(rarities), list(rarities.values()), under, number, under,
                    length / count, most,
                )  # fmt: skip
                matched = [one for (one,) in rows]
            ids = list(dict.fromkeys([*near, *matched]))
            places = {one: place for place, one in enumerate(ids)}
            return Found(
                _passages(do, key, number, ids),
                [near.get(one) for one in ids],
                [places[one] for one in near],
                [places[one] for one in matched],
                {word: min(counts.get(word, [0])) for word in words},
                count,
            )

        return await self._database.read(work)

    async def drop(self, key: CollectionKey) -> None:
        """Remove a collection; as of `CollectionStore`."""

        def work(do: Transaction) -> None:
            number, _ = _entry(do, key, _TO_CHANGE)
            do.rows("DELETE FROM collection WHERE id = %s", number)
            do.rows(f"DROP TABLE passage_{number}")

        await self._database.write(work)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._database.aclose()


_TO_CHANGE = "FOR UPDATE"
"""Changes of a collection come one after another: its numbers stay right, and no two lock one another out."""


def _entry(do: Transaction, key: CollectionKey, lock: str = "") -> tuple[int, Fingerprint]:
    row = do.row(
        f"SELECT id, model, digest, dimensions FROM collection WHERE owner = %s AND name = %s {lock}",  # noqa: S608
        *key,
    )
    if row is None:
        raise missing(key)
    return row[0], Fingerprint(*row[1:])


def _remove_passages(do: Transaction, number: int, ids: Sequence[str]) -> None:
    passages, words = do.rows(_REMOVE_PASSAGES.format(number), list(ids))[0]
    _changed(do, number, -passages, -words)


def _changed(do: Transaction, number: int, passages: int, words: int) -> None:
    do.rows(
        "UPDATE collection SET passages = passages + %s, words = words + %s, indexed_at = %s WHERE id = %s",
        passages, words, time.time(), number,
    )  # fmt: skip


def _plain(text: str) -> str:
    """Return the words alone: PostgreSQL would take a path, an address or a date for one word."""
    return " ".join(re.findall(r"[^\W_]+", text))


def _written(vector: Sequence[float]) -> str:
    """Return a vector of length 1 as pgvector reads it: its 16-bit numbers end at 65,504."""
    length = math.hypot(*vector) or 1.0
    return f"[{','.join(f'{number / length:.5g}' for number in vector)}]"


def _passages(do: Transaction, key: CollectionKey, number: int, ids: Sequence[int]) -> list[StoredPassage]:
    """Return passages by their numbers, in that order, with the ends of their neighbours."""
    rows = do.rows(_PASSAGES.format(number), NEIGHBOUR, NEIGHBOUR, list(ids), number)
    return [
        StoredPassage(
            text, key.name, title, document[3], document=Document(*document), number=place, line=line,
            before=before or "", after=after or "",
        )
        for text, title, place, line, before, after, *document in rows
    ]  # fmt: skip
