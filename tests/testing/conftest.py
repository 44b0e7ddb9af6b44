import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import ollama
import pytest

from ollama_mcp.testing import Exchange, FakeOllama
from ollama_mcp.testing.listener import Listener

RECORDINGS = Path(__file__).parent.parent / "recordings"


@pytest.fixture
async def fake(anyio_backend: str) -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as running:
        yield running


@pytest.fixture
async def client(fake: FakeOllama) -> AsyncIterator[ollama.AsyncClient]:
    """The official client: whatever satisfies it speaks Ollama."""
    official = ollama.AsyncClient(host=fake.url)
    yield official
    await official._client.aclose()


class RawClient:
    """A bare socket: sends bytes, and says whether the answer ended in order or by a reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def rest(self) -> tuple[bytes, str]:
        """Everything up to the end, and how that came: "close" or "reset"."""
        got = b""
        while True:
            try:
                piece = await self.reader.read(1 << 16)
            except ConnectionResetError:
                return got, "reset"
            if not piece:
                return got, "close"
            got += piece

    async def until(self, end: bytes) -> bytes:
        return await self.reader.readuntil(end)


@pytest.fixture
async def dial(anyio_backend: str) -> AsyncIterator[Callable[[Listener], Awaitable[RawClient]]]:
    """Opens bare sockets to whatever listens, and closes them after the test."""
    opened: list[RawClient] = []

    async def dial(listener: Listener) -> RawClient:
        raw = RawClient(*await asyncio.open_connection(listener.host, listener.port))
        opened.append(raw)
        return raw

    yield dial
    for raw in opened:
        raw.writer.transport.abort()


@pytest.fixture
def connect(
    fake: FakeOllama, dial: Callable[[Listener], Awaitable[RawClient]]
) -> Callable[[], Awaitable[RawClient]]:
    """Opens bare sockets to the fake."""
    return lambda: dial(fake)


@pytest.fixture
def recording() -> Callable[[str], Exchange]:
    """Loads a recording by its name."""
    return lambda name: Exchange.load(RECORDINGS / f"{name}.json")
