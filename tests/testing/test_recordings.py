"""Without a script the fake answers as the recorded servers did."""

import json
from pathlib import Path

import anyio
import pytest

from ollama_mcp.ollama_server.http_messages import Request
from ollama_mcp.testing import Exchange, FakeOllama, Model
from ollama_mcp.testing.fake_endpoints import respond

pytestmark = pytest.mark.anyio
RECORDINGS = sorted((Path(__file__).parent.parent / "recordings").glob("*.json"))
HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

# These hang on something that a request does not show: a full queue, a dead runner, a registry out of
# reach, a real tokenizer, what the model happened to say.
CIRCUMSTANCES = {
    "chat-busy",
    "chat-client-leaves",
    "chat-overflow-history-refused",
    "chat-overflow-refused",
    "chat-runner-dies",
    "chat-server-dies",
    "chat-tool-call",
    "chat-tool-call-whole",
    "chat-tool-result",
    "generate-overflow-refused",
    "old-chat-runner-dies",
    "pull-client-leaves",
    "pull-http-scheme",
    "pull-missing",
    "pull-plain-http",
    "pull-unreachable",
    "pull-whole-unreachable",
}


def recorded_world(exchange: Exchange) -> FakeOllama:
    """A fake with what the recorded servers had."""
    models = [
        Model("all-minilm:22m", ("embedding",), 512, dimensions=384),
        Model("tooler", ("completion", "tools")),
        Model("thinker", ("completion", "thinking")),
        Model("p3", ("completion",), parameters={"temperature": "hot"}),
        *(Model(name, ("completion",)) for name in ("pirate", "pirate2", "parrot")),
        Model("127.0.0.1:5055/library/smollm2:135m"),
        Model("127.0.0.1:5056/library/mine:v1"),
        Model("smollm2:135m", ("completion",), 8192, dimensions=576, loaded=_shows_it(exchange)),
    ]
    old = exchange.name.startswith("old-")
    fake = FakeOllama(models, version="0.24.0" if old else "0.33.0-rc2")
    if exchange.name in {"blob-head", "blob-post-again"}:
        fake.blobs[HELLO] = b"hello"
    return fake


def _shows_it(exchange: Exchange) -> bool:
    return exchange.request.path == "/api/ps" and b"smollm2" in exchange.body()


def unframed(answer: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, headers, and the body without chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.decode().split(": ", 1) for line in lines)
    if headers.get("Transfer-Encoding") != "chunked":
        return status, headers, body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return status, headers, whole


def answered(exchange: Exchange) -> bytes:
    asked = exchange.request
    request = Request(asked.method, asked.path, {"host": asked.host}, asked.body, 0.0, 1)
    steps = respond(recorded_world(exchange), request, close=True)
    return b"".join(step for step in steps if isinstance(step, bytes))


def shape(value: object) -> object:
    """Names and kinds of all fields, in their order."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


ORDINARY = [exchange for exchange in map(Exchange.load, RECORDINGS) if exchange.name not in CIRCUMSTANCES]


async def test_status_and_errors_are_those_of_the_real_server(subtests):
    for exchange in ORDINARY:
        with subtests.test(exchange.name):
            status, headers, body = unframed(answered(exchange))
            real_status, real_headers, real_body = unframed(exchange.wire)
            assert status == real_status
            assert headers.get("Content-Type") == real_headers.get("Content-Type")
            if b'"error"' in real_body and real_headers.get("Content-Type") != "application/x-ndjson":
                assert body == real_body
                assert list(headers) == list(real_headers)


def _has_records(exchange: Exchange) -> bool:
    described = exchange.request.path in {"/", "/api/show"} or exchange.name == "tags-none"
    return exchange.status == 200 and bool(exchange.body()) and not described


async def test_records_have_the_fields_of_the_real_server_in_its_order(subtests):
    for exchange in list(filter(_has_records, ORDINARY)):
        with subtests.test(exchange.name):
            ours, theirs = (
                [json.loads(line) for line in unframed(answer)[2].splitlines() if line]
                for answer in (answered(exchange), exchange.wire)
            )
            assert list(ours[0]) == list(theirs[0])
            assert shape(ours[-1]) == shape(theirs[-1])


async def test_show_has_the_fields_that_clients_read(recording):
    for name in ("show-tools", "show-embedding", "old-show-chat", "show-created"):
        real = json.loads(recording(name).body())
        ours = json.loads(unframed(answered(recording(name)))[2])
        assert set(ours) <= set(real)
        assert {"modelfile", "template", "details", "model_info", "capabilities"} <= set(ours)
        assert set(ours["details"]) == set(real["details"])


def pooling(shown: bytes) -> list[object]:
    told = json.loads(shown)
    return [
        value
        for name, value in told["model_info"].items()
        if name == f"{told['details']['family']}.pooling_type"
    ]


@pytest.mark.parametrize(("name", "number"), [("show-embedding", [1]), ("show-tools", [])])
async def test_an_embedding_model_alone_says_how_it_pools(recording, name, number):
    exchange = recording(name)
    assert pooling(unframed(answered(exchange))[2]) == pooling(exchange.body()) == number


async def test_a_replay_is_byte_identical(fake: FakeOllama, connect, subtests):
    for path in RECORDINGS:
        with subtests.test(path.stem):
            exchange = fake.replay(path)
            raw = await connect()
            with anyio.fail_after(5):
                raw.send(exchange.request.method, exchange.request.path, exchange.request.body)
                if exchange.end == "client closed":
                    got = await raw.reader.readexactly(len(exchange.wire))
                else:
                    got, end = await raw.rest()
                    assert end == "close"
            assert got == exchange.wire
            assert fake.requests[-1].body == exchange.request.body


async def test_a_recording_gives_back_what_was_asked_and_expected(recording):
    exchange = recording("chat-tool-call")
    assert exchange.request.json["model"] == "tooler"
    assert exchange.expects["tool_calls"][0]["name"] == "get_weather"
    assert json.loads(exchange.body().splitlines()[-1])["done"] is True


async def test_a_replay_answers_one_request_of_its_method_and_path(fake: FakeOllama, client, recording):
    fake.replay(recording("version"))
    with anyio.fail_after(5):
        assert (await client.list()).models
        response = await client._client.get("/api/version")
        assert response.json() == {"version": "0.33.0-rc2"}
        assert (await client._client.get("/api/version")).json() == {"version": fake.version}


async def test_a_replay_keeps_the_recorded_time_on_demand(fake: FakeOllama, connect, recording):
    exchange = fake.replay(recording("chat-keepalive-5m"), as_recorded_timing=True)
    raw = await connect()
    with anyio.fail_after(5):
        before = anyio.current_time()
        raw.send("POST", "/api/chat", exchange.request.body)
        await raw.rest()
    assert anyio.current_time() - before >= exchange.pieces[-1][0]


async def test_a_replay_of_a_client_that_left_waits_for_that(fake: FakeOllama, connect, recording):
    exchange = fake.replay(recording("chat-client-leaves"))
    raw = await connect()
    with anyio.fail_after(5):
        raw.send("POST", "/api/chat", exchange.request.body)
        await raw.reader.readexactly(len(exchange.wire))
        assert fake.in_flight == 1
        raw.writer.close()
        await fake.wait_for(lambda fake: fake.disconnects == 1)
