"""Limits through the tools: what is too large is told before Ollama hears of it; the rest is lowered."""

import base64
import builtins
import io
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollama_mcp import App, ollama_chat, ollama_embeddings, ollama_generate
from ollama_mcp.errors import TooLarge
from ollama_mcp.settings import Settings, load
from ollama_mcp.testing import FakeOllama, Model
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.arguments import ArgumentCheck

pytestmark = pytest.mark.anyio

ERROR = "ollama-mcp/error"
NOTES = "ollama-mcp/notes"
MIB = 2**20
SEEING = Model("see:1", capabilities=("completion", "vision"))


def png(width: int, height: int, size: int = 24) -> str:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return base64.b64encode(head.ljust(size, b"\0")).decode()


def message(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": "x", **fields}


TOO_LARGE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "prompt": ("PROMPT", "ollama_chat", {"prompt": "x" * (MIB + 1)}),
    "system": ("PROMPT", "ollama_chat", {"prompt": "x", "system": "é" * MIB}),
    "options": ("PROMPT", "ollama_chat", {"prompt": "x", "options": {"stop": ["x" * MIB]}}),
    "messages": ("MESSAGES", "ollama_chat", {"messages": [message()] * 1001}),
    "messages_size": ("MESSAGES_SIZE", "ollama_chat", {"messages": [message(content="x" * MIB)] * 5}),
    "parts": (
        "MESSAGES_SIZE",
        "ollama_chat",
        {"messages": [message(content=[{"type": "text", "text": "x" * MIB}] * 5)]},
    ),
    "images": ("IMAGES", "ollama_chat", {"messages": [message(images=[png(1, 1)])] * 9}),
    "images_size": ("IMAGES_SIZE", "ollama_chat", {"messages": [message(images=[png(1, 1, 11 * MIB)])] * 2}),
    "pixels": ("MEGAPIXELS", "ollama_chat", {"messages": [message(images=[png(10_001, 5000)])]}),
    "tools": ("TOOLS", "ollama_chat", {"prompt": "x", "tools": [{"name": "f"}] * 129}),
    "tools_size": ("TOOLS_SIZE", "ollama_chat", {"prompt": "x", "tools": [{"name": "f" * MIB}]}),
    "schema": ("SCHEMA_SIZE", "ollama_chat", {"prompt": "x", "schema": {"title": "x" * MIB}}),
    "text": ("PROMPT", "ollama_generate", {"prompt": "x" * (MIB + 1)}),
    "suffix": ("PROMPT", "ollama_generate", {"prompt": "x", "suffix": "x" * (MIB + 1)}),
    "template": ("PROMPT", "ollama_generate", {"prompt": "x", "template": "x" * (MIB + 1)}),
    "pictures": ("IMAGES", "ollama_generate", {"prompt": "x", "images": [png(1, 1)] * 9}),
    "input": ("TEXTS", "ollama_embeddings", {"input": ["x"] * 4097}),
    "input_size": ("TEXTS_SIZE", "ollama_embeddings", {"input": ["x" * MIB] * 5}),
}


RAISED = {"PROMPT", "IMAGES_SIZE", "TEXTS"}
"""Limits that have a setting."""


@pytest.mark.parametrize("case", TOO_LARGE)
async def test_over_a_limit_the_setting_is_named_and_ollama_is_not_asked(call, fake, case):
    setting, tool, arguments = TOO_LARGE[case]
    result = await call(tool, arguments)
    assert result.is_error
    text = result.content[0].text
    assert text.startswith("TOO_LARGE: ")
    assert len(text) <= 400
    error = result.meta[ERROR]
    assert error["code"] == "TOO_LARGE"
    assert error["limit"] in text
    assert error["setting"] == (f"OLLAMA_MCP_MAX_{setting}" if setting in RAISED else "")
    assert ("The operator can raise" in text) == (setting in RAISED)
    assert not fake.requests


@pytest.mark.parametrize("case", [case for case, (setting, _, _) in TOO_LARGE.items() if setting in RAISED])
async def test_what_an_operator_may_need_is_theirs_to_raise(connect, fake, case):
    setting, tool, arguments = TOO_LARGE[case]
    high = "99999999" if setting == "TEXTS" else "1 GiB"
    with anyio.fail_after(20):
        async with connect(**{f"OLLAMA_MCP_MAX_{setting}": high}) as client:
            result = await client.call_tool(tool, {**arguments, "model": "missing:1"})
    assert result.meta[ERROR]["code"] == "MODEL_NOT_FOUND"  # the first thing after the limits


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ollama_embeddings", {"input": [""] * 1_000_000}),
        ("ollama_embeddings", {"input": "[" + '"",' * 1_000_000 + '""]'}),
        ("ollama_generate", {"prompt": "x", "images": ["a"] * 1_000_000}),
        ("ollama_chat", {"messages": [{}] * 1_000_000}),
        ("ollama_chat", {"prompt": "x", "tools": [{}] * 1_000_000}),
    ],
)
@pytest.mark.long
def test_a_list_is_counted_before_its_items_are_read(tool, arguments):
    check = ArgumentCheck(
        next(tool_ for toolset in TOOLSETS.values() for tool_ in toolset if tool_.name == tool),
        Settings(),
    )
    before = time.process_time()
    with pytest.raises(TooLarge):
        check.check(arguments)
    assert time.process_time() - before < 0.5  # reading them takes seconds


async def test_a_call_has_no_thousands_of_arguments(call, fake):
    result = await call("ollama_chat", prompt="x", **{f"stranger{place}": 1 for place in range(2000)})
    assert result.content[0].text.startswith(
        "INVALID_ARGUMENT: the call has 2001 arguments. Send only prompt, "
    )
    assert not fake.requests


async def test_what_is_lowered_is_said_and_answered(call, fake):
    fake.add_model(Model("small:1", ("completion",), 4096))
    options = {"num_ctx": 9999, "num_predict": 9999}
    for tool in ("ollama_chat", "ollama_generate"):
        result = await call(tool, model="small:1", prompt="x", options=options, keep_alive="-1")
        assert not result.is_error
        window, answer, stay = result.meta[NOTES]
        assert window == "num_ctx lowered from 9999 to 4096, the model's maximum"
        assert answer == "num_predict lowered from 9999 to 4096, the window"
        assert stay == "keep_alive lowered from -1 to 1h, the most that OLLAMA_MCP_MAX_KEEP_ALIVE allows"
    for path in ("/api/chat", "/api/generate"):
        body = fake.asked(path)[-1].json
        assert body["options"] == {"num_ctx": 4096, "num_predict": 4096}
        assert body["keep_alive"] == "1h"


async def test_a_direct_call_has_the_limits_of_its_app():
    with anyio.fail_after(10):
        async with FakeOllama() as fake:
            tight = {"OLLAMA_MCP_MAX_PROMPT": "5", "OLLAMA_MCP_MAX_TEXTS": "1"}
            async with App.create(load({"OLLAMA_HOST": fake.url, **tight})) as app:
                assert await ollama_chat(app, "12345")
                for refused in (ollama_chat(app, "123456"), ollama_generate(app, "123456"),
                                ollama_embeddings(app, ["a", "b"])):  # fmt: skip
                    with pytest.raises(TooLarge):
                        await refused


# --- images are base64, and no file is ever read ------------------------------------------------


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The paths that anybody opens."""
    paths: list[str] = []

    def watched(real: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            paths.append(str(path))
            return real(path, *args, **kwargs)

        return call

    for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "stat")):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return paths


async def test_a_path_that_is_base64_of_a_picture_is_sent_as_the_picture_that_it_spells(
    call, fake, tmp_path, monkeypatch, opened
):
    fake.add_model(SEEING)
    monkeypatch.chdir(tmp_path)
    picture = png(1, 1, 48)
    Path(picture).write_bytes(base64.b64decode(png(7, 7)) + b"secret")
    opened.clear()
    result = await call("ollama_generate", model="see:1", prompt="x", images=[picture])
    assert not result.is_error
    assert fake.asked("/api/generate")[-1].json["images"] == [picture]
    assert not [path for path in opened if picture in path]


@pytest.mark.parametrize("name", ["picture.png", "picture", "abcd", "/9j/4AAQ"])
async def test_a_file_that_exists_is_not_read_for_its_name(call, fake, tmp_path, monkeypatch, opened, name):
    fake.add_model(SEEING)
    monkeypatch.chdir(tmp_path)
    file = Path(name.removeprefix("/").replace("/", "_"))
    file.write_bytes(base64.b64decode(png(1, 1)))
    opened.clear()
    for image in (name, str(file), str(file.absolute()), f"./{file}", f"file://{file.absolute()}"):
        for tool, arguments in (
            ("ollama_generate", {"prompt": "x", "images": [image]}),
            ("ollama_chat", {"messages": [message(images=[image])]}),
            (
                "ollama_chat",
                {"messages": [message(content=[{"type": "image_url", "image_url": {"url": image}}])]},
            ),
        ):
            result = await call(tool, model="see:1", **arguments)
            assert result.meta[ERROR]["code"] == "INVALID_ARGUMENT"
    assert not [path for path in opened if path.endswith(str(file))]
    assert not fake.asked("/api/generate") + fake.asked("/api/chat")


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7", b"<svg/>", b"GIF89a", b"\xff\xd8\xff\xe0"])
async def test_what_is_no_picture_is_refused_with_what_to_send(call, fake, data):
    fake.add_model(SEEING)
    image = base64.b64encode(data).decode()
    result = await call("ollama_chat", model="see:1", messages=[message(images=[image])])
    assert result.meta[ERROR]["code"] == "INVALID_ARGUMENT"
    assert "base64" in result.content[0].text
    assert not fake.asked("/api/chat")
