"""HTTP itself, the log, and clients that leave."""

import json
import socket
import threading
import time

import anyio
import httpx
import ollama
import pytest

from ollama_mcp.testing import FakeOllama, Script

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "hello"}]
CHAT = json.dumps({"model": "llama3.2:3b", "messages": HELLO}).encode()


@pytest.fixture(autouse=True)
async def limit(anyio_backend: str):
    with anyio.fail_after(10):
        yield


async def test_requests_are_logged_with_their_connection(fake: FakeOllama, client):
    await client.list()
    await client.chat("llama3.2:3b", HELLO)
    first, second = fake.requests
    assert (first.method, first.path, first.body, first.json) == ("GET", "/api/tags", b"", None)
    assert second.json["model"] == "llama3.2:3b"
    assert second.headers["content-type"] == "application/json"
    assert first.connection == second.connection == fake.connections == 1
    assert first.at <= second.at <= time.monotonic()
    assert fake.requests[-1] is second
    assert fake.asked("/api/chat") == [second]
    assert (fake.answered, fake.in_flight, fake.max_in_flight) == (2, 0, 1)


async def test_a_cancelled_call_is_noticed_before_the_first_token(fake: FakeOllama, client):
    fake.script(Script(delay_first=60))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.chat, "llama3.2:3b", HELLO)
        await fake.wait_for(lambda fake: fake.in_flight == 1)
        left = time.monotonic()
        tasks.cancel_scope.cancel()
    await fake.wait_for(lambda fake: fake.disconnects == 1)
    assert fake.disconnected_at[0] - left < 0.5
    assert (fake.in_flight, fake.answered) == (0, 0)


async def test_who_left_is_told_with_what_they_had_asked(fake: FakeOllama, connect):
    fake.script(Script(delay_first=60))
    first, second, stays = [await connect() for _ in range(3)]
    for place, raw in enumerate((first, second, stays), 1):
        raw.send("POST", "/api/chat", CHAT, X_Caller=str(place))
        await fake.wait_for(lambda fake, place=place: fake.in_flight == place)
    for place, raw in enumerate((second, first), 1):
        raw.writer.close()
        await fake.wait_for(lambda fake, place=place: fake.disconnects == place)
    assert [request.headers["x-caller"] for request, _ in fake.left] == ["2", "1"]
    assert [request for request, _ in fake.left] == [fake.requests[1], fake.requests[0]]
    assert [at for _, at in fake.left] == fake.disconnected_at == sorted(fake.disconnected_at)
    assert all(request.at <= at <= time.monotonic() for request, at in fake.left)


async def test_leaving_after_the_answer_is_no_disconnect(fake: FakeOllama, connect):
    raw = await connect()
    raw.send("GET", "/api/version")
    await raw.until(b"}")
    raw.writer.close()
    await fake.wait_for(lambda fake: fake.open_connections == 0)
    assert (fake.disconnects, fake.answered) == (0, 1)


def test_leaving_at_the_last_record_is_no_disconnect():
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(CHAT)
    with FakeOllama.in_thread() as fake:
        for _ in range(200):
            with socket.create_connection((fake.host, fake.port), timeout=10) as raw:
                raw.sendall(head + CHAT)
                answer = b""
                while b'"done":true' not in answer:
                    answer += raw.recv(1 << 16)
        fake.wait_for_sync(lambda fake: len(fake.requests) == 200 and fake.in_flight == 0)
        assert (fake.answered, fake.disconnects) == (200, 0)


async def test_closing_only_the_sending_side_cancels_as_in_go(fake: FakeOllama, connect):
    fake.script(Script(delay_first=60))
    raw = await connect()
    raw.send("POST", "/api/chat", CHAT)
    await fake.wait_for(lambda fake: fake.in_flight == 1)
    raw.writer.write_eof()
    await fake.wait_for(lambda fake: fake.disconnects == 1)


async def test_requests_sent_ahead_are_answered_in_order(fake: FakeOllama, connect):
    raw = await connect()
    raw.send("GET", "/")
    raw.send("GET", "/api/version")
    raw.send("GET", "/api/ps", Connection="close")
    answer, _ = await raw.rest()
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.endswith(b'{"models":[]}')


async def test_short_answers_have_a_length_and_long_ones_are_chunked_as_in_go(fake: FakeOllama, client):
    assert (await client._client.get("/api/version")).headers["content-length"] == "20"
    for place in range(10):
        fake.add_model(f"model{place}")
    assert (await client._client.get("/api/tags")).headers["transfer-encoding"] == "chunked"


async def test_a_body_may_come_in_chunks(fake: FakeOllama, connect):
    raw = await connect()
    raw.writer.write(b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n")
    raw.writer.write(b"Connection: close\r\n\r\n8;x=y\r\n" + b'{"model"\r\n')
    raw.writer.write(b'f\r\n:"llama3.2:3b"}\r\n0\r\nTrailer: x\r\n\r\n')
    answer, _ = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert fake.requests[-1].json == {"model": "llama3.2:3b"}


async def test_a_client_that_expects_100_gets_it(connect):
    raw = await connect()
    raw.writer.write(
        b"POST /api/show HTTP/1.1\r\nHost: x.local\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert await raw.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.writer.write(b"{}")
    assert (await raw.until(b"\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_http_1_0_is_answered_and_closed(connect):
    raw = await connect()
    raw.writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await raw.rest())[0].endswith(b"Ollama is running")


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 3_000_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"x" * 3_000_000,
    ],
)
async def test_what_is_not_http_is_refused(connect, junk):
    raw = await connect()
    raw.writer.write(junk)
    answer, _ = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request") or not answer


async def test_a_client_that_leaves_in_the_middle_of_its_body_asked_nothing(fake: FakeOllama, connect):
    raw = await connect()
    raw.writer.write(b"POST /api/chat HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    await fake.wait_for(lambda fake: fake.open_connections == 1)
    raw.writer.close()
    await fake.wait_for(lambda fake: fake.open_connections == 0)
    assert (fake.requests, fake.disconnects) == ([], 0)


async def test_waiting_for_what_never_comes_times_out(fake: FakeOllama):
    with pytest.raises(TimeoutError):
        await fake.wait_for(lambda fake: fake.requests, timeout=0.01)


async def test_a_stopped_fake_refuses_and_can_start_again_on_its_port(fake: FakeOllama, client):
    await fake.stop()
    with pytest.raises(ConnectionError):
        await client.list()
    await fake.start()
    assert len((await client.list()).models) == 2


async def test_stopping_does_not_wait_for_answers(anyio_backend):
    async with FakeOllama() as fake:
        fake.script(Script(delay_first=60))
        official = ollama.AsyncClient(host=fake.url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_broken, official)
            await fake.wait_for(lambda fake: fake.in_flight == 1)
            await fake.stop()
        await official._client.aclose()


async def _expect_broken(official: ollama.AsyncClient) -> None:
    with pytest.raises((ConnectionError, httpx.TransportError)):
        await official.list()


def test_the_fake_runs_in_a_thread_for_tests_without_a_loop():
    with FakeOllama.in_thread(version="0.24.0") as fake:
        client = ollama.Client(host=fake.url)
        fake.script(Script(tokens=["from ", "a thread"]))
        assert client.chat("llama3.2:3b", HELLO).message.content == "from a thread"
        fake.wait_for_sync(lambda fake: fake.answered == 1)
        with pytest.raises(TimeoutError):
            fake.wait_for_sync(lambda fake: fake.answered == 2, timeout=0.01)
        client._client.close()
    assert not any(thread.name == "fake-ollama" for thread in threading.enumerate())


@pytest.mark.real_time
async def test_the_fake_in_a_thread_can_be_waited_for_in_another_loop():
    with FakeOllama.in_thread() as fake:
        official = ollama.AsyncClient(host=fake.url)
        fake.script(Script(delay_first=60))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(official.chat, "llama3.2:3b", HELLO)
            await fake.wait_for(lambda fake: fake.in_flight == 1)
            tasks.cancel_scope.cancel()
        await fake.wait_for(lambda fake: fake.disconnects == 1)
        await official._client.aclose()


async def test_what_could_not_start_can_be_stopped(fake: FakeOllama):
    other = FakeOllama(port=fake.port)
    with pytest.raises(OSError, match=str(fake.port)):
        await other.start()
    await other.stop()


async def test_a_fake_that_listens_does_not_start_again(fake: FakeOllama, client):
    with pytest.raises(RuntimeError, match="listens already"):
        await fake.start()
    assert (await client.list()).models


def test_a_taken_port_is_an_error():
    with FakeOllama.in_thread() as fake, pytest.raises(OSError, match="address already in use"):
        FakeOllama.in_thread(port=fake.port).__enter__()


@pytest.mark.long
async def test_a_thousand_clients_at_once_are_all_answered(fake: FakeOllama, connect):
    raws = [await connect() for _ in range(1000)]
    for raw in raws:
        raw.send("GET", "/api/version", Connection="close")
    assert all([(await raw.rest())[0].endswith(b'{"version":"0.33.0"}') for raw in raws])
    assert fake.answered == 1000
