"""Which script answers which request, and when."""

import json

import anyio
import ollama
import pytest

from ollama_mcp.testing import FakeOllama, Request, Script, Wait
from ollama_mcp.testing.fake_endpoints import respond


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"how": "explode"}, "close, reset, silence, error"),
        ({"delay": -1}, "delay is -1"),
        ({"delay_first": -0.1}, "delay_first"),
        ({"status": "500"}, "status is '500'"),
    ],
)
def test_a_script_that_cannot_be_is_refused_where_it_is_written(wrong, told):
    with pytest.raises((TypeError, ValueError), match=told):
        Script(**wrong)


def test_what_is_no_script_is_refused_where_it_is_given():
    with pytest.raises(TypeError, match=r"5 is no Script, nor a text"):
        FakeOllama().script(5)


pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
async def limit(anyio_backend: str):
    with anyio.fail_after(10):
        yield


@pytest.fixture
def say(client):
    async def say(model: str = "llama3.2:3b") -> str:
        return (await client.chat(model, HELLO)).message.content

    return say


async def test_the_youngest_script_wins_and_gives_way_when_spent(fake: FakeOllama, say):
    fake.script(Script(tokens=["old"]))
    fake.script(Script(tokens=["new"]), times=2)
    assert [await say() for _ in range(3)] == ["new", "new", "old"]


async def test_several_scripts_answer_one_after_another_and_the_last_stays(fake: FakeOllama, say):
    fake.script(Script(tokens=["a"]), Script(tokens=["b"]))
    assert [await say() for _ in range(3)] == ["a", "b", "b"]


async def test_a_script_can_be_for_one_model(fake: FakeOllama, say):
    fake.add_model("other")
    fake.script(Script(tokens=["mine"]), model="other")
    assert [await say(), await say("other:latest")] == ["You said: hello", "mine"]


async def test_a_script_can_be_for_one_path(fake: FakeOllama, say, client):
    fake.script(Script(tokens=["generated"]), path="/api/generate")
    assert await say() == "You said: hello"
    assert (await client.generate("llama3.2:3b", "x")).response == "generated"


async def test_tokens_are_meant_for_generation_only_and_a_status_for_every_path(fake: FakeOllama, client):
    fake.script(Script(tokens=["x"]))
    assert len((await client.list()).models) == 2
    fake.script(Script(status=500, body={"error": "all is lost"}))
    with pytest.raises(ollama.ResponseError, match="all is lost"):
        await client.list()


async def test_a_script_can_be_made_of_the_request(fake: FakeOllama, say):
    fake.script(lambda request: Script(tokens=[request.json["model"]]))
    assert await say() == "llama3.2:3b"


async def test_a_function_is_for_chat_and_generate_as_a_text_is(fake: FakeOllama, say, client):
    fake.script(lambda request: f"about {request.json['model']}")
    assert len((await client.list()).models) == 2
    assert len((await client.embed("nomic-embed-text", "x")).embeddings) == 1
    assert await say() == "about llama3.2:3b"
    fake.script(lambda request: Script(status=503, body={"error": request.path}), path="/api/tags")
    with pytest.raises(ollama.ResponseError, match="/api/tags"):
        await client.list()


async def test_a_script_that_raises_is_told_to_the_client_and_at_the_end(anyio_backend):
    def broken(_request):
        raise ZeroDivisionError

    fake = FakeOllama()
    await fake.start()
    fake.script(broken, path="/api/tags")
    official = ollama.AsyncClient(host=fake.url)
    with pytest.raises(ollama.ResponseError, match=r"your script raised ZeroDivisionError\(\)"):
        await official.list()
    await official._client.aclose()
    with pytest.raises(ZeroDivisionError):
        await fake.stop()


async def test_a_scripted_model_must_be_installed_like_any_other(fake: FakeOllama, say):
    fake.script(Script(tokens=["x"]))
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
        await say("nope")


async def test_delays_come_before_the_first_record_and_between(fake: FakeOllama, client):
    fake.script(Script(tokens=["a", "b", "c"], delay_first=0.05, delay=0.02))
    before = anyio.current_time()
    times = [
        anyio.current_time() - before async for _ in await client.chat("llama3.2:3b", HELLO, stream=True)
    ]
    assert times[0] == pytest.approx(0.05)
    assert times[2] == pytest.approx(0.09)


async def test_the_last_record_follows_the_last_token_at_once():
    fake = FakeOllama()
    fake.script(Script(tokens=["a", "b"], delay=7, load_delay=1))
    body = json.dumps({"model": "llama3.2:3b", "messages": HELLO}).encode()
    steps = list(respond(fake, Request("POST", "/api/chat", {}, body, 0.0, 1), close=False))
    assert [step.seconds for step in steps if isinstance(step, Wait)] == [1, 0, 7]


async def test_only_a_model_that_is_not_loaded_takes_time_to_load(fake: FakeOllama, client):
    fake.script(Script(load_delay=0.1))
    for expected in (True, False):
        before = anyio.current_time()
        await client.chat("llama3.2:3b", HELLO)
        assert (anyio.current_time() - before >= 0.1) is expected


async def test_leaving_aborts_the_load(fake: FakeOllama, client):
    fake.script(Script(load_delay=60))
    with anyio.move_on_after(0.05):
        await client.chat("llama3.2:3b", HELLO)
    await fake.wait_for(lambda fake: fake.disconnects)
    assert not fake.models["llama3.2:3b"].running


async def test_an_answer_can_be_held_until_it_is_let_go(fake: FakeOllama, client):
    fake.script(Script(tokens=["a", "b"], hold_after_tokens=1))
    parts = await client.chat("llama3.2:3b", HELLO, stream=True)
    assert (await anext(parts)).message.content == "a"
    with anyio.move_on_after(0.05) as held:
        await fake.wait_for(lambda fake: fake.answered)
    assert held.cancelled_caught
    fake.release()
    assert [part.message.content async for part in parts] == ["b", ""]


@pytest.mark.parametrize(
    "script",
    [
        Script(hold_after_tokens=0),
        Script(body={"version": "x"}, hold_after_tokens=0),
        Script(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", hold_after_tokens=0),
    ],
)
async def test_an_answer_in_one_piece_can_be_held_too(fake: FakeOllama, connect, script):
    fake.script(script, path="/api/version")
    raw = await connect()
    raw.send("GET", "/api/version", Connection="close")
    with anyio.move_on_after(0.05) as held:
        await fake.wait_for(lambda fake: fake.answered)
    assert held.cancelled_caught
    fake.release()
    assert (await raw.rest())[0].startswith(b"HTTP/1.1 200 OK")


async def test_one_model_can_be_made_to_run_one_request_at_a_time(fake: FakeOllama, client):
    fake.parallel = 1
    fake.script(Script(tokens=["a"], hold_after_tokens=0))
    finished = []

    async def ask(place: int) -> None:
        await client.chat("llama3.2:3b", HELLO)
        finished.append(place)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, 0)
        await fake.wait_for(lambda fake: fake.in_flight == 1)
        tasks.start_soon(ask, 1)
        await fake.wait_for(lambda fake: fake.in_flight == 2)
        with anyio.move_on_after(0.05):  # a third leaves the queue again
            await ask(2)
        await client.embed("nomic-embed-text", "another model is free")
        fake.release()
    assert finished == [0, 1]


async def test_scripts_can_be_forgotten(fake: FakeOllama, say):
    fake.script(Script(tokens=["x"]))
    fake.scripts.clear()
    assert await say() == "You said: hello"
