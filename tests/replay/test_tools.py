"""Every recording that one of our tools can cause, replayed byte for byte through that tool."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from ollama_mcp.app import App
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.server import create_server
from ollama_mcp.settings import Backend, Settings
from ollama_mcp.settings.limits import Limits
from ollama_mcp.testing import Exchange, FakeOllama

pytestmark = pytest.mark.anyio

ALL = sorted((Path(__file__).parent.parent / "recordings").glob("*.json"))

NOT_OURS = {
    "embeddings-legacy": "only a server without /api/embed is asked for it",
    "embeddings-legacy-missing": "as above",
}
RECORDINGS = [
    path
    for path in ALL
    if path.stem.startswith(("chat-", "generate-", "embed", "old-chat-", "old-generate-", "old-embed-"))
    or path.stem in {"cloud-model", "old-tags", "tags", "tags-none", "tags-other-registry"}
    if path.stem not in NOT_OURS
]

REFUSED_BEFORE = {
    "chat-embedding-model", "chat-format-bad", "chat-image-to-text-model", "chat-keepalive-bool",
    "chat-missing-model", "chat-option-type", "chat-think-bad", "chat-think-unsupported",
    "chat-tools-unsupported", "chat-bad-name", "cloud-model", "embed-chat-model",
    "embed-chat-model-loaded", "embed-missing-model", "embed-type", "generate-embedding-model",
    "generate-missing-model", "generate-raw-system", "generate-suffix-unsupported",
    "old-chat-embedding-model", "old-chat-format-bad", "old-chat-option-type",
}  # fmt: skip
"""Our own check gives the code that is expected, and the model is never asked."""

BETTER: dict[str, tuple[str, str]] = {
    # recording: (code of our own refusal, why that is better than what Ollama did)
    "chat-option-unknown": ("UNKNOWN_OPTION", "Ollama ignores temprature in silence"),
    "chat-role-odd": ("INVALID_ARGUMENT", "Ollama takes any role and the model sees nonsense"),
    "embed-empty-list": ("INVALID_ARGUMENT", "no texts are a mistake of the caller's"),
    "generate-load": ("INVALID_ARGUMENT", "nothing to complete; loading is no work of this tool"),
    "generate-unload": ("INVALID_ARGUMENT", "the prompt is missing; unloading is no work of this tool"),
    "old-chat-image-to-text-model": ("INVALID_ARGUMENT", "no picture; 0.24 drops it and the model invents"),
    "old-embed-chat-model": ("CAPABILITY", "0.24 embeds with a chat model, whose vectors mean little"),
    "chat-schema-cut": ("TRUNCATED", "half an object fits no schema; it is in partial_text"),
    "generate-json": ("TRUNCATED", "half an object is no JSON; its handle has what was written"),
    "chat-think-level": ("TRUNCATED", "all its tokens went into thinking, so that there is no answer"),
}
JUDGED = {"chat-schema-cut", "generate-json", "chat-think-level"}
"""Those of them that Ollama is asked for all the same."""

ASKED_AGAIN = {"old-chat-overflow-refused", "old-generate-overflow-refused"}
"""Refused without counts: a larger window is tried once, and the real server refused that as well."""

MENDED: dict[str, tuple[str, Any, str]] = {
    # recording: (field of the request, what we send in it, why that is not what was recorded)
    "chat-image-data-url": ("messages.0.images.0", "iVBORw0KGgo", "Ollama wants bare base64"),
    "chat-keepalive-2d": ("keep_alive", "48h", "Go has no days"),
    "chat-keepalive-300-text": ("keep_alive", 300.0, "Go wants a unit in a text"),
    "chat-keepalive-empty": ("keep_alive", None, "an empty text is the server's default"),
    "chat-keepalive-forever": ("keep_alive", -1, "Go's for ever is negative"),
    "chat-keepalive-minus-one-text": ("keep_alive", -1, "Go wants a unit in a text"),
    "chat-no-model": ("model", "smollm2:135m", "no model named: one is chosen, and named in the result"),
    "chat-tool-arguments-string": (
        "messages.1.tool_calls.0.function.arguments",
        {"city": "Paris"},
        "other APIs send arguments as JSON text",
    ),
}
"""Requests that Ollama refused with HTTP 400 and that we send in a form that it takes."""


# --- from a recorded request to a tool's arguments ---------------------------------------------


def _call_of(exchange: Exchange) -> tuple[str, dict[str, Any]]:
    body = exchange.request.json
    match exchange.request.path:
        case "/api/chat":
            return "ollama_chat", _arguments(body, "model", "messages", "tools")
        case "/api/generate":
            fields = ("model", "prompt", "system", "suffix", "images", "raw", "template")
            return "ollama_generate", _arguments(body, *fields)
        case "/api/embed":
            fields = {name: body[name] for name in ("model", "dimensions") if name in body}
            texts = body["input"] if isinstance(body["input"], list | int) else [body["input"]]
            given = {"input": texts, "truncate": body.get("truncate", True), "vectors": "full"}
            return "ollama_embeddings", fields | given
        case _:
            return "ollama_list_models", {}


def _arguments(body: dict[str, Any], *fields: str) -> dict[str, Any]:
    names = (*fields, "options", "think", "keep_alive")
    given = {name: body[name] for name in names if name in body}
    wanted = body.get("format")
    given |= {"schema": wanted} if isinstance(wanted, dict) else {"format": wanted} if wanted else {}
    # Ollama cuts unless it is told not to, we are the other way round.
    return given | {"truncate": body.get("truncate", True)}


# --- one call ----------------------------------------------------------------------------------


@asynccontextmanager
async def _client(fake: FakeOllama, mode: str) -> AsyncIterator[Client]:
    backend = Backend(host=parse_host(fake.url), retries=0)
    app = App.create(Settings(backend=backend, limits=Limits(keep_alive=-1)))
    async with Client(create_server(app), mode=mode) as client:
        yield client


class _Outcome:
    """A tool's result, by the names that `expects` has."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.meta: dict[str, Any] = result.meta or {}
        self.error: dict[str, Any] | None = self.meta.get("ollama-mcp/error")
        self.stats: dict[str, Any] = self.meta.get("ollama-mcp/stats", {})
        self.data: dict[str, Any] = result.structured_content or {}
        (block,) = result.content
        self.block = block.text

    @property
    def text(self) -> str:
        if self.tool_calls:
            return self.block.partition("[")[0].rstrip("\n")
        return self.block

    @property
    def thinking(self) -> str:
        return self.meta.get("ollama-mcp/thinking", "")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        calls = [call["function"] for call in self.meta.get("ollama-mcp/tool_calls", [])]
        return [{"name": call["name"], "arguments": call["arguments"]} for call in calls]

    @property
    def done_reason(self) -> str:
        return self.stats["done_reason"]

    @property
    def prompt_tokens(self) -> int | None:
        return self.stats.get("prompt_tokens")

    @property
    def output_tokens(self) -> int | None:
        return self.stats.get("output_tokens")

    @property
    def count(self) -> int:
        assert self.data["count"] == len(self.data["vectors"])
        return self.data["count"]

    @property
    def dimensions(self) -> int:
        (length,) = {len(vector) for vector in self.data["vectors"]}
        assert length == self.data["dimensions"]
        return length

    @property
    def models(self) -> list[str]:
        return sorted(model["name"] for model in self.data["models"])


CUT = re.compile(r"\n\[(cut off at|the prompt was cut:) [^\n]*\](?=\n|\Z)")
"""Lines of ours behind an answer that is not whole."""
_COMPARED = (
    "text", "thinking", "tool_calls", "done_reason", "prompt_tokens", "output_tokens", "count",
    "dimensions", "models",
)  # fmt: skip


def _check_success(outcome: _Outcome, expects: dict[str, Any]) -> None:
    assert not outcome.result.is_error, outcome.block
    for name in _COMPARED:
        if name in expects:
            told = sorted(expects[name]) if name == "models" else expects[name]
            said = getattr(outcome, name)
            assert (CUT.sub("", said) if name == "text" else said) == told, name
    seen = expects.get("truncated", {}).get("seen")
    cut = {"seen": seen, "window": expects["truncated"]["window"]} if seen else None
    assert outcome.stats.get("truncated") == cut
    assert any("cut the prompt" in note for note in outcome.meta.get("ollama-mcp/notes", [])) == bool(seen)


def _check_failure(outcome: _Outcome, codes: list[str], expects: dict[str, Any]) -> None:
    error = outcome.error
    assert outcome.result.is_error
    assert error is not None
    assert error["code"] in codes, outcome.block
    assert error["code"] != expects.get("never")
    assert outcome.block.startswith(f"{error['code']}: ")
    assert len(outcome.block) <= 400
    assert not any(secret in str(outcome.result) for secret in ("/var/lib", "198.51.100.53", "/root/"))
    assert error["partial_text"] == expects.get("partial_text", error["partial_text"])
    for name in ("lacks", "tokens", "window"):
        if name in expects:
            assert error[name] == expects[name]


def _path_in(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = body[int(step)] if isinstance(body, list) else body.get(step)
    return body


_ORDINARY = [path for path in RECORDINGS if path.stem not in MENDED and path.stem != "chat-client-leaves"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("path", _ORDINARY, ids=lambda path: path.stem)
async def test_a_recording_through_its_tool_becomes_what_it_expects(
    path: Path, mode: str, world: Callable[[Exchange], FakeOllama]
):
    exchange = Exchange.load(path)
    tool, arguments = _call_of(exchange)
    expects, times = _expected(exchange), 2 if exchange.name in ASKED_AGAIN else 1
    with anyio.fail_after(10):
        async with world(exchange) as fake:
            for _ in range(times):
                fake.replay(exchange)
            async with _client(fake, mode) as client:
                outcome = _Outcome(await client.call_tool(tool, arguments))
            asked = len(fake.asked(exchange.request.path))
    if "error" in expects:
        _check_failure(outcome, expects["error"], expects)
    else:
        _check_success(outcome, expects)
    never_asked = exchange.name in REFUSED_BEFORE | BETTER.keys() - JUDGED
    assert asked == (0 if never_asked else times)


def _expected(exchange: Exchange) -> dict[str, Any]:
    """What the recording expects, but where a tool of ours does better."""
    expects = dict(exchange.expects)
    if exchange.name in BETTER:
        expects = {"error": [BETTER[exchange.name][0]]}
    match exchange.name:
        case "chat-schema-cut":
            expects["partial_text"] = exchange.expects["text"]
        case "old-embed-chat-model":
            expects["lacks"] = "embedding"
        case "chat-think-false":
            # The template opened the thinking: what leaked is thinking, not answer.
            expects |= {"text": "8", "thinking": "I add 4 and 2.\n"}
    return expects


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("name", MENDED)
async def test_what_ollama_refused_is_sent_in_a_form_that_it_takes(
    name: str, mode: str, world: Callable[[Exchange], FakeOllama]
):
    exchange = Exchange.load(ALL[0].parent / f"{name}.json")
    tool, arguments = _call_of(exchange)
    field, value, _ = MENDED[name]
    with anyio.fail_after(10):
        async with world(exchange) as fake:
            if name == "chat-image-data-url":
                fake.models["smollm2:135m"].capabilities = ("completion", "vision")
            async with _client(fake, mode) as client:
                result = await client.call_tool(tool, arguments)
            (request,) = fake.asked("/api/chat")
    assert not result.is_error, result.content
    sent = _path_in(request.json, field)
    assert sent.startswith(value) if name == "chat-image-data-url" else sent == value


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_that_leaves_stops_the_recorded_model(
    mode: str, world: Callable[[Exchange], FakeOllama]
):
    exchange = Exchange.load(ALL[0].parent / "chat-client-leaves.json")
    tool, arguments = _call_of(exchange)
    with anyio.fail_after(10):
        async with world(exchange) as fake:
            fake.replay(exchange)
            async with _client(fake, mode) as client, anyio.create_task_group() as group:
                group.start_soon(client.call_tool, tool, arguments)
                await fake.wait_for(lambda fake: fake.asked("/api/chat"))
                group.cancel_scope.cancel()
            await fake.wait_for(lambda fake: fake.disconnects == 1)


async def test_an_image_for_an_old_text_model_is_refused_before_it_is_dropped(
    world: Callable[[Exchange], FakeOllama],
):
    exchange = Exchange.load(ALL[0].parent / "old-chat-image-to-text-model.json")
    # What was sent to the old server was no picture; this one is.
    tool, arguments = _call_of(Exchange.load(ALL[0].parent / "chat-image-to-text-model.json"))
    with anyio.fail_after(10):
        async with world(exchange) as fake, _client(fake, "auto") as client:
            fake.replay(exchange)
            result = await client.call_tool(tool, arguments)
            assert result.meta["ollama-mcp/error"]["lacks"] == "vision"
            assert fake.asked("/api/chat") == []


def test_no_recording_is_left_out():
    ids = {path.stem for path in RECORDINGS}
    families = ("chat-", "generate-", "embed", "old-")
    named = {path.stem for path in ALL if path.stem.startswith(families)} - NOT_OURS.keys()
    # What no tool asks for by itself; test_client replays it, as it replays every recording.
    assert named - ids == {"old-ps", "old-show-chat", "old-version"}
    assert ids >= {
        "chat-overflow-history", "chat-overflow-history-refused", "chat-overflow-one",
        "chat-overflow-refused", "chat-runner-dies", "chat-server-dies", "generate-u0085",
        "old-chat-image-to-text-model",
    }  # fmt: skip
    assert ids >= REFUSED_BEFORE | BETTER.keys() | MENDED.keys()
