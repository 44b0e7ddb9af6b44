"""Our server over HTTP, on a real socket: in a thread, or as the installed command."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest

from ollama_mcp import App, create_server
from ollama_mcp.settings import Settings, load
from ollama_mcp.testing import FakeOllama
from ollama_mcp.transports.http import access_of, addresses_of, http_app, open_sockets, probes
from ollama_mcp.transports.http.serve_http import serve_http
from ollama_mcp.transports.process import Stop

probes._ANSWER_S = 30.0  # on a busy machine the fake is late, and there all the same
COMMAND = Path(sys.executable).with_name("ollama-mcp")
PATIENCE = 10
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
EITHER = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class _TestStop(Stop):
    """Ends the server, and not the process that tests it."""

    def _watch(self) -> None:
        self._alarm.get()


class Served:
    """A server, and what an HTTP client says to it."""

    def __init__(self, url: str, app: App, open_requests: Any) -> None:
        self.url = url
        self.root = url.removesuffix("/mcp")
        self.port = httpx.URL(url).port
        self.app = app
        self.open_requests = open_requests

    def ask(self, method: str = "GET", path: str = "/mcp", **kwargs: Any) -> httpx.Response:
        """One request on a connection of its own."""
        with httpx.Client(trust_env=False, verify=False, timeout=PATIENCE) as client:
            return client.request(method, self.root + path, **kwargs)

    def call(
        self, tool: str = "ollama_list_models", *, headers: Any = None, **arguments: Any
    ) -> httpx.Response:
        """One call of the 2026 era."""
        return self.ask("POST", **modern_call(tool, arguments, headers))

    def result_of(self, tool: str, era: str, **arguments: Any) -> dict[str, Any]:
        """The result of one call, made as clients of an era do."""
        if era == MODERN:
            return self.answer_in(self.call(tool, **arguments))["result"]
        params = {"name": tool, "arguments": arguments}
        return self.answer_in(self.tell("tools/call", params, self.opened(era)))["result"]

    def tell(self, method: str, params: Any, headers: Any = None) -> httpx.Response:
        """One request of the 2025 era."""
        return self.ask("POST", **legacy(method, params, headers))

    def opened(self, era: str = LEGACY) -> dict[str, str]:
        """The headers of a session of its own."""
        said = {"protocolVersion": era, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        session = self.tell("initialize", said).headers["mcp-session-id"]
        return {"mcp-session-id": session, "mcp-protocol-version": era}

    def leave(self, method: str, params: Any, headers: Any) -> int:
        """One request of the 2025 era whose client goes as soon as it is taken; its status."""
        with (
            httpx.Client(trust_env=False, verify=False, timeout=PATIENCE) as client,
            client.stream("POST", self.url, **legacy(method, params, headers)) as answer,
        ):
            return answer.status_code

    @staticmethod
    def answer_in(response: httpx.Response) -> dict[str, Any]:
        """The JSON-RPC answer in a body of either kind."""
        if response.headers["content-type"].startswith("text/event-stream"):
            events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
            return json.loads(events[-1])
        return response.json()


def modern_call(tool: str, arguments: Any, headers: Any = None, **meta: Any) -> dict[str, Any]:
    """What httpx needs for one call of the 2026 era."""
    said = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        **meta,
    }
    named = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}
    params = {"name": tool, "arguments": arguments, "_meta": said}
    return {
        "headers": {**EITHER, **named, **(headers or {})},
        "content": written({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
    }


def legacy(method: str, params: Any, headers: Any = None) -> dict[str, Any]:
    """What httpx needs for one request of the 2025 era."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return {"headers": {**EITHER, **(headers or {})}, "content": written(message)}


def written(message: Any) -> bytes:
    """JSON as many clients write it: all that is not ASCII, lone surrogates too, as escapes."""
    return json.dumps(message).encode()


@contextmanager
def serving(settings: Settings, **backend: Any) -> Iterator[Served]:
    """Serve with these settings until the context ends, as the command does."""
    settings = replace(settings, backend=replace(settings.backend, **backend))
    app, access = App.create(settings), access_of(settings)
    sockets = open_sockets(settings.http.bind or ("127.0.0.1", 0))
    served = http_app(create_server(app), app, access)
    stop = _TestStop()  # last: its thread waits until it is asked
    started, failures = threading.Event(), []

    async def run() -> None:
        try:
            await serve_http(served, sockets, access, stop=stop, grace=0, on_started=started.set)
        finally:
            started.set()

    def thread() -> None:
        try:
            anyio.run(run)
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failures.append(error)

    worker = threading.Thread(target=thread)
    worker.start()
    try:
        assert started.wait(PATIENCE)
        yield Served(addresses_of(sockets)[0], app, served.open_requests)
    finally:
        stop.ask()
        worker.join(PATIENCE)
    assert not worker.is_alive()
    assert not failures, failures


@pytest.fixture(scope="module")
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama.in_thread() as fake:
        yield fake


@pytest.fixture
def serve(ollama: FakeOllama) -> Iterator[Callable[..., Served]]:
    """Start a server with settings by their variables."""
    opened = []

    def start(**variables: str) -> Served:
        given = {"OLLAMA_HOST": ollama.url, "OLLAMA_MCP_HTTP": "127.0.0.1:0", **variables}
        opened.append(serving(load(given)))
        return opened[-1].__enter__()

    try:
        yield start
    finally:
        for one in reversed(opened):
            one.__exit__(None, None, None)


@pytest.fixture
def command(ollama: FakeOllama) -> Iterator[Callable[..., SimpleNamespace]]:
    """Start the installed command in front of the fake; returns its process and its address."""
    children = []

    def begin(*args: str, **environment: str) -> SimpleNamespace:
        given = {"OLLAMA_HOST": ollama.url, **environment}
        process = subprocess.Popen(
            [COMMAND, "serve", *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=given, text=True
        )
        children.append(process)
        said = process.stderr.readline()
        found = re.search(r"http://\S+", said)
        return SimpleNamespace(process=process, said=said, url=found[0] if found else "")

    yield begin
    for process in children:
        process.kill()
        process.communicate()
