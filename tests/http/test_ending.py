"""How the command ends that serves HTTP: in time, with status 0, with Ollama's sockets closed."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from ollama_mcp.testing import FakeOllama, Script

PATIENCE = 20
GRACE_S = 0.5
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "progressToken": "p",
}


CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "ollama_list_models"}}


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    """One for each test: what was held and let go stays so."""
    with FakeOllama.in_thread() as fake:
        yield fake


@pytest.fixture
def start(command) -> Callable[..., SimpleNamespace]:
    """Start the command with a short grace."""
    return partial(command, OLLAMA_MCP_HTTP_GRACE=str(GRACE_S))


def nothing(_child, _client):
    """Nobody has come."""


def an_idle_session(child, client):
    """A client of 2025 has its stream for notifications open."""
    session = {"mcp-session-id": opened(child, client), **HEADERS}
    stream = client.stream("GET", child.url, headers=session)
    assert stream.__enter__().status_code == 200
    return stream


def a_call_of_2025(child, client):
    """It streams."""
    session = {"mcp-session-id": opened(child, client), **HEADERS}
    return begun(client, child.url, session, {"progressToken": "p"})


def a_call_of_2026(child, client):
    """The same, without a session."""
    named = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "ollama_chat"}
    return begun(client, child.url, HEADERS | named, MODERN)


def opened(child, client):
    """A session of 2025, by its id."""
    said = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": said}
    return client.post(child.url, json=message, headers=HEADERS).headers["mcp-session-id"]


def begun(client, url, headers, meta):
    """A chat whose first progress has come."""
    params = {"name": "ollama_chat", "arguments": {"prompt": "x"}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    stream = client.stream("POST", url, headers=headers, json=message)
    response = stream.__enter__()
    lines = response.iter_lines()
    next(lines)
    return SimpleNamespace(rest=lines, leave=partial(stream.__exit__, None, None, None))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    "situation",
    [
        nothing,
        an_idle_session,
        *[pytest.param(call, marks=pytest.mark.gate) for call in (a_call_of_2025, a_call_of_2026)],
    ],
)
def test_it_is_gone_within_its_grace_and_half_a_second(start, ollama, figure, situation, how):
    child = start("--http", "127.0.0.1:0")
    ollama.script(Script(tokens=["a "] * 10, hold_after_tokens=3))
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        held = situation(child, client)
        begin = time.monotonic()
        child.process.send_signal(signal.Signals[how])
        assert child.process.wait(PATIENCE) == 0
        assert time.monotonic() - begin < figure(GRACE_S + 0.5)
        del held
    ollama.wait_for_sync(lambda fake: not fake.open_connections)
    assert "Traceback" not in child.process.stderr.read()
    assert child.process.stdout.read() == ""


def test_a_call_that_ends_within_the_grace_is_answered(start, ollama):
    child = start("--http", "127.0.0.1:0", OLLAMA_MCP_HTTP_GRACE="10")
    ollama.script(Script(tokens=["a "] * 5, hold_after_tokens=3))
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        stream = a_call_of_2026(child, client)
        child.process.send_signal(signal.SIGTERM)
        refused = client.post(child.url, json=CALL, headers=HEADERS)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        ollama.release()
        stream.leave()
    begin = time.monotonic()
    assert child.process.wait(PATIENCE) == 0
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("situation", [a_call_of_2025, a_call_of_2026])
def test_a_call_that_does_not_end_within_the_grace_is_told_with_what_was_written(start, ollama, situation):
    child = start("--http", "127.0.0.1:0")
    ollama.script(Script(tokens=["a "] * 10, hold_after_tokens=3))
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        stream = situation(child, client)
        child.process.send_signal(signal.SIGTERM)
        (answer,) = [json.loads(line.removeprefix("data: ")) for line in stream.rest if "isError" in line]
    failed, written = answer["result"]["content"]
    assert failed["text"].startswith("TIMEOUT: the server ends")
    assert "handle" not in failed["text"]  # nobody will find anything under one
    assert written["text"] == "a a a "


def test_a_call_over_sse_has_its_grace_too(start, ollama):
    child = start("--http", "127.0.0.1:0", "--sse", OLLAMA_MCP_HTTP_GRACE="10")
    ollama.script(Script(tokens=["done"], hold_after_tokens=1))

    async def call() -> str:
        with anyio.fail_after(PATIENCE):
            async with (
                sse_client(child.url.replace("/mcp", "/sse")) as streams,
                ClientSession(*streams) as session,
            ):
                await session.initialize()
                await session.list_tools()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(end)
                    result = await session.call_tool("ollama_chat", {"prompt": "x"})
        return result.content[0].text

    async def end() -> None:
        await ollama.wait_for(lambda fake: fake.open_connections and fake.asked("/api/chat"))
        child.process.send_signal(signal.SIGTERM)
        async with httpx.AsyncClient(trust_env=False) as client:
            ready = child.url.replace("/mcp", "/ready")
            while (await client.get(ready)).status_code != 503:
                await anyio.lowlevel.checkpoint()
        ollama.release()

    assert anyio.run(call) == "done"
    assert child.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once(start, ollama):
    child = start("--http", "127.0.0.1:0", OLLAMA_MCP_HTTP_GRACE="60")
    ollama.script(Script(tokens=["a "] * 5, hold_after_tokens=3))
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        a_call_of_2026(child, client)
        child.process.send_signal(signal.SIGTERM)
        assert client.post(child.url, json=CALL, headers=HEADERS).status_code == 503
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(PATIENCE) == -signal.SIGTERM


def test_a_port_that_is_taken_is_said_with_what_to_do(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        child = start("--http", f"127.0.0.1:{taken.getsockname()[1]}")
        assert child.process.wait(PATIENCE) == 1
    assert "name another port" in child.said


@pytest.mark.parametrize("flag", [(), ("--insecure-no-auth",)])
def test_an_address_that_others_reach_wants_a_token_or_a_word(start, flag):
    child = start("--http", "0.0.0.0:0", *flag)
    if flag:
        assert "/mcp to EVERYBODY who reaches it" in child.said
    else:
        assert child.process.wait(PATIENCE) == 2
        assert "OLLAMA_MCP_TOKEN" in child.said


@pytest.mark.parametrize(
    ("flags", "is_open"),
    [
        pytest.param(("--allow-hosts", "gpu.example.com"), False, marks=pytest.mark.gate),
        (("--allow-hosts", "localhost,gpu-box:9000"), False),
        (("--allow-origins", "https://app.example"), False),
        (("--allow-hosts", "gpu.example.com", "--insecure-no-auth"), True),
        pytest.param(
            ("--allow-hosts", "localhost:9000", "--allow-origins", "http://localhost:6274"),
            True,
            marks=pytest.mark.gate,
        ),
    ],
)
def test_names_of_other_machines_want_a_token_on_loopback_too(start, flags, is_open):
    """A proxy on this machine brings strangers to 127.0.0.1 under such a name."""
    child = start("--http", "127.0.0.1:0", *flags)
    if is_open:
        assert httpx.get(f"{child.url.removesuffix('/mcp')}/health", trust_env=False).status_code == 200
    else:
        assert child.process.wait(PATIENCE) == 2
        assert "OLLAMA_MCP_TOKEN" in child.said
        assert "not this machine" in child.said


def modern(tool: str, arguments: Any) -> dict[str, Any]:
    """What httpx needs for one call of the 2026 era."""
    named = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": tool}
    call = CALL | {"params": {"name": tool, "arguments": arguments, "_meta": MODERN}}
    return {"headers": HEADERS | named, "json": call}


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A fake Ollama in a process of its own, which does not keep this one busy."""
    with subprocess.Popen(
        [sys.executable, "-m", "ollama_mcp.testing", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as fake:
        assert fake.stdout is not None
        yield re.search(r"http://\S+:\d+", fake.stdout.readline())[0]
        fake.terminate()


@pytest.mark.parametrize("load", ["schemas", "vectors"])
def test_a_status_is_prompt_while_another_client_has_heavy_work_done(start, elsewhere, figure, load):
    child = start("--http", "127.0.0.1:0", OLLAMA_HOST=elsewhere)
    heavy = {
        "schemas": ("ollama_chat", {"prompt": "x", "schema": {"allOf": [{"type": "object"}] * 2900}}, 5),
        "vectors": ("ollama_rank", {"query": "q", "candidates": [f"text {n}" for n in range(4095)]}, 1),
    }
    tool, arguments, times = heavy[load]

    def call(name: str, given: Any) -> httpx.Response:
        return client.post(child.url, **modern(name, given))

    waited: list[float] = []
    with httpx.Client(trust_env=False, timeout=120) as client, ThreadPoolExecutor(times) as pool:
        call("ollama_status", {})
        work = [pool.submit(call, tool, arguments) for _ in range(times)]
        while not all(one.done() for one in work):
            began = time.monotonic()
            assert '"isError":false' in call("ollama_status", {}).text
            waited.append(time.monotonic() - began)
    assert all('"isError":false' in one.result().text for one in work)
    print(f"{load}: {len(waited)} statuses, the slowest {max(waited):.2f} s")
    assert max(waited) < figure(0.3)


def test_every_address_of_localhost_is_served(start):
    child = start("--http", "localhost:0")
    port = httpx.URL(child.url).port
    for name in ("127.0.0.1", "localhost"):
        assert httpx.get(f"http://{name}:{port}/health", trust_env=False).status_code == 200
