"""What a recorder must not write down, wherever it stands and however it is spelled."""

import base64
import json
import logging
from pathlib import Path
from urllib.parse import quote, quote_plus

import anyio
import pytest

from ollama_mcp.ollama_server.http_messages import read_answer
from ollama_mcp.testing import Exchange, FakeOllama, Recorder, Script
from ollama_mcp.testing.secrets import Secrets

pytestmark = pytest.mark.anyio
CANARY = "canary-7f3a9c"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ECHO = HEAD + json.dumps({"said": CANARY}).encode()


@pytest.fixture(autouse=True)
async def in_time(anyio_backend: str):
    with anyio.fail_after(20):
        yield


def test_the_key_that_clients_of_openai_send_to_an_ollama_is_no_secret():
    assert Secrets({"ollama", "0123-secret"}).struck(b"ollama 0123-secret") == b"ollama ***********"


@pytest.fixture
def record(fake: FakeOllama, dial, tmp_path: Path):
    """Passes one request on to what answers so; gives what the client got, and what the folder holds."""

    async def record(answer, path="/api/show", body=b"{}", secrets=(), **headers):
        fake.script(Script(raw=answer))
        async with Recorder(fake.url, tmp_path, secrets=secrets) as made:
            raw = await dial(made)
            raw.send("POST", path, body, **headers)
            got, _ = await raw.rest()
            await made.wait_for(lambda made: made.in_flight == 0)
        files = sorted(tmp_path.iterdir())
        return got, "".join(file.name + file.read_text(encoding="utf-8") for file in files), files

    return record


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": f"theme=dark; sid={CANARY}; lang=en"},
        {"Authorization": "Basic " + base64.b64encode(f"me:{CANARY}".encode()).decode()},
        {"X_Key": CANARY},
        {"X_Password": CANARY},
        {"X_Signature": f"keyId=1,sig={CANARY}"},
    ],
)
async def test_what_a_client_proves_itself_with_is_not_written_where_it_is_echoed(record, headers):
    got, written, _ = await record(ECHO, **headers)
    assert got == ECHO
    assert f'{{\\"said\\": \\"{"*" * len(CANARY)}\\"}}' in written
    assert CANARY not in written


async def test_words_of_cookies_stay_where_they_stand(record):
    _, written, _ = await record(HEAD + b'{"dark": true}', Cookie="theme=dark; a=true", X_Auth="true")
    assert '{\\"dark\\": true}' in written


async def test_a_query_that_is_echoed_is_struck_out(record):
    answer = HEAD + f'{{"url": "/api/show?key={CANARY}"}}'.encode()
    _, written, files = await record(answer, path=f"/api/show?key={CANARY}")
    assert files
    assert CANARY not in written


async def test_a_path_and_a_host_hold_no_secret(record):
    _, written, files = await record(ECHO, path=f"/api/{CANARY}", secrets=[CANARY], Host=CANARY)
    assert [file.name for file in files] == ["001-root.json"]
    assert CANARY not in written


@pytest.mark.parametrize(
    "spell",
    [
        json.dumps,
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: json.dumps(secret).replace("<", r"\u003C").replace("/", r"\/"),
        lambda secret: json.dumps(json.dumps({"arguments": secret})),
        lambda secret: json.dumps(quote(secret, safe="")),
        lambda secret: json.dumps(quote_plus(secret).lower()),
    ],
)
async def test_a_secret_is_found_however_it_is_spelled(record, spell):
    secret = 'pa"s \\/wé<\U0001f511-7f3a9c'
    spelled = f'{{"key": {spell(secret)}}}'.encode()
    _, written, files = await record(HEAD + spelled, body=spelled, secrets=[secret])
    assert "7f3a9c" not in written
    assert "***" in Exchange.load(files[0]).request.json["key"]


@pytest.mark.parametrize("name", ["X-Key", "X-Password", "X-Signature", "Set-Cookie"])
async def test_secret_headers_of_the_answer_are_left_out(record, name):
    _, written, _ = await record(HEAD[:-2] + f"{name}: {CANARY}\r\n\r\n{{}}".encode())
    assert CANARY not in written
    assert "Content-Type" in written


async def test_a_secret_across_two_chunks_is_struck_out_in_both(record):
    answer = CHUNKED + b'f\r\n{"said":"canary\r\n9\r\n-7f3a9c"}\r\n0\r\n\r\n'
    got, written, files = await record(answer, X_Token=CANARY)
    assert CANARY.encode() in read_answer(got).body
    assert json.loads(Exchange.load(files[0]).body()) == {"said": "*" * len(CANARY)}
    assert "7f3a9c" not in written
    assert "canary" not in written


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            HEAD + b'{"message":{"content":"canary"}}\n{"message":{"content":"-7f3a9c"},"done":true}\n',
            "spread over its tokens",
        ),
        (CHUNKED + b"2\r\n{}\r\n0\r\nX-Token: canary-7f3a9c\r\n\r\n", "after its body"),
        (HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b", "compressed"),
        (HEAD[:-2] + b"Set-Cookie: a;\r\n canary-7f3a9c: b\r\n\r\n{}", "no HTTP"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD[:-2] + b"Set-Cookie: canary-7f3a9c\r\n\r\n{}", "no HTTP"),
    ],
)
async def test_what_cannot_be_written_without_a_secret_is_passed_on_only(record, caplog, answer, why):
    with caplog.at_level(logging.WARNING):
        got, _, files = await record(answer, path="/api/chat", X_Token=CANARY)
    assert (got, files) == (answer, [])
    assert why in caplog.text
    assert "7f3a9c" not in caplog.text


async def test_ollama_is_asked_for_an_answer_that_can_be_read(record, fake):
    await record(ECHO, Accept_Encoding="gzip, br")
    assert fake.requests[-1].headers["accept-encoding"] == "identity"
