"""What every store of collections does. A store that is added is a fixture more."""

import os
import random
import stat
import subprocess
import sys
from functools import partial

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_mcp.errors import InvalidArgument, StorageError
from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.stores.collection_store import (
    CollectionKey,
    Document,
    Fingerprint,
    NewPassage,
    OtherModel,
)
from ollama_mcp.stores.configured import configured_collections
from ollama_mcp.stores.sqlite_collections import SqliteCollections

pytestmark = pytest.mark.anyio
NOTES = CollectionKey("", "notes")
PRINT = Fingerprint("all-minilm", "abc", 4)


def document(name, **more):
    return Document(id=f"/{name}", name=name, hash=name, **more)


def passages(*texts):
    return [NewPassage("Tea", text, line) for line, text in enumerate(texts, 1)]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def place(request, tmp_path):
    """What OLLAMA_MCP_STORE names."""
    if request.param == "postgres":
        return request.getfixturevalue("database")
    return str(tmp_path / "folder")


@pytest.fixture
async def store(anyio_backend, place):
    made = configured_collections(place)
    yield made
    await made.aclose()


async def test_a_passage_is_found_by_its_meaning_and_by_its_words(store):
    await store.ensure(NOTES, PRINT)
    await store.put(
        NOTES,
        document("tea.md", uri="note:1", stamp="1:2", pattern="*.md"),
        passages("steep green tea", "boil the water", "cups and saucers"),
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
    )
    found = await store.search(NOTES, [0, 0.9, 0.1, 0], ["saucers"], 2, "")
    near = [found.passages[place] for place in found.by_meaning]
    assert [one.text for one in near] == ["boil the water", "cups and saucers"]
    assert [one.text for one in (found.passages[place] for place in found.by_words)] == ["cups and saucers"]
    assert found.cosines[0] == pytest.approx(0.994, abs=0.01)
    assert (found.count, found.frequencies) == (3, {"saucers": 1})
    first = near[0]
    assert (first.number, first.line, first.before, first.after) == (
        1, 2, "steep green tea", "cups and saucers",
    )  # fmt: skip
    assert first.document == document("tea.md", uri="note:1", stamp="1:2", pattern="*.md")
    assert first.label == "tea.md:2 · Tea"


async def test_a_document_replaces_the_one_before_whole(store):
    await store.ensure(NOTES, PRINT)
    await store.put(NOTES, document("a"), passages("old one", "old two"), [[1, 0, 0, 0], [0, 1, 0, 0]])
    await store.put(NOTES, document("a"), passages("new"), [[0, 0, 1, 0]])
    found = await store.search(NOTES, [1, 1, 1, 0], ["old", "new"], 10, "")
    assert [one.text for one in found.passages] == ["new"]
    assert found.frequencies == {"old": 0, "new": 1}
    (there,) = await store.collections("")
    assert (there.documents, there.passages) == (1, 1)


async def test_only_documents_under_a_path_are_searched_where_that_is_asked_for(store):
    await store.ensure(NOTES, PRINT)
    for number in range(30):
        await store.put(NOTES, document(f"far/{number}"), passages("tea"), [[1, 0, 0, 0]])
    await store.put(NOTES, document("near/x%_"), passages("more tea"), [[0.1, 1, 0, 0]])
    found = await store.search(NOTES, [1, 0, 0, 0], ["tea"], 5, "near/x%")
    assert [one.document.name for one in found.passages] == ["near/x%_"]
    assert (found.by_meaning, found.by_words) == ([0], [0])
    assert not (await store.search(NOTES, [1, 0, 0, 0], ["tea"], 5, "nowhere")).passages


async def test_vectors_of_another_model_are_refused(store):
    await store.ensure(NOTES, PRINT)
    for other in (Fingerprint("all-minilm", "def", 4), Fingerprint("nomic", "abc", 3)):
        with pytest.raises(OtherModel, match=r"was indexed with (another version of )?all-minilm"):
            await store.ensure(NOTES, other)
    for vectors in ([[1, 0]], [], [[0, 0, 0, 0]]):
        with pytest.raises(StorageError, match="vectors are not 1 of 4 numbers"):
            await store.put(NOTES, document("a"), passages("tea"), vectors)
    assert not await store.documents(NOTES)


async def test_what_does_not_fit_into_sqlite_is_an_error_in_words(tmp_path):
    store = SqliteCollections(tmp_path / "c.db")
    await store.ensure(NOTES, PRINT)
    await store.put(NOTES, document("tea"), passages("Green tea"), [[1, 0, 0, 0]])
    with pytest.raises(StorageError, match="the query has 1 numbers, and the vectors of notes have 4"):
        await store.search(NOTES, [1], ["tea"], 5, "")
    with pytest.raises(StorageError, match="half a surrogate pair"):
        await store.search(NOTES, None, ["tea"], 5, "\ud800")
    await store.aclose()


async def test_a_collection_that_is_made_again_is_searched_by_its_own_vectors(store):
    await store.ensure(NOTES, PRINT)
    await store.put(NOTES, document("a"), passages("one", "two"), [[1, 0, 0, 0], [0, 1, 0, 0]])
    await store.search(NOTES, [1, 0, 0, 0], [], 5, "")
    await store.drop(NOTES)
    await store.ensure(NOTES, Fingerprint("nomic", "def", 2))
    await store.put(NOTES, document("b"), passages("three"), [[0, 1]])
    assert [one.text for one in (await store.search(NOTES, [0, 1], [], 5, "")).passages] == ["three"]


async def test_a_stamp_does_not_bring_back_what_another_process_removed(store):
    await store.ensure(NOTES, PRINT)
    await store.put(NOTES, document("tea"), passages("Green tea"), [[1, 0, 0, 0]])
    await store.restamp(NOTES, document("gone"))
    assert list(await store.documents(NOTES)) == ["/tea"]


async def test_owners_do_not_see_one_another_and_forgetting_is_thorough(store):
    mine, theirs = CollectionKey("me", "notes"), CollectionKey("you", "notes")
    for key in (mine, theirs):
        await store.ensure(key, PRINT)
        await store.put(key, document("a"), passages(f"of {key.owner}"), [[1, 0, 0, 0]])
    await store.drop(mine)
    assert not await store.collections("me")
    with pytest.raises(InvalidArgument, match="there is no collection notes"):
        await store.search(mine, [1, 0, 0, 0], [], 5, "")
    assert [one.text for one in (await store.search(theirs, [1, 0, 0, 0], [], 5, "")).passages] == ["of you"]
    await store.ensure(mine, PRINT)
    assert not (await store.search(mine, [1, 0, 0, 0], ["of"], 5, "")).passages


async def test_documents_are_restamped_and_removed(store):
    await store.ensure(NOTES, PRINT)
    for name in ("a", "b"):
        await store.put(NOTES, document(name), passages("tea"), [[1, 0, 0, 0]])
    await store.restamp(NOTES, document("a", stamp="5:5"))
    await store.remove(NOTES, ["/b"])
    assert await store.documents(NOTES) == {"/a": document("a", stamp="5:5")}
    found = await store.search(NOTES, [1, 0, 0, 0], ["tea"], 5, "")
    assert [one.document.stamp for one in found.passages] == ["5:5"]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=25)
@given(st.lists(st.tuples(WORDS, WORDS), max_size=6), st.lists(WORDS, max_size=5), WORDS)
def test_any_texts_words_and_names_are_only_data(place, documents, words, under):
    def stored(text):
        return text.replace("\0", "\ufffd") if isinstance(place, DatabaseUrl) else text

    async def run():
        store = configured_collections(place)
        await store.ensure(NOTES, PRINT)
        await store.remove(NOTES, list(await store.documents(NOTES)))
        for name, text in documents:
            await store.put(NOTES, document(name), passages(text), [[1, 0, 0, 0]])
        everything = await store.search(NOTES, [1, 0, 0, 0], words, 100, "")
        last = {stored(name): stored(text) for name, text in documents}
        assert {one.document.name: one.text for one in everything.passages} == last
        assert everything.frequencies.keys() == set(words)
        part = await store.search(NOTES, [1, 0, 0, 0], words, 100, under)
        assert all(one.document.name.startswith(stored(under)) for one in part.passages)
        await store.aclose()

    anyio.run(run)


async def test_the_order_by_short_numbers_is_that_of_floats(store):
    await store.ensure(NOTES, Fingerprint("m", "d", 64))
    draw = random.Random(5)
    vectors = [[draw.gauss(0, 1) for _ in range(64)] for _ in range(200)]
    for number in range(10):
        some = vectors[number * 20 : number * 20 + 20]
        await store.put(NOTES, document(str(number)), passages(*map(str, range(20))), some)
    query = vectors[37]
    found = await store.search(NOTES, query, [], 1, "")
    assert found.passages[0].document.name == "1"
    assert found.passages[0].number == 17
    assert found.cosines[0] == pytest.approx(1, abs=0.001)


async def test_a_search_sees_what_another_process_wrote_meanwhile(store, place):
    await store.ensure(NOTES, PRINT)
    await store.put(NOTES, document("a"), passages("one"), [[1, 0, 0, 0]])
    assert len((await store.search(NOTES, [1, 0, 0, 0], [], 5, "")).passages) == 1
    other = configured_collections(place)
    await other.put(NOTES, document("b"), passages("two"), [[0, 1, 0, 0]])
    await other.aclose()
    assert len((await store.search(NOTES, [1, 0, 0, 0], [], 5, "")).passages) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
async def test_only_the_owner_of_the_file_may_read_it(tmp_path):
    store = SqliteCollections(tmp_path / "folder" / "collections.db")
    await store.ensure(NOTES, PRINT)
    await store.aclose()
    for file in (tmp_path / "folder").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


async def test_a_file_that_is_no_database_is_an_error_in_words(tmp_path):
    (tmp_path / "c.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=r"c\.db cannot be used: file is not a database") as caught:
        await SqliteCollections(tmp_path / "c.db").collections("")
    assert str(tmp_path) not in str(caught.value)


async def test_a_cancelled_call_leaves_no_transaction_open(store):
    await store.ensure(NOTES, PRINT)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            put = partial(store.put, NOTES, document(str(number)), passages("tea"), [[1, 0, 0, 0]])
            tasks.start_soon(put)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await store.put(NOTES, document("last"), passages("tea"), [[1, 0, 0, 0]])
    there = await store.documents(NOTES)
    found = await store.search(NOTES, [1, 0, 0, 0], [], 100, "")
    assert {one.document.id for one in found.passages} == set(there)


WRITER = """
import asyncio, sys
from ollama_mcp.settings.readers import read_store
from ollama_mcp.stores.collection_store import *
from ollama_mcp.stores.configured import configured_collections

async def main(place, name, count):
    store = configured_collections(read_store(place))
    key = CollectionKey("", "notes")
    await store.ensure(key, Fingerprint("m", "d", 4))
    for number in range(count):
        for one in (f"{name}-{number}", f"shared-{number}"):
            made = [NewPassage("", f"{one} part {part}", part) for part in range(3)]
            await store.put(key, Document(one, one, name), made, [[1, part, number, 1] for part in range(3)])
            print(one, flush=True)
            if number % 5 == 0:
                found = await store.search(key, [1, 1, 1, 1], [one.split("-")[0]], 9, one)
                assert one in {passage.document.id for passage in found.passages}
    await store.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writer(place: str | DatabaseUrl, name: str, count: int) -> "subprocess.Popen[str]":
    shown = place.secret if isinstance(place, DatabaseUrl) else place
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, shown, name, str(count)], stdout=subprocess.PIPE, text=True
    )


async def whole(place: str | DatabaseUrl, acknowledged: set[str]) -> None:
    """Every acknowledged document is there with all of its parts, and nothing is there by halves."""
    store = configured_collections(place)
    assert store is not None
    there = await store.documents(NOTES)
    assert acknowledged <= there.keys()
    found = await store.search(NOTES, [1, 1, 1, 1], [], 10_000, "")
    parts: dict[str, int] = {}
    for one in found.passages:
        parts[one.document.id] = parts.get(one.document.id, 0) + 1
    assert parts == dict.fromkeys(there, 3)
    assert found.count == len(found.passages)
    await store.aclose()


@pytest.mark.long
async def test_three_processes_index_and_search_at_once_and_nothing_is_lost(place):
    writers = [writer(place, name, 40) for name in "abc"]
    said = [line for one in writers for line in one.communicate(timeout=120)[0].split()]
    assert [one.returncode for one in writers] == [0, 0, 0]
    assert len(set(said)) == 160
    await whole(place, set(said))


@pytest.mark.long
async def test_no_acknowledged_document_is_lost_when_the_process_is_killed(place):
    acknowledged: set[str] = set()
    draw = random.Random(7)
    for round_ in range(50):
        one = writer(place, f"r{round_}", 500)
        assert one.stdout is not None
        for _ in range(draw.randrange(1, 30)):
            acknowledged.add(one.stdout.readline().strip())
        one.kill()
        rest = one.communicate()[0].splitlines(keepends=True)
        acknowledged |= {line.strip() for line in rest if line.endswith("\n")}
        await whole(place, acknowledged)
