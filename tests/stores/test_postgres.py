"""PostgreSQL as it may be: closed, read-only, without pgvector, started anew."""

import logging
import sys

import anyio
import psycopg
import pytest

from ollama_mcp.errors import StorageError
from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.stores.collection_store import CollectionKey, Document, Fingerprint, NewPassage
from ollama_mcp.stores.postgres_collections import PostgresCollections

pytestmark = [pytest.mark.anyio, pytest.mark.long]
NOTES = CollectionKey("", "notes")
PRINT = Fingerprint("all-minilm", "abc", 4)


@pytest.fixture
async def store(anyio_backend, database):
    made = PostgresCollections(database)
    yield made
    await made.aclose()


async def put(store, name, *texts, key=NOTES):
    passages = [NewPassage("", text, 1) for text in texts]
    await store.put(key, Document(name, name, name), passages, [[1, 0, 0, n] for n in range(len(texts))])


@pytest.mark.gate
async def test_a_passage_is_found_by_meaning_and_by_words(store):
    await store.ensure(NOTES, PRINT)
    await put(store, "tea.md", "Green tea steeps for two minutes.", "Boil the water.")
    found = await store.search(NOTES, [1, 0, 0, 1], ["steeping"], 5, "tea")
    assert found.passages[found.by_meaning[0]].text == "Boil the water."
    assert [found.passages[place].text for place in found.by_words] == ["Green tea steeps for two minutes."]
    assert found.frequencies == {"steeping": 1}


async def test_a_rare_word_that_is_there_often_counts_most(store):
    await store.ensure(NOTES, PRINT)
    await put(store, "common", *["tea with water"] * 4, *["coffee"] * 9)
    await put(store, "twice", "oolong with more oolong, and water")
    await put(store, "once", "oolong with more water, and water")
    await put(store, "long", "oolong with oolong, " + "and more water " * 40)
    found = await store.search(NOTES, None, ["oolong", "tea"], 9, "")
    order = [found.passages[place].document.id for place in found.by_words]
    assert order == ["twice", "once", *["common"] * 4, "long"]
    assert found.cosines == [None] * 7


@pytest.mark.parametrize("asked", ["settings", "ollama", "2024", "the"])
async def test_words_of_paths_dates_and_stopwords_are_found(store, asked):
    await store.ensure(NOTES, PRINT)
    await put(
        store, "a", "The file /etc/ollama/settings.toml of 2024-05-01", "another one", "and yet another"
    )
    found = await store.search(NOTES, None, [asked], 5, "")
    assert [place.number for place in found.passages] == [0]
    assert found.frequencies == {asked: 1}


async def test_documents_that_are_far_are_found_under_a_name_and_after_many_were_replaced(store):
    await store.ensure(NOTES, PRINT)
    for _ in range(3):
        for number in range(20):
            await put(store, f"near/{number}", *["tea"] * 30)
    far = [NewPassage("", "far", 1)]
    await store.put(NOTES, Document("far", "far", ""), far, [[0, 1, 0, 0]])
    assert [one.text for one in (await store.search(NOTES, [1, 0, 0, 0], [], 5, "f")).passages] == ["far"]
    assert len((await store.search(NOTES, [1, 0, 0, 0], [], 64, "")).passages) == 64


@pytest.mark.parametrize("dimensions", [3072, 4096])
async def test_long_vectors_are_stored_and_found(store, dimensions):
    await store.ensure(NOTES, Fingerprint("m", "d", dimensions))
    vectors = [[float(n == place) * 1e6 for n in range(dimensions)] for place in (5, 7)]
    passages = [NewPassage("", "five", 1), NewPassage("", "seven", 1)]
    await store.put(NOTES, Document("a", "a", ""), passages, vectors)
    found = await store.search(NOTES, vectors[1], [], 1, "")
    assert (found.passages[0].text, found.cosines[0]) == ("seven", pytest.approx(1))


async def test_a_server_that_is_started_anew_is_connected_again(store, postgres, database):
    await store.ensure(NOTES, PRINT)
    with psycopg.connect(postgres.format("postgres"), autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [_name(database)]
        )
    await put(store, "a", "tea")
    assert list(await store.documents(NOTES)) == ["a"]


async def test_a_collection_that_is_dropped_meanwhile_is_gone_and_nothing_else_is_said(store, database):
    other = PostgresCollections(database)
    faults: list[str] = []

    async def search() -> None:
        for _ in range(30):
            try:
                await store.search(NOTES, [1, 0, 0, 0], ["tea"], 5, "")
            except Exception as error:  # noqa: BLE001 - which one is the question
                faults.append(str(error).split(".")[0])
            await store.collections("")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(search)
        for _ in range(15):
            await other.ensure(NOTES, PRINT)
            await put(other, "a", "tea")
            await other.drop(NOTES)
    await other.aclose()
    assert set(faults) <= {"INVALID_ARGUMENT: there is no collection notes"}


async def refused(store, caplog, *secrets):
    """The words of the error, which nothing that leaves shows more of than it may."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StorageError) as caught:
        await store.ensure(NOTES, PRINT)
    error = caught.value
    assert error.__cause__ is None
    shown = f"{error} {error!r} {error.as_data()} {caplog.text} {store!r}"
    for secret in ("geheim", "127.0.0.1", "/nowhere", "postgresql://", *secrets):
        assert secret not in shown
    await store.aclose()
    return str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:geheim@127.0.0.1:1/x",
        "postgres://bob:geheim@127.0.0.1:no/x",
        "postgresql://bob:geheim@/x?host=/nowhere",
        "postgresql://bob:geheim@127.0.0.1/x?nonsense=geheim",
        "postgresql://bob:geheim@[127.0.0.1/x",
    ],
)
async def test_a_server_that_is_not_there_is_an_error_without_the_url(url, caplog):
    said = await refused(PostgresCollections(DatabaseUrl(url)), caplog, "bob")
    assert said.startswith("STORAGE: PostgreSQL cannot be reached. Check host, port, user, password")


async def test_a_user_or_database_that_is_not_there_is_an_error_without_the_name(postgres, caplog):
    for url in (postgres.format("nodb"), postgres.format("postgres").replace("//postgres:", "//bob:geheim")):
        said = await refused(PostgresCollections(DatabaseUrl(url)), caplog, "nodb", "bob")
        assert said.startswith("STORAGE: PostgreSQL refuses the user, the password or the database.")


async def test_a_user_who_may_not_make_tables_is_told_what_to_ask_for(database, caplog):
    with psycopg.connect(database.secret, autocommit=True) as db:
        db.execute("DROP ROLE IF EXISTS reader")
        db.execute("CREATE ROLE reader LOGIN")
    reader = DatabaseUrl(database.secret.replace("//postgres:", "//reader:"))
    said = await refused(PostgresCollections(reader), caplog, "reader")
    assert said == (
        "STORAGE: PostgreSQL cannot make its extension vector here: insufficient privilege. Install pgvector "
        "0.8 or newer on that server, and have its administrator run: CREATE EXTENSION vector."
    )
    with psycopg.connect(database.secret, autocommit=True) as db:
        db.execute("CREATE EXTENSION vector")
    said = await refused(PostgresCollections(reader), caplog, "reader")
    assert said.startswith(
        "STORAGE: PostgreSQL failed: insufficient privilege (42501). Have its administrator"
    )


async def test_a_server_without_pgvector_is_an_error_with_a_remedy(database, caplog, monkeypatch):
    monkeypatch.setattr("ollama_mcp.stores.postgres_database._EXTENSION_NAME", "no_such_vector")
    said = await refused(PostgresCollections(database), caplog)
    assert "extension no_such_vector here: feature not supported. Install pgvector 0.8" in said


async def test_without_psycopg_the_extra_is_named(caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    store = PostgresCollections(DatabaseUrl("postgresql://bob:geheim@127.0.0.1/x"))
    assert (await refused(store, caplog)).endswith('not installed. Install "ollama-mcp[postgres]".')


async def test_a_database_that_cannot_be_written_can_be_searched(store, database, caplog):
    await store.ensure(NOTES, PRINT)
    await put(store, "a", "tea")
    with psycopg.connect(database.secret, autocommit=True) as db:
        db.execute(f"ALTER DATABASE {_name(database)} SET default_transaction_read_only = on".encode())
    reading = PostgresCollections(database)
    assert len((await reading.search(NOTES, [1, 0, 0, 0], ["tea"], 5, "")).passages) == 1
    said = await refused(reading, caplog)
    assert said.startswith(
        "STORAGE: PostgreSQL failed: read only sql transaction (25006). Name a server that"
    )


def _name(database):
    return psycopg.conninfo.conninfo_to_dict(database.secret)["dbname"]
