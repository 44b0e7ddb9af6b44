"""Work that waits for its user's answer: progress, the deadline, the handle and a cancel hold there, too."""

import asyncio
import math
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult

from ollama_mcp import App, create_server
from ollama_mcp.errors import NotConfirmed
from ollama_mcp.jobs.job import InputRequired, Job, JobState
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model

YES = ElicitResult(action="accept", content={"confirm": True})
MODES = ["auto", "legacy"]


class SlowUser:
    """Somebody who takes their time, and may never answer."""

    def __init__(self, seconds: float = 0.0, answer: ElicitResult = YES) -> None:
        self.seconds = seconds
        self.answer = answer
        self.asked: list[str] = []
        self.left = 0

    async def __call__(self, _context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.left += 1
            raise
        return self.answer


@pytest.fixture(params=MODES)
def served(request: pytest.FixtureRequest, virtually: Any) -> Callable[..., Any]:
    """Runs a test with a fake Ollama, an App, a client of its server and the user behind that."""

    @asynccontextmanager
    async def opened(user: SlowUser, **environment: str) -> Any:
        async with FakeOllama([Model("m"), Model("n")]) as fake:
            settings = {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOOLSETS": "all", **environment}
            async with App.create(load(settings)) as app:
                server = create_server(app)
                async with Client(server, mode=request.param, elicitation_callback=user) as client:
                    yield fake, app, client

    def run(work: Callable[..., Any], user: SlowUser, **environment: str) -> Any:
        async def whole() -> Any:
            async with opened(user, **environment) as (fake, app, client):
                return await work(fake, app, client)

        return virtually(whole)

    run.mode = request.param
    return run


def text(result: Any) -> str:
    return result.content[0].text


def test_the_answer_of_the_user_is_no_call_more(served):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        done = await client.call_tool("ollama_delete_model", {"model": "m"})
        assert not done.is_error, text(done)
        refused = await client.call_tool("ollama_delete_model", {"model": "n"})
        assert text(refused).startswith("RATE_LIMITED: ")

    served(work, SlowUser(), OLLAMA_MCP_RATE="ollama_delete_model=1/h", OLLAMA_MCP_BURST="1")


def handle_of(result: Any) -> str:
    assert text(result).startswith("STILL RUNNING: "), result.content
    return text(result).split('handle="')[1].split('"')[0]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ollama_delete_model", {"model": "m"}),
        ("ollama_copy_model", {"source": "m", "destination": "n"}),
        ("ollama_create_model", {"model": "n", "from_model": "m", "system": "s"}),
        ("ollama_pull_model", {"model": "qwen3:0.6b"}),
    ],
)
def test_the_wait_for_a_person_is_told_as_progress(served, tool, arguments):
    user, heard = SlowUser(12), list[tuple[float, str]]()

    async def hear(value: float, _total: float | None, message: str | None) -> None:
        heard.append((value, message or ""))

    async def work(fake, app, client):
        result = await client.call_tool(tool, arguments, progress_callback=hear)
        assert not result.is_error, result.content
        assert len(user.asked) == 1

    served(work, user, OLLAMA_MCP_MAX_PULL_GB="0.001")
    values = [value for value, _ in heard]
    if served.mode == "legacy":  # else the question is a result, and no call waits for the person
        assert values == sorted(set(values))
        assert sum("waiting for the user to answer: " in message for _, message in heard) >= 2


def test_what_was_lowered_before_the_question_is_told_once(served):
    arguments = {"model": "n", "from_model": "m", "parameters": {"num_ctx": 100_000}}

    async def work(fake, app, client):
        result = await client.call_tool("ollama_create_model", arguments)
        assert text(result).count("num_ctx lowered from 100000") == 1, text(result)

    served(work, SlowUser(), OLLAMA_MCP_MAX_CONTEXT="4096")


def test_a_call_returns_at_its_deadline_and_the_answer_still_counts(served):
    user = SlowUser(30)

    async def work(fake, app, client):
        asked = await client.call_tool("ollama_delete_model", {"model": "m", "wait_s": 2})
        if served.mode == "auto":  # the client asked before it called again
            assert not asked.is_error
            return
        assert asyncio.get_running_loop().time() < 3
        handle = handle_of(asked)
        assert "waiting for the user to answer: Delete m" in text(asked)
        assert asked.structured_content["handle"] == handle
        assert asked.meta["ollama-mcp/reply"]["state"] == "input_required"
        found = await client.call_tool("ollama_continue", {"handle": handle})
        assert text(found).startswith("m:latest is deleted")
        assert len(user.asked) == 1
        assert len(fake.asked("/api/delete")) == 1

    served(work, user)


def test_a_question_that_nobody_answers_ends_after_ten_minutes(served):
    user = SlowUser(math.inf)

    async def work(fake, app, client):
        if served.mode == "auto":
            with anyio.move_on_after(700):
                await client.call_tool("ollama_delete_model", {"model": "m"})
            assert app.jobs.in_flight == 0
        else:
            result = await client.call_tool("ollama_delete_model", {"model": "m", "wait_s": 0})
            assert text(result).startswith("NOT_CONFIRMED: the user did not answer in time")
            assert user.left == 1
        assert fake.asked("/api/delete") == []

    served(work, user)


def test_a_call_that_is_cancelled_takes_its_question_back(served):
    user = SlowUser(math.inf)

    async def work(fake, app, client):
        with anyio.move_on_after(5):
            await client.call_tool("ollama_delete_model", {"model": "m"})
        await asyncio.sleep(1)
        if served.mode == "legacy":  # else no call was going on
            assert app.jobs.in_flight == 0
        assert fake.asked("/api/delete") == []

    served(work, user)
    assert user.left == 1


def test_what_was_cancelled_by_its_handle_is_not_done_by_a_late_yes(served):
    user = SlowUser(30)

    async def work(fake, app, client):
        if served.mode == "auto":
            return
        asked = await client.call_tool("ollama_delete_model", {"model": "m", "wait_s": 2})
        stopped = await client.call_tool("ollama_cancel", {"handle": handle_of(asked)})
        assert text(stopped).startswith("Stopped")
        await asyncio.sleep(60)
        assert fake.asked("/api/delete") == []

    served(work, user)


def test_an_answer_counts_for_what_was_asked_and_for_the_job_that_asked(virtually):
    """The protocol of 2026: the second call could have other arguments, or bring an old answer."""

    async def work() -> None:
        async with FakeOllama([Model("m"), Model("n")]) as fake:
            settings = {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOOLSETS": "all"}
            async with App.create(load(settings)) as app:
                user = SlowUser()
                async with Client(create_server(app), mode="auto", elicitation_callback=user) as client:

                    async def call(model: str, **more: Any) -> Any:
                        return await client.session.call_tool(
                            "ollama_delete_model", {"model": model}, allow_input_required=True, **more
                        )

                    first = await call("m")
                    (key,) = first.input_requests
                    brought = {"input_responses": {key: YES}, "request_state": first.request_state}
                    with pytest.raises(MCPError, match="requestState"):  # sealed with its arguments
                        await call("n", **brought)
                    assert fake.asked("/api/delete") == []
                    unanswered = await call("m", request_state=first.request_state)
                    assert list(unanswered.input_requests) == [key]
                    wrong = await call("m", **{**brought, "input_responses": {"confirm": YES}})
                    assert list(wrong.input_requests) == [key]
                    done = await call("m", **brought)
                    assert text(done).startswith("m:latest is deleted")
                    again = await call("m", **brought)
                    assert text(again).startswith("m:latest is deleted")
                    assert len(fake.asked("/api/delete")) == 1

    virtually(work)


def test_a_reply_takes_one_answer_and_goes_on_where_it_was(virtually):
    async def work() -> None:
        steps: list[str] = []

        async def asking(job: Job[str]) -> str:
            for place in "ab":
                await job.ask(f"{place}?")
                steps.append(place)
            return "done"

        async with App.create(load({})) as app:
            job = app.jobs.start(asking)
            for place in "ab":
                await asyncio.sleep(1)
                assert job.summary() == f"waiting for the user to answer: {place}?"
                job.answer(job.questions[0])
                job.answer(job.questions[0], NotConfirmed("too late", ""))
            assert await job.wait() == "done"
            assert steps == ["a", "b"]

    virtually(work)


def test_parts_add_up_and_the_status_line_tells_which(virtually):
    async def work() -> None:
        told: list[str] = []

        async def working(job: Job[int]) -> int:
            for place in (1, 2):
                part = job.part(f"model {place} of 2")
                part.model = f"m{place}"
                for word in ("a ", "b "):
                    part.advance(part.state, 1)
                    part.write(word)
                told.append(f"{job.count} {part.count} {job.text!r} {job.status()}")
            file = job.part("a.txt", "files")
            file.advance(file.state, 7)
            return job.count

        async with App.create(load({})) as app:
            assert await app.jobs.start(working).wait() == 4
        assert told == [
            "2 2 'a b ' model 1 of 2 · m1 · 2 tok · waiting · a b",
            "4 2 'a b ' model 2 of 2 · m2 · 2 tok · waiting · a b a b",
        ]

    virtually(work)


async def asking(job: Job[str]) -> str:
    await job.ask("a?")
    return "done"


def test_of_two_who_wait_one_asks_and_both_get_what_comes_of_it(virtually):
    async def work() -> None:
        async with App.create(load({})) as app:
            job = app.jobs.start(asking)
            asked: list[str] = []

            async def wait() -> str:
                while True:
                    try:
                        return await job.wait(asks=True)
                    except InputRequired:
                        asked.append(job.unasked.text)
                        job.asked_by(job.unasked, asyncio.ensure_future(asyncio.sleep(60)))

            both = asyncio.gather(wait(), wait())
            await asyncio.sleep(1)
            job.answer(job.questions[0])
            assert await both == ["done", "done"]
            assert asked == ["a?"]

    virtually(work)


def test_where_asking_broke_off_the_next_one_may_ask(virtually):
    async def work() -> None:
        async with App.create(load({})) as app:
            job = app.jobs.start(asking)
            for _ in range(2):
                with pytest.raises(InputRequired):
                    await job.wait(5, asks=True)
                job.asked_by(
                    job.unasked, asyncio.ensure_future(asyncio.sleep(1))
                )  # it ends without an answer
                await asyncio.sleep(2)
            job.answer(job.questions[0])
            assert await job.wait() == "done"

    virtually(work)


def test_of_two_questions_at_once_each_takes_its_own_answer(virtually):
    async def work() -> None:
        async def both(job: Job[str]) -> str:
            answers = await asyncio.gather(job.ask("a?"), job.ask("b?"), return_exceptions=True)
            return ", ".join("no" if answer else "yes" for answer in answers)

        async with App.create(load({})) as app:
            job = app.jobs.start(both)
            with pytest.raises(InputRequired):
                await job.wait(5, asks=True)
            first, second = job.open_questions
            job.asked_by(first, asyncio.ensure_future(asyncio.sleep(60)))
            assert job.unasked is second
            job.answer(first)
            assert (job.state, job.open_questions) == (JobState.INPUT_REQUIRED, [second])
            assert job.summary() == "waiting for the user to answer: b?"
            job.answer(second, NotConfirmed("no", ""))
            assert await job.wait() == "yes, no"

    virtually(work)
