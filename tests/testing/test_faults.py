"""Every fault, seen from a bare socket."""

import itertools
import json

import anyio
import pytest

from ollama_mcp.testing import FakeOllama, Script, Wait

pytestmark = pytest.mark.anyio
CHAT = json.dumps({"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]}).encode()
TOKENS = ["one ", "two ", "three "]


@pytest.fixture(autouse=True)
async def limit(anyio_backend: str):
    with anyio.fail_after(10):
        yield


@pytest.fixture
def ask(connect):
    async def ask(body: bytes = CHAT, path: str = "/api/chat") -> tuple[bytes, str]:
        raw = await connect()
        raw.send("POST", path, body, Connection="close")
        return await raw.rest()

    return ask


def records(answer: bytes) -> list[dict]:
    """The whole records in an answer, however it breaks off."""
    lines = [line for line in answer.partition(b"\r\n\r\n")[2].split(b"\n") if line.startswith(b"{")]
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def said(answer: bytes) -> str:
    return "".join(record.get("message", {}).get("content", "") for record in records(answer))


async def test_a_stream_has_one_record_a_chunk(fake: FakeOllama, ask):
    fake.script(Script(tokens=TOKENS))
    answer, _ = await ask()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: ")
    assert head.endswith(b"\r\nConnection: close\r\nTransfer-Encoding: chunked")
    while not body.startswith(b"0\r\n"):
        size, _, body = body.partition(b"\r\n")
        line, body = body[: int(size, 16)], body[int(size, 16) :]
        assert json.loads(line)
        assert line.endswith(b"\n")
        assert body.startswith(b"\r\n")
        body = body[2:]
    assert body == b"0\r\n\r\n"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("tokens", [0, 1, 3])
async def test_a_stream_can_break_off_after_any_token(fake: FakeOllama, ask, tokens, how):
    fake.script(Script(tokens=TOKENS, cut_after_tokens=tokens, how=how))
    answer, end = await ask()
    assert said(answer) == "".join(TOKENS[:tokens])
    assert end == how
    assert not answer.endswith(b"0\r\n\r\n")
    assert bool(answer) == bool(tokens)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_stream_can_break_off_in_the_middle_of_a_record(fake: FakeOllama, ask, how):
    fake.script(Script(tokens=TOKENS, cut_after_tokens=1, cut_after_bytes=12, how=how))
    answer, end = await ask()
    assert said(answer) == "one "
    assert answer.endswith(b'\r\n{"model":"ll')
    assert end == how


async def test_an_answer_can_break_off_at_every_byte(fake: FakeOllama, ask):
    rule = fake.script(Script(tokens=["a"], cut_after_bytes=200))
    whole, _ = await ask()
    assert len(whole) == 200
    for size in (0, 1, 50, 140):
        fake.script(Script(tokens=["a"], cut_after_bytes=size, how="reset"), times=1)
        answer, end = await ask()
        assert (len(answer), end) == (size, "reset")
    assert rule.used == 1


async def test_a_cut_beyond_the_end_is_no_cut(fake: FakeOllama, ask):
    fake.script(Script(tokens=["a"], cut_after_bytes=1_000_000, cut_after_tokens=None))
    answer, _ = await ask()
    assert answer.endswith(b"0\r\n\r\n")


async def test_a_cut_lies_over_answers_that_do_not_stream(fake: FakeOllama, ask):
    fake.script(Script(cut_after_bytes=20, how="reset"), path="/api/show")
    answer, end = await ask(b'{"model":"llama3.2:3b"}', "/api/show")
    assert (len(answer), end) == (20, "reset")


async def test_silence_after_a_token_lasts_until_the_client_leaves(fake: FakeOllama, connect):
    fake.script(Script(tokens=TOKENS, cut_after_tokens=1, how="silence"))
    raw = await connect()
    raw.send("POST", "/api/chat", CHAT)
    assert said(await raw.until(b"}\n\r\n")) == "one "
    with anyio.move_on_after(0.05) as quiet:
        await raw.reader.read(1)
    assert quiet.cancelled_caught
    assert (fake.in_flight, fake.disconnects) == (1, 0)
    raw.writer.close()
    await fake.wait_for(lambda fake: fake.disconnects == 1)
    assert fake.in_flight == 0


async def test_a_server_can_accept_and_never_answer(fake: FakeOllama, connect):
    fake.script(Script(cut_after_bytes=0, how="silence"))
    raw = await connect()
    raw.send("GET", "/api/version")
    with anyio.move_on_after(0.05) as quiet:
        await raw.reader.read(1)
    assert quiet.cancelled_caught


async def test_an_error_in_the_stream_is_its_last_record(fake: FakeOllama, ask):
    fake.script(Script(tokens=TOKENS, cut_after_tokens=2, how="error", error="boom"))
    answer, _ = await ask()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [records(answer)[-1], said(answer)] == [{"error": "boom"}, "one two "]
    assert answer.endswith(b"0\r\n\r\n")


async def test_an_error_after_so_many_bytes_comes_after_a_whole_record(fake: FakeOllama, ask):
    fake.script(Script(tokens=TOKENS, cut_after_bytes=200, how="error"))
    answer, _ = await ask()
    assert said(answer) == "one "
    assert records(answer)[-1]["error"].endswith("unexpected EOF")


async def test_an_error_before_the_first_token_has_a_status_of_its_own(fake: FakeOllama, ask):
    fake.script(Script(tokens=TOKENS, cut_after_tokens=0, how="error", error="boom"))
    answer, _ = await ask()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b'{"error":"boom"}')


async def test_the_faults_of_an_answer_in_one_piece_are_its_own(fake: FakeOllama, ask):
    body = CHAT[:-1] + b',"stream":false}'
    fake.script(Script(tokens=TOKENS, cut_after_tokens=1, how="error", error="boom"))
    assert (await ask(body))[0].startswith(b"HTTP/1.1 500 ")
    fake.script(Script(tokens=TOKENS, cut_after_tokens=1, how="reset"))
    assert await ask(body) == (b"", "reset")


async def test_the_last_record_can_be_missing(fake: FakeOllama, ask):
    fake.script(Script(tokens=TOKENS, missing_done=True))
    answer, end = await ask()
    assert said(answer) == "one two three "
    assert not any(record["done"] for record in records(answer))
    assert answer.endswith(b"0\r\n\r\n")
    assert end == "close"


async def test_blank_lines_can_stand_between_records(fake: FakeOllama, ask):
    fake.script(Script(tokens=["a"], blank_lines=True))
    answer, _ = await ask()
    assert answer.count(b"1\r\n\n\r\n") == 2


async def test_lines_are_sent_as_they_are(fake: FakeOllama, ask):
    fake.script(Script(lines=[b"[1]", b"\xff\n", b'{"error": "x"}']))
    answer, _ = await ask()
    assert answer.partition(b"\r\n\r\n")[2] == (
        b'4\r\n[1]\n\r\n2\r\n\xff\n\r\nf\r\n{"error": "x"}\n\r\n0\r\n\r\n'
    )


async def test_lines_have_a_last_record_as_tokens_have(fake: FakeOllama, ask):
    said, done = b'{"message":{"content":"a"},"done":false}', b'{"done":true}'
    fake.script(Script(lines=[said, done], missing_done=True))
    answer, _ = await ask()
    assert answer.endswith(said + b"\n\r\n0\r\n\r\n")
    fake.script(Script(lines=[said, done], delay=60))
    answer, _ = await ask()
    assert done in answer


async def test_a_head_request_gets_the_head_of_a_stream(fake: FakeOllama, connect):
    fake.script(Script(lines=[b"{}"]))
    raw = await connect()
    raw.send("HEAD", "/", Connection="close")
    answer, _ = await raw.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b""


async def test_raw_bytes_are_sent_as_they_are(fake: FakeOllama, ask):
    fake.script(Script(raw=b"SSH-2.0-OpenSSH\r\n"))
    assert await ask() == (b"SSH-2.0-OpenSSH\r\n", "close")
    fake.script(Script(raw=[b"a", Wait(0.01), b"b"], how="reset"))
    assert await ask() == (b"ab", "reset")


async def test_an_endless_answer_waits_for_a_client_that_does_not_read(fake: FakeOllama, connect):
    sent = itertools.count()
    fake.script(Script(raw=(b"x" * 65536 for _ in sent)))
    raw = await connect()
    raw.send("GET", "/")
    await raw.reader.readexactly(1000)
    with anyio.move_on_after(0.1):
        await anyio.sleep_forever()
    before = next(sent)
    assert before < 1000
    raw.writer.transport.abort()
    await fake.wait_for(lambda fake: fake.disconnects == 1)


async def test_a_status_comes_with_its_body_and_headers(fake: FakeOllama, ask):
    fake.script(Script(status=429, body={"error": "slow down"}, headers={"Retry-After": "3"}))
    answer, _ = await ask()
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 3\r\n" in answer
    assert answer.endswith(b'{"error":"slow down"}')


async def test_a_status_alone_has_an_empty_body(fake: FakeOllama, ask):
    fake.script(Script(status=403))
    answer, _ = await ask()
    assert b"\r\nContent-Length: 0\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_given_headers_win_even_when_they_lie(fake: FakeOllama, ask):
    fake.script(
        Script(status=200, body="<html>", headers={"content-type": "text/html", "Content-Length": "99"})
    )
    answer, _ = await ask()
    assert b"content-type: text/html\r\n" in answer
    assert b"Content-Length: 99\r\n" in answer
    assert answer.count(b"ontent-") == 2


async def test_busy_is_the_503_of_a_full_queue_for_calls_that_run_a_model(fake: FakeOllama, ask, recording):
    rule = fake.busy(times=2)
    raw, _ = await ask(b"", "/api/show")
    assert raw.startswith(b"HTTP/1.1 400 ")
    for _ in range(2):
        answer, _ = await ask()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(recording("chat-busy").body())
    assert rule.spent
    assert (await ask())[0].startswith(b"HTTP/1.1 200 ")


async def test_nan_and_infinity_can_be_sent(fake: FakeOllama, ask):
    fake.script(Script(body={"embeddings": [[float("nan"), float("inf")]]}), path="/api/embed")
    answer, _ = await ask(b"{}", "/api/embed")
    assert answer.endswith(b'{"embeddings":[[NaN,Infinity]]}')


async def test_the_last_record_can_be_overlaid(fake: FakeOllama, ask):
    fake.script(Script(tokens=["a"], final={"prompt_eval_count": 2050, "eval_count": None, "more": 1}))
    last = records((await ask())[0])[-1]
    assert (last["prompt_eval_count"], last["more"]) == (2050, 1)
    assert "eval_count" not in last


async def test_all_connections_can_break_at_once(fake: FakeOllama, connect):
    fake.script(Script(tokens=TOKENS, cut_after_tokens=1, how="silence"))
    raws = [await connect() for _ in range(3)]
    for raw in raws:
        raw.send("POST", "/api/chat", CHAT)
        await raw.until(b"}\n\r\n")
    fake.drop_connections()
    assert [(await raw.rest())[1] for raw in raws] == ["reset"] * 3
    await fake.wait_for(lambda fake: fake.open_connections == 0)
    assert (fake.disconnects, fake.in_flight) == (0, 0)
