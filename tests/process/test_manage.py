"""Managing models over real pipes, in both eras: progress of what takes long, and who is asked."""

import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import ElicitResult

from ollama_mcp.testing import Exchange, FakeOllama, Model, Script

pytestmark = pytest.mark.anyio

COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))
RECORDINGS = Path(__file__).parent.parent / "recordings"
GB = 1_000_000_000

Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(params=["auto", "legacy"])
def connect(request: pytest.FixtureRequest, fake: FakeOllama) -> Connect:
    """A client of the command with all its tools; `user` answers its questions."""

    @asynccontextmanager
    async def connect(user: Any = None, **environment: str) -> AsyncIterator[Client]:
        settings = {"OLLAMA_HOST": fake.url, **environment}
        server = StdioServerParameters(command=COMMAND, args=["--toolsets", "all"], env=settings)
        with anyio.fail_after(30):
            async with Client(stdio_client(server), mode=request.param, elicitation_callback=user) as client:
                yield client

    return connect


async def told(client: Client, tool: str, **arguments: Any) -> str:
    return (await client.call_tool(tool, arguments)).content[0].text


def lines_of(total: int) -> list[bytes]:
    """A pull of two layers, whose count goes back once, as that of a real one does."""
    counts = [0.1, 0.3, 0.2, 0.6, 1.0]
    form = '{{"status":"pulling {0}","digest":"sha256:{0}","total":{1},"completed":{2}}}'
    layers = [form.format(name, total, int(total * part)) for name in ("6a07", "b3d5") for part in counts]
    return [b'{"status":"pulling manifest"}', *(line.encode() for line in layers), b'{"status":"success"}']


@pytest.mark.parametrize(
    ("tool", "path"), [("ollama_pull_model", "/api/pull"), ("ollama_push_model", "/api/push")]
)
async def test_what_takes_long_tells_bytes_that_only_grow(connect, fake, tool, path):
    fake.add_model(Model("me/big"))
    fake.script(Script(lines=lines_of(2 * GB), delay=0.1), path=path)
    heard: list[tuple[float, float | None, str]] = []

    async def hear(value: float, total: float | None, message: str | None) -> None:
        heard.append((value, total, message or ""))

    async with connect() as client:
        result = await client.call_tool(
            tool, {"model": "me/big", "confirm": "me/big:latest"}, progress_callback=hear
        )
    assert not result.is_error, result.content
    assert "success" in result.content[0].text
    values = [value for value, _, _ in heard]
    assert values == sorted(set(values))
    assert 1 <= len(heard) <= 8
    assert any(re.search(r" of [24]\.0 GB · \d+ % · ", message) for _, _, message in heard)


@pytest.mark.parametrize(
    ("recording", "tool", "arguments", "said"),
    [
        ("pull-again", "ollama_pull_model", {"model": "smollm2:135m"}, "success"),
        ("pull-resumes", "ollama_pull_model", {"model": "smollm2:135m"}, "success"),
        ("pull-missing", "ollama_pull_model", {"model": "library/nothing-like-this"}, "MODEL_NOT_FOUND: "),
        ("pull-unreachable", "ollama_pull_model", {"model": "smollm2:135m"}, "UPSTREAM: "),
        (
            "create-from-missing",
            "ollama_create_model",
            {"model": "x", "from_model": "nobody"},
            "MODEL_NOT_FOUND: ",
        ),
        (
            "create-bad-parameter",
            "ollama_create_model",
            {"model": "x", "from_model": "m", "parameters": {"temperature": "hot"}},
            "INVALID_ARGUMENT: ",
        ),
    ],
)
async def test_what_real_servers_said_is_told(connect, fake, recording, tool, arguments, said):
    fake.add_model(Model("m"))
    fake.replay(Exchange.load(RECORDINGS / f"{recording}.json"))
    async with connect() as client:
        text = await told(client, tool, **arguments)
    assert said in text
    assert "/var/lib" not in text


@pytest.mark.parametrize("recording", ["push", "push-unknown"])
async def test_what_a_real_server_said_to_a_push_is_told(connect, fake, recording):
    exchange = Exchange.load(RECORDINGS / f"{recording}.json")
    name = exchange.request.json["model"].removeprefix("http://")  # names have no scheme with us
    fake.add_model(Model(name))
    fake.replay(exchange)
    host = name.split("/")[0]
    async with connect(OLLAMA_MCP_REGISTRIES=f"registry.ollama.ai,{host}") as client:
        result = await client.call_tool("ollama_push_model", {"model": name, "confirm": name})
    text = result.content[0].text
    assert result.is_error is (recording == "push-unknown"), text
    assert "/var/lib" not in text


ANSWERS = {
    "accepted": ElicitResult(action="accept", content={"confirm": True}),
    "declined": ElicitResult(action="decline"),
}


@pytest.mark.parametrize("answer", [*ANSWERS, "unsupported", "changed"])
async def test_a_deletion_is_asked_about_over_the_pipe(connect, fake, answer):
    fake.add_model(Model("m"))
    asked: list[str] = []

    async def user(_: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        if answer == "changed":
            fake.add_model(Model("m", digest="f" * 64))
        return ANSWERS.get(answer, ANSWERS["accepted"])

    async with connect(None if answer == "unsupported" else user) as client:
        text = await told(client, "ollama_delete_model", model="m", confirm="m:late")
    if answer == "accepted":
        assert text.startswith("m:latest is deleted")
    else:
        assert text.startswith("NOT_CONFIRMED: ")
    assert bool(fake.asked("/api/delete")) is (answer == "accepted")
    assert len(asked) == (answer != "unsupported")
