"""Long answers in pages, which joined are the answer."""

import asyncio
import json
import re
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp_types import CallToolResult

from ollama_mcp.ollama.sanitize import sanitize_text
from ollama_mcp.testing import Script
from ollama_mcp.tools.client_profiles import PageSize
from ollama_mcp.tools.results import pages

REPLY = "ollama-mcp/reply"
WORDS = [f"word{n} " for n in range(10)]


async def read_pages(d: Any, result: CallToolResult) -> str:
    """What all pages have, put together by what each says of the next."""
    found: list[str] = []
    while True:
        first, text = d.text(result).split("\n", 1)
        found.append(text)
        place, of = map(int, re.match(r"page (\d+) of (\d+)\. ", first).groups())
        assert place == len(found)
        assert (result.meta[REPLY]["page"], result.meta[REPLY]["pages"]) == (place, of)
        if place == of:
            assert first.endswith("This is the last one.")
            return "".join(found)
        handle, page = re.search(r'ollama_continue with handle="(\w+)" and page=(\d+)', first).groups()
        result = await d.cont(handle, page=int(page))


def test_a_long_answer_comes_in_pages(at):
    async def work(d: Any) -> None:
        text = "line\n" * 500 + "word " * 500 + "x" * 2500 + "a\r\n" * 500
        d.fake.script(Script(tokens=[text]))
        result = await d.call()
        assert len(d.text(result)) <= 1000
        assert await read_pages(d, result) == text
        for page in (0, -1, 99):
            told = await d.cont(result.meta[REPLY]["handle"], page=page)
            assert d.text(told).startswith(f"INVALID_ARGUMENT: there is no page {page}. ")

    at(work, OLLAMA_MCP_PAGE="1000")


def test_an_answer_of_one_page_has_no_second(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=WORDS, delay=1))
        handle = await d.begun()
        told = await d.cont(handle, page=2)
        assert d.text(told).startswith("INVALID_ARGUMENT: there is no page 2. ")
        assert d.text(await d.cont(handle, page=1)) == "".join(WORDS)

    at(work)


def test_the_text_of_an_answer_that_has_ended_comes_in_pages_however_it_is_asked_for(at):
    async def work(d: Any) -> None:
        text = "word " * 1000
        d.fake.script(Script(tokens=[text[:3000], text[3000:]], delay=9))
        handle = await d.begun()
        await asyncio.sleep(20)
        assert await read_pages(d, await d.cont(handle, partial=True)) == text

    at(work, OLLAMA_MCP_PAGE="1000")


def test_unfinished_text_comes_in_pages_that_do_not_move(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=["word "] * 1000, delay=0.1))
        handle = await d.begun(wait_s=50)
        one = d.text(await d.cont(handle, partial=True)).split("\n", 2)
        assert one[0].startswith("UNFINISHED: ")
        assert re.match(r"page 1 of \d\. Call ollama_continue with .*, partial=true and page=2 for", one[1])
        await asyncio.sleep(10)
        two = d.text(await d.cont(handle, partial=True, page=2)).split("\n", 2)
        assert two[1].startswith("page 2 of ")
        both = one[2] + two[2]
        assert both == "word " * (len(both) // 5)
        assert len(both) > 1400

    at(work, OLLAMA_MCP_PAGE="1000")


def test_surrogates_in_a_long_answer_are_replaced_once(at):
    async def work(d: Any) -> None:
        token = b'{"message":{"role":"assistant","content":"\\ud83e\\udd99\\ud800 no\\udd99 "}}'
        end = b'{"message":{"role":"assistant","content":""},"done":true}'
        d.fake.script(Script(lines=[*[token] * 500, end]), path="/api/chat")
        found = await read_pages(d, await d.call())
        assert found == "\N{LLAMA}\ufffd no\ufffd " * 500

    at(work, OLLAMA_MCP_PAGE="1000")


def test_a_long_comparison_comes_in_pages(at):
    async def work(d: Any) -> None:
        d.fake.script(Script(tokens=["word "] * 1000))
        result = await d.call("ollama_compare", prompt="x", models=["llama3.2:3b", "llama3.2:3b "])
        whole = await read_pages(d, result)
        assert whole.startswith("## llama3.2:3b\n\n" + "word " * 1000)
        assert "## numbers" in whole

    at(work, OLLAMA_MCP_PAGE="1000")


def test_a_ranking_shows_the_best_that_fit_a_page_and_says_how_many_follow(at):
    async def work(d: Any) -> None:
        candidates = [f"{n} " + "word " * 60 for n in range(100)]
        result = await d.call("ollama_rank", query="word", candidates=candidates)
        shown = result.structured_content["ranking"]
        assert 0 < len(shown) < 100
        assert f"and {100 - len(shown)} more" in d.text(result)
        assert len(d.text(result)) + len(json.dumps(result.structured_content)) <= 20_000
        few = await d.call("ollama_rank", query="word", candidates=candidates[:5])
        assert len(few.structured_content["ranking"]) == 5
        assert " more" not in d.text(few)

    at(work)


any_text = st.text() | st.lists(
    st.sampled_from(["\r\n", "\n", " ", "a", "\N{COMBINING ACUTE ACCENT}", "\N{LLAMA}", "\u2028", "word"]),
    max_size=200,
).map("".join)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(any_text, st.integers(4, 50), st.booleans())
def test_pages_joined_are_the_text(text, size, in_bytes):
    text = sanitize_text(text)
    room = PageSize(bytes=size) if in_bytes else PageSize(chars=size)
    length = (lambda t: len(t.encode())) if in_bytes else len
    cut = pages(text, room)
    assert "".join(cut) == text
    assert all(0 < length(page) <= size for page in cut) or cut == [""]
    assert len(cut) <= max(2 * length(text) / (size - 3) + 1, 1) + 1
    assert not any(before[-1] == "\r" and page[0] == "\n" for before, page in pairwise(cut))
