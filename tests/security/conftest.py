"""What is done to us, byte for byte, on a real socket; the server is that of tests/http."""

import importlib.util
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama


def _of(folder: str) -> Any:
    """The conftest of another folder of tests, for its helpers."""
    path = Path(__file__).parents[1] / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"helpers_of_{folder}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_HTTP, _PROCESS = _of("http"), _of("process")
PATIENCE = _HTTP.PATIENCE


class Answer(NamedTuple):
    """An HTTP answer as it came; of equal headers the last."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A plain connection, for what no HTTP client would send."""

    def __init__(
        self, port: int, address: str = "127.0.0.1", source: str = "", *, narrow: bool = False
    ) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._socket.settimeout(PATIENCE)
        if narrow:  # so that the server notices soon that nobody reads
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.bind((source, 0))
        self._socket.connect((address, port))
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """The next answer, which says how long it is."""
        status = int(self._file.readline().split()[1])
        lines = iter(self._file.readline, b"\r\n")
        pairs = [line.decode("latin-1").strip().partition(": ") for line in lines if line]
        headers = {name.lower(): value for name, _, value in pairs}
        return Answer(status, headers, self._file.read(int(headers.get("content-length", "0"))))

    def rest(self) -> bytes:
        """What comes until the server closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def read_for(self, seconds: float) -> bytes | None:
        """What came in that time; None for nothing, b"" where the server has closed."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def asked(port: int, lines: list[str | bytes], body: bytes = b"", **where: str) -> Answer:
    """One request, its head line by line as it is; text goes as UTF-8, as browsers and attackers write it."""
    head = b"\r\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    with Wire(port, **where) as wire:
        wire.send(head + b"\r\n\r\n" + body)
        return wire.answer()


class Unkept(FakeOllama):
    """Closes each connection after its answer: a server that outlives a test shall keep none of its."""

    async def _respond(self, request: Any, connection: Any) -> bool:
        request.headers["connection"] = "close"
        return await super()._respond(request, connection)


@pytest.fixture(scope="module")
def ollama() -> Iterator[FakeOllama]:
    with Unkept.in_thread() as fake:
        yield fake


@contextmanager
def starting(ollama: FakeOllama) -> Iterator[Callable[..., Any]]:
    """Start servers with settings by their variables, until the context ends."""
    with ExitStack() as stack:

        def start(**variables: str) -> Any:
            given = {"OLLAMA_HOST": ollama.url, "OLLAMA_MCP_HTTP": "127.0.0.1:0", **variables}
            return stack.enter_context(_HTTP.serving(load(given)))

        yield start


@pytest.fixture
def serve(ollama: FakeOllama) -> Iterator[Callable[..., Any]]:
    """Start a server for one test."""
    with starting(ollama) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(ollama: FakeOllama) -> Iterator[Callable[..., Any]]:
    """Start a server for all tests of a module; call it in fixtures of the module only."""
    with starting(ollama) as start:
        yield start


@pytest.fixture(scope="session")
def ask() -> Callable[..., Answer]:
    """`asked`, which says more."""
    return asked


@pytest.fixture(scope="session")
def wire() -> type[Wire]:
    return Wire


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start the command with these settings and no others, in a folder of its own."""
    with _PROCESS.nursery(tmp_path) as begin:
        yield begin


@pytest.fixture(scope="session")
def modern_call() -> Callable[..., Any]:
    """What httpx needs for one call of the 2026 era."""
    return _HTTP.modern_call
