"""The bounded reader: any bytes, cut anywhere, become objects or one named error."""

import json
import tracemalloc
from itertools import pairwise

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_mcp.errors import BadUpstream
from ollama_mcp.ollama.ndjson import LINE_LIMIT, STREAM_LIMIT, parse_object, read_objects

MIB = 1024 * 1024
OBJECTS = st.lists(
    st.dictionaries(
        st.text(max_size=8),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
        )
        | st.lists(st.text(max_size=5), max_size=3),
        max_size=4,
    ),
    max_size=6,
)
CUTS = st.lists(st.integers(0, 400), max_size=12)


async def collect(chunks, **limits) -> list[dict]:
    async def source():
        for chunk in chunks:
            yield chunk

    return [found async for found in read_objects(source(), **limits)]


def read(*chunks: bytes, **limits) -> list[dict]:
    return anyio.run(lambda: collect(chunks, **limits))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def run(coroutine):
    """Without an event loop, which costs a millisecond: nothing here waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@given(OBJECTS, CUTS, st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\n"]), st.booleans(), st.booleans())
def test_the_same_objects_come_however_the_bytes_are_cut(objects, places, end, last_end, escaped):
    lines = [json.dumps(item, ensure_ascii=escaped).encode("utf-8") for item in objects]
    data = end.join(lines) + (end if last_end else b"")
    assert run(collect(cut(data, places))) == objects


@pytest.mark.parametrize("mark", ["\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_what_other_readers_take_for_a_line_end_stays_in_its_string(mark):
    raw = mark if ord(mark) > 0x20 else json.dumps(mark)[1:-1]
    data = f'{{"response":"a{raw}b"}}\n'.encode()
    assert run(collect([data[i : i + 1] for i in range(len(data))])) == [{"response": f"a{mark}b"}]


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"[{}]",
        b"null",
        b"1",
        b"-1.5",
        b'"text"',
        b"true",
        b"{",
        b"}",
        b"{}{}",
        b"{} x",
        b"{'a': 1}",
        b"<html>",
        b"data: {}",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\xff\xfe{\x00}\x00",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\u12"}',
        b'{"a": "\x01"}',
        b"{\x00}",
        b"\x00",
        b'{"a": 01}',
    ],
    ids=lambda line: ascii(line[:12]).replace("\\", ""),
)
def test_a_line_that_is_no_object_is_a_bad_upstream(line):
    with pytest.raises(BadUpstream) as caught:
        run(collect([b'{"ok":1}\n' + line + b"\n"]))
    assert len(str(caught.value)) < 200


def test_a_lone_surrogate_is_read_as_the_replacement_character():
    assert parse_object(rb'{"a": "x\ud800y", "\uDFFF": "\ud83d\ude00 \\ud800 \\\ud800\ud800\udc00"}') == {
        "a": "x\ufffdy",
        "\ufffd": "😀 \\ud800 \\\ufffd\U00010000",
    }


@given(st.text(alphabet=st.characters(codec=None), max_size=20))
def test_any_string_of_python_is_read_without_a_lone_surrogate(text):
    read = parse_object(json.dumps({"a": text}).encode())["a"]
    assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    read.encode()


def test_large_whole_numbers_are_read_and_are_the_models_to_judge():
    assert parse_object(b'{"a": ' + b"9" * 400 + b"}") == {"a": 10**400 - 1}


BYTES = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [
                b"\n",
                b"\r\n",
                b"{",
                b"}",
                b'"',
                b":",
                b"\\u",
                b"d800",
                b"NaN",
                b"{}",
                b'{"a":1}',
                b"[",
                b"]",
                b"\xef\xbb\xbf",
            ]
        ),
    )
).map(b"".join)


@given(BYTES, CUTS)
@example(b'{"a":"' + b"\\ud800" * 1000, [])
@example(b"\\" * 999, [])
def test_no_bytes_raise_anything_else(data, places):
    try:
        found = run(collect(cut(data, places)))
    except BadUpstream:
        return
    assert all(isinstance(item, dict) for item in found)


# --- limits ------------------------------------------------------------------------------------


def test_the_limits_are_those_of_the_contract():
    assert (LINE_LIMIT, STREAM_LIMIT) == (8 * MIB, 256 * MIB)


def test_a_line_may_be_as_long_as_its_limit_and_no_longer():
    line = b'{"a":"' + b"x" * 92 + b'"}'
    assert len(line) == 100
    assert len(run(collect([line, b"\n", line], line_limit=100))) == 2
    assert run(collect([line + b"\n" + line], line_limit=100))
    for chunks in ([line + b" "], [line[:50], line[50:], b" \n"], [b"{}\n" + line + b" \n"]):
        with pytest.raises(BadUpstream, match="line of more than 100"):
            run(collect(chunks, line_limit=100))


def test_a_stream_may_be_as_long_as_its_limit_and_no_longer():
    assert len(run(collect([b"{}\n"] * 10, stream_limit=30))) == 10
    with pytest.raises(BadUpstream, match="longer than 30"):
        run(collect([b"{}\n"] * 10 + [b"\n"], stream_limit=30))


@pytest.mark.parametrize("size", [1 * MIB, 64 * 1024, 3])
def test_an_endless_line_takes_no_more_memory_than_its_cap(size):
    limit = MIB // 4 if size < 1000 else LINE_LIMIT

    async def endless():
        while True:
            yield b"x" * size

    async def swallow():
        async for _ in read_objects(endless(), line_limit=limit):
            raise AssertionError("there is no line")

    tracemalloc.start()
    with pytest.raises(BadUpstream, match="line of more than"):
        run(swallow())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < limit * 2 + 2 * size


def test_a_long_line_in_small_pieces_costs_time_in_proportion():
    line = b'{"a":"' + b"x" * MIB + b'"}\n'
    assert len(run(collect([line[i : i + 16] for i in range(0, len(line), 16)]))[0]["a"]) == MIB
