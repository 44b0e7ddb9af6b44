"""Recorded answers, broken off at every byte: always a failure that is named, and what had come is kept."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollama_mcp import errors
from ollama_mcp.client import OllamaClient
from ollama_mcp.ollama.api_models import ChatRequest, EmbedRequest, Message, PullRequest
from ollama_mcp.ollama.endpoints import CHAT, EMBED, PULL, Call, Stream
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.ollama_server.http_messages import read_answer
from ollama_mcp.settings import Backend
from ollama_mcp.testing import Exchange, FakeOllama, Script

pytestmark = pytest.mark.anyio
RECORDINGS = Path(__file__).parent.parent / "recordings"
MODEL = "llama3.2:3b"
CHAT_ASK = ChatRequest(model=MODEL, messages=[Message(role="user", content="hi")])
ASKS: dict[str, tuple[Call[Any, Any] | Stream[Any, Any], Any, int]] = {
    "chat-stop": (CHAT, CHAT_ASK, 1),
    "pull-again": (PULL, PullRequest(model=MODEL), 1),
    "chat-stream": (CHAT, CHAT_ASK, 37),
    "embed-one": (EMBED, EmbedRequest(model=MODEL, input="hi"), 7),
}
"""Recordings, and at every how many bytes each is cut: at every byte, but for those that are long."""


@pytest.fixture(params=[True, False], ids=["aiohttp", "httpx"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[tuple[FakeOllama, OllamaClient]]:
    async with FakeOllama() as fake:
        backend = Backend(host=parse_host(fake.url), swift=request.param, retries=0)
        async with OllamaClient(backend) as client:
            yield fake, client


async def read(client: OllamaClient, endpoint: Any, body: Any) -> tuple[list[Any], errors.OllamaError | None]:
    """What came, and how it failed."""
    came: list[Any] = []
    try:
        if isinstance(endpoint, Call):
            came.append(await client.call(endpoint, body))
        else:
            await read_lines(client, endpoint, body, came)
    except errors.OllamaError as error:
        return came, error
    return came, None


async def read_lines(client: OllamaClient, endpoint: Any, body: Any, came: list[Any]) -> None:
    async with client.stream(endpoint, body) as lines:
        async for line in lines:
            came.append(line)  # noqa: PERF401 - those before a failure stay


def line_ends(wire: bytes) -> list[int]:
    """Where the lines of an answer's body end, in bytes of all of it."""
    spans = read_answer(wire).spans
    return [at + 1 for one, end in spans for at in range(one, end) if wire[at : at + 1] == b"\n"]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("name", ASKS)
async def test_an_answer_cut_at_any_byte_is_a_broken_stream_that_keeps_every_whole_line(client, name, how):
    fake, ollama = client
    endpoint, body, step = ASKS[name]
    step *= 1 if ollama.backend.swift else 3
    wire = Exchange.load(RECORDINGS / f"{name}.json").wire
    ends = line_ends(wire)
    whole, _ = await heard_at(client, endpoint, body, wire, len(wire), how)
    with anyio.fail_after(240):
        for size in range(0, len(wire), step):
            came, error = await heard_at(client, endpoint, body, wire, size, how)
            assert came == whole[: len(came)], size
            assert error is not None or len(came) == len(whole), size
            assert error is None or error.code == "STREAM_BROKEN", size
            if isinstance(endpoint, Stream):
                assert len(came) == bisect_right(ends, size), size
    assert fake.in_flight == 0


async def heard_at(
    client: tuple[FakeOllama, OllamaClient], endpoint: Any, body: Any, wire: bytes, size: int, how: Any
) -> tuple[list[Any], errors.OllamaError | None]:
    fake, ollama = client
    fake.scripts.clear()
    fake.script(Script(raw=wire[:size], how=how), path=endpoint.path)
    return await read(ollama, endpoint, body)
