"""What is said of a Reply while it goes on and after its end: a line for a person."""

import asyncio
import gc
import re
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_mcp.errors import Cancelled, StreamBroken, Upstream
from ollama_mcp.jobs.answers import Unfinished
from ollama_mcp.jobs.job import Reply, State, StillRunning, ordinal
from ollama_mcp.jobs.model_queue import TRANSFERS
from ollama_mcp.jobs.store import Replies


async def written(reply: Reply[Any], tokens: int, pause: float = 1.0, state: State = State.WRITING) -> None:
    """So many tokens, each after its pause."""
    for place in range(tokens):
        await asyncio.sleep(pause)
        reply.advance(state)
        reply.write(f"t{place} ")


def in_line(reply: Reply[Any], position: int, model: str) -> None:
    reply.queue(SimpleNamespace(position=position, model=model))


# --- counts and speeds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "pause", "speed"),
    [(1, 3.0, ""), (2, 1.0, "1 tok/s"), (2, 0.1, ""), (3, 0.15, "7 tok/s"), (5, 0.5, "2 tok/s")],
)
def test_a_speed_is_told_once_it_can_be_measured(virtually, tokens, pause, speed):
    async def run() -> str:
        reply: Reply[str] = Reply()
        await written(reply, tokens, pause)
        return reply.summary()

    assert re.findall(r"\d+ tok/s", virtually(run)) == ([speed] if speed else [])


def test_one_token_alone_has_no_speed_however_long_ago_it_came(virtually):
    async def run() -> str:
        reply: Reply[str] = Reply()
        await written(reply, 1)
        await asyncio.sleep(9)
        return reply.summary()

    assert virtually(run) == "1 tok · writing"


def test_a_speed_stays_what_it_was_at_the_end(virtually):
    async def run() -> list[str]:
        reply = Replies().start(lambda reply: written(reply, 5, 0.5))
        await reply.wait()
        found = [reply.summary()]
        await asyncio.sleep(1000)
        return [*found, reply.summary()]

    assert virtually(run) == ["5 tok · 2 tok/s · done"] * 2


def test_how_many_there_will_be_is_told_where_it_is_a_number_and_no_limit(virtually, snapshot):
    async def run() -> list[str]:
        lines = []
        for unit, total in (("texts", 10), ("texts", None), ("tok", 10)):
            reply: Reply[Any] = Reply(unit)
            reply.total = total
            reply.advance(State.WRITING, 3)
            lines.append(reply.status())
        return lines

    assert virtually(run) == snapshot


# --- where it is -------------------------------------------------------------------------------


def test_a_reply_says_where_it_is_until_something_comes(virtually, snapshot):
    async def run() -> list[str]:
        reply: Reply[str] = Reply()
        lines = [reply.summary()]
        reply.model = "m"
        lines.append(reply.summary())
        await asyncio.sleep(3)
        lines.append(reply.summary())
        for position, model in ((2, "m"), (3, TRANSFERS), (0, "m")):
            in_line(reply, position, model)
            lines.append(reply.summary())
        reply.enter()
        lines.append(reply.status())
        for loaded in (False, True):
            await reply.find_out(lambda model, loaded=loaded: asyncio.sleep(0, model == "m" and loaded))
            lines.append(reply.summary())
        return lines

    assert virtually(run) == snapshot


def test_whose_turn_has_come_is_in_line_no_more():
    reply: Reply[str] = Reply()
    in_line(reply, 1, "m")
    assert reply.state is State.QUEUED
    reply.enter()
    assert (reply.state, reply.ticket) == (State.WAITING, None)


def test_thinking_is_said_first_and_once(virtually, snapshot):
    async def run() -> list[str]:
        reply: Reply[str] = Reply()
        await written(reply, 3, state=State.THINKING)
        return [reply.summary(), reply.status()]

    assert virtually(run) == snapshot


def test_who_has_words_of_its_own_is_told_in_them_but_for_the_place_in_line(virtually, snapshot):
    async def run() -> list[str]:
        reply: Reply[str] = Reply()
        reply.tell = lambda: ["model 1 of 2", "m"]
        reply.advance(State.WRITING)
        found = [reply.summary()]
        in_line(reply, 1, "m")
        reply.first_at = None
        return [*found, reply.summary()]

    assert virtually(run) == snapshot


@pytest.mark.parametrize(
    ("number", "place"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (10, "10th"), (11, "11th"), (12, "12th"), (13, "13th"),
     (14, "14th"), (21, "21st"), (22, "22nd"), (23, "23rd"), (111, "111th"), (112, "112th"), (121, "121st")],
)  # fmt: skip
def test_places_are_written_as_people_write_them(number, place):
    assert ordinal(number) == place


# --- the tail of the text ----------------------------------------------------------------------


def line_with(text: str, **limit: int) -> str:
    reply: Reply[str] = Reply()
    reply.advance(State.WRITING)
    reply.write(text)
    return reply.status(**limit)


def test_the_line_has_at_most_its_limit_and_its_tail_is_the_newest_text():
    for limit in (160, 40, 17):
        line = line_with("b" * 1000 + "a" * 5, limit=limit)
        assert len(line) == limit
        assert "…" in line
        assert line.endswith("aaaaa")
    assert line_with("short") == "1 tok · short"


def test_the_tail_is_on_one_line_with_one_space_between_words():
    assert line_with("a\n\n  b\tc ") == "1 tok · a b c"


def test_a_line_without_room_has_no_tail():
    assert line_with("a" * 50, limit=8) == "1 tok"
    assert line_with("a" * 50, limit=3) == "1 t"


def test_the_newest_note_is_part_of_the_line():
    reply: Reply[str] = Reply()
    reply.notes += ["oldest", "older", "new"]
    reply.advance(State.WRITING)
    assert reply.status() == "1 tok · new"


def test_thoughts_are_seen_in_the_line_though_they_are_no_text():
    reply: Reply[str] = Reply()
    reply.advance(State.THINKING)
    reply.write("", "I see")
    reply.write("", " it.")
    assert (reply.status(), reply.text) == ("thinking · 1 tok · I see it.", "")


def test_another_draft_begins_with_nothing_of_the_one_before():
    reply: Reply[str] = Reply()
    reply.write("wrong")
    reply.restart()
    reply.write("right")
    assert reply.text == "right"


# --- who waits, and the end --------------------------------------------------------------------


def test_who_has_waited_too_long_is_told_how_far_it_is_and_how_to_wait_on(virtually):
    async def run() -> None:
        reply = Replies().start(lambda reply: written(reply, 9))
        with pytest.raises(StillRunning) as told:
            await reply.wait(2.5)
        assert told.value.reply is reply
        assert told.value.handle == reply.handle
        assert f'ollama_continue(handle="{reply.handle}")' in str(told.value)
        await reply.cancel()

    virtually(run)


def test_when_somebody_last_waited_is_remembered(virtually):
    async def run() -> list[float]:
        reply = Replies().start(lambda reply: written(reply, 9))
        found = [reply.asked_at - reply.started_at]
        for _ in range(2):
            with pytest.raises(StillRunning):
                await reply.wait(2)
            found.append(reply.asked_at - reply.started_at)
        await reply.cancel()
        return found

    assert virtually(run) == [0, 2, 4]


def test_of_a_reply_that_goes_on_there_is_its_text_and_where_to_wait_for_the_rest(virtually):
    async def run() -> None:
        reply = Replies().start(lambda reply: written(reply, 9))
        await asyncio.sleep(2.5)
        assert reply.so_far() == Unfinished("t0 t1 ", "2 tok · 1 tok/s · writing", reply.handle, None)
        assert reply.failure is None
        await reply.cancel()

    virtually(run)


def test_of_a_reply_that_is_done_there_is_what_it_ended_as(virtually):
    async def run() -> None:
        made = SimpleNamespace(size=77)
        reply = Replies().start(lambda reply: asyncio.sleep(1, made))
        assert await reply.wait() is made
        assert reply.so_far() is made
        assert reply.size == 77

    virtually(run)


def test_of_a_reply_that_failed_there_is_what_its_failure_kept(virtually):
    async def work(reply: Reply[Any], kept: str) -> None:
        reply.write("written ")
        raise Upstream("it broke", "Call again", partial_text=kept)

    async def run() -> list[str]:
        found = []
        for kept in ("kept", ""):
            reply = Replies().start(lambda reply, kept=kept: work(reply, kept))
            await asyncio.wait([asyncio.create_task(reply.wait())])
            found.append(str(reply.so_far()))
            assert reply.size == sys.getsizeof("written ")
        return found

    assert virtually(run) == ["kept", "written "]


def test_who_asks_for_what_a_defect_ended_is_told_of_the_defect(virtually):
    async def work(_: Reply[Any]) -> None:
        raise ZeroDivisionError("a defect")

    async def run() -> None:
        reply = Replies().start(work)
        await asyncio.wait([asyncio.create_task(reply.wait())])
        with pytest.raises(ZeroDivisionError, match="a defect"):
            reply.so_far()

    virtually(run)


def test_who_stopped_a_reply_is_told_so_and_not_to_try_again(virtually):
    async def run() -> Cancelled:
        reply = Replies().start(lambda reply: written(reply, 9))
        await asyncio.sleep(1.5)
        await reply.stop()
        with pytest.raises(Cancelled) as told:
            await reply.wait()
        return told.value

    error = virtually(run)
    assert "as its caller wished" in str(error)
    assert (error.code, error.partial_text, error.retryable) == ("CANCELLED", "t0 ", False)


def test_who_waits_when_the_server_closes_is_told_so_and_to_call_again(virtually):
    async def run() -> StreamBroken:
        replies = Replies()
        reply = replies.start(lambda reply: written(reply, 9))
        await asyncio.sleep(1.5)
        await replies.aclose()
        with pytest.raises(StreamBroken) as told:
            await reply.wait()
        return told.value

    error = virtually(run)
    assert "the server closes" in str(error)
    assert (error.partial_text, error.retryable) == ("t0 ", True)


def test_why_a_reply_was_cancelled_first_is_what_is_told(virtually):
    async def run() -> None:
        reply = Replies().start(lambda reply: written(reply, 9))
        await asyncio.sleep(0)
        first = asyncio.create_task(reply.cancel(Upstream("first", "a")))
        await asyncio.sleep(0)
        await reply.cancel(Upstream("second", "b"))
        await first
        with pytest.raises(Upstream, match="first"):
            await reply.wait()

    virtually(run)


def test_cancelling_waits_a_second_for_work_that_does_not_let_go_and_no_longer(virtually):
    async def work(_: Reply[Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(10)

    async def run() -> tuple[float, bool]:
        reply = Replies().start(work)
        await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        await reply.cancel()
        took, finished = asyncio.get_running_loop().time() - before, reply.finished
        await asyncio.sleep(20)
        return took, finished

    assert virtually(run) == (1.0, False)


class _Large:
    """A request with its images."""


@pytest.mark.parametrize("is_named", [True, False])
def test_a_failure_lets_go_of_what_its_cause_held(virtually, is_named):
    def inner() -> weakref.ref[_Large]:
        large = _Large()
        held.append(weakref.ref(large))
        raise ValueError("the cause")

    async def work(_: Reply[Any]) -> None:
        try:
            inner()
        except ValueError as cause:
            if is_named:
                raise Upstream("it broke", "a") from cause
            raise Upstream("it broke", "a")  # noqa: B904 - the other way to have a cause

    held: list[weakref.ref[_Large]] = []

    async def run() -> None:
        reply = Replies().start(work)
        await asyncio.wait([asyncio.create_task(reply.wait())])
        gc.collect()
        assert reply.state is State.FAILED
        assert [thing() for thing in held] == [None]

    virtually(run)
