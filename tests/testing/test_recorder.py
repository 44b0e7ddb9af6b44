"""The recorder writes down what went over the wire, byte for byte, and nothing that is secret."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_mcp.ollama_server.http_messages import BadFraming, chunk, read_answer
from ollama_mcp.testing import Exchange, FakeOllama, Recorder, Script, recorder
from ollama_mcp.testing.__main__ import main

pytestmark = pytest.mark.anyio
RECORDINGS = sorted((Path(__file__).parent.parent / "recordings").glob("*.json"))
CANARY = "canary-7f3a9c"


@pytest.fixture(autouse=True)
async def in_time(anyio_backend: str):
    with anyio.fail_after(20):
        yield


@pytest.fixture
async def made(fake: FakeOllama, tmp_path: Path):
    async with Recorder(fake.url, tmp_path / "made", why="a test") as running:
        yield running


async def written(made: Recorder, count: int = 1) -> list[Exchange]:
    await made.wait_for(lambda made: len(made.written) >= count)
    return [Exchange.load(path) for path in made.written]


# --- byte for byte -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.long
async def test_a_recording_that_is_recorded_again_is_the_same(path, fake, made, dial):
    before = Exchange.load(path)
    fake.replay(before)
    raw = await dial(made)
    raw.send(before.request.method, before.request.path, before.request.body)
    if before.end == "client closed":
        got = await raw.reader.readexactly(len(before.wire))
        raw.writer.close()
    else:
        got, _ = await raw.rest()
    (after,) = await written(made)
    assert got == after.wire == before.wire
    assert (after.status, after.end, after.body()) == (before.status, before.end, before.body())
    assert (after.request.method, after.request.path, after.request.body) == (
        before.request.method,
        before.request.path,
        before.request.body,
    )


async def test_the_file_has_the_fields_of_the_recordings_in_their_order(made, dial):
    raw = await dial(made)
    raw.send("GET", "/api/version")
    await raw.rest()
    await written(made)
    theirs = json.loads(next(path for path in RECORDINGS if path.stem == "version").read_text())
    ours = json.loads(made.written[0].read_text())
    assert [*ours, "expects"] == list(theirs)
    assert set(ours["response"]) == set(theirs["response"])
    assert set(ours["request"]) == set(theirs["request"])
    assert (ours["name"], ours["why"]) == ("001-version", "a test")
    assert ours["response"]["content_type"] == theirs["response"]["content_type"]


async def test_tokens_are_passed_on_as_they_come_with_their_times(fake, made, dial):
    fake.script(Script(tokens=["Hel", "lo"], hold_after_tokens=1))
    raw = await dial(made)
    raw.send("POST", "/api/chat", b'{"model": "llama3.2:3b", "messages": [{"role": "user", "content": "x"}]}')
    await raw.until(b"Hel")
    assert not made.written
    fake.release()
    await raw.rest()
    (exchange,) = await written(made)
    times = [at for at, _ in exchange.pieces]
    assert len(times) >= 2
    assert times == sorted(times)
    assert exchange.body().count(b"\n") > 1


async def test_a_client_that_leaves_closes_the_way_to_ollama(fake, made, dial):
    fake.script(Script(tokens=["Hel", "lo"], cut_after_tokens=1, how="silence"))
    raw = await dial(made)
    raw.send("POST", "/api/chat", b'{"model": "llama3.2:3b", "messages": [{"role": "user", "content": "x"}]}')
    await raw.until(b"Hel")
    raw.writer.close()
    await fake.wait_for(lambda fake: fake.disconnects == 1)
    (exchange,) = await written(made)
    assert exchange.end == "client closed"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_server_that_breaks_off_breaks_off_for_the_client(fake, made, dial, how):
    fake.script(Script(tokens=["Hel", "lo"], cut_after_tokens=1, how=how))
    raw = await dial(made)
    raw.send("POST", "/api/chat", b'{"model": "llama3.2:3b", "messages": [{"role": "user", "content": "x"}]}')
    got, ended = await raw.rest()
    (exchange,) = await written(made)
    assert b"Hel" in got
    assert ended == how
    assert (exchange.wire, exchange.end) == (got, "server closed")


async def test_without_an_ollama_the_client_is_told_and_nothing_is_written(fake, made, dial, tmp_path):
    await fake.stop()
    raw = await dial(made)
    raw.send("GET", "/api/tags")
    got, _ = await raw.rest()
    answer = read_answer(got)
    assert answer.status == 502
    assert fake.url in json.loads(answer.body)["error"]
    assert list((tmp_path / "made").iterdir()) == []


async def test_many_at_once_are_each_written(fake, made, dial):
    async def one(place: int) -> None:
        raw = await dial(made)
        raw.send("POST", "/api/show", json.dumps({"model": "llama3.2:3b", "place": place}).encode())
        await raw.rest()

    async with anyio.create_task_group() as group:
        for place in range(20):
            group.start_soon(one, place)
    found = await written(made, 20)
    assert {exchange.request.json["place"] for exchange in found} == set(range(20))
    assert [path.name for path in made.written] == [f"{number:03}-show.json" for number in range(1, 21)]


async def test_what_is_going_on_when_it_stops_is_not_written(fake, made, dial):
    fake.script(Script(tokens=["Hel", "lo"], hold_after_tokens=1))
    raw = await dial(made)
    raw.send("POST", "/api/chat", b'{"model": "llama3.2:3b", "messages": [{"role": "user", "content": "x"}]}')
    await raw.until(b"Hel")
    await made.stop()
    assert made.written == []
    await fake.wait_for(lambda fake: fake.disconnects == 1)


async def test_a_whole_answer_is_written_though_the_server_keeps_the_connection(dial, tmp_path):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Recorder(f"http://127.0.0.1:{port}", tmp_path / "kept") as made:
            raw = await dial(made)
            raw.send("GET", "/api/version")
            await raw.until(b"{}")
    assert [path.name for path in made.written] == ["001-version.json"]


async def test_a_query_and_a_prefix_reach_ollama_and_are_not_written(fake, dial, tmp_path):
    async with Recorder(fake.url + "/prefix", tmp_path) as made:
        raw = await dial(made)
        raw.send("GET", f"/api/tags?key={CANARY}")
        await raw.rest()
        await written(made)
    assert (fake.requests[-1].path, fake.requests[-1].query) == ("/prefix/api/tags", f"key={CANARY}")
    assert CANARY not in made.written[0].read_text()


async def test_a_body_that_is_too_large_is_passed_on_only(fake, made, dial, monkeypatch, caplog):
    monkeypatch.setattr(recorder, "LARGEST_BODY", 10)
    raw = await dial(made)
    with caplog.at_level(logging.WARNING):
        raw.send("POST", "/api/show", b'{"model": "llama3.2:3b"}')
        got, _ = await raw.rest()
    assert read_answer(got).status == 200
    await fake.wait_for(lambda fake: fake.answered == 1)
    await made.wait_for(lambda made: made.answered == 1)
    assert not made.written
    assert "too large" in caplog.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", b'{"embeddings": null}'),
        ("/api/embed", b'{"embeddings": [5]}'),
        ("/api/embeddings", b'{"embedding": 5}'),
        ("/api/chat", b'{"message": {"tool_calls": 5}, "done": true}'),
        ("/api/chat", b'{"message": {"content": "\\ud800"}, "done": true}'),
    ],
)
async def test_an_answer_of_another_shape_is_written_all_the_same(fake, made, dial, path, body):
    fake.script(Script(raw=b"HTTP/1.1 200 OK\r\n\r\n" + body))
    raw = await dial(made)
    raw.send("POST", path, b"{}")
    await raw.rest()
    (exchange,) = await written(made)
    assert exchange.body() == body


@pytest.mark.parametrize(
    ("wire", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "server closed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "server closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "client closed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "client closed"),
    ],
)
async def test_a_client_that_has_all_of_an_answer_may_close_first(fake, made, dial, wire, end):
    fake.script(Script(raw=wire, how="silence"))
    raw = await dial(made)
    raw.send("POST", "/api/show", b"{}")
    assert await raw.reader.readexactly(len(wire)) == wire
    raw.writer.close()
    (exchange,) = await written(made)
    assert exchange.end == end


async def test_a_folder_that_is_gone_is_told_and_the_answers_are_passed_on(made, dial, tmp_path, caplog):
    (tmp_path / "made").rmdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            raw = await dial(made)
            raw.send("GET", "/api/version")
            got, _ = await raw.rest()
            assert read_answer(got).status == 200
        await made.stop()
    assert caplog.text.count("the answer to /api/version was not recorded") == 2


# --- names -------------------------------------------------------------------------------------


async def test_numbers_go_on_after_what_is_there(fake, dial, tmp_path):
    (tmp_path / "041-chat.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    async with Recorder(fake.url, tmp_path) as made:
        raw = await dial(made)
        raw.send("GET", "/")
        await raw.rest()
        await written(made)
    assert [path.name for path in made.written] == ["042-root.json"]
    assert (tmp_path / "041-chat.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["041-chat.json", "042-root.json", "notes.txt"]


@given(
    st.text(max_size=80)
    | st.sampled_from(["/../../x", "/api/blobs/sha256:" + "0" * 64, "/..\\..\\x", "/api/%2e%2e/x"])
)
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_no_path_leads_out_of_the_folder(path: str):
    with tempfile.TemporaryDirectory() as folder:
        name = Recorder("http://gpu", folder)._name(path)
    assert re.fullmatch(r"001-[a-z0-9]+(-[a-z0-9]+)*-?", name), name
    assert len(name) <= 44


# --- secrets -----------------------------------------------------------------------------------


async def test_no_secret_is_written(fake, dial, tmp_path):
    secret_head = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=%b\r\nX-Api-Key: %b\r\nContent-Type: text/plain\r\n\r\n"
        % (
            CANARY.encode(),
            CANARY.encode(),
        )
    )
    halves = [secret_head[:30], secret_head[30:], b"you sent canary-", b"7f3a9c and hunter22"]
    fake.script(Script(raw=halves), path="/api/show")
    upstream = fake.url.replace("http://", "http://me:hunter22@")
    known = ["setting-secret", "setting-secret-longer"]
    async with Recorder(upstream, tmp_path, secrets=known) as made:
        raw = await dial(made)
        body = json.dumps({"model": "a", "echo": [CANARY, *known]}).encode()
        raw.send("POST", "/api/show", body, Authorization=f"Bearer {CANARY}", Cookie=f"b={CANARY}")
        got, _ = await raw.rest()
        (exchange,) = await written(made)
    assert CANARY.encode() in got  # the client gets what Ollama said
    assert fake.requests[-1].headers["authorization"] == "Basic bWU6aHVudGVyMjI="
    text = made.written[0].read_text()
    for secret in (CANARY, "hunter22", "bWU6aHVudGVyMjI=", *known, "-longer", "Set-Cookie", "X-Api-Key"):
        assert secret not in text
    assert exchange.body() == b"you sent *************" + b" and ********"
    assert exchange.request.json["echo"] == ["*" * 13, "*" * 14, "*" * 21]
    assert fake.requests[-1].json["echo"][0] == CANARY


async def test_a_secret_that_is_struck_out_keeps_chunks_whole(fake, made, dial):
    body = json.dumps({"said": CANARY}).encode()
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n\r\n"
    fake.script(Script(raw=wire), path="/api/show")
    raw = await dial(made)
    raw.send("POST", "/api/show", b"{}", X_Token=CANARY)
    await raw.rest()
    (exchange,) = await written(made)
    assert json.loads(exchange.body()) == {"said": "*" * len(CANARY)}


# --- taking answers apart ----------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=8), st.integers(0, 400))
def test_any_chunks_are_put_together_and_any_cut_leaves_their_beginning(parts: list[bytes], cut: int):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    assert read_answer(head + wire).body == b"".join(parts)
    try:
        some = read_answer(head + wire[:cut]).body
    except BadFraming:
        return  # cut in the middle of a length
    assert b"".join(parts).startswith(some)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_bad_framing(wire: bytes):
    with suppress(BadFraming):
        read_answer(wire)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_any_bytes_in_any_pieces_survive_a_file(tmp_path_factory, body: bytes, cuts: list[int]):
    wire = b"HTTP/1.1 200 OK\r\n\r\n" + body
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(wire)}), len(wire)]
    pieces = tuple((place / 1000, wire[a:b]) for place, (a, b) in enumerate(pairwise(places)))
    before = Exchange.load(RECORDINGS[0])
    path = tmp_path_factory.mktemp("any") / "one.json"
    exchange = Exchange("one", "", before.request, 200, pieces, "server closed", body, {"text": "x"})
    exchange.save(path)
    assert Exchange.load(path) == exchange


# --- from a shell ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        (["record", "--to", "made", "--upstream", "ftp://x"], {}, "INVALID_ARGUMENT"),
        (["record", "--to", "made"], {"OLLAMA_HOST": "ftp://x"}, "OLLAMA_HOST"),
        pytest.param(["--replay", "nowhere"], {}, "no recording in nowhere", marks=pytest.mark.gate),
        (["--host", "203.0.113.7"], {}, "203.0.113.7"),
        (["--port", "65536"], {}, "from 0 to 65535"),
    ],
)
@pytest.mark.long
def test_what_it_cannot_begin_with_is_one_line(options, environment, told, tmp_path):
    command = [sys.executable, "-m", "ollama_mcp.testing", *options]
    environment = {**os.environ, **environment}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode in {1, 2}
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["recrod", "--port", "0"], "no command 'recrod', only record"),
        (["--to", "made"], "--to"),
        (["--replay", ".", "--tokens", "3"], "--tokens has no effect with --replay"),
        (["--replay", ".", "--model", "x"], "--model has no effect with --replay"),
    ],
)
def test_an_option_that_would_do_nothing_is_a_usage_error(options, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="a Windows process gets no POSIX signal")
def test_from_a_shell(fake_ollama, tmp_path):
    environment = {**os.environ, "OLLAMA_HOST": fake_ollama.url, "OLLAMA_API_KEY": CANARY}
    made = tmp_path / "made"
    command = [sys.executable, "-m", "ollama_mcp.testing", "record", "--to", made, "--why", "shell"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        url = process.stdout.readline().strip()
        with urlopen(f"{url}/api/version", timeout=20) as answer:
            assert b"0.33.0" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    (file,) = made.iterdir()
    assert (file.name, Exchange.load(file).why) == ("001-version.json", "shell")
