"""A hundred idle sessions and two hundred calls in flight over HTTP: none fails, and nothing of them stays.

`benchmarks/load.py` has a thousand of each, and what they take.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from ollama_mcp.testing import FakeOllama, Script

pytestmark = pytest.mark.anyio

COUNT = 100
PATIENCE = 120
EITHER = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "ollama_chat"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Crowd:
    """Many clients of one server, on connections of their own."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def _post(self, method: str, params: Any, headers: Any) -> httpx.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self._http.post(self._url, json=message, headers={**EITHER, **headers})

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[dict[str, str]]:
        """A session of 2025 with its stream open, as clients have it; gives its headers."""
        said = {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}
        }  # fmt: skip
        opened = await self._post("initialize", said, {})
        headers = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        async with self._http.stream("GET", self._url, headers={**EITHER, **headers}) as stream:
            assert stream.status_code == 200
            yield headers
        assert (await self._http.delete(self._url, headers={**EITHER, **headers})).status_code == 200

    async def chat(self, headers: dict[str, str]) -> str:
        """A call, and all that its answer says."""
        meta = {"_meta": ENVELOPE} if headers is MODERN else {}
        params = {"name": "ollama_chat", "arguments": {"prompt": "x"}, **meta}
        return (await self._post("tools/call", params, headers)).text


def descriptors(child: Any) -> int:
    return len(os.listdir(f"/proc/{child.process.pid}/fd"))


@asynccontextmanager
async def crowd_of(child: Any) -> AsyncGenerator[Crowd]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=PATIENCE, trust_env=False) as http:
        yield Crowd(http, child.url)


@pytest.fixture
def ollama() -> Any:
    with FakeOllama.in_thread() as fake:
        yield fake


async def test_a_crowd_of_sessions_and_calls_is_answered_and_nothing_of_it_stays(command: Any, ollama: Any):
    child = command("--http", "127.0.0.1:0", OLLAMA_MCP_PARALLEL="500")
    answers: list[str] = []

    async def call(crowd: Crowd, headers: dict[str, str]) -> None:
        answers.append(await crowd.chat(headers))

    with anyio.fail_after(PATIENCE):
        async with crowd_of(child) as crowd:
            await call(crowd, MODERN)
        before = descriptors(child) - ollama.open_connections
        ollama.script(Script(tokens=["all ", "of it"], hold_after_tokens=1))
        async with crowd_of(child) as crowd, AsyncExitStack() as sessions:
            opened = [await sessions.enter_async_context(crowd.session()) for _ in range(COUNT)]
            async with anyio.create_task_group() as calls:
                for headers in opened:
                    calls.start_soon(call, crowd, headers)
                    calls.start_soon(call, crowd, MODERN)
                await ollama.wait_for(lambda fake: fake.in_flight == 2 * COUNT, PATIENCE)
                ollama.release()
        while descriptors(child) - ollama.open_connections > before:
            await anyio.sleep(0.05)

    assert len(answers) == 1 + 2 * COUNT
    assert all('"text":"all of it"' in answer for answer in answers[1:])
    child.process.terminate()
    out, err = child.process.communicate()
    assert (out, "Traceback" in err) == ("", False)
