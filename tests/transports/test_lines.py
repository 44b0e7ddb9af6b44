from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.transports.stdio.framing import EDGE, Line, LineSplitter, TooLong

text_with_lines = st.lists(st.sampled_from([b"\n", b"a", b"\r", b"\xff", b"{}", b"x" * 40])).map(b"".join)


def split(chunks: list[bytes], limit: int = 1_000_000) -> list[Line]:
    splitter = LineSplitter(limit)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@given(text_with_lines, st.lists(st.integers(min_value=0)))
def test_the_lines_are_the_same_wherever_the_chunks_end(data: bytes, places: list[int]):
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert split(cut(data, places)) == expected


@given(text_with_lines, st.lists(st.integers(min_value=0)), st.integers(1, 60))
def test_lines_over_the_limit_are_the_same_wherever_the_chunks_end(
    data: bytes, places: list[int], limit: int
):
    lines = split(cut(data, places), limit)
    whole = split([data])
    assert [isinstance(line, TooLong) for line in lines] == [len(line) > limit for line in whole]
    assert [line for line in lines if isinstance(line, bytes)] == [
        line for line in whole if len(line) <= limit
    ]


def test_a_line_at_the_limit_is_kept_and_one_byte_more_is_not():
    assert split([b"x" * 100 + b"\n"], 100) == [b"x" * 100]
    assert isinstance(split([b"x" * 101 + b"\n"], 100)[0], TooLong)


def test_of_a_line_too_long_both_ends_are_kept_and_the_next_line_is_whole():
    long = b"begin" + b"x" * 10_000 + b"end"
    lines = split([long[i : i + 7] for i in range(0, len(long), 7)] + [b"\nnext\n"], 1000)
    assert lines == [TooLong(long[:EDGE], long[-EDGE:], 1000), b"next"]


def test_what_is_skipped_takes_no_memory():
    splitter = LineSplitter(1000)
    for _ in range(1000):
        splitter.feed(b"x" * 1000)
    assert len(splitter._buffer) <= 1000
