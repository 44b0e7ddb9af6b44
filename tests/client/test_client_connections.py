"""The client's connections: few, reused, closed at once when nobody listens; and what goes over them."""

import asyncio
import base64
import datetime
import gc
import http.server
import ipaddress
import json
import ssl
import statistics
import threading
import time
import warnings
from contextlib import suppress

import anyio
import anyio.abc
import httpx
import pytest
import respx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ollama_mcp import errors
from ollama_mcp.client import OllamaClient
from ollama_mcp.ollama.api_models import ChatRequest, Message, WebFetchRequest, WebSearchRequest
from ollama_mcp.ollama.endpoints import CHAT, TAGS, VERSION, WEB_FETCH, WEB_SEARCH
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings import Backend
from ollama_mcp.testing import FakeOllama, Script, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("stack", "in_time")]
ASK = ChatRequest(model="llama3.2:3b", messages=[Message(role="user", content="hi")])
KEY = "sk-secret-key"


async def ask(client) -> str:
    async with client.stream(CHAT, ASK) as lines:
        return "".join([line.text async for line in lines])


# --- reuse -------------------------------------------------------------------------------------


async def test_calls_one_after_another_use_one_connection(fake, client):
    for _ in range(10):
        await ask(client)
        await client.call(TAGS)
        with pytest.raises(errors.ModelNotFound):
            async with client.stream(CHAT, ChatRequest(model="nope")):
                pass
    assert fake.connections == 1


async def test_32_calls_in_flight_use_32_connections_and_keep_them(fake, client):
    async def five() -> None:
        for _ in range(5):
            await ask(client)

    async with anyio.create_task_group() as group:
        for _ in range(32):
            group.start_soon(five)
    assert fake.answered == 160
    assert fake.connections <= 33


async def test_more_calls_than_connections_wait_for_one_and_then_say_busy(fake, connect):
    fake.script(Script(hold_after_tokens=0))
    client = connect(fake.url, max_connections=1, first_byte=0.1)
    async with anyio.create_task_group() as group:
        group.start_soon(_swallow, client)
        await fake.wait_for(lambda fake: fake.in_flight == 1)
        with pytest.raises((errors.Busy, errors.Timeout)):
            await ask(client)
        group.cancel_scope.cancel()


async def _swallow(client) -> None:
    with suppress(errors.OllamaError):
        await ask(client)


async def test_a_server_that_was_started_again_is_called_over_a_new_connection(fake, client):
    await client.call(TAGS)
    await fake.stop()
    with pytest.raises(errors.Unreachable):
        await client.call(TAGS)
    await fake.start()
    assert (await client.call(VERSION)).version


@pytest.mark.real_time
async def test_a_connection_that_was_closed_while_nobody_looked_is_not_used_again(connect):
    with FakeOllama.in_thread() as first:
        client = connect(first.url)
        assert await client.call(TAGS)
    with FakeOllama.in_thread(port=first.port) as second:  # our event loop has not run meanwhile
        assert await client.call(TAGS)
        assert second.connections == 1


async def test_nothing_is_opened_before_the_first_call(fake, connect):
    client = connect(fake.url)
    assert fake.connections == 0
    assert not client._pools
    await client.aclose()


async def test_a_closed_client_opens_again(fake, client):
    await client.call(TAGS)
    await client.aclose()
    await fake.wait_for(lambda fake: not fake.open_connections)
    await client.aclose()
    await client.call(TAGS)
    assert fake.connections == 2
    async with OllamaClient(fake.url) as other:
        await other.call(TAGS)
    await fake.wait_for(lambda fake: fake.open_connections == 1)


async def test_closing_breaks_off_what_is_in_flight_with_a_named_error(fake, client):
    fake.script(Script(tokens=["a", "b"], cut_after_tokens=1, how="silence"))
    caught = []

    async def read() -> None:
        try:
            await ask(client)
        except errors.OllamaError as error:
            caught.append(error.code)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await fake.wait_for(lambda fake: fake.in_flight == 1)
        await client.aclose()
    assert caught == ["STREAM_BROKEN"]
    await fake.wait_for(lambda fake: not fake.open_connections)


def test_a_client_that_is_not_closed_goes_without_a_word(stack, caplog):
    with FakeOllama.in_thread() as fake, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(OllamaClient(fake.url).call(TAGS))
        gc.collect()
    assert not caplog.records


@pytest.mark.real_time
async def test_the_extra_speed_is_used_where_it_is_installed(fake, connect, stack, monkeypatch):
    sent = []
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def noted(self, request):
        sent.append(request)
        return await send(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", noted)
    for name in ("127.0.0.1", "localhost"):
        assert await ask(connect(fake.url.replace("127.0.0.1", name)))
    assert len(sent) == (0 if stack == "aiohttp" else 2)


def test_every_event_loop_has_a_pool_of_its_own_and_leaves_none_behind():
    with FakeOllama.in_thread() as fake, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        client = OllamaClient(fake.url)

        async def two() -> int:
            await client.call(TAGS)
            await client.call(TAGS)
            return len(client._pools)

        assert [asyncio.run(two()) for _ in range(5)] == [1] * 5
        assert fake.connections == 5
        client._pools._things.clear()
        gc.collect()


def test_two_loops_at_once_do_not_share_connections():
    with FakeOllama.in_thread() as fake:
        client = OllamaClient(fake.url)
        found = []

        async def one() -> None:
            async with client:
                found.append((await client.call(VERSION)).version)

        threads = [threading.Thread(target=lambda: asyncio.run(one())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert fake.connections == 4


# --- leaving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1], ids=["before the first byte", "after it"])
async def test_cancelling_closes_the_socket_at_once(fake, client, tokens):
    took = []
    for round_ in range(1, 31):
        fake.script(Script(tokens=["a", "b"], cut_after_tokens=tokens, how="silence"), times=1)
        if tokens == 0:
            fake.script(Script(cut_after_bytes=0, how="silence"), path="/api/chat", times=1)
        begun = anyio.Event()

        async def read(begun=begun) -> None:
            async with client.stream(CHAT, ASK) as lines:
                async for _ in lines:
                    begun.set()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            if tokens:
                await begun.wait()
            await fake.wait_for(lambda fake: fake.in_flight == 1)
            left = time.monotonic()
            group.cancel_scope.cancel()
        await fake.wait_for(lambda fake, round_=round_: fake.disconnects == round_)
        took.append(fake.disconnected_at[-1] - left)
        assert not fake.in_flight
    assert statistics.median(took) < 0.02
    assert max(took) < 0.2


async def test_leaving_a_stream_early_closes_its_connection(fake, client):
    fake.script(Script(tokens=["a", "b"], cut_after_tokens=1, how="silence"))
    async with client.stream(CHAT, ASK) as lines:
        assert (await anext(lines)).text == "a"
    await fake.wait_for(lambda fake: fake.disconnects == 1)
    async with client.stream(CHAT, ASK):
        pass
    await fake.wait_for(lambda fake: fake.disconnects == 2)
    with pytest.raises(ZeroDivisionError):
        async with client.stream(CHAT, ASK) as lines:
            raise ZeroDivisionError
    await fake.wait_for(lambda fake: fake.disconnects == 3)
    assert fake.open_connections == 0


# --- other transports --------------------------------------------------------------------------


async def test_any_transport_of_httpx_takes_the_place_of_the_network(connect):
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://gpu:11434/api/chat"
        return httpx.Response(
            200,
            text='{"message":{"content":"hi"}}\n{"done":true}\n',
            headers={"Content-Type": "application/x-ndjson"},
        )

    assert await ask(connect("gpu", transport=httpx.MockTransport(answer))) == "hi"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (httpx.ConnectError("x"), "UNREACHABLE"),
        (httpx.ConnectTimeout("x"), "TIMEOUT"),
        (httpx.ReadTimeout("x"), "TIMEOUT"),
        (httpx.WriteTimeout("x"), "TIMEOUT"),
        (httpx.PoolTimeout("x"), "BUSY"),
        (httpx.ReadError("x"), "STREAM_BROKEN"),
        (httpx.WriteError("x"), "STREAM_BROKEN"),
        (httpx.CloseError("x"), "STREAM_BROKEN"),
        (httpx.ProxyError("x"), "UNREACHABLE"),
        (httpx.RemoteProtocolError("x"), "STREAM_BROKEN"),
        (httpx.LocalProtocolError("x"), "INVALID_ARGUMENT"),
        (httpx.UnsupportedProtocol("x"), "INVALID_ARGUMENT"),
        (httpx.DecodingError("x"), "UNREACHABLE"),
        (httpx.TooManyRedirects("x"), "UNREACHABLE"),
        (UnicodeError("x"), "INVALID_ARGUMENT"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_every_exception_of_httpx_becomes_an_error_of_ours(connect, raised, code):
    def answer(request: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(errors.OllamaError) as caught:
        await connect("gpu", transport=httpx.MockTransport(answer)).call(TAGS)
    assert caught.value.code == code


async def test_respx_takes_the_place_of_the_network(connect):
    with respx.mock(base_url="http://gpu:11434") as mock:
        mock.get("/api/tags").respond(json={"models": [{"name": "a"}]})
        mock.post("/api/chat").respond(404, json={"error": "model 'x' not found"})
        client = connect("gpu")
        assert [model.name for model in (await client.call(TAGS)).models] == ["a"]
        with pytest.raises(errors.ModelNotFound):
            await ask(client)


async def test_a_pool_of_the_callers_own_is_used_and_not_closed(fake, connect):
    async with httpx.AsyncClient(headers={"X-Mine": "1"}) as http:
        client = connect(fake.url, http=http)
        await client.call(TAGS)
        await client.aclose()
        assert not http.is_closed
        assert fake.requests[-1].headers["x-mine"] == "1"
        assert not client._pools


# --- headers and secrets -----------------------------------------------------------------------


def recorder():
    """A transport that remembers requests."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    return seen, httpx.MockTransport(answer)


async def test_the_operators_headers_go_with_every_request(fake, connect):
    client = connect(fake.url, headers={"X-Team": "blue", "User-Agent": "proxy-friend"})
    await client.call(TAGS)
    await ask(client)
    for request in fake.requests:
        assert request.headers["x-team"] == "blue"
        assert request.headers["user-agent"] == "proxy-friend"
        assert request.headers["accept-encoding"] == "identity"
    assert fake.requests[-1].headers["content-type"] == "application/json"


async def test_a_header_in_another_case_is_not_sent_twice(connect):
    seen, transport = recorder()
    headers = {"authorization": "Bearer theirs", "ACCEPT-encoding": "gzip", "content-TYPE": "x/y"}
    await connect("me:pw@gpu", transport=transport, headers=headers).call(TAGS)
    sent = seen[0].headers
    assert sent.get_list("authorization") == ["Bearer theirs"]
    assert sent.get_list("accept-encoding") == ["identity"]


async def test_userinfo_is_sent_as_basic_authentication(connect):
    seen, transport = recorder()
    await connect("http://mé:p%40ss:w@gpu", transport=transport).call(TAGS)
    assert base64.b64decode(seen[0].headers["authorization"].removeprefix("Basic ")).decode() == "mé:p@ss:w"
    assert "@" not in str(seen[0].url)


@pytest.mark.parametrize(
    ("host", "named", "sent"),
    [
        ("", "", False),
        ("gpu", "", False),
        ("http://gpu", "other", False),
        ("http://ollama.com", "", False),
        ("https://evilollama.com", "", False),
        ("https://ollama.com.evil.example", "", False),
        ("http://gpu.ollama.com", "", False),
        ("https://ollama.com", "", True),
        ("ollama.com", "", True),
        ("https://api.ollama.com", "", True),
        ("gpu", "gpu", True),
        ("http://gpu", "GPU", True),
        ("https://sub.gpu", "gpu", False),
        ("http://127.0.0.1", "localhost", False),
    ],
)
async def test_the_key_goes_to_ollamas_cloud_by_https_or_to_the_host_named_for_it(connect, host, named, sent):
    seen, transport = recorder()
    await connect(host, transport=transport, api_key=KEY, api_key_host=named).call(TAGS)
    assert (seen[0].headers.get("authorization") == f"Bearer {KEY}") is sent
    assert (KEY in str(seen[0].headers.raw)) is sent


async def test_the_key_stands_before_the_headers_and_those_before_userinfo(connect):
    for settings, authorization in (
        ({"api_key": KEY, "api_key_host": "gpu", "headers": {"Authorization": "X y"}}, f"Bearer {KEY}"),
        ({"api_key": KEY, "headers": {"Authorization": "X y"}}, "X y"),
        ({"api_key": KEY}, "Basic bWU6cHc="),
    ):
        seen, transport = recorder()
        await connect("me:pw@gpu", transport=transport, **settings).call(TAGS)
        assert seen[0].headers.get_list("authorization") == [authorization]


async def test_the_web_service_is_called_in_the_cloud_with_the_key_and_without_what_is_ollamas(connect):
    seen, transport = recorder()
    client = connect("me:pw@gpu", transport=transport, api_key=KEY, headers={"X-Team": "secret"})
    await client.call(WEB_SEARCH, WebSearchRequest(query="x"))
    await client.call(WEB_FETCH, WebFetchRequest(url="https://x"))
    for request in seen:
        assert request.url.host == "ollama.com"
        assert request.url.scheme == "https"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert "x-team" not in request.headers


async def test_the_web_service_without_a_key_is_forbidden_and_not_called(connect):
    seen, transport = recorder()
    with pytest.raises(errors.Forbidden, match="OLLAMA_API_KEY"):
        await connect("gpu", transport=transport).call(WEB_SEARCH, WebSearchRequest(query="x"))
    assert not seen


async def test_a_key_that_the_web_service_refuses_is_named_by_its_setting(connect):
    transport = httpx.MockTransport(lambda request: httpx.Response(401, json={"error": "unauthorized"}))
    with pytest.raises(errors.Forbidden, match="OLLAMA_API_KEY"):
        await connect("gpu", transport=transport, api_key=KEY).call(WEB_SEARCH, WebSearchRequest(query="x"))


@pytest.mark.parametrize(
    "headers", [{"X": "é"}, {"X": "a\nb"}, {"é": "x"}, {"X": "\ud800"}, {"Content-Length": "many"}]
)
async def test_a_header_that_http_does_not_allow_is_an_error_of_ours_without_its_value(
    fake, connect, headers
):
    with pytest.raises(errors.InvalidArgument, match="OLLAMA_MCP_HEADERS") as caught:
        await connect(fake.url, headers=headers).call(TAGS)
    assert "é" not in str(caught.value)


def test_a_backend_can_be_shown():
    backend = Backend(host=parse_host("me:hunter2@gpu"), api_key=KEY, headers={"X-Team": "hush"})
    for shown in (
        repr(backend),
        str(backend),
        f"{backend}",
        repr(OllamaClient(backend).address),
        repr(vars(OllamaClient(backend))),
    ):
        assert "gpu" in shown
        for secret in ("hunter2", KEY, "hush"):
            assert secret not in shown


async def test_no_secret_is_in_any_failure(fake, connect):
    secrets = {"api_key": KEY, "api_key_host": "127.0.0.1", "headers": {"X-Team": "hush-hush"}}
    url = fake.url.replace("//", "//me:hunter2@")
    for script in (
        Script(status=500),
        Script(status=403),
        Script(status=302),
        Script(raw=b"x\n\n"),
        Script(cut_after_bytes=3),
    ):
        fake.script(script)
        with pytest.raises(errors.OllamaError) as caught:
            await connect(url, **secrets).call(TAGS)
        for shown in (str(caught.value), repr(caught.value), json.dumps(caught.value.as_data())):
            for secret in ("hunter2", KEY, "hush-hush"):
                assert secret not in shown


# --- proxies and TLS ---------------------------------------------------------------------------


@pytest.mark.real_time
async def test_a_proxy_of_the_environment_does_not_get_what_is_for_loopback(fake, connect, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await connect(fake.url).call(VERSION)).version
    assert (await connect(fake.url.replace("127.0.0.1", "localhost")).call(VERSION)).version
    with pytest.raises(errors.Unreachable):
        await connect("http://ollama.example").call(VERSION)


async def test_plain_http_makes_no_tls_context(fake, connect, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a TLS context for http")

    monkeypatch.setattr(ssl, "create_default_context", refuse)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", refuse)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", refuse)
    assert (await connect(fake.url).call(VERSION)).version


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A self-signed certificate of 127.0.0.1: files of the certificate and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return cert_file, key_file


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"version":"tls"}')

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def secure(authority):
    """An https server with that certificate: its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.real_time
async def test_a_private_authority_is_trusted_by_setting(secure, authority, connect):
    assert (await connect(secure, ca_file=str(authority[0])).call(VERSION)).version == "tls"


@pytest.mark.real_time
async def test_any_certificate_is_taken_only_where_the_operator_says_so(secure, connect):
    assert (await connect(secure, insecure_tls=True).call(VERSION)).version == "tls"


@pytest.mark.real_time
async def test_an_untrusted_certificate_is_refused_and_the_setting_named(secure, connect):
    with pytest.raises(errors.Unreachable, match="OLLAMA_MCP_CA_FILE"):
        await connect(secure).call(VERSION)


@pytest.mark.real_time
async def test_https_to_a_server_that_speaks_http_is_not_ollama(connect):
    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n"
            )

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, refuse)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises(errors.NotOllama):
            await connect(f"https://127.0.0.1:{port}").call(VERSION)
        group.cancel_scope.cancel()


@pytest.mark.real_time
async def test_http_to_a_server_that_speaks_tls_is_an_error_of_ours(secure, connect):
    with pytest.raises(errors.BackendError):
        await connect(secure.replace("https:", "http:")).call(VERSION)


@pytest.mark.parametrize("content", [b"", b"not pem", b"\xff\xfe", None])
async def test_a_file_of_authorities_that_cannot_be_used_is_told(secure, connect, tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(errors.StorageError, match="OLLAMA_MCP_CA_FILE") as caught:
        await connect(secure, ca_file=str(file)).call(VERSION)
    assert str(tmp_path) not in str(caught.value)


# --- secrets that come back, clocks that blanks do not feed, many at once -----------------------


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_secret_that_a_server_repeats_is_not_passed_on(fake, connect, status: int):
    client = connect(
        fake.url.replace("http://", "http://bob:hunter2hunter2@"),
        api_key="KEYcanary7731",
        api_key_host="127.0.0.1",
        headers={"X-Team": "HEADERcanary7731"},
    )
    said = "token KEYcanary7731, bob hunter2hunter2, HEADERcanary7731"
    fake.script(Script(status=status, body={"error": said}))
    with pytest.raises(errors.OllamaError) as told:
        await client.call(TAGS)
    shown = str(told.value) + str(told.value.as_data())
    assert "canary" not in shown
    assert "hunter2" not in shown


async def test_blanks_do_not_feed_the_idle_clock(fake, connect):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
    blanks = [Wait(0.1) if place % 2 else b"\n" for place in range(200)]
    fake.script(Script(raw=[head, *blanks]), path="/api/chat")
    client = connect(fake.url, idle=0.5)
    with pytest.raises(errors.Timeout, match="idle"):
        await ask(client)


async def test_who_reads_slowly_is_not_ollama_that_is_silent(fake, connect):
    client = connect(fake.url, idle=0.3)
    fake.script(Script(tokens=["a", "b", "c"]), path="/api/chat")
    read = []
    async with client.stream(CHAT, ASK) as lines:
        async for line in lines:
            read.append(line.text)
            await anyio.sleep(0.5)
    assert "".join(read) == "abc"


async def test_lookups_pass_a_queue_of_calls(fake, connect):
    client = connect(fake.url, max_connections=1)
    fake.script(Script(tokens=["x"], delay_first=60), path="/api/chat")

    async with anyio.create_task_group() as group:
        group.start_soon(ask, client)
        group.start_soon(ask, client)
        await fake.wait_for(lambda fake: fake.asked("/api/chat"))
        assert (await client.call(TAGS)).models
        assert len(fake.asked("/api/chat")) == 1
        group.cancel_scope.cancel()
