"""Managing models as clients do it: who is asked, in which way, and what a yes is worth."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.server.session import ServerSession
from mcp_types import ElicitResult

from ollama_mcp import App, create_server
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model, Script

pytestmark = pytest.mark.anyio

YES = ElicitResult(action="accept", content={"confirm": True})
UNTICKED = ElicitResult(action="accept", content={"confirm": False})
DECLINE = ElicitResult(action="decline")
CANCEL = ElicitResult(action="cancel")
EMPTY = ElicitResult(action="accept")


@dataclass
class User:
    """Somebody who answers questions, and remembers them."""

    answer: ElicitResult
    meanwhile: Callable[[], object] = lambda: None
    asked: list[str] = field(default_factory=list)

    async def __call__(self, _context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        self.meanwhile()
        return self.answer


@pytest.fixture
async def fake(anyio_backend: str) -> AsyncIterator[FakeOllama]:
    async with FakeOllama([Model("m"), Model("n"), Model("me/p")]) as fake:
        yield fake


Sit = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def sit(fake: FakeOllama, mode: str) -> Sit:
    """A client with everything turned on, behind which a user may sit."""

    @asynccontextmanager
    async def sit(user: User | None = None, **environment: str) -> AsyncIterator[Client]:
        settings = {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOOLSETS": "all", **environment}
        with anyio.fail_after(20):
            async with App.create(load(settings)) as app:
                server = create_server(app)
                async with Client(server, mode=mode, elicitation_callback=user) as client:
                    yield client

    return sit


async def told(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    return result.content[0].text


def changes(fake: FakeOllama) -> list[str]:
    """The requests that change the server's models."""
    paths = {"/api/delete", "/api/copy", "/api/push", "/api/create"}
    return [request.path for request in fake.requests if request.path in paths]


DESTRUCTIVE = [
    ("ollama_delete_model", {"model": "m"}, "m:latest", "/api/delete"),
    ("ollama_copy_model", {"source": "m", "destination": "n"}, "n:latest", "/api/copy"),
    ("ollama_create_model", {"model": "n", "from_model": "m", "system": "s"}, "n:latest", "/api/create"),
    ("ollama_push_model", {"model": "me/p"}, "me/p:latest", "/api/push"),
]
destructive = pytest.mark.parametrize(
    ("tool", "arguments", "name", "path"), DESTRUCTIVE, ids=[row[0] for row in DESTRUCTIVE]
)


@destructive
async def test_a_user_who_says_yes_is_asked_once_and_it_is_done(sit, fake, tool, arguments, name, path):
    user = User(YES)
    async with sit(user) as client:
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert len(user.asked) == 1
    assert name.removesuffix(":latest") in user.asked[0]
    assert changes(fake) == [path]


@destructive
@pytest.mark.parametrize("answer", [UNTICKED, DECLINE, CANCEL], ids=["unticked", "declined", "cancelled"])
async def test_a_user_who_does_not_say_yes_is_obeyed_also_where_the_model_confirms(
    sit, fake, tool, arguments, name, path, answer
):
    user = User(answer)
    async with sit(user) as client:
        text = await told(client, tool, **arguments, confirm=name)
    if answer is UNTICKED:
        assert text == (
            "NOT_CONFIRMED: the user did not say yes. Do not try it again unless the user asks for it."
        )
    else:  # a client that asks nobody says the same: nobody "said no"
        assert text.startswith("NOT_CONFIRMED: the client answered ")
        assert "the client did not ask its user" in text
        assert "said no" not in text
    assert len(user.asked) == 1
    assert changes(fake) == []


@destructive
async def test_a_client_that_cannot_ask_confirms_by_the_exact_name(sit, fake, tool, arguments, name, path):
    async with sit() as client:
        refused = await client.call_tool(tool, arguments)
        assert refused.content[0].text.startswith("NOT_CONFIRMED: ")
        assert refused.is_error
        assert f'confirm="{name}"' in refused.content[0].text
        assert (await told(client, tool, **arguments, confirm="yes")).startswith("NOT_CONFIRMED: ")
        assert (await told(client, tool, **arguments, confirm="other")).startswith("NOT_CONFIRMED: ")
        assert changes(fake) == []
        assert not (await client.call_tool(tool, {**arguments, "confirm": name})).is_error
    assert changes(fake) == [path]


@pytest.mark.parametrize("tool", ["ollama_delete_model", "ollama_push_model"])
async def test_a_model_that_changed_while_the_user_thought_is_left_alone(sit, fake, tool):
    def change() -> None:
        fake.add_model(Model("me/p", digest="f" * 64))

    async with sit(User(YES, meanwhile=change)) as client:
        text = await told(client, tool, model="me/p")
    assert text.startswith("NOT_CONFIRMED: me/p:latest has changed since it was confirmed")
    assert changes(fake) == []


async def test_what_destroys_nothing_is_not_asked_about(sit, fake):
    user = User(DECLINE)
    async with sit(user) as client:
        for tool, arguments in (
            ("ollama_copy_model", {"source": "m", "destination": "new"}),
            ("ollama_create_model", {"model": "new2", "from_model": "m", "system": "s"}),
            ("ollama_pull_model", {"model": "qwen3:0.6b"}),
            ("ollama_load_model", {"model": "m"}),
            ("ollama_unload_model", {"model": "m"}),
        ):
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, (tool, result.content)
    assert user.asked == []


async def test_a_large_pull_is_asked_about_once_its_size_is_known(sit, fake):
    user = User(YES)
    async with sit(user, OLLAMA_MCP_MAX_PULL_GB="0.001") as client:
        assert "success" in await told(client, "ollama_pull_model", model="qwen3:0.6b")
    assert len(user.asked) == 1
    assert "MAX_PULL_GB" in user.asked[0]
    assert len(fake.asked("/api/pull")) == 2


@pytest.mark.parametrize("answer", [EMPTY], ids=["accepted without a form"])
async def test_an_answer_that_is_none_deletes_nothing(sit, fake, answer):
    async with sit(User(answer)) as client:
        result = await client.call_tool("ollama_delete_model", {"model": "m"})
    assert result.is_error
    assert result.meta["ollama-mcp/error"]["code"] == "NOT_CONFIRMED"
    assert changes(fake) == []


async def test_an_answer_that_is_no_answer_is_no_yes_and_no_internal_error(sit, fake, monkeypatch):
    async def answer_oddly(*_: Any) -> ElicitResult:
        return ElicitResult.model_validate({"action": "sure"})

    monkeypatch.setattr(ServerSession, "elicit_form", answer_oddly)
    async with sit(User(DECLINE)) as client:
        text = await told(client, "ollama_delete_model", model="m")
    assert text.startswith("NOT_CONFIRMED: ")
    assert changes(fake) == []


async def test_who_can_be_asked_is_not_told_to_confirm_by_an_argument_that_does_not_count(sit, fake):
    def change() -> None:
        fake.add_model(Model("m", digest="f" * 64))

    async with sit(User(YES, meanwhile=change)) as client:
        text = await told(client, "ollama_delete_model", model="m")
    assert text.startswith("NOT_CONFIRMED: m:latest has changed")
    assert "confirm=" not in text


async def test_a_pull_outlives_its_call_and_is_found_again(sit, fake):
    lines = [b'{"status":"pulling manifest"}', b'{"status":"success"}']
    fake.script(Script(lines=lines, delay_first=0.5), path="/api/pull")
    async with sit() as client:
        first = await client.call_tool("ollama_pull_model", {"model": "qwen3:0.6b", "wait_s": 0.1})
        text = first.content[0].text
        assert text.startswith("STILL RUNNING: ")
        handle = text.split('handle="')[1].split('"')[0]
        assert (await told(client, "ollama_continue", handle=handle)).startswith("qwen3:0.6b: success")


@pytest.mark.parametrize("mode", ["legacy"], indirect=False)
async def test_the_progress_of_a_pull_grows_and_reads_as_bytes(sit, fake, mode):
    total = 4_000_000_000
    lines = [
        json.dumps(
            {"status": "pulling 6a07", "digest": "a", "total": total, "completed": total * n // 10}
        ).encode()
        for n in range(11)
    ]
    fake.script(Script(lines=[*lines, b'{"status":"success"}'], delay=0.1), path="/api/pull")
    heard: list[tuple[float, float | None, str]] = []

    async def hear(value: float, total: float | None, message: str | None) -> None:
        heard.append((value, total, message or ""))

    async with sit() as client:
        await client.call_tool("ollama_pull_model", {"model": "qwen3:0.6b"}, progress_callback=hear)
    values = [value for value, _, _ in heard]
    assert values == sorted(set(values))
    assert len(heard) <= 6
    assert any(" of 4.0 GB · " in message for _, _, message in heard)


async def test_read_only_beats_every_other_switch(sit):
    wide = {"OLLAMA_MCP_TOOLS": "ollama_delete_model", "OLLAMA_MCP_READ_ONLY": "1"}
    async with sit(**wide) as client:
        tools = (await client.list_tools()).tools
        assert tools
        assert all(tool.annotations.read_only_hint for tool in tools)


async def test_managing_is_off_until_the_operator_turns_it_on(sit):
    async with sit(OLLAMA_MCP_TOOLSETS="chat,models", OLLAMA_MCP_TOOLS="ollama_pull_model") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert "ollama_pull_model" in names
    assert not names & {
        "ollama_delete_model",
        "ollama_push_model",
        "ollama_create_model",
        "ollama_embeddings",
    }


async def test_what_changes_the_server_says_so_in_its_hints(sit):
    async with sit() as client:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    for name in ("ollama_delete_model", "ollama_push_model", "ollama_copy_model", "ollama_create_model"):
        assert tools[name].destructive_hint is True, name
    for name in ("ollama_pull_model", "ollama_load_model", "ollama_unload_model"):
        assert tools[name].read_only_hint is False, name
        assert tools[name].destructive_hint is False, name
    assert tools["ollama_pull_model"].open_world_hint is True


# --- what shows, loads, ranks and compares -------------------------------------------------------


async def test_a_model_is_shown_in_short_and_a_long_part_when_asked(sit):
    async with sit() as client:
        short = await client.call_tool("ollama_show_model", {"model": "m"})
        assert "template" not in short.structured_content
        long = await client.call_tool("ollama_show_model", {"model": "m", "part": "template"})
        assert long.structured_content["template"]
        assert long.structured_content["template"] in long.content[0].text
        wrong = await told(client, "ollama_show_model", model="m", part="modelfile")
        assert wrong.startswith("INVALID_ARGUMENT: ")


async def test_texts_are_ranked_without_their_vectors(sit, fake):
    fake.add_model(Model("nomic-embed-text", capabilities=["embedding"]))
    async with sit() as client:
        found = await client.call_tool(
            "ollama_rank", {"query": "cat", "candidates": ["dog", "cat", "tax"], "top": 2, "prefixes": False}
        )
    rows = found.structured_content["ranking"]
    assert rows[0]["index"] == 1
    assert len(rows) == 2
    assert rows[0]["score"] == 1.0
    assert "[1] cat" in found.content[0].text


async def test_models_are_compared_in_turn_and_one_that_fails_is_a_row(sit, fake):
    fake.script(Script(tokens=["one"]), model="m")
    fake.script(Script(tokens=["two"]), model="n")
    async with sit() as client:
        text = await told(client, "ollama_compare", prompt="?", models=["m", "nobody", "n"])
    order = [text.index(part) for part in ("## m\n\none", "## nobody\n\nMODEL_NOT_FOUND", "## n\n\ntwo")]
    assert order == sorted(order)
    assert "## numbers" in text
    assert [request.json["model"] for request in fake.asked("/api/chat")] == ["m", "n"]


@pytest.mark.parametrize("models", [[], [f"x{n}" for n in range(9)]], ids=["none", "nine"])
async def test_too_few_and_too_many_models_are_refused(sit, models):
    async with sit() as client:
        text = await told(client, "ollama_compare", prompt="?", models=models)
    assert text.startswith("INVALID_ARGUMENT: ")
