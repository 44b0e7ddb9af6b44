"""The window grows once, honestly, or the prompt is refused with both counts; nothing is cut in silence."""

import itertools

import anyio
import pytest

from ollama_mcp.errors import ContextOverflow, StreamBroken, Upstream
from ollama_mcp.services.context_window import (
    ContextWindows,
    PromptSize,
    grown_window,
    overflow,
    was_prompt_cut,
    window_limit,
)
from ollama_mcp.settings import ModelDefaults
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

GENERATION = "/api/chat"
NO_ROOM = Script(status=500, body={"error": "model requires more system memory (9 GiB) than is available"})


def words(count: int) -> str:
    """As many tokens to the fake."""
    return "w " * count


def prompt(count: int) -> dict[str, str]:
    """A chat of so many tokens, whose answer is short."""
    return {"system": words(count - 1), "prompt": "hi"}


# --- growing -----------------------------------------------------------------------------------


async def test_a_prompt_that_does_not_fit_grows_the_window_once_to_a_power_of_two(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            answer = await b.chat(**prompt(5000))
            assert b.options_sent() == [{}, {"num_ctx": 8192}]
            assert b.fake.models["m:latest"].loads == 1
    assert answer.stats.context_grown
    assert answer.stats.context_window == 8192
    assert answer.stats.as_data()["context_grown"] is True
    assert answer.notes == ["window grown to 8192"]
    assert answer.stats.truncated is None


async def test_a_grown_window_is_said_while_the_answer_is_written(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path=GENERATION)
            b.fake.script(Script(), path=GENERATION, times=1)
            job = b.begin(**prompt(5000))
            await job.begun.wait()
            assert "window grown to 8192" in job.status()
            b.fake.release()
            await job.result()


async def test_a_grown_window_is_kept_for_later_calls_of_that_model_alone(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768), Model("other", ("completion",), 32768)) as b:
            await b.chat(**prompt(5000), model="m")
            small = await b.chat("hi", model="M:latest")
            complete = await b.generate("hi", model="m")
            await b.chat("hi", model="other")
            assert b.options_sent()[2:] == [{"num_ctx": 8192}, {}]
            assert b.options_sent("/api/generate") == [{"num_ctx": 8192}]
            assert b.fake.models["m:latest"].loads == 1
    assert not small.stats.context_grown
    assert small.stats.context_window == 8192
    assert small.notes == complete.notes == []


async def test_the_answer_that_was_asked_for_has_room_in_the_grown_window(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 65536)) as b:
            answer = await b.chat(**prompt(5000), options={"num_predict": 6000})
    assert answer.stats.context_window == 16384


async def test_a_window_that_the_caller_chose_is_never_grown(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            with pytest.raises(ContextOverflow) as caught:
                await b.chat(**prompt(5000), options={"num_ctx": 4096})
            assert len(b.sent()) == 1
    assert caught.value.details["tokens"] == 5000
    assert caught.value.details["window"] == 4096
    assert '"num_ctx": 8192' in caught.value.remedy


async def test_the_window_that_the_operator_set_grows_like_any_other(bench):
    defaults = ModelDefaults(options={"num_ctx": 2048})
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768), defaults=defaults) as b:
            answer = await b.chat(**prompt(3000))
            assert [options["num_ctx"] for options in b.options_sent()] == [2048, 4096]
    assert answer.stats.context_grown


@pytest.mark.parametrize(("own", "operator", "limit"), [(8192, 32768, 8192), (131072, 8192, 8192)])
async def test_beyond_the_models_or_the_operators_maximum_it_is_refused_with_both_counts(
    bench, own: int, operator: int, limit: int
):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), own), max_context=operator) as b:
            with pytest.raises(ContextOverflow) as caught:
                await b.chat(**prompt(9000))
            assert len(b.sent()) == 1
    error = caught.value
    assert (error.details["tokens"], error.details["window"], error.details["model_max"]) == (9000, 4096, own)
    assert "the prompt of 9000 tokens does not fit: m:latest has a window of 4096 tokens" in str(error)
    assert limit == 8192


async def test_an_answer_too_long_for_any_window_names_the_argument_to_change(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192)) as b:
            with pytest.raises(ContextOverflow, match="num_predict"):
                await b.chat(**prompt(5000), options={"num_predict": 6000})


async def test_a_grown_model_that_does_not_load_is_an_overflow_with_both_counts(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            b.fake.script(Script(), NO_ROOM, path=GENERATION, times=2)
            with pytest.raises(ContextOverflow) as caught:
                await b.chat(**prompt(5000))
            assert (caught.value.details["tokens"], caught.value.details["window"]) == (5000, 4096)
            await b.chat("hi")
            assert b.options_sent() == [{}, {"num_ctx": 8192}, {}]


async def test_a_second_growth_that_fails_leaves_the_first_one_in_force(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            await b.chat(**prompt(5000))
            b.fake.script(Script(), NO_ROOM, path=GENERATION, times=2)
            with pytest.raises(ContextOverflow):
                await b.chat(**prompt(9000))
            await b.chat("hi")
            assert [options.get("num_ctx") for options in b.options_sent()][2:] == [8192, 16384, 8192]


async def test_a_kept_window_that_no_longer_loads_is_forgotten(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            await b.chat(**prompt(5000))
            b.fake.script(NO_ROOM, path=GENERATION, times=1)
            with pytest.raises(Upstream):
                await b.chat("hi")
            await b.chat("hi")
            assert [options.get("num_ctx") for options in b.options_sent()][2:] == [8192, None]


async def test_a_failure_in_the_middle_of_a_grown_answer_is_told_as_it_is(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            broken = Script(tokens=["one", " two"], cut_after_tokens=2, how="reset")
            b.fake.script(Script(), broken, path=GENERATION)
            with pytest.raises(StreamBroken) as caught:
                await b.chat(**prompt(5000))
    assert caught.value.partial_text == "one two"


async def test_concurrent_overflows_agree_on_the_larger_window(bench):
    """The smaller one comes second: a smaller num_ctx would load the model again at every call."""
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            jobs = [b.begin(**prompt(9000)), b.begin(**prompt(5000))]
            answers = [await job.result() for job in jobs]
            windows = sorted(options.get("num_ctx", 0) for options in b.options_sent())
            await b.chat("hi")
            assert b.options_sent()[-1] == {"num_ctx": 16384}
    assert windows[:2] == [0, 0]
    assert windows[-1] == 16384
    assert all(answer.stats.context_grown for answer in answers)


async def test_an_overflow_uses_the_window_that_another_call_has_grown_meanwhile(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            b.app.generator._windows.keep("m", 16384)
            b.app.generator._windows.of = lambda model: None  # as it was when the call began
            answer = await b.chat(**prompt(5000))
            assert b.options_sent()[-1] == {"num_ctx": 16384}
    assert answer.stats.context_window == 16384


async def test_many_overflows_at_once_load_the_model_once(bench):
    with anyio.fail_after(10):
        async with bench(Model("m", ("completion",), 32768)) as b:
            jobs = [b.begin(**prompt(5000 + place)) for place in range(20)]
            for job in jobs:
                await job.result()
            assert b.fake.models["m:latest"].loads == 1


# --- old servers -------------------------------------------------------------------------------


async def test_an_old_server_without_counts_gets_a_window_for_what_the_prompt_may_be(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768), version="0.24.0") as b:
            answer = await b.chat(**prompt(5000))
            assert b.options_sent() == [{}, {"num_ctx": 8192}]
    assert answer.stats.context_grown


async def test_an_old_server_that_refuses_twice_is_an_overflow(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192), version="0.24.0") as b:
            with pytest.raises(ContextOverflow) as caught:
                await b.chat(**prompt(9000))
            assert len(b.sent()) == 2
    assert caught.value.details["window"]


async def test_the_tools_of_a_chat_count_where_the_tokens_must_be_guessed(bench):
    tool = {"name": "f", "parameters": {"type": "object", "description": words(7000)}}
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion", "tools"), 65536), version="0.24.0") as b:
            refused = Script(status=400, body={"error": "the input length exceeds the context length"})
            b.fake.script(refused, path=GENERATION, times=1)
            await b.chat("hi", tools=[tool])
            assert b.options_sent()[-1]["num_ctx"] >= 8192


# --- prompts that were cut in silence ----------------------------------------------------------


@pytest.mark.parametrize(("version", "seen"), [("0.33.0", 2050), ("0.24.0", 4096), ("0.10.0", 4096)])
async def test_a_cut_that_was_allowed_is_reported(bench, version: str, seen: int):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192), version=version) as b:
            answer = await b.chat(**prompt(6000), truncate=True)
            assert len(b.sent()) == 1
    assert answer.stats.truncated == {"seen": seen, "window": 4096}
    assert [note for note in answer.notes if "cut the prompt" in note] == answer.notes != []


async def test_a_cut_by_a_server_that_does_not_know_truncate_is_reported(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192), version="0.10.0") as b:
            answer = await b.chat(**prompt(6000))
    assert answer.stats.truncated == {"seen": 4096, "window": 4096}


async def test_a_prompt_that_happens_to_fill_the_window_is_no_cut_where_the_server_would_refuse(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192)) as b:
            for count in (2050, 4096):
                assert (await b.chat(**prompt(count))).stats.truncated is None


async def test_a_server_that_does_not_tell_its_version_does_not_cost_the_answer(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192), version="0.10.0") as b:
            b.fake.script(Script(status=500, body={"error": "x"}), path="/api/version")
            answer = await b.chat(**prompt(6000))
    assert answer.startswith("You said")
    assert answer.stats.truncated == {"seen": 4096, "window": 4096}


async def test_a_server_that_does_not_tell_its_window_does_not_cost_the_answer(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 32768)) as b:
            b.fake.script(Script(status=500, body={"error": "x"}), path="/api/ps")
            answer = await b.chat("hi", model="m")
            grown = await b.chat(**prompt(5000), model="m")
    assert answer.stats.context_window is None
    assert grown.stats.context_window == 8192


async def test_a_model_that_unloads_at_once_still_has_its_cut_reported(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192)) as b:
            b.fake.script(Script(hold_after_tokens=1), path=GENERATION)
            job = b.begin(**prompt(6000), model="m", truncate=True, keep_alive=0)
            await b.fake.wait_for(lambda fake: fake.asked("/api/ps"))
            b.fake.release()
            answer = await job.result()
            assert not b.fake.models["m:latest"].running
    assert answer.stats.truncated == {"seen": 2050, "window": 4096}


async def test_a_window_beyond_the_models_own_is_counted_as_what_was_really_loaded(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), 8192)) as b:
            answer = await b.chat(**prompt(9000), truncate=True, options={"num_ctx": 100_000})
    assert answer.stats.context_window == 8192
    assert answer.stats.truncated == {"seen": 4098, "window": 8192}


@pytest.mark.parametrize(
    ("seen", "window", "keep", "version", "cut"),
    [
        (512, 512, None, None, True),
        (2050, 4096, None, None, True),
        (2051, 4096, None, None, True),
        (2052, 4096, None, None, False),
        (4095, 4096, None, None, False),
        (2098, 4096, 100, None, True),
        (2051, 4096, 5, None, True),  # what goes is rounded down
        (4096, 4096, None, (0, 12, 5), True),
        (4096, 4096, None, (0, 12, 6), False),
        (4096, 4096, None, (), True),
        (0, 4096, None, None, False),
        (4096, None, None, None, False),
        (4096, 0, None, None, False),
    ],
)
def test_the_fingerprints_of_a_cut(seen, window, keep, version, cut):
    assert was_prompt_cut(seen, window, keep, version=version) is cut


# --- the numbers -------------------------------------------------------------------------------


def test_a_grown_window_always_is_larger_holds_the_prompt_and_keeps_the_limit():
    counts = (None, 1, 100, 4096, 4097, 8191, 8192, 30000, 40000)
    for tokens, size, answer, window, limit in itertools.product(
        counts,
        (0, 20_000, 10**6),
        (None, 1, 3000, 10**6),
        (None, 512, 4096, 8192),
        (2048, 8192, 10_000, 32768),
    ):
        grown = grown_window(PromptSize(tokens, size, answer, window), limit)
        if grown is None:
            continue
        assert grown <= limit
        assert grown > (window or 0)
        assert grown == limit or grown & (grown - 1) == 0
        assert tokens is None or grown >= tokens + (answer or 1)


def test_windows_never_shrink_and_are_given_up_one_by_one():
    windows = ContextWindows()
    assert windows.keep("m", 8192) == 8192
    assert windows.keep("M:latest", 4096) == 8192
    for name in "abc":
        windows.keep(name, 4096)
    windows.give_up("c", 4096, None)
    windows.give_up("b", 4096, 2048)
    windows.give_up("a", 8192, 2048)
    assert [windows.of(name) for name in "abc"] == [4096, 2048, None]


def test_an_overflow_says_both_counts_and_stays_within_the_length_of_an_error():
    need = PromptSize(tokens=28899, size=0, answer=None, window=4096)
    error = overflow("m" * 300, need, limit=8192, model_max=8192, given=True, may_cut=True, what="the prompt")
    assert error.details == {"tokens": 28899, "window": 4096, "model_max": 8192}
    assert len(str(error)) <= 400


def test_an_overflow_names_the_setting_where_the_model_could_hold_more():
    need = PromptSize(tokens=50_000, size=0, answer=None, window=4096)
    low, own = (
        str(overflow("m", need, limit=limit, model_max=model_max, given=False, may_cut=True, what="it"))
        for limit, model_max in ((32768, 131072), (8192, 8192))
    )
    assert "OLLAMA_MCP_MAX_CONTEXT allows 32768" in low
    assert "OLLAMA_MCP_MAX_CONTEXT" not in own


async def test_a_runner_that_dies_in_the_grown_window_is_no_overflow(bench):
    dies = Script(lines=[b'{"error":"an error was encountered while running the model: exit"}\n'])
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), context_length=16384), window=4096) as b:
            b.fake.script(lambda asked: dies if "num_ctx" in str(asked.json) else Script(), path="/api/chat")
            with pytest.raises(Upstream, match="stopped in the middle"):
                await b.chat(**prompt(5000), model="m")
            b.fake.scripts.clear()
            assert (await b.chat(**prompt(5000), model="m")).stats.context_window == 8192


async def test_a_passing_failure_does_not_shrink_the_window(bench):
    dies = Script(lines=[b'{"error":"runner: exit"}\n'])
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",), context_length=16384), window=4096) as b:
            await b.chat(**prompt(5000), model="m")
            b.fake.script(dies, path="/api/chat", times=1)
            with pytest.raises(Upstream):
                await b.chat(model="m")
            await b.chat(model="m")
            assert b.options_sent()[-1]["num_ctx"] == 8192


SHORTER = "Send a shorter text, name a model with a larger window, or send truncate=true to have it cut."


@pytest.mark.parametrize(
    ("need", "given", "remedy"),
    [
        (PromptSize(5000, 0, None, 4096), True, 'Send options={"num_ctx": 8192}, or leave num_ctx out.'),
        (PromptSize(3000, 0, 3000, 4096), True, 'Send options={"num_ctx": 8192}, or leave num_ctx out.'),
        (PromptSize(5000, 0, None, None), True, 'Send options={"num_ctx": 8192}, or leave num_ctx out.'),
        (PromptSize(5000, 0, None, 8192), True, SHORTER),  # nothing larger could be sent
        (PromptSize(5000, 0, None, 4096), False, SHORTER),
        (
            PromptSize(8190, 0, 3, 4096),
            False,
            'Send a "num_predict" of at most 2 in options, or a shorter prompt.',
        ),
        (PromptSize(8190, 0, 2, 4096), False, SHORTER),  # that would fit
        (PromptSize(8192, 0, 1, 4096), False, SHORTER),  # there is no room for an answer
        (PromptSize(None, 9000, 3, 4096), False, SHORTER),
        (PromptSize(9000, 0, None, 4096), True, SHORTER),
    ],
)
def test_an_overflow_says_what_to_send_instead(need, given, remedy):
    error = overflow("m", need, limit=8192, model_max=8192, given=given, may_cut=True, what="it")
    assert error.remedy == remedy


@pytest.mark.parametrize(
    ("need", "model_max", "cause"),
    [
        (
            PromptSize(9000, 0, None, 4096),
            8192,
            "it of 9000 tokens does not fit: m has a window of 4096 tokens, the model's maximum is 8192",
        ),
        (PromptSize(None, 9000, None, None), 0, "it does not fit: m has a window of 8192 tokens"),
        (
            PromptSize(None, 9000, None, None),
            8193,
            (
                "it does not fit: m has a window of 8192 tokens, the model's maximum is 8193, "
                "OLLAMA_MCP_MAX_CONTEXT allows 8192"
            ),
        ),
    ],
)
def test_an_overflow_says_every_number_that_is_known(need, model_max, cause):
    error = overflow("m", need, limit=8192, model_max=model_max, given=False, may_cut=True, what="it")
    assert error.cause == cause
    assert error.details == {
        "tokens": need.tokens,
        "window": need.window or 8192,
        "model_max": model_max or None,
    }


@pytest.mark.parametrize(
    ("need", "limit", "window"),
    [
        (PromptSize(3072, 0, None, 2048), 32768, 4096),  # 1024 are kept for an answer without limit
        (PromptSize(3073, 0, None, 2048), 32768, 8192),
        (PromptSize(4000, 0, 96, 2048), 32768, 4096),
        (PromptSize(4000, 0, 97, 2048), 32768, 8192),
        (PromptSize(None, 6144, None, None), 32768, 4096),  # two bytes a token, where nobody says
        (PromptSize(None, 6146, None, None), 32768, 8192),
        (PromptSize(None, 10, None, 4096), 32768, 8192),
        (PromptSize(1, 0, 1, None), 32768, 2),
        (PromptSize(10, 0, 1, 4096), 32768, 8192),  # it did not fit into 4096, whatever was counted
        (PromptSize(4095, 0, None, 2048), 4096, 4096),
        (PromptSize(4096, 0, None, 2048), 4096, None),  # no token is left for an answer
        (PromptSize(10, 0, 1, 4096), 4096, None),
        (PromptSize(10, 0, 1, 4095), 32768, 4096),
    ],
)
def test_a_window_grows_to_the_next_power_of_two_that_holds_both(need, limit, window):
    assert grown_window(need, limit) == window


def test_a_model_is_never_asked_for_a_larger_window_than_it_has_or_the_operator_allows():
    assert window_limit(8192, 32768) == 8192
    assert window_limit(131072, 32768) == 32768
    assert window_limit(0, 32768) == 32768


def test_a_window_that_does_not_load_is_given_up_for_the_one_before():
    windows = ContextWindows()
    windows.keep("m", 8192)
    windows.give_up("m", 4096, None)
    assert windows.of("M:latest") == 8192, "another call has grown it meanwhile"
    windows.keep("m", 16384)
    windows.give_up("m", 16384, 8192)
    assert windows.of("m") == 8192
    windows.give_up("m", 8192, 8192)
    assert windows.of("m") is None


async def test_a_grown_window_goes_back_after_ten_idle_minutes_and_not_before(bench):
    async with bench(Model("m", ("completion",), context_length=16384), window=4096) as b:
        await b.chat(**prompt(5000), model="m")
        for minutes in (9, 9, 11):
            await anyio.sleep(minutes * 60)
            await b.chat(model="m")
        assert [options.get("num_ctx") for options in b.options_sent()] == [None, 8192, 8192, 8192, None]


@pytest.mark.parametrize("how", ["a call", "the tool"])
async def test_a_grown_window_goes_with_the_model(bench, how):
    async with bench(Model("m", ("completion",), context_length=16384), window=4096) as b:
        await b.chat(**prompt(5000), model="m")
        if how == "the tool":
            await b.app.model_manager.unload("m")
        else:
            await b.chat(model="m", keep_alive=0)
        await b.chat(model="m")
        assert b.options_sent()[-1].get("num_ctx") is None
