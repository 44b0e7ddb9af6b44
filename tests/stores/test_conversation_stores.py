"""What every store of conversations does."""

from dataclasses import replace

import anyio
import pytest

from ollama_mcp.ollama.api_models import Message
from ollama_mcp.stores import postgres_conversations, sqlite_conversations
from ollama_mcp.stores.conversation_store import MOST_MESSAGES, Conversation, ConversationKey
from ollama_mcp.stores.postgres_conversations import PostgresConversations
from ollama_mcp.stores.sqlite_conversations import SqliteConversations

pytestmark = pytest.mark.anyio
TEA = ConversationKey("", "tea")


@pytest.fixture(params=["memory", "file", pytest.param("postgres", marks=pytest.mark.long)])
async def store(request, anyio_backend, tmp_path):
    if request.param == "postgres":
        made = PostgresConversations(request.getfixturevalue("database"))
    else:
        made = SqliteConversations(tmp_path / "c.db" if request.param == "file" else None)
    yield made
    await made.aclose()


def pair(text, images=None):
    return [
        Message(role="user", content=text, images=images),
        Message(role="assistant", content=f"to {text}"),
    ]


async def test_messages_come_back_as_they_were_and_images_are_kept_once(store):
    assert (await store.read(TEA)).messages == []
    conversation = Conversation(TEA, model="m", system="Be brief.", summary="s", per_token=3.5)
    assert await store.append(conversation, pair("a", ["aGk="])) == 0
    assert await store.append(conversation, pair("b", ["aGk="])) == 2
    found = await store.read(TEA)
    assert [one.content for one in found.messages] == ["a", "to a", "b", "to b"]
    assert [one.images for one in found.messages] == [["aGk="], None, ["aGk="], None]
    has = found.conversation
    assert (has.count, has.model, has.system, has.summary, has.per_token) == (4, "m", "Be brief.", "s", 3.5)
    assert (await store.listed(""))[0] == has
    assert not await store.listed("ann")


async def test_two_who_go_on_at_once_keep_their_pairs(store):
    begun = (await store.read(TEA)).conversation
    before = []

    async def go_on(text):
        before.append(await store.append(begun, pair(text)))

    async with anyio.create_task_group() as tasks:
        for text in "abcd":
            tasks.start_soon(go_on, text)
    messages = (await store.read(TEA)).messages
    assert sorted(before) == [0, 2, 4, 6]
    assert [two.content for two in messages[1::2]] == [f"to {one.content}" for one in messages[::2]]


async def test_what_is_forgotten_during_a_turn_begins_anew_with_it(store):
    await store.append(Conversation(TEA), [*pair("a"), *pair("b")])
    begun = replace((await store.read(TEA)).conversation, begin=2, summary="of a")
    await store.drop(TEA)
    assert await store.append(begun, pair("c")) == 0
    found = await store.read(TEA)
    assert [one.content for one in found.messages] == ["c", "to c"]
    assert (found.conversation.begin, found.conversation.summary) == (0, "")


async def test_a_slower_turn_does_not_take_the_summary_of_what_is_left_out(store):
    await store.append(Conversation(TEA), pair("a"))
    begun = (await store.read(TEA)).conversation
    await store.append(replace(begun, begin=2, summary="of a"), pair("b"))
    await store.append(begun, pair("c"))
    found = (await store.read(TEA)).conversation
    assert (found.begin, found.summary, found.count) == (2, "of a", 6)


async def test_the_oldest_go_first_and_forgetting_is_thorough(store):
    many = [
        Message(role="user", content=str(n), images=["aGk="] if not n else None)
        for n in range(MOST_MESSAGES + 5)
    ]
    await store.append(Conversation(TEA), many)
    found = await store.read(TEA)
    assert (found.first, len(found.messages), found.conversation.count) == (
        5,
        MOST_MESSAGES,
        MOST_MESSAGES + 5,
    )
    assert await store.drop(TEA)
    assert not await store.drop(TEA)
    assert (await store.read(TEA)).messages == []
    for owner in ("", "ann"):
        await store.append(Conversation(ConversationKey(owner, "x")), pair("a"))
    assert await store.purge("ann", 1e12) == 1
    assert await store.purge(None, 1e12) == 1


async def test_what_is_kept_of_large_images_begins_with_the_user(store, monkeypatch):
    for module in (sqlite_conversations, postgres_conversations):
        monkeypatch.setattr(module, "MOST_BYTES", 5000)
    for number in range(20):
        asked = Message(role="user", content=str(number), images=[f"{number:04}" * 250])
        said = Message(role="assistant", content="ok")
        await store.append(Conversation(TEA), [asked, said, said])
        found = await store.read(TEA)
        assert found.conversation.size <= 5000
        assert found.messages[0].role == "user"
    assert found.messages[-3].images == asked.images
