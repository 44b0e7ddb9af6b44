"""A defect of ours is an INTERNAL error with an id; the server lives."""

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.arguments import ArgumentCheck

pytestmark = pytest.mark.anyio


def crash() -> Any:
    raise KeyError("a secret detail")


def leave() -> Any:
    sys.exit(3)


def recurse() -> Any:
    return recurse()


CRASHES: list[Callable[[], Any]] = [crash, leave, recurse]


@pytest.fixture(params=CRASHES, ids=lambda made: made.__name__)
def failing(request: pytest.FixtureRequest) -> Callable[..., Any]:
    async def failing(*_: Any, **__: Any) -> Any:
        return request.param()

    return failing


@pytest.fixture
def swap(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change fields of the tool ollama_chat, before its server is made."""

    def swap(**fields: Any) -> None:
        first, *others = TOOLSETS["chat"].tools
        changed = replace(TOOLSETS["chat"], tools=[replace(first, **fields), *others])
        monkeypatch.setitem(TOOLSETS, "chat", changed)

    return swap


async def expect_internal(client: Any, caplog: pytest.LogCaptureFixture, **arguments: Any) -> None:
    result = await client.call_tool("ollama_chat", {"prompt": "x", **arguments})
    error = result.meta["ollama-mcp/error"]
    assert result.is_error
    assert error["code"] == "INTERNAL"
    assert "secret" not in result.model_dump_json()
    assert error["error_id"] in result.content[0].text
    [record] = [record for record in caplog.records if error["error_id"] in record.getMessage()]
    assert record.exc_info is not None
    assert not (await client.call_tool("ollama_generate", {"prompt": "x"})).is_error


async def test_a_crash_in_a_tool_function_is_internal(swap, connect, caplog, failing):
    tool = TOOLSETS["chat"].tools[0]
    swap(function=functools.wraps(tool.function)(failing))
    async with connect() as client:
        await expect_internal(client, caplog)


async def test_a_crash_in_rendering_is_internal(swap, connect, caplog):
    swap(render=lambda _: crash())
    async with connect() as client:
        await expect_internal(client, caplog)


async def test_a_crash_in_the_check_of_arguments_is_internal(connect, caplog, monkeypatch):
    def check(self: ArgumentCheck, raw: dict[str, Any]) -> Any:
        return crash() if self.tool.name == "ollama_chat" else (dict(raw), [])

    monkeypatch.setattr(ArgumentCheck, "check", check)
    async with connect() as client:
        await expect_internal(client, caplog)


async def test_a_crash_in_a_reply_is_internal(app, client, caplog, monkeypatch, failing):
    run, crashed = app.generator.run, []

    async def crash_once(*given: Any) -> Any:
        if crashed:
            return await run(*given)
        crashed.append(1)
        return await failing()

    monkeypatch.setattr(app.generator, "run", crash_once)
    await expect_internal(client, caplog)


async def test_a_strange_wish_for_progress_is_no_crash(client):
    for wish in ({}, [1], 5, None, "loud"):
        result = await client.call_tool("ollama_chat", {"prompt": "x"}, meta={"ollama-mcp/progress": wish})
        assert not result.is_error
