"""Lines that no client should write: each is answered, none costs much, and the next call works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 1024 * 1024
CAP = 16 * MIB
MOST = CAP + 32 * MIB
"""Bytes that a line may cost."""
META = {
    "2025-11-25": b"{}",
    "2026-07-28": b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    b'"io.modelcontextprotocol/clientCapabilities":{}}',
}


def peak(child: Any) -> int:
    """The most memory that it has had, in bytes."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def asking(value: Callable[[int], bytes], size: int) -> bytes:
    """A call of nearly so many bytes; `value` makes its prompt."""
    begin = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"_meta":META,"name":"ollama_chat",'
    return begin + b'"arguments":{"prompt":' + value(size - 300) + b"}}}"


def texts(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b'"' + unit * ((size - 2) // len(unit)) + b'"'


def lists(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b"[" + unit * ((size - 3) // len(unit)) + b"1]"


LINES = {
    "malformed": (b"nonsense", None, -32700),
    "of no kind": (b"[]", None, -32600),
    "not UTF-8": (b'{"jsonrpc":"2.0","id":9,"method":"\xff"}', None, -32700),
    "malformed and as long as can be": (b"x" * CAP, None, -32700),
    "100 MiB": (asking(texts(b"x"), 100 * MIB), 9, -32600),
    "deep": (asking(lambda size: b"[" * (size // 2) + b"]" * (size // 2), CAP), 9, -32600),
    "deep and open": (b"[" * CAP, None, -32600),
    "of many lists": (asking(lists(b"[],"), CAP), 9, -32600),
    "of many numbers": (asking(lists(b"1,"), CAP), 9, -32600),
    "of many objects": (asking(lists(b'{"":0},'), CAP), 9, -32600),
    "of many texts": (asking(lists(b'"ab",'), CAP), 9, -32600),
    "of many lists and half an emoji": (asking(lists(rb'"\ud83d",[],'), CAP), 9, -32600),
    "a long text": (asking(texts(b"x"), CAP), 9, "TOO_LARGE"),
    "a long text of half emojis": (asking(texts(rb"\ud83d"), CAP), 9, -32600),
    "a long text of commas": (asking(texts(b","), CAP), 9, "TOO_LARGE"),
    "as many lists as may be": (asking(lists(b"[],"), 370_000), 9, "INVALID_ARGUMENT"),
    "as many objects as may be": (asking(lists(b'{"":0},'), 580_000), 9, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("version", META)
def test_a_line_that_nobody_should_write_is_answered_and_the_next_call_works(serve: Any, version: str):
    child = serve(version)
    child.call("before", prompt="hi")
    child.text_of("before")
    for name, (line, call_id, code) in LINES.items():
        answered = len(child.out.seen)
        assert child.process.stdin is not None
        child.process.stdin.write(line.replace(b"META", META[version], 1) + b"\n")
        child.call(name, prompt="hi")
        assert child.text_of(name) == "You said: hi"
        message = child.out.seen[answered].message
        found = message["error"]["code"] if "error" in message else message["result"]["content"][0]["text"]
        assert (message["id"], str(found).split(":")[0]) == (call_id, str(code)), name
    assert child.finish() == 0
    assert not child.err.rest()


@pytest.mark.parametrize(
    "name",
    [
        "malformed and as long as can be",
        "100 MiB",
        "deep",
        "of many texts",
        "of many lists and half an emoji",
        "a long text of half emojis",
        "as many objects as may be",
    ],
)
def test_no_line_costs_more_than_its_cap_and_32_mib(serve: Any, name: str):
    # One each: what the C library keeps of an earlier line would count as well.
    child = serve()
    child.call("before", prompt="hi")
    child.text_of("before")
    idle = peak(child)
    child.process.stdin.write(LINES[name][0].replace(b"META", b"{}", 1) + b"\n")
    child.call("after", prompt="hi")
    assert child.text_of("after") == "You said: hi"
    print(f"\n{name}: {(peak(child) - idle) / MIB:.0f} MiB")
    assert peak(child) - idle <= MOST
