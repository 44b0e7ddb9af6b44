"""`run_stdio` in a process of its own: what goes over the wire."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

Start = Callable[..., Any]
BARE = StdioServerParameters(
    command=sys.executable, args=[str(Path(__file__).parent / "bare_server.py")], env=dict(os.environ)
)

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def shared(module_start: Start) -> Iterator[Any]:
    child = module_start()
    child.initialize()
    return child


def test_a_request_is_answered(shared: Any):
    shared.call(1, "echo", text="hello")
    assert shared.text_from(1) == "hello"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n \n\t\r\n"])
def test_blank_lines_and_carriage_returns_are_ignored(shared: Any, end: bytes):
    shared.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}' + end)
    assert shared.receive() == {"jsonrpc": "2.0", "id": 1, "result": {}}


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"nonsense", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b'{"jsonrpc":"2.0","id":5,"method":7}', -32600, 5),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b"[" * 1_000_000, -32600, None),
        (
            b'{"jsonrpc":"2.0","id":5,"method":"ping","params":' + b'{"a":' * 9999 + b"1" + b"}" * 10_000,
            -32600,
            5,
        ),
    ],
)
def test_a_malformed_line_is_answered_and_the_server_lives(
    shared: Any, line: bytes, code: int, request_id: int | None
):
    shared.write(line + b"\n")
    answer = shared.receive()
    assert (answer["error"]["code"], answer["id"]) == (code, request_id)
    shared.call(6, "echo", text="alive")
    assert shared.text_from(6) == "alive"


def test_every_malformed_line_of_a_flood_is_answered(start: Start):
    child = start()
    child.initialize()
    count = 30_000
    writing = threading.Thread(target=child.write, args=(b"1\n" * count,))
    writing.start()
    assert all(child.receive()["error"]["code"] == -32600 for _ in range(count))
    writing.join()


def peak_memory(child: Any) -> int:
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


@only_linux
def test_a_line_of_100_mib_is_answered_with_its_id_and_its_memory_is_bounded(start: Start):
    child = start()
    child.initialize()
    before = peak_memory(child)
    child.write(b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"x":"')
    for _ in range(100):
        child.write(b"x" * 1024 * 1024)
    child.write(b'"}}\n')
    answer = child.receive()
    assert (answer["id"], answer["error"]["code"]) == (9, -32600)
    assert "16777216 bytes" in answer["error"]["message"]
    assert peak_memory(child) - before < 48 * 1024 * 1024
    child.call(10, "echo", text="alive")
    assert child.text_from(10) == "alive"


def test_a_line_just_under_the_limit_goes_through(shared: Any):
    text = "x" * (16 * 1024 * 1024 - 1000)
    shared.call(1, "echo", text=text)
    assert shared.text_from(1) == text


def test_half_an_emoji_does_no_harm_either_way(shared: Any):
    shared.call(1, "surrogate")
    assert shared.text_from(1) == "half � an emoji"
    shared.call(2, "echo", text="half \ud83d an emoji")
    assert shared.text_from(2) == "half � an emoji"
    shared.call(3, "bad_progress", progress=True)
    assert shared.receive()["params"]["message"] == "half � an emoji"
    assert shared.text_from(3) == "reported"


def test_numbers_that_json_lacks_become_null(shared: Any):
    shared.call(1, "numbers")
    assert shared.answer_to(1)["result"]["structuredContent"] == {"values": [None, None, None, 1.5]}


def test_a_result_nested_too_deeply_is_an_error_and_the_server_lives(shared: Any):
    shared.call(1, "deep")
    assert "error" in shared.answer_to(1)
    shared.call(2, "echo", text="alive")
    assert shared.text_from(2) == "alive"


def test_what_a_library_prints_goes_to_stderr_and_children_have_no_stdin(shared: Any):
    shared.call(1, "noisy")
    assert shared.receive()["id"] == 1
    for text in ("printed", "written to descriptor 1", "printed by a child"):
        shared.err.until(text)


def test_many_requests_written_at_once_are_all_answered(shared: Any):
    for number in range(500):
        shared.call(number, "echo", text=str(number))
    answers = {
        answer["id"]: answer["result"]["content"][0]["text"]
        for answer in (shared.receive() for _ in range(500))
    }
    assert answers == {number: str(number) for number in range(500)}


def test_answers_larger_than_a_pipe_arrive_whole_and_apart(shared: Any):
    sizes = [0, 1, 65_535, 65_536, 200_000, 3_000_000] * 3
    for number, size in enumerate(sizes):
        shared.call(number, "big", size=size)
    answers = {
        answer["id"]: len(answer["result"]["content"][0]["text"])
        for answer in (shared.receive() for _ in sizes)
    }
    assert answers == dict(enumerate(sizes))


def test_a_cancel_is_heard_while_nobody_reads_stdout(start: Start):
    child = start()
    child.initialize_unread()
    child.call(1, "slow", name="first")
    child.err.until("first started")
    child.call(2, "fill", progress=True)
    child.err.until("stdout blocked")
    child.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
    child.err.until("first cancelled")


def test_a_client_that_reads_again_gets_everything_that_was_waiting(start: Start):
    child = start()
    child.initialize_unread()
    child.call(1, "fill", progress=True)
    child.err.until("stdout blocked")
    for number in range(2, 52):
        child.call(number, "echo", text="x" * 10_000)
    child.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
    answered = set()
    while len(answered) < 50:
        answered.add(child.receive().get("id"))
        answered.discard(None)
    assert answered == set(range(2, 52))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
def test_pipes_that_somebody_made_non_blocking_are_waited_for(start: Start):
    child_in, our_out = os.pipe()
    our_in, child_out = os.pipe()
    for end in (child_in, child_out):
        os.set_blocking(end, False)
    child = start(stdin=child_in, stdout=child_out)
    child.process.stdin, child.process.stdout = os.fdopen(our_out, "wb"), os.fdopen(our_in, "rb")
    os.close(child_in)
    os.close(child_out)
    child.initialize_unread()
    child.call(1, "big", size=1_000_000)
    child.call(2, "slow", name="it")
    child.err.until("it started")
    assert len(child.text_from(1)) == 1_000_000


def one_shot(child: Any, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    child.send(*messages)
    child.close_stdin()
    answers = [json.loads(line) for line in child.out.rest()]
    assert child.process.wait(5) == 0
    return answers


def test_requests_written_before_stdin_was_closed_are_answered(start: Start):
    child = start()
    child.send(*child.handshake)
    child.call(1, "soon", seconds=0.01)
    child.call(2, "slow", name="second")
    answers = one_shot(child, {"jsonrpc": "2.0", "id": 3, "method": "tools/list"})
    assert {answer["id"] for answer in answers if "result" in answer} == {"init", 1, 3}
    assert [answer["id"] for answer in answers if "error" in answer] == [2]
    child.err.until("second cancelled")


def test_a_last_line_without_a_line_end_is_read(start: Start):
    child = start()
    child.write(json.dumps(child.handshake[0]).encode())
    child.close_stdin()
    assert child.receive()["id"] == "init"
    assert child.process.wait(5) == 0


def test_stdin_may_be_a_file(start: Start, tmp_path: Path):
    (tmp_path / "requests").write_text('{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    with (tmp_path / "requests").open() as requests:
        child = start(stdin=requests)
        assert [json.loads(line)["id"] for line in child.out.rest()] == [1]
    assert child.process.wait(5) == 0


def test_stdin_may_be_the_null_device(start: Start):
    child = start(stdin=subprocess.DEVNULL)
    assert child.process.wait(5) == 0
    child.err.until("lifespan left")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
def test_closed_standard_streams_are_an_end_and_not_a_crash(start: Start):
    child = start(preexec_fn=lambda: (os.close(0), os.close(1)))
    assert child.process.wait(5) == 0
    assert not [line for line in child.err.rest() if b"Traceback" in line]


def test_a_host_that_fails_is_a_line_on_stderr_and_status_1(start: Start):
    child = start("broken-lifespan")
    child.err.until("no such lifespan")
    assert child.process.wait(5) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdks_own_client_is_served_in_both_eras(mode: Any):
    progress: list[str | None] = []

    async def on_progress(_progress: float, _total: float | None, message: str | None) -> None:
        progress.append(message)

    with anyio.fail_after(10):
        async with Client(BARE, mode=mode) as client:
            assert {"echo", "slow"} <= {tool.name for tool in (await client.list_tools()).tools}
            result = await client.call_tool("echo", {"text": "hello"})
            assert result.structured_content == {"result": "hello"}
            async with anyio.create_task_group() as tasks:
                for number in range(32):
                    tasks.start_soon(client.call_tool, "echo", {"text": str(number)})
            assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
            await client.call_tool("bad_progress", progress_callback=on_progress)
    assert progress == ["half � an emoji"]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_the_client_abandons_is_cancelled_in_both_eras(mode: Any, tmp_path: Path):
    read, write = os.pipe()
    with os.fdopen(write, "w") as errors, os.fdopen(read) as reports:
        with anyio.fail_after(10):
            async with Client(stdio_client(BARE, errlog=errors), mode=mode) as client:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call_tool, "slow", {"name": "it"})
                    assert await anyio.to_thread.run_sync(reports.readline) == "it started\n"
                    tasks.cancel_scope.cancel()
                assert await anyio.to_thread.run_sync(reports.readline) == "it cancelled\n"
