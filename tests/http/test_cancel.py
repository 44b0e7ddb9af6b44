"""A call over HTTP that is cancelled: Ollama's socket closes at once, and no answer follows.

In the era of 2026 to leave is to cancel; in that of 2025 it is not, and a notification says it.
"""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio

COUNT, IN_GATE = 500, 60
LANES = 8
"""Calls that are in flight at one time."""
PATIENCE = 300
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
def ollama(watched: Any) -> Iterator[Any]:
    watched.script(Script(tokens=["word "] * 500, delay_first=0.1, delay=0.02))
    return watched


class Client:
    """Bare requests, so that a connection closes in the moment in which the test says so.

    Attributes:
        given_up_at: By its prompt, when a call was given up.
        read: What came for it until then, or afterwards.
    """

    def __init__(self, url: str, ollama: Any) -> None:
        self._url = httpx.URL(url)
        self._ollama = ollama
        self._session: dict[str, str] = {}
        self.given_up_at: dict[str, float] = {}
        self.read: dict[str, bytes] = {}

    async def begin(self) -> None:
        """Open a session of 2025."""
        said = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        reader, writer = await self._post({}, id="open", method="initialize", params=said)
        head = (await reader.read()).partition(b"\r\n\r\n")[0].decode().lower()
        writer.close()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        self._session = {
            "mcp-session-id": lines["mcp-session-id"], "mcp-protocol-version": "2025-11-25"
        }  # fmt: skip

    async def _post(self, headers: dict[str, str], **message: Any) -> Any:
        reader, writer = await asyncio.open_connection(self._url.host, self._url.port)
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        fixed = {
            "host": f"{self._url.host}:{self._url.port}", "accept": "application/json, text/event-stream",
            "content-type": "application/json", "content-length": str(len(body)), "connection": "close",
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in (fixed | headers).items())
        writer.write(f"POST {self._url.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return reader, writer

    async def call(self, number: int, *, modern: bool) -> Any:
        """Call with a number as the id, the prompt and the progress token."""
        named = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "ollama_chat"}
        params = {
            "name": "ollama_chat", "arguments": {"prompt": str(number)},
            "_meta": {"progressToken": number} | (MODERN if modern else {}),
        }  # fmt: skip
        headers = named if modern else self._session
        return await self._post(headers, id=number, method="tools/call", params=params)

    async def _moment(self, number: int, seconds: float) -> None:
        """So many seconds of the call's time; every other call's begins when Ollama has it."""
        if number % 2:
            await self._ollama.wait_for(lambda fake: str(number) in fake.asked_at, PATIENCE)
        await asyncio.sleep(seconds)  # the moment itself, not a wait for something
        self.given_up_at[str(number)] = time.monotonic()

    async def leave(self, number: int, moment: float) -> None:
        """A call of 2026 whose connection is closed so many seconds later."""
        reader, writer = await self.call(number, modern=True)
        reading = asyncio.create_task(reader.read())
        await self._moment(number, moment)
        writer.transport.abort()
        self.read[str(number)] = await reading

    async def cancel(self, number: int, moment: float) -> None:
        """A call of 2025 that is cancelled so many seconds later; what then comes of it is read."""
        reader, writer = await self.call(number, modern=False)
        await self._moment(number, moment)
        said, saying = await self._post(
            self._session, method="notifications/cancelled", params={"requestId": number}
        )
        assert (await said.read()).startswith(b"HTTP/1.1 202")
        saying.close()
        self.read[str(number)] = await reader.read()
        writer.close()


async def warm_up(client: Client, ollama: Any) -> None:
    """The first call of all is the one for which everything is loaded."""
    _, writer = await client.call(-1, modern=True)
    await ollama.wait_for(lambda fake: "-1" in fake.asked_at, PATIENCE)
    writer.transport.abort()
    await ollama.wait_for(lambda fake: "-1" in fake.left_at)
    ollama.asked_at.clear()
    ollama.left_at.clear()


async def at_random(way: Any, seed: str, count: int) -> None:
    """Give up calls at random moments, a few at a time."""
    dice = random.Random(seed)
    moments = iter([(number, dice.uniform(0, 0.3)) for number in range(count)])

    async def lane() -> None:
        for number, moment in moments:
            await way(number, moment)

    async with anyio.create_task_group() as lanes:
        for _ in range(LANES):
            lanes.start_soon(lane)


@pytest.mark.gate
@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_giving_up_at_random_moments_closes_the_socket_and_no_answer_follows(
    command: Any, ollama: Any, thorough: bool, figure: Any, era: str
):
    count = COUNT if thorough else IN_GATE
    child = command("--http", "127.0.0.1:0", OLLAMA_MCP_PARALLEL="64")
    client = Client(child.url, ollama)
    with anyio.fail_after(PATIENCE):
        await client.begin()
        await warm_up(client, ollama)
        await at_random(client.leave if era == "2026" else client.cancel, era, count)
        await ollama.wait_for(lambda fake: len(fake.left_at) == len(fake.asked_at), 30)

    took = sorted(at - client.given_up_at[prompt] for prompt, at in ollama.left_at.items())
    early = sum(at - ollama.asked_at[prompt] < 0.1 for prompt, at in ollama.left_at.items())
    print(
        f"\n{era}: {count} given up, {count - len(took)} before Ollama was asked, {early} before the first "
        f"token; upstream closed after p50 {took[len(took) // 2] * 1000:.1f} ms, "
        f"p99 {took[int(len(took) * 0.99)] * 1000:.1f} ms, at most {took[-1] * 1000:.1f} ms"
    )
    assert ollama.left_at.keys() == ollama.asked_at.keys(), "a call went on to its end"
    assert len(took) >= count // 2
    assert count / 25 < early < len(took) - count / 25
    assert took[int(len(took) * 0.99)] <= figure(0.05)
    assert took[-1] <= 5  # a call that went on would take ten seconds
    assert not [prompt for prompt, read in client.read.items() if b'"result"' in read]
    child.process.terminate()
    assert "Traceback" not in child.process.communicate()[1]


async def test_a_client_of_2025_that_leaves_cancels_nothing_until_the_clock_does(command: Any, ollama: Any):
    child = command(
        "--http", "127.0.0.1:0", OLLAMA_MCP_SOFT_DEADLINE="2", OLLAMA_MCP_UNCLAIMED_TIMEOUT="2"
    )  # fmt: skip
    client = Client(child.url, ollama)
    with anyio.fail_after(PATIENCE):
        await client.begin()
        await warm_up(client, ollama)
        called_at = time.monotonic()
        _, writer = await client.call(1, modern=False)
        await ollama.wait_for(lambda fake: "1" in fake.asked_at)
        left_at = time.monotonic()
        writer.transport.abort()
        await ollama.wait_for(lambda fake: fake.left_at, 10)
    closed_at = ollama.left_at["1"]
    print(
        f"\na client of 2025 left {left_at - called_at:.2f} s after it had called, and upstream closed after "
        f"{closed_at - called_at:.2f} s, by the clocks of 2 s and 2 s"
    )
    assert closed_at - called_at > 3.9
    assert closed_at - left_at > 0.5
