"""Progress as a client of the older protocols gets it (the newer ones are tested over real pipes)."""

from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from ollama_mcp.jobs import progress
from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio
WORDS = ["Once ", "upon ", "a ", "time ", "\N{GRINNING FACE} "] * 6


@pytest.fixture
def mode() -> str:
    return "legacy"


@dataclass(frozen=True)
class Report:
    at: float
    value: float
    total: float | None
    message: str


@dataclass(frozen=True)
class Heard:
    text: str
    reports: list[Report]
    done: float


@pytest.fixture
def listen():
    """Call a tool and keep every report, with the seconds since the call."""

    async def listen(client: Any, tool: str = "ollama_chat", meta: Any = None, **arguments: Any) -> Heard:
        reports: list[Report] = []
        begin = anyio.current_time()

        async def hear(value: float, total: float | None, message: str | None) -> None:
            reports.append(Report(anyio.current_time() - begin, value, total, message or ""))

        with anyio.fail_after(10):
            result = await client.call_tool(
                tool, {"prompt": "x"} | arguments, progress_callback=hear, meta=meta
            )
        assert not result.is_error, result.content
        return Heard(result.content[0].text, reports, anyio.current_time() - begin)

    return listen


async def test_reports_come_late_enough_grow_and_are_short(client, fake, listen):
    fake.script(Script(tokens=WORDS, delay=0.03))
    heard = await listen(client, options={"num_predict": 50})
    assert 4 <= len(heard.reports) <= heard.done / 0.1
    assert heard.reports[0].at >= 0.1
    values = [report.value for report in heard.reports]
    assert values == sorted(set(values))
    assert all(0 < len(report.message) <= 160 for report in heard.reports)
    assert " tok · " in heard.reports[-1].message
    assert {report.total for report in heard.reports} == {50}
    assert heard.done - heard.reports[-1].at >= 0.05


async def test_a_short_call_has_no_progress_and_pays_no_gap(client, fake, listen):
    heard = [await listen(client) for _ in range(5)]
    assert min(call.done for call in heard) < 0.075
    assert not any(call.reports for call in heard if call.done < 0.1)


async def test_the_first_token_is_reported_at_once(client, fake):
    fake.script(Script(tokens=["a", "b"], delay_first=0.3, hold_after_tokens=1))
    heard: list[str] = []

    async def hear(_: float, __: float | None, message: str | None) -> None:
        heard.append(message or "")
        if "1 tok" in heard[-1]:
            fake.release()  # the second token comes when the first was heard of

    with anyio.fail_after(progress.HEARTBEAT_S - 1):
        await client.call_tool("ollama_chat", {"prompt": "x"}, progress_callback=hear)
    assert any("1 tok" in message for message in heard)


async def test_what_is_waited_for_is_told_before_the_first_token(client, fake, listen):
    fake.models["llama3.2:3b"].keep(0)
    fake.script(Script(tokens=["a"], load_delay=0.25))
    heard = await listen(client)
    assert heard.reports[0].message.startswith("loading llama3.2:3b")
    assert heard.reports[0].value > 0


async def test_in_text_form_the_messages_are_the_answer_as_it_grows(client, fake, listen):
    fake.script(Script(tokens=WORDS, delay=0.02))
    heard = await listen(client, meta={"ollama-mcp/progress": "text"})
    joined = "".join(report.message for report in heard.reports)
    assert len(joined) > 10
    assert heard.text.startswith(joined)


async def test_the_form_is_set_for_all_calls_and_a_call_can_choose_another(connect, fake, listen):
    fake.script(Script(tokens=WORDS, delay=0.02))
    async with connect(OLLAMA_MCP_PROGRESS="text") as client:
        heard = await listen(client)
        assert heard.text.startswith("".join(report.message for report in heard.reports))
        heard = await listen(client, meta={"ollama-mcp/progress": "status"})
        assert " tok" in heard.reports[-1].message


async def test_thinking_is_progress_but_not_text(client, fake, listen):
    fake.script(Script(thinking=["hm "] * 15, tokens=["yes"], delay=0.02))
    heard = await listen(client, meta={"ollama-mcp/progress": "text"})
    assert "".join(report.message for report in heard.reports) == ""
    fake.script(Script(thinking=["hm "] * 15, tokens=["yes"], delay=0.02))
    assert any("thinking" in report.message for report in (await listen(client)).reports)


async def test_batches_of_embeddings_are_progress(client, fake, listen):
    fake.script(Script(delay_first=0.06), path="/api/embed")
    heard = await listen(client, "ollama_embeddings", input=[f"text {n}" for n in range(160)])
    assert heard.reports[-1].total == 160
    assert "/160 texts" in heard.reports[-1].message


@pytest.mark.parametrize("form", ["status", "text"])
async def test_a_lone_surrogate_in_progress_is_replaced(client, fake, listen, form):
    token = b'{"message":{"role":"assistant","content":"a\\ud800 "}}'
    end = b'{"message":{"role":"assistant","content":""},"done":true}'
    fake.script(Script(lines=[*[token] * 15, end], delay=0.02), path="/api/chat")
    heard = await listen(client, meta={"ollama-mcp/progress": form})
    assert any("a�" in report.message for report in heard.reports)
    assert all(report.message.encode() for report in heard.reports)


@pytest.mark.parametrize("mode", ["auto", "legacy"], indirect=False)
async def test_without_a_token_nothing_is_sent_or_computed(connect, fake, monkeypatch, mode):
    def refuse(*_: Any) -> None:
        raise AssertionError("a Relay was made for nobody")

    monkeypatch.setattr(progress, "ProgressReporter", refuse)
    fake.script(Script(tokens=WORDS, delay=0.01))
    async with connect() as client:
        with anyio.fail_after(10):
            assert not (await client.call_tool("ollama_chat", {"prompt": "x"})).is_error


async def test_a_failing_call_keeps_the_gap_too(client, fake):
    fake.script(Script(tokens=WORDS, delay=0.02, cut_after_tokens=15, how="reset"))
    at: list[float] = []

    async def hear(*_: Any) -> None:
        at.append(anyio.current_time())

    with anyio.fail_after(10):
        result = await client.call_tool("ollama_chat", {"prompt": "x"}, progress_callback=hear)
    assert result.is_error
    assert at
    assert anyio.current_time() - at[-1] >= 0.05
