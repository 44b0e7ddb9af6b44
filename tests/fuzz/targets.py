"""What must hold of any bytes, for each reader of what strangers write.

A target takes the bytes of one input and raises where something does not hold. `run.py` feeds them by
atheris, guided by the branches that an input reaches; `test_targets.py` feeds them their seeds.
"""

import ipaddress
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
from mcp_types import JSONRPCRequest

from ollama_mcp.errors import BadUpstream, InvalidArgument
from ollama_mcp.ollama.hosts import DEFAULT_PORT, Host, parse_host
from ollama_mcp.ollama.model_names import (
    canonical,
    check_name,
    is_cloud_name,
    is_name,
    is_registry,
    nearest,
    registry_of,
)
from ollama_mcp.ollama.ndjson import read_objects
from ollama_mcp.transports.stdio.framing import EDGE, Line, LineSplitter, Refused, TooLong, decode, encode

_CUTS = 4


def cut(data: bytes) -> list[bytes]:
    """The bytes in pieces, cut where their last four say."""
    data, places = data[:-_CUTS], data[-_CUTS:]
    edges = [0, *sorted(len(data) * place // 255 for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


# --- the line reader and what it makes of a line --------------------------------------------------


def lines(data: bytes) -> None:
    """However the bytes are cut the lines are the same, and none is longer than the limit."""
    limit, pieces = data[:1], cut(data[1:])
    most = EDGE + 4 * (limit[0] if limit else 0)  # with less, how much of the head is kept is chance
    splitter = LineSplitter(most)
    found: list[Line] = []
    for piece in pieces:
        found += splitter.feed(piece)
        assert len(splitter._buffer) <= most
    found += splitter.finish()
    assert found == list(_lines_of(b"".join(pieces), most))
    for line in found[:2]:
        _answered(line)


def _lines_of(data: bytes, most: int) -> Iterator[Line]:
    whole = data.split(b"\n")
    for line in whole if whole[-1] else whole[:-1]:
        yield line if len(line) <= most else TooLong(line[:EDGE], line[-EDGE:], most)


def frames(data: bytes) -> None:
    """A line is a message, which can be written and read again, or it has an answer."""
    _answered(data)
    _answered(TooLong(data[:EDGE], data[-EDGE:], 100))
    request = _request_of(data)
    if request is not None:
        message = decode(data)
        assert isinstance(message, JSONRPCRequest)
        assert message.id == _clean(request["id"])
        assert type(message.id) is type(request["id"])


def _answered(line: Line) -> None:
    try:
        message = decode(line)
    except Refused as refused:
        assert refused.answer.error.code in (-32700, -32600)  # noqa: PT017
        assert isinstance(refused.answer.id, int | str | None)  # noqa: PT017
        written = encode(refused.answer)
    else:
        written = encode(message)
        assert encode(decode(written)) == written
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1


def _request_of(data: bytes) -> dict[str, Any] | None:
    """What the standard library takes for a request that must not be refused."""
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not {"jsonrpc", "id", "method"} <= set(value) <= _REQUEST:
        return None
    is_request = (
        value["jsonrpc"] == "2.0"
        and type(value["id"]) in (int, str)
        and isinstance(value["method"], str)
        and isinstance(value.get("params", {}), dict)
    )
    return value if is_request and _depth(value) < 100 else None


_REQUEST = {"jsonrpc", "id", "method", "params"}


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


# --- addresses and names --------------------------------------------------------------------------


def _texts(data: bytes, words: list[str]) -> list[str]:
    """The text that the bytes are, and the one of these words that they spell, one a byte."""
    return [data.decode("utf-8", "surrogateescape"), "".join(words[byte % len(words)] for byte in data)]


_HOST_WORDS = [
    *[
        "http://",
        "https://",
        ":",
        "::",
        ".",
        "/",
        "@",
        "[",
        "]",
        "%",
        "-",
        "_",
        " ",
        "'",
        "?",
        "#",
        "\\",
        "。",
    ],
    *["0", "1", "9", "16", "169", "254", "255", "256", "43518", "0x", "0xa9fea9fe", "0251", "a9fe", "ffff"],
    *[
        "fe80",
        "fd00",
        "ec2",
        "64",
        "ff9b",
        "2002",
        "100",
        "200",
        "metadata",
        "google",
        "internal",
        "localhost",
    ],
    *[
        "localhost",
        "。",
        "a",
        "gpu",
        "ollama.com",
        "xn--",
        "b\u00fc",
        "\uff11",
        "\u2460",
        "11434",
        "70000",
        "\0",
    ],
]


def host(data: bytes) -> None:
    """A text is refused, or an address that httpx calls and that is on no link and gives no credentials."""
    for text in _texts(data, _HOST_WORDS):
        _host(text)


def _host(text: str) -> None:
    try:
        found = parse_host(text)
    except InvalidArgument as error:
        assert len(str(error)) <= 400  # noqa: PT017
        return
    url = httpx.URL(f"{found.url}/api/chat")
    assert url.raw_host.decode() == found.hostname
    assert (url.port or {"http": 80, "https": 443}[url.scheme]) == found.port
    assert not url.userinfo
    assert not url.query
    assert found.port in (DEFAULT_PORT, 80, 443) or str(found.port) in text
    assert parse_host(found.url) == Host(found.scheme, found.hostname, found.port, found.path)
    assert not _is_near(found.hostname)


def _is_near(name: str) -> bool:
    """Whether a resolver would take a name to a link-local or metadata address."""
    if name in _METADATA_NAMES:
        return True
    for address in _addresses(name):
        inside = [address]
        if isinstance(address, ipaddress.IPv6Address):
            inside += [found for found in (address.ipv4_mapped, address.sixtofour) if found is not None]
        if any(each.is_link_local or str(each) in _METADATA for each in inside):
            return True
    return False


_METADATA_NAMES = ("metadata", "metadata.google.internal", "metadata.goog", "instance-data")
_METADATA = ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")


def _addresses(name: str) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    with suppress(ValueError):
        yield ipaddress.ip_address(name)
    with suppress(OSError):
        yield ipaddress.IPv4Address(socket.inet_aton(name))  # what libc reads in 0xa9fea9fe


_NAME_WORDS = [
    *["/", "/", ":", ".", "-", "_", " ", "~", "@", "\n", "\u00e9", "a", "B", "0", "x" * 79, "x" * 349],
    *["library", "latest", "cloud", "-cloud", "registry.ollama.ai", "hf.co", "gpu:5000", "qwen3"],
]


def names(data: bytes) -> None:
    """A text is a name, with one spelling and one registry, or it is refused."""
    for text in _texts(data, _NAME_WORDS):
        _name(text)


def _name(text: str) -> None:
    assert len(nearest(text[:8], ["qwen3:8b", text[:9]])) <= 2
    assert is_registry(text) in (True, False)
    try:
        name = check_name(text)
    except InvalidArgument as error:
        assert not is_name(text)
        assert len(str(error)) <= 400  # noqa: PT017
        return
    spelled = canonical(name)
    assert canonical(spelled) == spelled
    assert is_name(spelled)
    assert spelled.rpartition("/")[2].count(":") == 1
    assert is_registry(registry_of(name))
    assert registry_of(spelled) == registry_of(name) or registry_of(name) == "registry.ollama.ai"
    assert is_cloud_name(spelled) is is_cloud_name(name)
    assert not set(name) & set("\n ?#@\\%")
    assert "//" not in name


# --- what Ollama sends ----------------------------------------------------------------------------


def ndjson(data: bytes) -> None:
    """However the bytes are cut the objects are the same, and they are those of the standard library."""
    pieces = cut(data)
    whole = b"".join(pieces)
    found, is_whole = _objects(pieces)
    assert (found, is_whole) == _objects([whole])
    for item, line in zip(found, filter(bytes.strip, whole.split(b"\n")), strict=False):
        assert _same(item, _clean(json.loads(line)))
    if not is_whole:
        assert not _is_fine(list(filter(bytes.strip, whole.split(b"\n")))[len(found)])


def _objects(pieces: list[bytes]) -> tuple[list[dict[str, Any]], bool]:
    found: list[dict[str, Any]] = []

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def read() -> bool:
        try:
            async for item in read_objects(chunks()):
                found.append(item)  # noqa: PERF401 - what came before a failure counts
        except BadUpstream as error:
            assert len(str(error)) <= 400  # noqa: PT017
            return False
        return True

    return found, _run(read())


def _run(coroutine: Any) -> Any:
    """Without an event loop, which costs a millisecond: nothing here waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def _is_fine(line: bytes) -> bool:
    """Whether a line is a plain object, by the standard library."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and _depth(value) < 100 and "inf" not in repr(value)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _clean(value: Any) -> Any:
    """Half an emoji is U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return type(one) is type(other) and one == other


# --- all of them ----------------------------------------------------------------------------------

_ENDS = b"\x00\x20\x80\xff"
_MESSAGES = [
    b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":"a\\ud83d","method":"tools/call","params":{"name":"x","arguments":{"a":[1,2.5,null]}}}',
    b'{"jsonrpc":"2.0","id":-99999999999999999999,"method":"a","params":{"_meta":{"progressToken":7}}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
    b'{"jsonrpc":"2.0","id":3,"result":{"x":"\xc3\xa9"}}',
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}',
    b'\xef\xbb\xbf{"id":1,"method":7,"jsonrpc":"2.0"}\r',
    b'[{"jsonrpc":"2.0","id":1,"method":"a"}]',
    b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":NaN}}',
]
_HOSTS = [
    *[b"", b"gpu:11434", b"https://me:s%3Acret@gw/ollama/", b"[::1]:9", b"[fe80::1%eth0]:5", b"0xa9fea9fe"],
    *[b"169.254.43518", b"::ffff:169.254.169.254", b"2002:a9fe:a9fe::1", b"64:ff9b::a9fe:a9fe", b"0x7f.1"],
    *["b\u00fcro".encode(), "169。254。169。254".encode(), b"metadata.google.internal.", b"http://http://x"],
    *[b"0251.0376.0251.0376", b"fd00:ec2::254", b" 'gpu' ", b"gpu:99999", b"ollama.com", b"a_b.c-d"],
]
_NAMES = [
    *[b"qwen3:8b", b"hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", b"registry.ollama.ai/library/llama3.2:1b"],
    *[
        b"gpu:5000/a/b",
        b"gpt-oss:120b-cloud",
        b" me/mine ",
        b"library/x",
        b"a/../b",
        b"x" * 81,
        b"registry.ollama.ai/a:b",
    ],
    *[b"registry.ollama.ai/registry.ollama.ai/a", b"library/library/a", b"a:cloud", b"x" * 81],
]
_ANSWERS = [
    b'{"model":"m","message":{"role":"assistant","content":"h\xc3\xa9"},"done":false}\n{"done":true}\n'
    + _ENDS,
    b'{"response":"a\xc2\x85b\\ud83d\\ude00\\ud800"}\r\n\n \t\n{"a":[1,-2.5e3,true,null]}' + _ENDS,
    b'{"error":"no"}\n[]\n{"a":NaN}\n' + _ENDS,
    b'{"a":1e999}\n{"a":' + b"9" * 40 + b"}\n{'a': 1}\n" + _ENDS,
]

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "lines": (lines, [b"\x05" + b"\n".join(_MESSAGES) + _ENDS, b"\xff" + b"x" * 3000 + b"\n\r\n" + _ENDS]),
    "frames": (frames, _MESSAGES),
    "host": (host, _HOSTS),
    "names": (names, _NAMES),
    "ndjson": (ndjson, _ANSWERS),
}
