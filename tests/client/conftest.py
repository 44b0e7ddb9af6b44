"""Fixtures of the tests below MCP."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from ollama_mcp.client import OllamaClient
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings import Backend, Timeouts
from ollama_mcp.testing import Exchange, FakeOllama


@pytest.fixture
async def in_time(anyio_backend: str) -> AsyncIterator[None]:
    with anyio.fail_after(20):
        yield


@pytest.fixture(params=["httpx", "aiohttp"])
def stack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both HTTP stacks, one after the other: with the extra `speed`, and without."""
    if request.param == "httpx":
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    return request.param


@pytest.fixture
async def fake(in_time: None) -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as running:
        yield running


@pytest.fixture
async def connect(in_time: None) -> AsyncIterator[Callable[..., OllamaClient]]:
    """Makes clients of an address, and closes them after the test. Clocks and headers by keyword."""
    opened: list[OllamaClient] = []

    def connect(url: str, **settings) -> OllamaClient:
        settings.setdefault("swift", True)
        timeouts = {k: settings.pop(k) for k in ("connect", "first_byte", "idle") if k in settings}
        via = {k: settings.pop(k) for k in ("transport", "http") if k in settings}
        settings.setdefault("retries", 0)  # what is tested is the first failure, but where it says otherwise
        opened.append(
            OllamaClient(Backend(host=parse_host(url), timeouts=Timeouts(**timeouts), **settings), **via)
        )
        return opened[-1]

    yield connect
    for client in opened:
        await client.aclose()


@pytest.fixture
async def client(fake: FakeOllama, connect: Callable[..., OllamaClient]) -> OllamaClient:
    return connect(fake.url)


RECORDINGS = Path(__file__).parent.parent / "recordings"


@pytest.fixture
def recording() -> Callable[[str], Exchange]:
    """Loads a recording by its name."""
    return lambda name: Exchange.load(RECORDINGS / f"{name}.json")
