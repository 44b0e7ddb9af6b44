"""Every recording, replayed byte for byte through OllamaClient, becomes what its `expects` says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from ollama_mcp.client import OllamaClient
from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama import api_models as api
from ollama_mcp.ollama import endpoints as rows
from ollama_mcp.ollama.endpoints import Call, Stream
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings import Backend
from ollama_mcp.testing import Exchange, FakeOllama

pytestmark = pytest.mark.anyio

RECORDINGS = sorted((Path(__file__).parent.parent / "recordings").glob("*.json"))

_ROWS = [row for row in vars(rows).values() if isinstance(row, Call | Stream)]
_ODD_ROWS = [
    Call("HEAD", "/", rows.Nothing, api.Greeting),
    Call("GET", "/api/chat", rows.Nothing, api.Version),
    Call("POST", "/api/nope", api.Request, api.Version),
    Call("POST", "/api/experimental/web_search", api.WebSearchRequest, api.WebSearchResponse),
]
"""What no row is for, because no server of ours has it."""

UNTYPED = {
    "body-empty": "no body at all",
    "body-list": "a list for a body",
    "body-not-json": "half an object",
    "chat-format-bad": "format is json or a schema",
    "chat-option-type": "options are numbers",
    "chat-option-unknown": "an unknown option is refused",
    "chat-role-odd": "roles are system, user, assistant, tool",
    "chat-think-bad": "think has four levels",
    "create-bad-parameter": "parameters are typed like options",
    "embed-type": "input is text",
    "old-chat-format-bad": "format is json or a schema",
    "old-chat-option-type": "options are numbers",
}
"""Requests that our models refuse to build; their bodies are sent as they were recorded."""

MENDED = {
    "chat-tool-arguments-string": "arguments as JSON text become the object that Ollama wants",
    "chat-keepalive-bool": "true becomes a second",
}
"""Requests that our models put right: what would be sent is not what was recorded."""

UNGREETED = {"root-head": "a HEAD has no greeting by which to know Ollama; our client never sends it"}


class _Recorded(api.Request):
    """Not checked: the bytes of the recording."""

    model: str = ""
    body: bytes = b""

    def to_json(self) -> bytes:
        return self.body


def _row(exchange: Exchange) -> tuple[Call[Any, Any] | Stream[Any, Any], dict[str, str]]:
    asked = exchange.request
    if asked.path.startswith("/api/blobs/"):
        row = rows.BLOB_EXISTS if asked.method == "HEAD" else rows.BLOB_UPLOAD
        return row, {"digest": asked.path.rpartition("/")[2]}
    found = [row for row in (*_ROWS, *_ODD_ROWS) if (row.method, row.path) == (asked.method, asked.path)]
    return found[0], {}


def _request(row: Call[Any, Any] | Stream[Any, Any], exchange: Exchange) -> Any:
    """The recorded request as our typed model; as plain bytes where that would refuse it."""
    body = exchange.request.json
    if row.request is bytes:
        return exchange.request.body
    if row.request is rows.Nothing:
        return None
    if isinstance(body, dict) and row.request is api.CreateRequest:
        body = {"from_" if name == "from" else name: value for name, value in body.items()}
    try:
        return row.request.model_validate(body)
    except ValidationError:
        model = body.get("model", "") if isinstance(body, dict) else ""
        return _Recorded(model=model, body=exchange.request.body)


class _Outcome:
    """What came of one exchange."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.answer: Any = None
        self.error: OllamaError | None = None

    @property
    def text(self) -> str:
        return "".join(line.text for line in self.lines) if self.lines else self.answer.text

    @property
    def thinking(self) -> str:
        return "".join(line.thoughts for line in self.lines)

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        calls = [call.function for line in self.lines for call in line.calls]
        return [{"name": call.name, "arguments": call.arguments} for call in calls]

    @property
    def done_reason(self) -> str:
        return self.lines[-1].done_reason

    @property
    def prompt_tokens(self) -> int | None:
        return self.lines[-1].prompt_eval_count or None

    @property
    def output_tokens(self) -> int | None:
        return self.lines[-1].eval_count or None

    @property
    def status(self) -> str:
        return self.lines[-1].status

    @property
    def vectors(self) -> list[list[float]]:
        legacy = isinstance(self.answer, api.LegacyEmbeddingsResponse)
        return [self.answer.embedding] if legacy else self.answer.embeddings

    @property
    def count(self) -> int:
        return len(self.vectors)

    @property
    def dimensions(self) -> int:
        (length,) = {len(vector) for vector in self.vectors}
        return length

    @property
    def models(self) -> list[str]:
        return sorted(model.name for model in self.answer.models)

    @property
    def version(self) -> str:
        return self.answer.version

    @property
    def present(self) -> bool:
        return self.error is None or self.error.upstream_status != 404

    @property
    def partial_text(self) -> str:
        return "".join(line.text for line in self.lines)


_COMPARED = (
    "text", "thinking", "tool_calls", "done_reason", "prompt_tokens", "output_tokens", "status", "count",
    "dimensions", "models", "version", "present", "partial_text",
)  # fmt: skip
_SAID = {"truncated", "trap", "cancelled", "error", "never", "lacks", "tokens", "window"}


async def _made(client: OllamaClient, exchange: Exchange, leave_after: int | None) -> _Outcome:
    row, path = _row(exchange)
    request, outcome = _request(row, exchange), _Outcome()
    try:
        if isinstance(row, Call):
            outcome.answer = await client.call(row, request, **path)
            return outcome
        async with client.stream(row, request) as lines:
            async for line in lines:
                outcome.lines.append(line)
                if len(outcome.lines) == leave_after:
                    break
    except OllamaError as error:
        outcome.error = error
    return outcome


def _check_error(error: OllamaError | None, expects: dict[str, Any]) -> None:
    if "error" not in expects:
        assert error is None or "present" in expects, error
        return
    assert error is not None
    assert error.code in expects["error"], str(error)
    assert error.code != expects.get("never")
    for name in ("lacks", "tokens", "window"):
        if name in expects:
            assert error.details[name] == expects[name]
    _check_words(error)


def _client(url: str) -> OllamaClient:
    """A recording is one exchange: nothing is tried again."""
    return OllamaClient(Backend(host=parse_host(url), retries=0))


def _check_words(error: OllamaError) -> None:
    text = str(error)
    assert len(text) <= 400
    assert not any(secret in text for secret in ("/var/lib", "198.51.100.53", "/root", "\n"))


async def test_a_recording_becomes_what_it_expects(world: Callable[[Exchange], FakeOllama], subtests):
    for path in RECORDINGS:
        with subtests.test(path.stem):
            exchange = Exchange.load(path)
            expects = dict(exchange.expects) | (
                {"error": ["NOT_OLLAMA"]} if exchange.name in UNGREETED else {}
            )
            lines = exchange.body().count(b"\n") if expects.get("cancelled") else None
            with anyio.fail_after(5):
                async with world(exchange) as fake, _client(fake.url) as client:
                    fake.replay(exchange)
                    outcome = await _made(client, exchange, leave_after=lines)
                    assert len(fake.requests) == 1
                    if expects.get("cancelled"):
                        await fake.wait_for(lambda fake: fake.disconnects == 1)
            _check_error(outcome.error, expects)
            for name in _COMPARED:
                if name in expects:
                    told = sorted(expects[name]) if name == "models" else expects[name]
                    assert getattr(outcome, name) == told, name


def test_our_model_of_a_request_says_what_was_recorded(subtests):
    for path in [path for path in RECORDINGS if path.stem not in MENDED]:
        with subtests.test(path.stem):
            exchange = Exchange.load(path)
            request = _request(_row(exchange)[0], exchange)
            assert isinstance(request, _Recorded) == (exchange.name in UNTYPED)
            if isinstance(request, _Recorded):
                assert request.to_json() == exchange.request.body
            elif isinstance(request, api.Request):
                assert _plain(json.loads(request.to_json())) == _plain(exchange.request.json)


def _plain(body: Any) -> Any:
    """Without what is the server's default, and with numbers as numbers."""
    if isinstance(body, dict):
        defaults = {"stream": True, "content": "", "prompt": "", "messages": []}
        kept = {name: _plain(value) for name, value in body.items()}
        return {n: v for n, v in kept.items() if v is not None and (n not in defaults or v != defaults[n])}
    return [_plain(item) for item in body] if isinstance(body, list) else body


def test_every_expectation_is_one_that_we_check():
    for path in RECORDINGS:
        assert set(Exchange.load(path).expects) <= {*_COMPARED, *_SAID}, path.stem
