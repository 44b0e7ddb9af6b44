"""The rules of progress, to the millisecond: the clock is virtual, so nothing here waits."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_mcp.errors import StreamBroken, Unreachable
from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.jobs.progress import report_progress
from ollama_mcp.jobs.store import JobStore
from ollama_mcp.ollama.api_models import ProgressLine
from ollama_mcp.services.transfer_progress import TransferProgress

EPS = 1e-6


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Watched:
    """One call that was followed to its end."""

    reports: list[tuple[float, float, float | None, str]] = field(default_factory=list)
    ended_at: float = 0.0
    """When the work ended."""
    result_at: float = 0.0
    """When the caller got the result or the failure."""
    answer: str = ""
    error: BaseException | None = None

    @property
    def times(self) -> list[float]:
        return [report[0] for report in self.reports]

    @property
    def values(self) -> list[float]:
        return [report[1] for report in self.reports]

    @property
    def messages(self) -> list[str]:
        return [report[3] for report in self.reports]


Token = tuple[float, str]


async def watch(
    tokens: Sequence[Token],
    *,
    form: str = "status",
    last: float = 0.0,
    send_waits: float = 0.0,
    send_takes: float = 0.0,
    fails: Exception | None = None,
    prepare: Callable[[Job[Any]], None] = lambda job: None,
) -> Watched:
    """Follow a Job that brings each token after its pause, and ends `last` seconds after the final one."""
    watched = Watched()

    async def work(job: Job[str]) -> str:
        prepare(job)
        for pause, text in tokens:
            await asyncio.sleep(pause)
            job.advance(JobState.WRITING)
            job.write(text)
            job.settle(text)
        await asyncio.sleep(last)
        watched.ended_at = now()
        if fails:
            raise fails
        return "".join(text for _, text in tokens)

    async def send(value: float, total: float | None, message: str) -> None:
        await asyncio.sleep(send_waits)
        watched.reports.append((now(), value, total, message))
        await asyncio.sleep(send_takes)

    job = JobStore().start(work)
    try:
        async with report_progress(job, send, form):
            watched.answer = await job.result()
    except (StreamBroken, ValueError) as error:
        watched.error = error
    watched.result_at = now()
    return watched


def steady(count: int, pause: float = 0.02, first: float = 0.5) -> list[Token]:
    return [(first if place == 0 else pause, f"t{place} ") for place in range(count)]


def check_rules(watched: Watched, first_token_at: float | None) -> None:
    """What holds for every call."""
    times, values = watched.times, watched.values
    assert all(b > a for a, b in pairwise(values))
    assert all(at >= 0.1 - EPS for at in times)
    assert not times or watched.result_at - times[-1] >= 0.05
    assert watched.result_at - watched.ended_at <= 0.1
    for before, after in pairwise(times):
        is_first_token = first_token_at is not None and abs(after - first_token_at) < EPS
        assert after - before >= 0.1 - EPS or is_first_token
        assert after - before <= 10


def test_a_call_of_less_than_100_ms_has_no_report_and_no_delay(virtually):
    watched = virtually(lambda: watch(steady(4, first=0.01)))
    assert watched.reports == []
    assert watched.result_at == watched.ended_at == pytest.approx(0.07)


def test_the_first_token_is_reported_at_once_and_later_ones_ten_times_a_second(virtually):
    watched = virtually(lambda: watch(steady(100)))
    check_rules(watched, first_token_at=0.5)
    assert watched.times[:3] == pytest.approx([0.1, 0.5, 0.6])
    assert watched.messages[0] == "waiting for Ollama"
    assert "1 tok · t0" in watched.messages[1]
    assert len(watched.reports) == pytest.approx(1 + 1 + 20, abs=1)


def test_the_first_token_does_not_wait_for_a_slow_look_at_the_server(virtually):
    async def look() -> None:
        await asyncio.sleep(0.9)

    def prepare(job: Job[Any]) -> None:
        job.look = look

    watched = virtually(lambda: watch(steady(50, first=0.4), prepare=prepare))
    assert pytest.approx(0.4) in watched.times


def test_a_silent_call_has_a_heartbeat_from_its_first_second_on(virtually):
    watched = virtually(lambda: watch([(125, "late"), (61, " later")]))
    check_rules(watched, first_token_at=125)
    assert watched.times[0] == pytest.approx(0.1)
    assert watched.messages[-1].startswith("2 tok") or watched.messages[-1].startswith("1 tok")


def test_the_end_of_the_reports_is_nothing_to_complain_about(virtually, caplog: pytest.LogCaptureFixture):
    assert virtually(lambda: watch(steady(100))).reports
    assert caplog.records == []


def test_the_place_in_line_is_told_every_second(virtually, in_line):
    def prepare(job: Job[Any]) -> None:
        job.queue(SimpleNamespace(position=2, model="m"))

    watched = virtually(lambda: watch([(3.5, "a")], prepare=prepare))
    assert watched.times[:4] == pytest.approx([0.1, 1.1, 2.1, 3.1])
    assert watched.values[:3] == pytest.approx([0.001, 0.002, 0.003])
    said = in_line(2, "m")
    assert watched.messages[:4] == [said, *(f"{said}, {n} s" for n in (1, 2, 3))]


def test_a_heartbeat_says_what_a_look_at_the_server_found(virtually):
    looks: list[float] = []

    def prepare(job: Job[Any]) -> None:
        async def look() -> None:
            looks.append(now())
            if len(looks) == 2:
                raise Unreachable("gone", "Wait.")
            job.state = JobState.LOADING

        job.look, job.model = look, "qwen3:4b"

    watched = virtually(lambda: watch([(11, "x")], prepare=prepare))
    assert len(looks) == 3
    assert watched.messages[:2] == ["loading qwen3:4b", "loading qwen3:4b, 5 s"]


@pytest.mark.parametrize("last", [0.0, 0.001, 0.03, 0.06, 0.0999, 0.1, 0.4])
@pytest.mark.parametrize("form", ["status", "text"])
@pytest.mark.parametrize("fails", [None, StreamBroken("lost", "Try again."), ValueError("a defect")])
def test_at_least_50_ms_lie_between_the_last_report_and_the_result_or_failure(
    virtually, last: float, form: str, fails: Exception | None
):
    watched = virtually(lambda: watch(steady(30), last=last, form=form, fails=fails))
    assert watched.reports
    assert repr(watched.error) == repr(fails)
    check_rules(watched, first_token_at=0.5)


def test_a_slow_client_gets_the_newest_state_and_does_not_slow_the_tokens(virtually):
    tokens = steady(500)
    watched = virtually(lambda: watch(tokens, send_takes=3.0))
    assert watched.ended_at == pytest.approx(sum(pause for pause, _ in tokens))
    counts = [int(message.split(" tok")[0]) for message in watched.messages[1:]]
    assert counts == [pytest.approx(1 + (at - 0.5) / 0.02, abs=1) for at in watched.times[1:]]
    assert watched.result_at - watched.ended_at <= 0.1


def test_a_client_that_does_not_read_at_all_still_lets_the_work_end(virtually):
    watched = virtually(lambda: watch(steady(100), send_takes=1e9))
    assert len(watched.reports) == 1
    assert watched.result_at - watched.ended_at <= 0.1


def test_a_report_that_had_to_wait_before_it_went_out_is_no_nearer_to_the_result(virtually):
    watched = virtually(lambda: watch([(0.15, "x")], send_waits=0.04, send_takes=1e9))
    assert watched.times == [pytest.approx(0.14)]
    assert watched.ended_at == pytest.approx(0.15)
    check_rules(watched, first_token_at=0.15)


def test_a_client_that_has_gone_away_does_not_disturb_the_work(virtually):
    async def run() -> str:
        async def work(job: Job[str]) -> str:
            await asyncio.sleep(1)
            return "done"

        async def send(value: float, total: float | None, message: str) -> None:
            raise ConnectionError("gone")

        job = JobStore().start(work)
        async with report_progress(job, send, "status"):
            return await job.result()

    assert virtually(run) == "done"


def test_a_caller_without_a_token_costs_nothing(virtually, monkeypatch: pytest.MonkeyPatch):
    for name in ("status", "text_since"):
        monkeypatch.setattr(Job, name, lambda *_: pytest.fail("computed for nobody"))

    async def run() -> tuple[str, float, int]:
        async def work(job: Job[str]) -> str:
            job.advance(JobState.WRITING)
            await asyncio.sleep(7)
            return "done"

        job = JobStore().start(work)
        async with report_progress(job, None, "status"):
            tasks = len(asyncio.all_tasks())
            return await job.result(), now(), tasks

    assert virtually(run) == ("done", 7.0, 2)


def test_nothing_is_reported_after_a_cancel_and_nobody_waits_for_the_gap(virtually):
    async def run() -> tuple[list[float], float, Job[str]]:
        sent: list[float] = []

        async def work(job: Job[str]) -> str:
            while True:
                await asyncio.sleep(0.01)
                job.advance(JobState.WRITING)

        async def send(value: float, total: float | None, message: str) -> None:
            sent.append(now())

        job = JobStore().start(work)

        async def call() -> None:
            async with report_progress(job, send, "status"):
                await job.result()

        task = asyncio.create_task(call())
        await asyncio.sleep(1.0)
        before = len(sent)
        task.cancel()
        await asyncio.wait([task])
        cancelled_at = now()
        await asyncio.sleep(20)
        assert len(sent) == before
        return sent, cancelled_at, job

    sent, cancelled_at, job = virtually(run)
    assert len(sent) == pytest.approx(10, abs=1)
    assert cancelled_at == pytest.approx(1.0)
    assert job.state is JobState.CANCELLED


def test_a_total_is_told_only_while_it_is_true(virtually):
    def prepare(job: Job[Any]) -> None:
        job.total = 30

    watched = virtually(lambda: watch(steady(60), prepare=prepare))
    totals = {total for _, value, total, _ in watched.reports if value <= 30}
    assert totals == {30.0}
    assert all(total is None for _, value, total, _ in watched.reports if value > 30)


def random_tokens(rng: random.Random) -> list[Token]:
    pace = rng.choice([0.0, 0.001, 0.02, 0.1, 0.3, 6.0])
    letters = ["a", " b", "\n", "ü", "🦙", "", "long " * 9, "\u0085", "<", "\ud800"]
    return [
        (rng.choice([0.0, pace, pace * rng.random() * 3]), rng.choice(letters))
        for _ in range(rng.randrange(80))
    ]


@pytest.mark.parametrize("form", ["status", "text"])
@pytest.mark.long
def test_the_rules_hold_for_500_random_timings(virtually, form: str):
    rng = random.Random(17)
    reports = 0
    for _ in range(500):
        tokens, last = random_tokens(rng), rng.choice([0.0, rng.random() / 5])
        takes = rng.choice([0.0, 0.0, 0.01, 0.5])
        watched = virtually(lambda: watch(tokens, form=form, last=last, send_takes=takes))  # noqa: B023
        first = tokens[0][0] if tokens else None
        if takes == 0:
            check_rules(watched, first)
        assert sorted(set(watched.values)) == watched.values
        assert all(len(message) <= 160 for message in watched.messages) or form == "text"
        if form == "text":
            assert watched.answer.startswith("".join(watched.messages))
        reports += len(watched.reports)
    assert reports > 2000


def test_the_text_form_tells_exactly_the_new_text_and_leaves_only_the_end_untold(virtually):
    tokens = steady(200)
    watched = virtually(lambda: watch(tokens, form="text"))
    told = "".join(watched.messages)
    assert watched.answer.startswith(told)
    assert len(watched.answer) - len(told) <= 10 * len("t199 ")


def test_a_status_line_has_at_most_160_characters_whatever_stands_in_it(virtually):
    async def run() -> list[str]:
        job: Job[str] = Job()
        job.model = "host/" + "name" * 90
        lines = [job.status()]
        job.notes.append("note " * 60)
        lines.append(job.status())
        job.advance(JobState.WRITING)
        lines.append(job.status())
        job.write("word\n" * 300)
        lines.append(job.status())
        job.notes[:] = ["a\nb"]
        lines.append(job.status())
        return lines

    lines = virtually(run)
    assert all(0 < len(line) <= 160 for line in lines)
    assert not any("\n" in line for line in lines)


def test_a_grown_window_is_said_in_the_status_line(virtually):
    async def run() -> tuple[str, str]:
        job: Job[str] = Job()
        job.model = "m"
        job.notes.append("window grown to 8192")
        before = job.status()
        job.advance(JobState.WRITING)
        return before, job.status()

    assert all("window grown to 8192" in line for line in virtually(run))


@pytest.mark.parametrize("form", ["status", "text"])
def test_a_pull_reports_its_bytes_four_times_a_second_and_its_status_in_either_form(virtually, form: str):
    async def pull(job: Job[None]) -> None:
        meter = TransferProgress(job, now)
        meter.take(ProgressLine(status="pulling manifest"))
        await asyncio.sleep(12)
        for step in range(1, 101):  # six seconds of Ollama's lines
            meter.take(ProgressLine(status="pulling a", digest="a", total=10**9, completed=step * 10**7))
            await asyncio.sleep(0.06)
        meter.finish()

    async def run() -> list[tuple[float, float, float | None, str]]:
        reports: list[tuple[float, float, float | None, str]] = []

        async def send(value: float, total: float | None, message: str) -> None:
            reports.append((now(), value, total, message))

        job = JobStore().start(pull)
        async with report_progress(job, send, form):
            await job.result()
        return reports

    reports = virtually(run)
    silent = [message for at, _, _, message in reports if at < 12]
    assert silent == ["pulling manifest", "pulling manifest, 5 s", "pulling manifest, 10 s"]
    moving = [report for report in reports if report[0] >= 12]
    assert 18 <= len(moving) <= 6 * 4 + 1
    assert all(b[1] > a[1] for a, b in pairwise(reports))
    assert all(total == 10**9 and value <= total for _, value, total, _ in moving)
    assert all(" of 1.0 GB · " in message for *_, message in moving)
    assert moving[0][3] == "0.0 of 1.0 GB · 1 % · pulling a"
    assert moving[-1][3].startswith("1.0 of 1.0 GB · ")
    assert " · 16" in moving[-1][3]  # MB/s
