"""The client against every fault of a server: one named error each, in time, with what came before it."""

import json
import socket
import time

import anyio
import anyio.lowlevel
import httpx
import pytest

from ollama_mcp import errors
from ollama_mcp.client import OllamaClient
from ollama_mcp.ollama.api_models import (
    ChatRequest,
    CreateRequest,
    DeleteRequest,
    EmbedRequest,
    GenerateRequest,
    Message,
    PullRequest,
    ShowRequest,
)
from ollama_mcp.ollama.endpoints import (
    BLOB_EXISTS,
    CHAT,
    CREATE,
    DELETE,
    EMBED,
    GENERATE,
    PULL,
    ROOT,
    SHOW,
    TAGS,
    VERSION,
)
from ollama_mcp.ollama_server.http_messages import chunk, head_bytes
from ollama_mcp.settings import Settings
from ollama_mcp.testing import Exchange, Script, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("stack", "in_time")]
ASK = ChatRequest(model="llama3.2:3b", messages=[Message(role="user", content="hi")])
JSON = {"Content-Type": "application/json"}


async def ask(client, endpoint=CHAT, body=ASK) -> str:
    async with client.stream(endpoint, body) as lines:
        return "".join([line.text async for line in lines])


async def heard(client, endpoint=CHAT, body=ASK) -> tuple[str, errors.OllamaError | None]:
    """What came, and how it failed."""
    text = ""
    try:
        async with client.stream(endpoint, body) as lines:
            async for line in lines:
                text += line.text
    except errors.OllamaError as error:
        return text, error
    return text, None


async def test_a_row_goes_with_its_verb_and_its_request(fake, client):
    wrong = [
        (lambda: ask(client, TAGS, None), r"/api/tags is asked with call\(\), not with stream\(\)"),
        (lambda: client.call(SHOW, {"model": "x"}), "/api/show takes a ShowRequest, not a dict"),
        (lambda: client.call("/api/tags"), "a row of ollama_mcp.ollama.endpoints, not a str"),
    ]
    for go, text in wrong:
        with pytest.raises(TypeError, match=text):
            await go()
    assert fake.requests == []


# --- no connection, no byte --------------------------------------------------------------------


async def test_a_server_that_is_down_is_unreachable_by_its_address_without_userinfo(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        client = connect(f"http://me:secret@127.0.0.1:{port}")
        with pytest.raises(errors.Unreachable) as caught:
            await client.call(TAGS)
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "ollama serve" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.retryable


@pytest.mark.real_time
async def test_a_name_that_does_not_exist_is_unreachable_and_named(connect):
    with pytest.raises(errors.Unreachable, match=r"the name no-such-host\.invalid .*cannot be resolved"):
        await connect("http://no-such-host.invalid:1", connect=2).call(TAGS)


async def test_the_remedy_names_the_variable_only_where_that_was_asked(monkeypatch):
    with pytest.raises(errors.Unreachable) as caught:
        await OllamaClient("127.0.0.1:1").call(TAGS)
    assert "OLLAMA_HOST" not in str(caught.value)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:2")
    monkeypatch.setenv("OLLAMA_MCP_RETRIES", "0")
    with pytest.raises(errors.Unreachable, match=r"127\.0\.0\.1:2.*set OLLAMA_HOST"):
        await OllamaClient().call(TAGS)


async def test_an_address_given_wins_over_the_environment_and_is_not_called_by_its_name(monkeypatch, fake):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    async with OllamaClient(fake.url) as client:
        assert await client.call(TAGS)
    with pytest.raises(errors.InvalidArgument) as caught:
        OllamaClient("ftp://x")
    assert "OLLAMA_HOST" not in str(caught.value)
    with pytest.raises(TypeError, match="Settings"):
        OllamaClient(Settings())


async def test_what_is_no_ollama_is_told_by_who_named_it(monkeypatch, fake):
    fake.script(Script(status=404, body="<html>"))
    monkeypatch.setenv("OLLAMA_HOST", fake.url)
    for client, named in ((OllamaClient(), "Set OLLAMA_HOST"), (OllamaClient(fake.url), "Give the client")):
        async with client:
            with pytest.raises(errors.NotOllama, match=named):
                await client.call(TAGS)


@pytest.mark.long
async def test_a_port_that_takes_no_connection_runs_out_the_connect_clock(connect):
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # fill the backlog: the next SYN is dropped
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        client = connect(f"127.0.0.1:{full.getsockname()[1]}", connect=0.1)
        started = time.monotonic()
        with pytest.raises(errors.Timeout) as caught:
            await client.call(TAGS)
    assert caught.value.details == {"clock": "connect"}
    assert "OLLAMA_MCP_CONNECT_TIMEOUT" in caught.value.remedy
    assert time.monotonic() - started < 1


async def test_a_generation_that_does_not_begin_runs_out_the_first_byte_clock(fake, connect):
    fake.script(Script(cut_after_bytes=0, how="silence"))
    client = connect(fake.url, first_byte=0.1)
    text, error = await heard(client)
    assert (text, error.code, error.details) == ("", "TIMEOUT", {"clock": "first_byte"})
    assert "OLLAMA_MCP_FIRST_BYTE_TIMEOUT" in error.remedy
    await fake.wait_for(lambda fake: fake.disconnects == 1)
    with pytest.raises(errors.Timeout) as caught:
        await client.call(EMBED, EmbedRequest(model="m", input="x"))
    assert caught.value.details == {"clock": "first_byte"}


async def test_a_call_that_loads_no_model_has_the_idle_clock_and_names_its_setting(fake, connect):
    fake.script(Script(cut_after_bytes=0, how="silence"))
    with pytest.raises(errors.Timeout) as caught:
        await connect(fake.url, idle=0.1).call(TAGS)
    assert caught.value.details == {"clock": "idle"}
    assert "OLLAMA_MCP_IDLE_TIMEOUT" in caught.value.remedy


@pytest.mark.parametrize("trickle", [b"HTTP/1.1 100 Continue\r\n\r\n", b"x"])
async def test_headers_that_trickle_do_not_hold_the_first_byte_clock(connect, fake, trickle):
    def steps():
        yield b"HTTP/1.1 200 OK\r\nX-Long: " if trickle == b"x" else b""
        while True:
            yield trickle
            yield Wait(0.02)

    fake.script(Script(raw=steps()), path="/api/chat")
    with anyio.fail_after(2):
        _, error = await heard(connect(fake.url, first_byte=0.15, connect=0.1))
    assert error.details == {"clock": "first_byte"}


async def test_a_stream_that_falls_silent_runs_out_the_idle_clock(fake, connect):
    fake.script(Script(tokens=["one ", "two "], cut_after_tokens=1, how="silence"))
    text, error = await heard(connect(fake.url, idle=0.1))
    assert (text, error.code, error.details) == ("one ", "TIMEOUT", {"clock": "idle"})
    await fake.wait_for(lambda fake: fake.disconnects == 1)


async def test_the_first_byte_clock_ends_with_the_first_byte(fake, connect):
    fake.script(Script(tokens=["one ", "two "], delay=0.3))
    assert await ask(connect(fake.url, first_byte=0.15, idle=5)) == "one two "


async def test_the_idle_clock_starts_anew_with_every_chunk(fake, connect):
    fake.script(Script(tokens=["x"] * 12, delay=0.05))
    assert await ask(connect(fake.url, idle=0.3)) == "x" * 12


# --- broken off --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("tokens", [0, 1, 2])
async def test_a_stream_that_breaks_off_keeps_what_came(fake, client, how, tokens):
    fake.script(Script(tokens=["one ", "two "], cut_after_tokens=tokens, how=how))
    text, error = await heard(client)
    assert (text, error.code) == ("one two "[: 4 * tokens], "STREAM_BROKEN")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_one_who_reads_slowly_gets_all_that_had_come_before_a_stream_broke_off(fake, client, how):
    fake.script(Script(tokens=["one ", "two ", "three "], cut_after_tokens=3, how=how, delay=0.01))
    text = ""

    async def read_slowly() -> None:
        nonlocal text
        async with client.stream(CHAT, ASK) as lines:
            async for line in lines:
                text += line.text
                await fake.wait_for(lambda fake: not fake.open_connections)
                for _ in range(20):  # the end has arrived, and is heard of before the next line is read
                    await anyio.lowlevel.checkpoint()

    with pytest.raises(errors.StreamBroken):
        await read_slowly()
    assert text == "one two three "


async def test_a_recorded_stream_that_falls_silent_at_any_byte_is_a_timeout(fake, connect, recording):
    wire = recorded_wire(recording("chat-stop"))
    client = connect(fake.url, first_byte=0.01, idle=0.01)
    for size in range(0, len(wire) - 10, 37):
        fake.script(Script(raw=wire[:size], how="silence"), path="/api/chat", times=1)
        _, error = await heard(client)
        assert error.code == "TIMEOUT", size


@pytest.mark.parametrize("how", ["close", "reset", "silence"])
async def test_an_answer_in_one_piece_that_breaks_off_is_an_error(fake, connect, how):
    for size in (0, 1, 20, 100, 160):
        fake.script(Script(cut_after_bytes=size, how=how), path="/api/tags", times=1)
        with pytest.raises(errors.OllamaError) as caught:
            await connect(fake.url, idle=0.05).call(TAGS)
        assert caught.value.code == ("TIMEOUT" if how == "silence" else "STREAM_BROKEN")


async def test_an_error_answer_that_breaks_off_is_an_error(fake, client):
    fake.script(Script(status=500, body={"error": "x" * 100}, cut_after_bytes=150), path="/api/tags")
    with pytest.raises(errors.StreamBroken):
        await client.call(TAGS)


async def test_broken_chunk_framing_is_a_broken_stream(fake, client, stack):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    fake.script(Script(raw=head + b"zz\r\n{}\r\n"), path="/api/chat")
    code = (await heard(client))[1].code
    assert code == "STREAM_BROKEN" or (stack == "aiohttp" and code == "NOT_OLLAMA")  # it came with the head


@pytest.mark.parametrize(
    "garbage", [b"zz\r\n{}\r\n", b"5\r\nabcdefgh", b"\xff" * 100, b"HTTP/1.1 200 OK\r\n\r\n"]
)
async def test_framing_that_breaks_behind_a_token_is_a_broken_stream_at_once(fake, client, garbage):
    sent = head_bytes(200, {"Content-Type": "application/x-ndjson"}, close=False, chunked=True)
    token = chunk(b'{"message":{"content":"one "}}\n')
    fake.script(Script(raw=(sent + token, Wait(0.05), garbage)), path="/api/chat")
    with anyio.fail_after(2):
        text, error = await heard(client)
    assert (text, error.code) == ("one ", "STREAM_BROKEN")


# --- not Ollama --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "greeting",
    [
        b"\x16\x03\x01\x02\x00",
        b"\x00" * 100,
        b"hello\n\n",
        b"HTTP/9.9 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ],
    ids=lambda raw: ascii(raw[:9]),
)
async def test_a_service_that_does_not_speak_http_is_not_ollama(fake, client, greeting):
    fake.script(Script(raw=greeting))
    with pytest.raises(errors.NotOllama):
        await client.call(TAGS)


@pytest.mark.parametrize("how", ["close", "silence"])
@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"-ERR unknown command\r\n",
        b"\x4a\x00\x00\x00\x0a8.0.36",
    ],
    ids=["ssh", "smtp", "redis", "mysql"],
)
async def test_a_service_that_says_a_line_and_hangs_up_or_waits_is_not_ollama(fake, client, line, how):
    fake.script(Script(raw=line, how=how))  # no head is complete: httpcore keeps back what came
    with pytest.raises(errors.NotOllama, match="default port 11434"):
        await client.call(TAGS)
    fake.scripts.clear()
    await client.call(TAGS)


async def test_half_a_head_is_a_broken_answer(fake, client):
    fake.script(Script(raw=b"HTT"), Script(raw=b"HTTP/1.1 200 OK\r\nContent-T"))
    for _ in range(2):
        with pytest.raises(errors.StreamBroken):
            await client.call(TAGS)


@pytest.mark.parametrize("kind", ["text/html", "text/plain; charset=utf-8", "TEXT/HTML"])
@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (TAGS, None),
        (SHOW, ShowRequest(model="m")),
        (DELETE, DeleteRequest(model="m")),
        (CHAT, ASK),
        (ROOT, None),
    ],
    ids=["tags", "show", "delete", "chat", "root"],
)
async def test_a_page_with_status_200_is_not_ollama(fake, client, kind, endpoint, body):
    fake.script(Script(status=200, body="<html>hi</html>", headers={"Content-Type": kind}))
    with pytest.raises(errors.NotOllama) as caught:
        await (ask(client) if endpoint is CHAT else client.call(endpoint, body))
    assert fake.url in str(caught.value)


@pytest.mark.parametrize("body", [{"hello": "world"}, {"choices": []}])
async def test_another_service_that_speaks_json_is_not_ollama(fake, client, body):
    fake.script(Script(body=body))
    for call in (
        client.call(TAGS),
        client.call(VERSION),
        client.call(SHOW, ShowRequest(model="m")),
        ask(client),
    ):
        with pytest.raises(errors.NotOllama):
            await call


async def test_an_empty_object_is_an_answer_of_zero_values(fake, client):
    fake.script(Script(body={}))
    assert (await client.call(TAGS)).models == []
    assert (await client.call(VERSION)).version == ""


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"5", b'"x"', b"{", b"\xff", b'{"models":NaN}', b"[" * 10_000]
)
async def test_json_that_is_no_object_is_a_bad_upstream(fake, client, body):
    fake.script(Script(status=200, body=body, headers=JSON))
    with pytest.raises(errors.BadUpstream):
        await client.call(TAGS)


async def test_ollama_greets(fake, client):
    assert (await client.call(ROOT)).text == "Ollama is running"


# --- what must not be followed or unpacked -----------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(fake, client, status):
    fake.script(Script(status=status, headers={"Location": fake.url + "/api/version"}), path="/api/tags")
    with pytest.raises(errors.BadUpstream) as caught:
        await client.call(TAGS)
    assert caught.value.upstream_status == status
    assert len(fake.requests) == 1


async def test_a_redirect_is_not_followed_by_an_injected_client_that_would(fake, connect):
    fake.script(Script(status=302, headers={"Location": fake.url + "/api/version"}), path="/api/tags")
    async with httpx.AsyncClient(follow_redirects=True) as http:
        with pytest.raises(errors.BadUpstream):
            await connect(fake.url, http=http).call(TAGS)
    assert len(fake.requests) == 1


async def test_identity_is_asked_for_and_anything_compressed_is_refused_unread(fake, client):
    sent = []

    def bomb():
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n"
        while True:
            sent.append(1)
            yield b"\x00" * 65536

    for status in (200, 500):
        fake.script(
            Script(raw=bomb() if status == 200 else None, status=status, headers={"Content-Encoding": "br"})
        )
        with pytest.raises(errors.BadUpstream, match="compressed"):
            await client.call(TAGS)
    assert fake.requests[-1].headers["accept-encoding"] == "identity"
    assert len(sent) < 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP", "x"])
async def test_every_content_encoding_is_refused(fake, client, encoding):
    fake.script(Script(body={"models": []}, headers={"Content-Encoding": encoding}))
    with pytest.raises(errors.BadUpstream):
        await client.call(TAGS)


async def test_identity_is_no_encoding(fake, client):
    fake.script(Script(body={"models": []}, headers={"Content-Encoding": "Identity"}))
    assert (await client.call(TAGS)).models == []


# --- statuses ----------------------------------------------------------------------------------

STATUSES = [
    (400, {"error": "invalid model name"}, "INVALID_ARGUMENT"),
    (400, b"400 Bad Request", "NOT_OLLAMA"),
    (401, {"error": "unauthorized", "signin_url": "https://x"}, "FORBIDDEN"),
    (401, b"<html>", "FORBIDDEN"),
    (403, {"error": "ollama cloud is disabled"}, "FORBIDDEN"),
    (403, b"", "FORBIDDEN"),
    (404, {"error": "model 'x' not found"}, "MODEL_NOT_FOUND"),
    (404, b"404 page not found", "NOT_OLLAMA"),
    (404, {"detail": "Not Found"}, "NOT_OLLAMA"),
    (405, b"405 method not allowed", "NOT_OLLAMA"),
    (407, b"", "FORBIDDEN"),
    (407, {"error": "Proxy Authentication Required"}, "FORBIDDEN"),
    (413, {"error": "too large"}, "TOO_LARGE"),
    (413, b"<html>", "TOO_LARGE"),
    (429, {"error": "usage limit"}, "RATE_LIMITED"),
    (429, b"slow down", "RATE_LIMITED"),
    (500, {"error": "llama runner process has terminated"}, "UPSTREAM"),
    (500, {"error": {"message": "object", "code": 500}}, "UPSTREAM"),
    (500, {"error": {"message": ["not a text"]}}, "UPSTREAM"),
    (500, b"", "UPSTREAM"),
    (501, {"error": "This server does not support embeddings. Start it with `--embeddings`"}, "CAPABILITY"),
    (501, {"error": "the embedded engine cannot pull"}, "UPSTREAM"),
    (502, {"error": "cloud unreachable"}, "UPSTREAM"),
    (502, b"<html>", "UPSTREAM"),
    (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, "BUSY"),
    (503, b"<html>", "UPSTREAM"),
    (504, b"", "UPSTREAM"),
    (507, b"", "UPSTREAM"),
]


@pytest.mark.parametrize(("status", "body", "code"), STATUSES)
async def test_a_status_becomes_its_error(fake, client, status, body, code):
    kind = {} if isinstance(body, dict) else {"Content-Type": "text/html"}
    fake.script(Script(status=status, body=body, headers={"Retry-After": "3", **kind}))
    for call in (client.call(TAGS), ask(client)):
        with pytest.raises(errors.OllamaError) as caught:
            await call
        assert (caught.value.code, caught.value.upstream_status, caught.value.retry_after_s) == (
            code,
            status,
            3,
        )


async def test_an_overflow_has_both_counts(fake, client):
    inner = (
        '{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (4 tokens)",'
    )
    inner += '"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":4}}'
    fake.script(Script(status=400, body={"error": inner}))
    _, error = await heard(client)
    assert (error.code, error.details) == ("CONTEXT_OVERFLOW", {"tokens": 9, "window": 4})
    fake.script(Script(status=400, body={"error": inner.replace(":9,", ':"/etc/passwd",')}))
    _, error = await heard(client)
    assert (error.code, error.details) == ("CONTEXT_OVERFLOW", {"tokens": None, "window": 4})
    assert "/etc" not in str(error)


async def test_an_error_with_status_200_is_an_error(fake, client):
    fake.script(Script(body={"error": "the disk is full"}))
    with pytest.raises(errors.Upstream, match="the disk is full"):
        await client.call(TAGS)


# --- errors in a stream ------------------------------------------------------------------------


async def test_an_error_line_of_a_generation_is_upstream_whatever_it_says(fake, client):
    for text in ("boom", "exceed_context_size_error", "model 'x' not found", "does not support tools"):
        fake.script(Script(tokens=["one ", "two "], cut_after_tokens=1, how="error", error=text))
        said, error = await heard(client)
        assert (said, error.code) == ("one ", "UPSTREAM")


@pytest.mark.parametrize("said", ['"text"', '{"message":"object","code":500}', "5", "true", "[]", "{}", '""'])
async def test_an_error_line_of_any_type_is_upstream(fake, client, said):
    fake.script(
        Script(lines=[b'{"response":"a"}', b'{"error":' + said.encode() + b"}"]), path="/api/generate"
    )
    text, error = await heard(client, GENERATE, GenerateRequest(model="m"))
    assert (text, error.code) == ("a", "UPSTREAM")


async def test_a_null_error_is_none(fake, client):
    fake.script(
        Script(lines=[b'{"response":"a","error":null}', b'{"done":true,"error":null}']), path="/api/generate"
    )
    assert await ask(client, GENERATE, GenerateRequest(model="m")) == "a"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pull model manifest: file does not exist", "MODEL_NOT_FOUND"),
        ("invalid model name", "INVALID_ARGUMENT"),
        ("unsupported quantization type Q9", "INVALID_ARGUMENT"),
        ("the disk is full", "UPSTREAM"),
    ],
)
async def test_an_error_line_of_pull_and_create_says_what_is_wrong(fake, client, text, code):
    lines = [b'{"status":"pulling manifest"}', b'{"error":"' + text.encode() + b'"}']
    fake.script(Script(lines=lines), path=("/api/pull", "/api/create"))
    for endpoint, body in ((PULL, PullRequest(model="m")), (CREATE, CreateRequest(model="m", from_="x"))):
        with pytest.raises(errors.OllamaError) as caught:
            async with client.stream(endpoint, body) as found:
                assert [line.status async for line in found] == ["pulling manifest"]
        assert caught.value.code == code


# --- the end of a stream -----------------------------------------------------------------------


async def test_a_stream_that_ends_without_done_is_truncated(fake, client):
    fake.script(Script(tokens=["one ", "two "], missing_done=True))
    text, error = await heard(client)
    assert (text, error.code) == ("one two ", "TRUNCATED")
    fake.script(Script(lines=[]), path="/api/chat")
    assert (await heard(client))[1].code == "TRUNCATED"


@pytest.mark.parametrize(
    "last", [b'{"done_reason":"length"}', b'{"done":true}', b'{"done":true,"done_reason":"stop"}']
)
async def test_done_or_a_done_reason_is_the_end_and_what_follows_is_not_read(fake, client, last):
    lines = [b'{"response":"a"}', last, b'{"response":"b"}', b'{"error":"late"}', b"[", b"\xff"]
    fake.script(Script(lines=lines), path="/api/generate")
    assert await ask(client, GENERATE, GenerateRequest(model="m")) == "a"


async def test_success_is_the_end_of_a_pull(fake, client):
    lines = [b'{"status":"pulling"}', b'{"status":"success"}', b'{"status":"more"}']
    fake.script(Script(lines=lines), path="/api/pull")
    async with client.stream(PULL, PullRequest(model="m")) as found:
        assert [line.status async for line in found] == ["pulling", "success"]


@pytest.mark.parametrize("noise", [b"", b'{"response":"late"}\n'])
@pytest.mark.real_time  # who never stops sending lets no virtual time pass
@pytest.mark.long
async def test_an_answer_is_not_held_back_by_a_server_that_keeps_the_stream_open(fake, client, noise):
    def steps():
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
        yield b'{"response":"a"}\n{"done":true}\n'
        while noise:
            yield noise
        yield Wait(60)

    fake.script(Script(raw=steps()), path="/api/generate")
    started = time.monotonic()
    assert await ask(client, GENERATE, GenerateRequest(model="m")) == "a"
    assert time.monotonic() - started < 0.4
    await fake.wait_for(lambda fake: not fake.open_connections)


async def test_odd_lines_in_a_stream_are_a_bad_upstream_with_what_came_kept(fake, client):
    for line in (
        b"[1]",
        b"null",
        b"x",
        b"\xff",
        b'{"response":5}',
        b'{"response":"x","done":"perhaps"}',
        b'{"a":NaN}',
    ):
        fake.script(Script(lines=[b'{"response":"a"}', b"", line]), path="/api/generate")
        text, error = await heard(client, GENERATE, GenerateRequest(model="m"))
        assert (text, error.code) == ("a", "BAD_UPSTREAM"), line


async def test_blank_lines_are_skipped(fake, client):
    fake.script(Script(tokens=["a", "b"], blank_lines=True))
    assert await ask(client) == "ab"


async def test_an_endless_line_is_refused_at_its_cap(fake, client):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"

    def steps():
        yield head
        while True:
            yield b"x" * 1_000_000

    fake.script(Script(raw=steps()), path="/api/chat")
    assert (await heard(client))[1].code == "BAD_UPSTREAM"


async def test_a_digest_stays_one_segment_of_the_path(fake, client):
    digest = "sha256:" + "0" * 64
    fake.script(Script(status=200))
    await client.call(BLOB_EXISTS, digest=digest)
    assert fake.requests[-1].path == f"/api/blobs/{digest}"
    await client.call(BLOB_EXISTS, digest="../../x?y#z\x00\ud7ff")
    assert fake.requests[-1].path.startswith("/api/blobs/..%2F..%2Fx%3Fy%23z%00")


# --- recordings -------------------------------------------------------------------------------------


def recorded_wire(exchange: Exchange) -> bytes:
    return b"".join(data for _, data in exchange.pieces)


def recorded_lines(exchange: Exchange) -> list[dict]:
    return [json.loads(line) for line in exchange.text.splitlines() if line]


async def test_a_whole_answer_comes_in_one_call(fake, client):
    tools = [{"name": "add", "arguments": {"a": 1}}]
    fake.script(Script(thinking=["Hm", "."], tokens=["Hel", "lo"], tool_calls=tools), path="/api/chat")
    answer = await client.call(CHAT, ASK)
    assert (answer.message.content, answer.message.thinking, answer.done) == ("Hello", "Hm.", True)
    assert answer.message.role == "assistant"
    assert [call.function.name for call in answer.calls] == ["add"]
    assert answer.eval_count > 0
    fake.script(Script(tokens=["a", "b"]), path="/api/generate")
    assert (await client.call(GENERATE, GenerateRequest(model="llama3.2:3b", prompt="x"))).response == "ab"
    assert (await client.call(PULL, PullRequest(model="qwen3:0.6b"))).status == "success"
    fake.script(Script(tokens=["a", "b"], cut_after_tokens=1), path="/api/chat")
    with pytest.raises(errors.OllamaError):
        await client.call(CHAT, ASK)
