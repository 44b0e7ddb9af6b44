"""What a caller may not have in full is lowered with a note; what the operator set is everybody's."""

import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.ollama.api_models import ChatRequest
from ollama_mcp.ollama.options import Options
from ollama_mcp.ollama.parameters import keep_alive_seconds, parse_keep_alive
from ollama_mcp.services.clamp import ClampLimits, clamp, clamp_limits
from ollama_mcp.settings import ModelDefaults, Settings
from ollama_mcp.settings.limits import Limits
from ollama_mcp.testing import Model

SMALL = Model("m", ("completion",), 8192)
LARGE = Model("m", ("completion",), 131072)


async def asked(bench, model: Model = SMALL, /, settings: dict | None = None, **arguments):
    """What was sent for a chat, and the notes of its answer."""
    with anyio.fail_after(5):
        async with bench(model, **(settings or {})) as b:
            answer = await b.chat(**arguments)
            (body,) = b.sent()
            return body, answer.notes


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "settings", "window", "whose"),
    [
        (SMALL, {}, 8192, "the model's maximum"),
        (LARGE, {}, 32768, "OLLAMA_MCP_MAX_CONTEXT"),
        (LARGE, {"max_context": 2048}, 2048, "OLLAMA_MCP_MAX_CONTEXT"),
        (LARGE, {"defaults": ModelDefaults({"num_ctx": 65536})}, 65536, "OLLAMA_MCP_MAX_CONTEXT"),
    ],
)
async def test_a_window_is_lowered_to_that_of_the_model_or_of_the_operator(
    bench, model, settings, window, whose
):
    body, notes = await asked(bench, model, settings, options={"num_ctx": 10**6})
    assert body["options"]["num_ctx"] == window
    (note,) = notes
    assert note.startswith(f"num_ctx lowered from 1000000 to {window}")
    assert whose in note


@pytest.mark.anyio
async def test_the_operators_own_window_is_no_callers(bench):
    body, notes = await asked(bench, LARGE, {"defaults": ModelDefaults({"num_ctx": 65536})})
    assert (body["options"]["num_ctx"], notes) == (65536, [])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "sent", "notes"),
    [
        ({"num_predict": 5000, "num_ctx": 4096}, 4096, 1),
        ({"num_predict": 10**6, "num_ctx": 10**6}, 8192, 2),
        ({"num_predict": 9000}, 8192, 1),
        ({"num_predict": 8192}, 8192, 0),
        ({"num_predict": -1}, -1, 0),
        ({"num_predict": -2, "num_ctx": 4096}, -2, 0),
        ({"num_predict": 5000, "num_ctx": 0}, 5000, 0),
    ],
)
async def test_an_answer_is_never_longer_than_the_window(bench, options, sent, notes):
    body, found = await asked(bench, options=options)
    assert body["options"]["num_predict"] == sent
    assert len(found) == notes


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "sent"),
    [("2h", "1h"), (-1, "1h"), ("forever", "1h"), (7200, "1h"), ("-5m", "1h"), ("1h", "1h"), (3600, 3600),
     ("90m", "1h"), (0, 0), ("", None)],
)  # fmt: skip
async def test_a_model_stays_loaded_no_longer_than_the_operator_allows(bench, given, sent):
    body, notes = await asked(bench, keep_alive=given)
    assert body.get("keep_alive") == sent
    lowers = sent == "1h" and given != "1h"
    assert [note for note in notes if "OLLAMA_MCP_MAX_KEEP_ALIVE" in note] == notes
    assert len(notes) == lowers


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "given", "sent"),
    [
        ({"limits": Limits(keep_alive=-1)}, "forever", -1),
        ({"limits": Limits(keep_alive="10m")}, "1h", "10m"),
        ({"limits": Limits(keep_alive=0)}, "1h", 0),
        ({"defaults": ModelDefaults(keep_alive=-1)}, "forever", -1),
        ({"defaults": ModelDefaults(keep_alive=-1)}, "", -1),
        ({"defaults": ModelDefaults(keep_alive="2h")}, "3h", "2h"),
        ({"per_model": {"m": ModelDefaults(keep_alive="2h")}}, -1, "2h"),
    ],
)
async def test_for_ever_is_only_by_a_setting_and_a_default_is_everybodys(bench, settings, given, sent):
    body, _ = await asked(bench, SMALL, settings, keep_alive=given)
    assert body["keep_alive"] == sent


@pytest.mark.anyio
async def test_generate_has_the_same_ceilings(bench):
    with anyio.fail_after(5):
        async with bench(SMALL) as b:
            answer = await b.generate(options={"num_ctx": 10**6}, keep_alive=-1)
            (body,) = b.sent("/api/generate")
    assert (body["options"]["num_ctx"], body["keep_alive"], len(answer.notes)) == (8192, "1h", 2)


NUMBERS = st.none() | st.integers(-(2**63), 2**63 - 1)
TIMES = st.one_of(st.none(), st.floats(-1e12, 1e12), st.sampled_from(["5m", "-1h", "240h", "forever", "0"]))


@given(
    NUMBERS, NUMBERS, TIMES, st.integers(0, 10**6), st.integers(1024, 10**6), st.sampled_from([-1, 0, "1h"])
)
def test_whatever_is_asked_nothing_is_above_its_ceiling_and_the_rest_is_as_it_was(
    num_ctx, num_predict, keep_alive, own, allowed, longest
):
    options = Options(num_ctx=num_ctx, num_predict=num_predict, temperature=0.5)
    request = ChatRequest(model="m", options=options, keep_alive=parse_keep_alive(keep_alive))
    most = clamp_limits(Settings(max_context=allowed, limits=Limits(keep_alive=longest)), "m", own)
    assert most.window == min(own or allowed, allowed)
    found, notes = clamp(request, most)
    assert found.options
    assert (found.options.num_ctx or 0) <= most.window
    assert (found.options.num_predict or 0) <= max(most.window, found.options.num_ctx or 0)
    if found.keep_alive is not None:
        assert keep_alive_seconds(found.keep_alive) <= keep_alive_seconds(most.keep_alive)
    assert found.options.temperature == 0.5
    assert len(notes) == (found != request) or found != request
    again, none = clamp(found, most)
    assert (again, none) == (found, [])


def test_a_request_without_options_gets_none():
    request = ChatRequest(model="m")
    assert clamp(request, ClampLimits(1, window_is_own=False, keep_alive=0)) == (request, [])
    assert math.isinf(keep_alive_seconds(-1))


@pytest.mark.parametrize(
    ("is_own", "whose"),
    [(True, "the model's maximum"), (False, "the most that OLLAMA_MCP_MAX_CONTEXT allows")],
)
def test_each_note_says_from_what_to_what_and_whose_word_that_is(is_own, whose):
    options = Options(num_ctx=9999, num_predict=8888)
    request = ChatRequest(model="m", options=options, keep_alive=-1)
    _, notes = clamp(request, ClampLimits(4096, window_is_own=is_own, keep_alive="1h"))
    assert notes == [
        f"num_ctx lowered from 9999 to 4096, {whose}",
        "num_predict lowered from 8888 to 4096, the window",
        "keep_alive lowered from -1 to 1h, the most that OLLAMA_MCP_MAX_KEEP_ALIVE allows",
    ]


def test_a_window_of_one_token_is_one():
    request = ChatRequest(model="m", options=Options(num_ctx=1, num_predict=2))
    found, notes = clamp(request, ClampLimits(4096, window_is_own=True, keep_alive=-1))
    assert found.options.num_predict == 1
    assert len(notes) == 1
