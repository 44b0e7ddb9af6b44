"""Conversations: what is sent along, what is kept, what is left out and said."""

import base64
import json
import random
import subprocess
import sys
from functools import partial

import anyio
import pytest

from ollama_mcp import App
from ollama_mcp.errors import InvalidArgument, NotConfirmed, OllamaError
from ollama_mcp.jobs.job import JobState
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.specs import build_chat
from ollama_mcp.settings import load
from ollama_mcp.stores import sqlite_conversations
from ollama_mcp.stores.conversation_store import MOST_MESSAGES, Conversation, ConversationKey
from ollama_mcp.stores.sqlite_conversations import SqliteConversations
from ollama_mcp.testing import FakeOllama, Model, Script

pytestmark = pytest.mark.anyio
PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00" + bytes(40)
).decode()


@pytest.fixture
async def fake(anyio_backend):
    async with FakeOllama(window=1024) as made:
        yield made


@pytest.fixture(params=["memory", "folder"])
async def app(request, fake, tmp_path):
    store = {"OLLAMA_MCP_STORE": str(tmp_path)} if request.param == "folder" else {}
    made = App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_MAX_CONTEXT": "1024", **store}))
    yield made
    await made.aclose()


def begun(app, prompt, name="tea", caller="", **more):
    spec = build_chat(prompt=prompt, **more)
    return app.jobs.start(partial(app.conversations.chat, spec, name), caller=caller)


async def say(app, prompt, name="tea", caller="", **more):
    return await begun(app, prompt, name, caller, **more).result()


def sent(fake):
    return [(one["role"], one["content"]) for one in fake.last.json["messages"]]


async def test_what_was_said_before_is_sent_along(app, fake):
    fake.script(Script("Green.", thinking="Which one?"), path="/api/chat")
    await say(app, "Which tea?", system="Be brief.")
    fake.script("Yes.", path="/api/chat")
    await say(app, "With milk?")
    assert sent(fake) == [
        ("system", "Be brief."),
        ("user", "Which tea?"),
        ("assistant", "Green."),
        ("user", "With milk?"),
    ]
    assert "thinking" not in json.dumps(fake.last.json["messages"])
    await say(app, "And here?", name="other")
    assert sent(fake) == [("user", "And here?")]
    await say(app, "And I?", caller="ann")
    assert sent(fake) == [("user", "And I?")]


async def test_calls_of_tools_and_their_results_stay_together(app, fake):
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    fake.script(Script(tool_calls=[call]), path="/api/chat")
    answer = await say(app, "Weather in Oslo?", tools=tools)
    assert answer.tool_calls
    fake.script("Rain.", path="/api/chat")
    await say(app, "", messages=[{"role": "tool", "tool_name": "weather", "content": "rain"}], tools=tools)
    assert [role for role, _ in sent(fake)] == ["user", "assistant", "tool"]
    assert fake.last.json["messages"][1]["tool_calls"][0]["function"]["name"] == "weather"


async def test_a_call_that_failed_or_was_cancelled_changes_nothing(app, fake):
    fake.script("one", path="/api/chat")
    await say(app, "first")
    fake.script(Script(status=500, body={"error": "no"}), path="/api/chat")
    with pytest.raises(OllamaError):
        await say(app, "second")
    fake.script(Script(tokens=["x"] * 100, delay=1), path="/api/chat")
    job = begun(app, "third")
    while job.state is not JobState.WRITING:
        await anyio.sleep(0.1)
    await job.cancel()
    fake.script("two", path="/api/chat")
    await say(app, "fourth")
    assert sent(fake) == [("user", "first"), ("assistant", "one"), ("user", "fourth")]


async def test_two_calls_at_once_keep_their_pairs_and_the_later_one_is_told(app, fake):
    fake.script(Script("answer", delay=0.1), path="/api/chat")
    both = [begun(app, "one"), begun(app, "two")]
    answers = [await job.result() for job in both]
    told = [answer.prompt_cut for answer in answers if answer.prompt_cut]
    assert told == ["Somebody went on with conversation 'tea' meanwhile; all turns are kept."]
    stored = await app.conversations.read("", "tea")
    assert [message.role for message in stored.messages] == ["user", "assistant"] * 2


async def test_what_does_not_fit_is_left_out_by_halves_and_said(app, fake):
    fake.script("ok", path="/api/chat")
    begins, told = [], []
    for number in range(14):
        answer = await say(app, f"turn {number} " + "word " * 100, options={"num_predict": 64})
        begins.append(fake.last.json["messages"][0]["content"][:7])
        told.append(answer.prompt_cut)
        assert fake.last.json["messages"][0]["role"] == "user"
    assert begins[0] == "turn 0 "
    assert told[0] == ""
    assert told[-1].endswith("older messages were left out: there is no room for all of conversation 'tea'.")
    assert len(set(begins)) <= 6, "the beginning moves rarely, so that the server need not read all anew"
    assert len((await app.conversations.read("", "tea")).messages) == 28


async def test_scripts_with_several_bytes_a_character_fit_too(app, fake):
    def answers(request):
        tokens = sum(int(len(message["content"]) / 1.5) + 8 for message in request.json["messages"])
        if tokens <= 1024:
            return Script(tokens=["茶" * 50], final={"prompt_eval_count": tokens})
        error = {"type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": 1024}
        return Script(status=400, body={"error": {"code": 400, "message": "too long", **error}})

    fake.script(answers, path="/api/chat")
    for number in range(20):
        await say(app, f"{number} " + "茶" * 100, options={"num_predict": 64})
    assert len(sent(fake)) < 39


async def test_a_call_with_less_room_for_them_leaves_nothing_out_for_good(app, fake):
    fake.script("ok", path="/api/chat")
    for number in range(3):
        await say(app, f"turn {number} " + "word " * 40)

    async def search(job):
        continued = await app.conversations.begin(build_chat(prompt="search"), "tea", job, most=100)
        answer = await app.generator.answer(continued.spec, job)
        return await app.conversations.finish(continued, answer, job)

    assert "4 older messages were left out" in (await app.jobs.start(search).result()).prompt_cut
    await say(app, "And now?")
    assert sent(fake)[0][1].startswith("turn 0 ")


async def test_the_model_sums_up_what_no_longer_fits_where_the_operator_wants_it(fake):
    app = App.create(
        load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_MAX_CONTEXT": "1024", "OLLAMA_MCP_SUMMARISE": "1"})
    )

    def answers(request):
        is_summary = "Sum up the conversation" in request.json["messages"][0]["content"]
        return Script("They spoke of tea." if is_summary else "ok")

    fake.script(answers, path="/api/chat")
    for number in range(10):
        answer = await say(app, f"turn {number} " + "word " * 100, options={"num_predict": 64})
    first = fake.last.json["messages"][0]
    assert first["content"] == "Summary of earlier messages, made by the model:\nThey spoke of tea."
    assert "older messages were summed up" in answer.prompt_cut
    await app.aclose()


async def test_images_are_kept_once_and_sent_to_models_that_see(app, fake):
    fake.models["eyes:latest"] = Model("eyes", capabilities=["completion", "vision"])
    fake.script("a dot", path="/api/chat")
    picture = [{"role": "user", "content": "what is it?", "images": [PNG]}]
    await say(app, "", model="eyes", messages=picture)
    await say(app, "", model="eyes", messages=picture)
    assert [len(one.get("images") or ()) for one in fake.last.json["messages"]] == [1, 0, 1]
    stored = await app.conversations.read("", "tea")
    assert stored.conversation.size < 2 * len(PNG) + 1000
    await say(app, "and for the blind?", model="llama3.2:3b" if "llama3.2:3b" in fake.models else "")
    assert "images" not in json.dumps(fake.last.json["messages"])


async def test_images_of_before_and_now_are_together_no_more_than_a_call_may_have(app, fake):
    fake.models["eyes:latest"] = Model("eyes", capabilities=["completion", "vision"])
    fake.script("dots", path="/api/chat")
    pictures = [{"role": "user", "content": "what are they?", "images": [PNG] * 5}]
    await say(app, "", model="eyes", messages=pictures)
    await say(app, "", model="eyes", messages=pictures)
    assert [len(one.get("images") or ()) for one in fake.last.json["messages"]] == [3, 0, 5]


async def test_a_result_of_a_tool_is_never_sent_without_its_call(app, fake):
    call = {"function": {"name": "weather", "arguments": {}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    fake.script("ok", path="/api/chat")
    await say(app, "word " * 200)
    fake.script(Script(tool_calls=[call]), path="/api/chat")
    await say(app, "Weather? " + "word " * 200, tools=tools)
    fake.script("Rain.", path="/api/chat")
    result = {"role": "tool", "tool_name": "weather", "content": "rain " * 600}
    await say(app, "", messages=[result], tools=tools)
    assert [(role, text[:8]) for role, text in sent(fake)] == [
        ("user", "Weather?"),
        ("assistant", ""),
        ("tool", "rain rai"),
    ]


async def test_json_answers_tell_in_notes_what_was_left_out(app, fake):
    fake.script('{"a": 1}', path="/api/chat")
    for number in range(9):
        answer = await say(
            app, f"{number} " + "word " * 100, schema={"type": "object"}, options={"num_predict": 64}
        )
    assert answer == '{"a": 1}'
    assert answer.prompt_cut == ""
    assert "no room for all of conversation" in answer.notes[-1]


async def test_an_answer_is_not_lost_with_its_memory(app, fake, monkeypatch):
    fake.script("here", path="/api/chat")

    async def fails(*_):
        raise InvalidArgument("the disk is full", "Make room.")

    monkeypatch.setattr(app.conversations.store, "append", fails)
    answer = await say(app, "hi")
    assert (str(answer), answer.prompt_cut) == ("here", "This turn is not remembered: the disk is full.")


async def test_conversations_are_listed_read_forgotten_and_purged(app, fake):
    fake.script("ok", path="/api/chat")
    for name in ("one", "two"):
        await say(app, "hi", name=name)
    assert [one.key.name for one in await app.conversations.listed("")] == ["two", "one"]
    with pytest.raises(NotConfirmed, match="to forget conversation one with 2 messages was not confirmed"):
        await app.conversations.forget("", "one", None)
    await app.conversations.forget("", "one", Confirmation("one"))
    with pytest.raises(InvalidArgument, match="there is no conversation 'one'") as caught:
        await app.conversations.read("", "one")
    assert caught.value.remedy == "There are two."
    assert await app.conversations.store.purge(None, 1e12) == 1
    assert await app.conversations.listed("") == []


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 101, "a\nb", "\ud800"])
async def test_a_name_that_cannot_be_is_refused(app, name):
    with pytest.raises(InvalidArgument, match="cannot be the name of a conversation"):
        await say(app, "hi", name=name)


async def test_the_oldest_messages_go_first_where_there_are_too_many(tmp_path):
    store = SqliteConversations(tmp_path / "c.db")
    key = ConversationKey("", "long")
    await store.append(Conversation(key), [message(str(n)) for n in range(MOST_MESSAGES + 10)])
    found = await store.read(key)
    assert (found.first, len(found.messages), found.conversation.count) == (
        10,
        MOST_MESSAGES,
        MOST_MESSAGES + 10,
    )
    await store.aclose()


async def test_of_conversations_in_memory_the_oldest_go_where_they_take_too_much(monkeypatch):
    monkeypatch.setattr(sqlite_conversations, "MOST_MEMORY", 3000)
    store = SqliteConversations()
    for number in range(9):
        await store.append(Conversation(ConversationKey(str(number), "tea")), [message("x" * 1000)])
    kept = [number for number in range(9) if await store.listed(str(number))]
    assert kept == [7, 8]


def message(text):
    return build_chat(prompt=text).request.messages[0]


WRITER = """
import asyncio, sys
from pathlib import Path
from ollama_mcp.ollama.api_models import Message
from ollama_mcp.stores.conversation_store import *
from ollama_mcp.stores.sqlite_conversations import SqliteConversations

async def main(path, name, count, conversation):
    store = SqliteConversations(Path(path))
    for number in range(count):
        stored = await store.read(ConversationKey("", conversation))
        asked, answer = f"{name}-{number}", f"to {name}-{number}"
        pair = [Message(role="user", content=asked), Message(role="assistant", content=answer)]
        await store.append(stored.conversation, pair)
        print(f"{name}-{number}", flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
"""


def writer(path, name, count, conversation="shared"):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count), conversation],
        stdout=subprocess.PIPE,
        text=True,
    )


async def pairs_in(path, conversation="shared"):
    store = SqliteConversations(path)
    messages = (await store.read(ConversationKey("", conversation))).messages
    await store.aclose()
    assert [one.role for one in messages] == ["user", "assistant"] * (len(messages) // 2)
    pairs = list(zip(messages[::2], messages[1::2], strict=True))
    assert all(answer.content == f"to {asked.content}" for asked, answer in pairs)
    return [asked.content for asked, _ in pairs]


@pytest.mark.long
async def test_two_processes_keep_their_pairs_in_one_conversation(tmp_path):
    path = tmp_path / "c.db"
    said = [
        line
        for one in [writer(path, "a", 15), writer(path, "b", 15)]
        for line in one.communicate()[0].split()
    ]
    found = await pairs_in(path)
    assert sorted(found) == sorted(said)
    assert len(found) == 30
    for name in "ab":
        assert [one for one in found if one.startswith(name)] == [f"{name}-{n}" for n in range(15)]


@pytest.mark.long
async def test_no_acknowledged_turn_is_lost_when_the_process_is_killed(tmp_path):
    path = tmp_path / "c.db"
    draw = random.Random(3)
    for round_ in range(100):
        name = f"r{round_}"
        one = writer(path, name, 400, conversation=name)
        assert one.stdout is not None
        said = [one.stdout.readline().strip() for _ in range(draw.randrange(1, 8))]
        one.kill()
        rest = one.communicate()[0].splitlines(keepends=True)
        said += [line.strip() for line in rest if line.endswith("\n")]
        kept = await pairs_in(path, name)
        assert kept[: len(said)] == said
        assert len(kept) <= len(said) + 1
