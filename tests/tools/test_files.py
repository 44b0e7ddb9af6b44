"""Files of this machine in the hands of a caller: published where they are allowed, told as a table."""

import base64
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from ollama_mcp import App, create_server, ollama_chat
from ollama_mcp.errors import Forbidden
from ollama_mcp.settings import load
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2, 3) + b"\x08\x02\0\0\0"


ALL = {"OLLAMA_MCP_TOOLSETS": "all"}


@pytest.fixture
def connect(fake: Any, mode: str) -> Any:
    """A client of a server that has every tool, with settings of its own."""

    @asynccontextmanager
    async def connect(**environment: str) -> AsyncIterator[Client]:
        app = App.create(load({"OLLAMA_HOST": fake.url, **ALL, **environment}))
        async with Client(create_server(app), mode=mode) as client:
            yield client

    return connect


@pytest.fixture
async def client(connect: Any) -> AsyncIterator[Client]:
    async with connect() as client:
        yield client


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("Alpha\u202e is\u200b first.")
    (folder / "b.txt").write_text("Beta is second.")
    (folder / "p.png").write_bytes(PNG)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    folder.mkdir()
    return folder


async def schemas(client: Client) -> dict[str, list[str]]:
    return {tool.name: list(tool.input_schema["properties"]) for tool in (await client.list_tools()).tools}


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    with anyio.fail_after(10):
        return await client.call_tool(tool, arguments)


def text(result: Any) -> str:
    (block,) = result.content
    return block.text


# --- what is published ---------------------------------------------------------------------------


async def test_files_are_published_only_where_folders_are_allowed(client, connect, root, out):
    before = await schemas(client)
    async with connect(OLLAMA_MCP_ROOTS=str(root)) as allowed:
        after = await schemas(allowed)
    async with connect(OLLAMA_MCP_OUTPUT=str(out), OLLAMA_MCP_ROOTS=str(root)) as writing:
        third = await schemas(writing)
    for tool in ("ollama_chat", "ollama_generate"):
        assert "files" not in before[tool]
        assert [name for name in after[tool] if name != "files"] == before[tool]
        assert third[tool] == after[tool]
    assert "output" not in before["ollama_map_files"] + after["ollama_map_files"]
    assert "output" in third["ollama_map_files"]


@pytest.mark.parametrize("tool", ["ollama_chat", "ollama_generate"])
async def test_files_that_are_not_allowed_are_refused_and_not_dropped(client, fake, root, tool):
    result = await call(client, tool, prompt="x", files=[str(root / "a.txt")])
    assert result.is_error
    assert text(result).startswith(f'INVALID_ARGUMENT: {tool} has no argument "files"')
    assert "OLLAMA_MCP_ROOTS" in text(result)
    assert not fake.requests


async def test_many_files_without_folders_are_forbidden(client, root):
    result = await call(client, "ollama_map_files", prompt="x", files=["*"])
    assert text(result).startswith("FORBIDDEN: files of this machine are not read here.")
    refused = await call(client, "ollama_map_files", prompt="x", files=["*"], output="x")
    assert "OLLAMA_MCP_OUTPUT" in text(refused)


async def test_a_direct_call_is_held_to_the_same(fake, root):
    async with App.create(load({"OLLAMA_HOST": fake.url})) as app:
        with pytest.raises(Forbidden):
            await ollama_chat(app, prompt="x", files=[str(root / "a.txt")])
    async with App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_ROOTS": str(root)})) as app:
        assert await ollama_chat(app, prompt="x", files=["a.txt"])


# --- files before a prompt -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "path"), [("ollama_chat", "/api/chat"), ("ollama_generate", "/api/generate")]
)
async def test_a_file_is_read_here_and_stands_before_the_prompt(connect, fake, root, tool, path):
    async with connect(OLLAMA_MCP_ROOTS=str(root)) as client:
        result = await call(client, tool, prompt="Which\u200b is it?", files=["a.txt", str(root / "b.txt")])
        again = await call(client, tool, prompt="Which\u200b is it?", files=["a.txt", "b.txt"])
    assert not result.is_error, text(result)
    bodies = [request.json for request in fake.asked(path)]
    prompts = [body["messages"][-1]["content"] if "messages" in body else body["prompt"] for body in bodies]
    marks = [re.search(r"<file-([0-9a-f]{32}) name=", prompt)[1] for prompt in prompts]
    assert marks[0] != marks[1]
    first = prompts[0].replace(marks[0], "M")
    assert first.endswith(
        '\n\n<file-M name="a.txt">\nAlpha is first.\n</file-M>\n\n'
        '<file-M name="b.txt">\nBeta is second.\n</file-M>\n\nWhich\u200b is it?'
    )
    assert prompts[1].replace(marks[1], "M") == first
    assert result.meta["ollama-mcp/notes"] == ["2 invisible characters were left out of a.txt"]
    assert not again.is_error


async def test_a_picture_is_sent_as_an_image(connect, fake, root):
    fake.add_model(Model("see", capabilities=("completion", "vision")))
    async with connect(OLLAMA_MCP_ROOTS=str(root)) as client:
        result = await call(client, "ollama_chat", prompt="What?", files=["p.png"], model="see")
        blind = await call(client, "ollama_chat", prompt="What?", files=["p.png"], model="llama3.2:3b")
    assert not result.is_error, text(result)
    (message,) = fake.asked("/api/chat")[0].json["messages"]
    assert message == {"role": "user", "content": "What?", "images": [base64.b64encode(PNG).decode()]}
    assert text(blind).startswith("CAPABILITY")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc/passwd", "FORBIDDEN"), ("../answers/x", "FORBIDDEN"), ("/etc/nothing", "FORBIDDEN"),
        ("gone.txt", "INVALID_ARGUMENT"), ("", "INVALID_ARGUMENT"), (".", "INVALID_ARGUMENT"),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_had_is_told_before_the_model_is_asked(connect, fake, root, path, code):
    async with connect(OLLAMA_MCP_ROOTS=str(root)) as client:
        result = await call(client, "ollama_chat", prompt="x", files=["a.txt", path])
    assert result.is_error
    assert text(result).startswith(f"{code}: ")
    assert str(root) not in text(result)
    assert not fake.asked("/api/chat")


# --- many files ----------------------------------------------------------------------------------


async def test_answers_come_as_a_table_and_as_data(connect, fake, root):
    fake.script(Script(tokens=["Short."]), path="/api/chat")
    async with connect(OLLAMA_MCP_ROOTS=str(root)) as client:
        await client.list_tools()  # with which it checks the structured content
        result = await call(client, "ollama_map_files", prompt="Sum up.", files=["*.txt", "gone.md"])
    lines = text(result).splitlines()
    assert re.fullmatch(r"3 files by \S+: 2 answered, 1 failed", lines[0])
    assert lines[1].split() == ["file", "status", "answer"]
    assert lines[2].split() == ["a.txt", "answered", "Short.", "(2", "invisible", *lines[2].split()[5:]]
    assert lines[3].split() == ["b.txt", "answered", "Short."]
    assert "INVALID_ARGUMENT: there is no file gone.md" in lines[4]
    data = result.structured_content
    assert [row["status"] for row in data["files"]] == ["answered", "answered", "failed"]
    assert data["files"][1] == {"file": "b.txt", "status": "answered", "answer": "Short."}
    assert data["counts"] == {"answered": 2, "failed": 1}
    assert not result.is_error


async def test_answers_of_several_lines_stand_under_their_files(connect, fake, root):
    fake.script(Script(tokens=["one\n", "two"]), path="/api/chat")
    async with connect(OLLAMA_MCP_ROOTS=str(root)) as client:
        result = await call(client, "ollama_map_files", prompt="x", files=["b.txt"])
    assert text(result).endswith("\n--- b.txt (answered)\n  one\n  two")


async def test_answers_are_written_where_that_is_allowed(connect, fake, root, out):
    async with connect(OLLAMA_MCP_ROOTS=str(root), OLLAMA_MCP_OUTPUT=str(out)) as client:
        result = await call(client, "ollama_map_files", prompt="x", files=["*.txt"], output="sums")
    written = [row["written"] for row in result.structured_content["files"]]
    assert sorted(written) == sorted(f"sums/{path.name}" for path in (out / "sums").iterdir())
    assert all(name in text(result) for name in written)
    assert str(out) not in text(result)


async def test_a_call_that_takes_too_long_is_gone_on_with(connect, fake, root):
    rule = fake.script(Script(tokens=["yes"]), Script(hold_after_tokens=0), path="/api/chat")
    async with connect(OLLAMA_MCP_ROOTS=str(root), OLLAMA_MCP_PARALLEL="1") as client:
        first = await call(client, "ollama_map_files", prompt="x", files=["*.txt"], wait_s=2)
        assert text(first).startswith("STILL RUNNING")
        assert "1 of 2 files" in text(first)
        handle = first.structured_content["handle"]
        assert first.meta["ollama-mcp/reply"]["files"] == 1
        so_far = await call(client, "ollama_continue", handle=handle, partial=True)
        assert text(so_far).splitlines()[1] == "a.txt: yes"
        fake.release()
        rest = await call(client, "ollama_continue", handle=handle)
    assert rule.used == 2
    assert "2 files by" in text(rest)
    assert len(rest.structured_content["files"]) == 2


async def test_a_call_that_was_stopped_is_gone_on_with_by_the_same_call(connect, fake, root):
    fake.script(Script(tokens=["yes"]), Script(hold_after_tokens=0), Script(tokens=["no"]), path="/api/chat")
    async with connect(OLLAMA_MCP_ROOTS=str(root), OLLAMA_MCP_PARALLEL="1") as client:
        first = await call(client, "ollama_map_files", prompt="x", files=["*.txt"], wait_s=2)
        stopped = await call(client, "ollama_cancel", handle=first.structured_content["handle"])
        assert "1 of 2 files" in text(stopped)
        rest = await call(client, "ollama_map_files", prompt="x", files=["*.txt"])
    assert [row["status"] for row in rest.structured_content["files"]] == ["kept", "answered"]


async def test_many_answers_come_in_pages_of_whole_rows(connect, fake, root):
    for number in range(30):
        (root / f"n{number:02}.md").write_text(f"note {number}")
    fake.script(Script(tokens=["word "] * 20), path="/api/chat")
    async with connect(OLLAMA_MCP_ROOTS=str(root), OLLAMA_MCP_PAGE="1000") as client:
        first = await call(client, "ollama_map_files", prompt="x", files=["n*.md"])
        about = first.meta["ollama-mcp/reply"]
        assert text(first).startswith(f"page 1 of {about['pages']}. Call ollama_continue with handle=")
        pages = [first.structured_content["files"]]
        for page in range(2, about["pages"] + 1):
            more = await call(client, "ollama_continue", handle=about["handle"], page=page)
            pages.append(more.structured_content["files"])
            assert len(text(more)) < 1500
        beyond = await call(client, "ollama_continue", handle=about["handle"], page=99)
    assert [row["file"] for rows in pages for row in rows] == [f"n{number:02}.md" for number in range(30)]
    assert len(pages) > 3
    assert beyond.is_error


async def test_progress_counts_files(connect, fake, root, mode):
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(value: float, total: float | None, message: str | None) -> None:
        heard.append((value, total, message))

    fake.script(Script(tokens=["yes"], delay_first=0.2), path="/api/chat")
    async with connect(OLLAMA_MCP_ROOTS=str(root), OLLAMA_MCP_PARALLEL="1") as client:
        with anyio.fail_after(10):
            await client.call_tool(
                "ollama_map_files", {"prompt": "x", "files": ["*.txt"]}, progress_callback=hear
            )
    if mode == "legacy":  # in the other one, the SDK's client in memory sends no token
        assert any((message or "").startswith("1 of 2 files") for _, _, message in heard)
        assert {total for _, total, _ in heard} == {2.0}
