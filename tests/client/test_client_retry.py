"""Trying again: only before the first byte, only what can have done nothing; and a server that is down."""

import anyio
import httpx
import pytest

from ollama_mcp import errors
from ollama_mcp.client.retry import Health, wait_before_next
from ollama_mcp.ollama.api_models import (
    ChatRequest,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    Message,
    PullRequest,
    WebSearchRequest,
)
from ollama_mcp.ollama.endpoints import CHAT, COPY, CREATE, DELETE, PULL, PUSH, TAGS, WEB_SEARCH, Call
from ollama_mcp.testing import Script

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("stack", "in_time")]
ASK = ChatRequest(model="llama3.2:3b", messages=[Message(role="user", content="hi")])


async def ask(client) -> str:
    async with client.stream(CHAT, ASK) as lines:
        return "".join([line.text async for line in lines])


@pytest.fixture
def client(fake, connect):
    return connect(fake.url, retries=2)


async def test_a_busy_server_is_asked_again_twice(fake, client):
    fake.script(Script(tokens=["yes"]))
    rule = fake.busy(times=2)
    assert await ask(client) == "yes"
    assert rule.used == 2
    assert len(fake.asked("/api/chat")) == 3


async def test_one_that_stays_busy_is_busy(fake, client):
    fake.busy(times=None)
    with pytest.raises(errors.Busy):
        await ask(client)
    assert len(fake.asked("/api/chat")) == 3


@pytest.mark.parametrize("status", [400, 404, 500, 502])
async def test_no_other_status_is_tried_again(fake, client, status):
    fake.script(Script(status=status, body={"error": "no"}), path="/api/chat")
    with pytest.raises(errors.OllamaError):
        await ask(client)
    assert len(fake.asked("/api/chat")) == 1


@pytest.mark.parametrize("tokens", [0, 1])
async def test_a_broken_stream_is_not_tried_again(fake, client, tokens):
    fake.script(Script(tokens=["a", "b"], cut_after_tokens=tokens, how="reset"))
    with pytest.raises(errors.OllamaError):
        await ask(client)
    assert len(fake.asked("/api/chat")) == 1


async def test_a_failure_inside_of_the_answer_is_not_tried_again(client, fake):
    with pytest.raises(errors.Busy):
        async with client.stream(CHAT, ASK):
            raise errors.Busy("the caller's own", "Wait.", upstream_status=503)
    assert len(fake.asked("/api/chat")) == 1


async def sent(client, endpoint, body) -> None:
    if isinstance(endpoint, Call):
        await client.call(endpoint, body)
        return
    async with client.stream(endpoint, body):
        pass


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (PULL, PullRequest(model="a")),
        (PUSH, PullRequest(model="a")),
        (CREATE, CreateRequest(model="a", from_="b")),
        (COPY, CopyRequest(source="a", destination="b")),
        (DELETE, DeleteRequest(model="a")),
    ],
    ids=lambda value: value.path if hasattr(value, "path") else "",
)
async def test_what_changes_models_is_never_sent_again(fake, client, endpoint, body):
    fake.script(Script(status=503, body={"error": "busy"}), path=endpoint.path)
    with pytest.raises(errors.OllamaError):
        await sent(client, endpoint, body)
    assert len(fake.asked(endpoint.path)) == 1


async def test_a_deletion_on_a_kept_connection_that_closes_is_sent_once(fake, client):
    await client.call(TAGS)
    fake.script(Script(cut_after_bytes=0, how="close"), path="/api/delete", times=1)
    with pytest.raises(errors.StreamBroken):
        await client.call(DELETE, DeleteRequest(model="a"))
    assert len(fake.asked("/api/delete")) == 1
    assert fake.connections == 1


async def test_a_server_that_comes_up_meanwhile_is_reached(fake, client, monkeypatch):
    await fake.stop()
    tries = 0

    async def sleep(_: float) -> None:
        nonlocal tries
        tries += 1
        await fake.start()

    monkeypatch.setattr("ollama_mcp.client.anyio.sleep", sleep)
    assert await client.call(TAGS)
    assert tries == 1


async def test_what_the_server_asks_for_is_waited_up_to_a_limit():
    busy = errors.Busy("busy", "Wait.", upstream_status=503)
    assert 0 < wait_before_next(busy, 1) < 1
    busy.retry_after_s = 2
    assert 2 <= wait_before_next(busy, 1) < 2.1
    busy.retry_after_s = 60
    assert wait_before_next(busy, 1) is None


async def test_an_untrusted_certificate_is_not_tried_again():
    assert wait_before_next(errors.Unreachable("refused", "Start it."), 1)
    from ollama_mcp.client.failures import not_trusted  # noqa: PLC0415

    assert wait_before_next(not_trusted("https://gpu"), 1) is None
    assert not not_trusted("https://gpu").as_data()["retryable"]


# --- a server that is down ---------------------------------------------------------------------


def counting(error: type[httpx.HTTPError]):
    """A transport that fails so, and counts."""
    tried: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        tried.append(request)
        raise error("no")

    return tried, httpx.MockTransport(answer)


async def test_a_server_that_is_known_to_be_down_is_tried_once_a_call(connect):
    tried, transport = counting(httpx.ConnectError)
    client = connect("gpu", transport=transport, retries=2)
    for expected in (3, 4, 5):
        with pytest.raises(errors.Unreachable):
            await client.call(TAGS)
        assert len(tried) == expected


async def test_while_one_probes_a_silent_server_the_others_are_told_at_once():
    health = Health()
    down = errors.Timeout("no connection", "Check it.", clock="connect")
    with pytest.raises(errors.Timeout), health.trying():
        raise down
    assert health.is_down
    with health.trying():  # the probe, which reaches it
        for _ in range(3):
            with pytest.raises(errors.Timeout, match="no connection") as told, health.trying():
                pytest.fail("nobody else tries")
            assert told.value is not down
    assert not health.is_down
    with health.trying(), health.trying():
        pass


async def test_a_try_that_began_before_does_not_let_a_second_probe_in():
    health, down = Health(), errors.Timeout("no connection", "Check it.", clock="connect")
    early = health.trying()
    early.__enter__()
    with pytest.raises(errors.Timeout), health.trying():
        raise down
    with health.trying():  # the probe
        assert not early.__exit__(errors.Timeout, down, None)
        with pytest.raises(errors.Timeout), health.trying():
            pytest.fail("a second probe")


async def test_a_probe_that_is_cancelled_leaves_room_for_the_next():
    health = Health()
    with pytest.raises(errors.Timeout), health.trying():
        raise errors.Timeout("no connection", "Check it.", clock="connect")
    with anyio.CancelScope() as scope, health.trying():
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert health.is_down
    with health.trying():
        pass
    assert not health.is_down


async def test_a_server_that_answers_with_a_failure_is_not_down(fake, client):
    fake.script(Script(status=500, body={"error": "no"}), path="/api/chat")
    for _ in range(2):
        with pytest.raises(errors.Upstream):
            await ask(client)
    lane = client._pools.here()
    assert not lane.health[fake.url].is_down


async def test_a_cloud_that_is_silent_does_not_keep_calls_from_the_server(connect):
    tried: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        tried.append(request.url.host)
        if request.url.host == "ollama.com":
            raise httpx.ConnectTimeout("no")
        return httpx.Response(200, json={"models": []})

    client = connect("gpu", transport=httpx.MockTransport(answer), api_key="k" * 8)
    with pytest.raises(errors.Timeout):
        await client.call(WEB_SEARCH, WebSearchRequest(query="x"))
    lane = client._pools.here()
    assert lane.health["https://ollama.com:443"].is_down
    assert not lane.health[client.address].is_down
    await client.call(TAGS)
    assert tried == ["ollama.com", "gpu"]
