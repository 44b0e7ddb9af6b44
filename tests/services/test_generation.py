"""A Job: what the model said is kept, whatever happens, and cancelling stops the model at once."""

import asyncio
import random
from contextlib import suppress

import anyio
import pytest

from ollama_mcp.errors import (
    BadUpstream,
    ModelNotFound,
    OllamaError,
    StreamBroken,
    Timeout,
    Truncated,
    Unreachable,
    Upstream,
)
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.jobs.store import JobStore
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings import Backend, ModelDefaults, Timeouts
from ollama_mcp.testing import FakeOllama, Model, Script

pytestmark = pytest.mark.anyio

THINKER = Model("thinker", ("completion", "thinking"), template="{{ .Prompt }}<think>\n")


# --- what a stream brings ----------------------------------------------------------------------


@pytest.mark.real_time  # an answer in no time has no speed
async def test_an_answer_has_its_numbers(bench):
    with anyio.fail_after(60):
        async with bench() as b:
            b.fake.script(Script(tokens=["Hel", "lo"], thinking=["Hm."]))
            answer = await b.chat("one two three")
    stats = answer.stats
    assert (answer, answer.thinking) == ("Hello", "Hm.")
    assert (stats.model, stats.chosen, stats.done_reason) == ("llama3.2:3b", "installed last", "stop")
    assert (stats.prompt_tokens, stats.output_tokens, stats.context_used) == (3, 3, 6)
    assert (stats.chunks, stats.thinking_chars, stats.context_window) == (4, 3, 4096)
    assert stats.tokens_per_s > 0
    assert stats.load_s > 0
    assert 0 <= stats.first_token_s <= stats.total_s
    assert not {"truncated", "context_grown", "repaired", "cloud"} & stats.as_data().keys()


async def test_text_in_the_last_line_belongs_to_the_answer(bench):
    lines = [
        b'{"message":{"content":"Hel"}}',
        b'{"message":{"content":"lo","thinking":"Hm."},"done":true,"done_reason":"stop"}',
    ]
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=lines), path="/api/chat")
            job = b.begin(prompt="hi")
            answer = await job.result()
    assert (answer, answer.thinking) == ("Hello", "Hm.")
    assert job.text_since(0)[0] == "Hello"


async def test_an_error_after_the_end_does_not_undo_the_answer(bench):
    lines = [b'{"message":{"content":"ok"},"done":true}', b'{"error":"late"}', b"garbage"]
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=lines), path="/api/chat")
            assert await b.chat() == "ok"


async def test_calls_of_tools_are_collected_from_every_line_with_their_ids(bench):
    def line(name: str, call_id: str) -> bytes:
        call = b'{"id":"%b","function":{"name":"%b","arguments":{}}}' % (call_id.encode(), name.encode())
        return b'{"message":{"content":"","tool_calls":[%b]}}' % call

    lines = [line("a", "1"), line("b", "2"), line("c", "3")[:-1] + b',"done":true}']
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=lines), path="/api/chat")
            answer = await b.chat(tools=[{"name": name} for name in "abc"])
    assert [(call.id, call.function.name) for call in answer.tool_calls] == [
        ("1", "a"),
        ("2", "b"),
        ("3", "c"),
    ]


async def test_what_the_settings_say_goes_with_the_request(bench):
    own = ModelDefaults(options={"temperature": 0.5}, system="Be brief.", keep_alive="10m", think=True)
    with anyio.fail_after(5):
        async with bench(THINKER, Model("plain", ("completion",)), defaults=own) as b:
            await b.chat(model="thinker", options={"top_k": 4})
            await b.chat(model="plain", system="Be long.", keep_alive=0)
            await b.generate(model="plain", raw=True)
            first, second = b.sent()
            (raw,) = b.sent("/api/generate")
    assert first["options"] == {"temperature": 0.5, "top_k": 4}
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["keep_alive"], first["think"], first["truncate"]) == ("10m", True, False)
    assert [message["content"] for message in second["messages"]] == ["Be long.", "hi"]
    assert second["keep_alive"] == 0
    assert "think" not in second
    assert "system" not in raw


@pytest.mark.parametrize("seed", range(30))
async def test_what_was_settled_is_the_answer_to_the_letter(bench, seed: int):
    rng = random.Random(seed)
    parts = ["<think>", "</think>", "<", "\n", " ", "ü🦙", "word", "\u0085", "</thi", "nk>"]
    tokens = [rng.choice(parts) for _ in range(rng.randrange(20))]
    settled = ""
    with anyio.fail_after(5):
        async with bench(THINKER) as b:
            b.fake.script(Script(tokens=tokens))
            job = b.begin(prompt="hi", think=rng.choice(["", "false"]))
            mark = 0
            while not job.finished:
                new, mark = job.text_since(mark)
                settled += new
                await asyncio.sleep(0)
            with suppress(BadUpstream):  # nothing was written but thinking
                answer, settled = await job.result(), settled + job.text_since(mark)[0]
                if "</think>" in settled:  # what stands before it looked like the answer until it came
                    assert settled.endswith(answer)
                else:
                    assert settled == answer


async def test_a_call_from_which_nothing_has_come_yet_says_whether_the_model_loads_or_reads(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            b.fake.script(Script(delay_first=60), path="/api/chat")
            job = b.begin(prompt="hi", model="m")
            assert job.status() == "waiting for Ollama"
            await b.fake.wait_for(lambda fake: fake.asked("/api/chat"))
            b.fake.models["m:latest"].loaded = False
            await job.look()
            assert job.status() == "loading m"
            b.fake.models["m:latest"].load(4096)
            await job.look()
            assert job.status() == "reading the prompt"
            await job.cancel()
            await job.look()
            assert job.state is JobState.CANCELLED


# --- thinking ----------------------------------------------------------------------------------


async def test_thinking_that_leaks_goes_to_the_thinking(bench):
    with anyio.fail_after(5):
        async with bench(THINKER) as b:
            b.fake.script(Script(tokens=["I add.", "\n</thi", "nk>", "\n8"]))
            job = b.begin(prompt="4+4?", think="false")
            answer = await job.result()
    assert (answer, answer.thinking) == ("8", "I add.\n")
    assert job.text_since(0)[0] == "8"


async def test_a_raw_completion_is_left_as_it_is(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=["<think>a</think>b"]))
            assert await b.generate(raw=True) == "<think>a</think>b"


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script(tokens=["Hel", "lo", "!"], cut_after_tokens=2, how="reset"), StreamBroken),
        (Script(tokens=["Hel", "lo", "!"], cut_after_tokens=2), StreamBroken),
        (Script(tokens=["Hel", "lo"], missing_done=True), Truncated),
        (Script(tokens=["Hel", "lo", "!"], cut_after_tokens=2, how="error"), Upstream),
        (Script(tokens=["Hel", "lo", "!"], cut_after_tokens=2, how="silence"), Timeout),
        (Script(lines=[b'{"message":{"content":"Hello"}}', b"[]"]), BadUpstream),
        (Script(lines=[b'{"message":{"content":"Hello"}}', b'{"message":{"content":5}}']), BadUpstream),
    ],
    ids=["reset", "closed", "no done", "error", "silence", "no object", "no text"],
)
async def test_what_the_model_had_written_is_kept_by_every_failure(bench, script: Script, kind: type):
    with anyio.fail_after(5):
        async with bench() as b:
            backend = Backend(host=parse_host(b.fake.url), timeouts=Timeouts(idle=0.2))
            async with bench(backend=backend) as impatient:
                b.fake.script(script, path="/api/chat")
                job = impatient.begin(prompt="hi")
                with pytest.raises(kind) as caught:
                    await job.result()
    assert caught.value.partial_text == "Hello"
    assert job.state is JobState.FAILED


@pytest.mark.parametrize("token", ["<", "<thi", " \n"])
async def test_what_might_have_been_a_tag_is_kept_by_a_failure(bench, token: str):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=[token], missing_done=True))
            with pytest.raises(Truncated) as caught:
                await b.chat()
    assert caught.value.partial_text == token


async def test_what_might_have_been_thinking_is_kept_by_a_failure(bench):
    with anyio.fail_after(5):
        async with bench(THINKER) as b:
            b.fake.script(Script(tokens=["I ", "add"], missing_done=True))
            with pytest.raises(Truncated) as caught:
                await b.chat(think="false")
    assert caught.value.partial_text == "I add"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_answer_that_breaks_off_at_any_byte_keeps_its_beginning(bench, how: str):
    tokens = ["Hel", "lo ", "<", "wörld", "🦙"]
    ended: list[tuple[str, str]] = []
    with anyio.fail_after(20):
        async with bench() as b:
            for size in range(0, 1700, 97):
                b.fake.script(Script(tokens=tokens, cut_after_bytes=size, how=how), path="/api/chat", times=1)
                try:
                    ended.append(("whole", await b.chat(model="llama3.2:3b")))
                except OllamaError as error:
                    ended.append((error.code, error.partial_text))
    assert {code for code, _ in ended} == {"whole", "STREAM_BROKEN"}
    assert all("".join(tokens).startswith(text) for _, text in ended)
    assert {text for code, text in ended if code == "whole"} == {"".join(tokens)}


async def test_a_server_that_is_gone_is_unreachable(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            await b.fake.stop()
            with pytest.raises(Unreachable):
                await b.chat()


async def test_a_model_that_was_deleted_meanwhile_is_looked_up_anew(bench):
    with anyio.fail_after(5):
        async with bench(Model("m:1b", ("completion",)), Model("m:2b", ("completion",))) as b:
            await b.chat(model="m:1b")
            del b.fake.models["m:1b"]
            with pytest.raises(ModelNotFound) as caught:
                await b.chat(model="m:1b")
            assert caught.value.details["similar"] == ["m:2b"]
            with pytest.raises(ModelNotFound):
                await b.chat(model="m:1b")
            assert len(b.sent()) == 2


# --- cancelling --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        Script(delay_first=60),
        Script(tokens=["a", "b"], load_delay=60),
        Script(tokens=["a", "b"], hold_after_tokens=1),
        Script(tokens=["a"], cut_after_tokens=0, how="silence"),
    ],
    ids=["before the first byte", "while it loads", "after the first token", "in silence"],
)
async def test_cancelling_closes_the_connection_at_once(bench, script: Script):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(script, path="/api/chat")
            job = b.begin(prompt="hi")
            await b.fake.wait_for(lambda fake: fake.asked("/api/chat"))
            if script.hold_after_tokens:
                await job.begun.wait()
            await job.cancel()
            assert job.state is JobState.CANCELLED
            await b.fake.wait_for(lambda fake: fake.disconnects == 1, timeout=1)


async def test_a_waiter_that_is_cancelled_cancels_the_work_and_waits_for_it(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path="/api/chat")
            job = b.begin(prompt="hi")
            async with anyio.create_task_group() as group:
                group.start_soon(job.result)
                await job.begun.wait()
                group.cancel_scope.cancel()
            assert job.finished
            assert job.state is JobState.CANCELLED
            await b.fake.wait_for(lambda fake: fake.disconnects == 1, timeout=1)


async def test_cancelling_before_the_first_step_is_nothing_special(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            job = b.begin(prompt="hi")
            await job.cancel()
            assert job.state is JobState.CANCELLED
            assert b.fake.requests == []


async def test_cancelling_twice_or_after_the_end_changes_nothing(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            job = b.begin(prompt="hi")
            answer = await job.result()
            await job.cancel()
            await job.cancel()
            assert job.state is JobState.DONE
            assert await job.result() == answer


async def test_a_model_is_free_for_the_next_call_after_a_cancel(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",)), parallel=1) as b:
            b.fake.script(Script(tokens=["a", "b"], hold_after_tokens=1), path="/api/chat", times=1)
            first, second = b.begin(prompt="hi"), b.begin(prompt="you")
            await first.begun.wait()
            await first.cancel()
            assert await second.result() == "You said: you"


async def test_closing_cancels_everything_that_is_in_flight():
    async with FakeOllama() as fake:
        jobs = JobStore()
        ended: list[str] = []

        async def work(job: Job[None]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("closed")

        with anyio.fail_after(5):
            started = [jobs.start(work) for _ in range(3)]
            await asyncio.sleep(0)
            await jobs.aclose()
            await jobs.aclose()
        assert ended == ["closed"] * 3
        assert all(job.state is JobState.CANCELLED for job in started)
        assert fake.requests == []


async def test_a_failure_that_nobody_waits_for_is_not_shouted_about(bench):
    """pytest turns asyncio's complaint about a lost exception into a failure of this test."""
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(status=500, body={"error": "x"}), path="/api/chat")
            job = b.begin(prompt="hi")
            while not job.finished:
                await asyncio.sleep(0)
            assert job.state is JobState.FAILED
            with pytest.raises(OllamaError):
                await job.result()


async def test_a_reply_that_was_not_started_has_no_result():
    job: Job[None] = Job()
    assert not job.finished
    await job.cancel()
    with pytest.raises(RuntimeError):
        await job.result()
