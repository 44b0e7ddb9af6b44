"""A folder of recordings answers equal requests, and says clearly what it does not have."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import anyio
import pytest

from ollama_mcp.ollama_server.http_messages import read_answer
from ollama_mcp.testing import Exchange, FakeOllama, Recorder, Script

pytestmark = pytest.mark.anyio
RECORDINGS = Path(__file__).parent.parent / "recordings"


@pytest.fixture(autouse=True)
async def in_time(anyio_backend: str):
    with anyio.fail_after(20):
        yield


@pytest.fixture
def ask(fake, dial):
    async def ask(method: str, path: str, body: object = None) -> tuple[int, bytes]:
        raw = await dial(fake)
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        raw.send(method, path, data, Connection="close")
        answer = read_answer((await raw.rest())[0])
        return answer.status, answer.body

    return ask


def show(name: str, number: int) -> dict:
    return {"model": name, "number": number}


@pytest.fixture
async def folder(tmp_path, dial) -> Path:
    """Two different requests, each several times with different answers, and one more."""
    async with FakeOllama() as real, Recorder(real.url, tmp_path) as made:
        for place, name in enumerate(["a", "b", "a", "b", "b"]):
            real.script(Script(body={"answer": place}), path="/api/show")
            raw = await dial(made)
            raw.send("POST", "/api/show", json.dumps(show(name, 1)).encode())
            await raw.rest()
        raw = await dial(made)
        raw.send("GET", "/api/tags")
        await raw.rest()
        await made.wait_for(lambda made: len(made.written) == 6)
    return tmp_path


async def test_recordings_are_played_in_the_order_of_their_numbers(fake, folder, ask):
    for place, number in enumerate(["9-show", "998-show", "1000-show"]):
        one = Exchange.load(folder / "001-show.json")
        body = b'{"answer": %d}' % (10 + place)
        wire = ((0.0, b"HTTP/1.1 200 OK\r\n\r\n" + body),)
        asked = replace(one.request, body=b'{"model": "c"}')
        replace(one, name=number, request=asked, pieces=wire, text=body).save(folder / f"{number}.json")
    fake.replay_all(folder)
    assert [json.loads((await ask("POST", "/api/show", {"model": "c"}))[1])["answer"] for _ in "abc"] == [
        10,
        11,
        12,
    ]


async def test_equal_requests_get_their_answers_in_order_and_the_last_one_stays(fake, folder, ask):
    rule = fake.replay_all(folder)
    answers = [
        json.loads((await ask("POST", "/api/show", show(name, 1)))[1])["answer"] for name in "aaabbbba"
    ]
    assert answers == [0, 2, 2, 1, 3, 4, 4, 2]
    assert rule.used == 8


async def test_bodies_are_equal_as_json(fake, folder, ask):
    fake.replay_all(folder)
    status, _ = await ask("POST", "/api/show", b' {"number":1,\n "model" : "a"}')
    assert status == 200


async def test_a_request_that_was_not_recorded_is_told_how_it_differs(fake, folder, ask):
    fake.replay_all(folder)
    status, body = await ask("POST", "/api/show", show("a", 2))
    error = json.loads(body)["error"]
    assert status == 501
    assert "no recording of POST /api/show with this body" in error
    assert "001-show differs in number" in error
    assert "002-show differs in model and number" in error
    status, body = await ask("POST", "/api/chat", {"model": "a"})
    assert status == 501
    assert json.loads(body)["error"].endswith("there are GET /api/tags, POST /api/show")


async def test_what_is_no_json_is_equal_byte_for_byte(fake, ask):
    fake.replay_all(RECORDINGS)
    recorded = Exchange.load(RECORDINGS / "body-not-json.json")
    assert recorded.request.json is None
    assert (await ask("POST", recorded.request.path, recorded.request.body))[0] == recorded.status
    status, body = await ask("POST", recorded.request.path, recorded.request.body + b" ")
    assert status == 501
    assert b"its bytes" in body


async def test_all_recordings_are_one_cassette(fake, ask):
    fake.replay_all(RECORDINGS)
    for path in sorted(RECORDINGS.glob("*.json")):
        exchange = Exchange.load(path)
        if exchange.end == "server closed" and "-resumes" not in path.stem:  # which equals one that was left
            _, body = await ask(exchange.request.method, exchange.request.path, exchange.request.body)
            assert b"no recording" not in body


def test_a_folder_without_recordings_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="no recording"):
        FakeOllama().replay_all(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json"):
        FakeOllama().replay_all(tmp_path)


def test_from_a_shell():
    command = [sys.executable, "-m", "ollama_mcp.testing", "--replay", RECORDINGS, "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        with urlopen(f"{url}/api/version", timeout=20) as answer:
            assert b"version" in answer.read()
        process.stdin.close()
        assert process.wait(10) == 0
