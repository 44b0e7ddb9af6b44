"""Transfers whose turn comes late: what was confirmed is looked for again when it has come."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from ollama_mcp.errors import ModelNotFound, NotConfirmed
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.create import build_create
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

PULL, PUSH, CREATE = "/api/pull", "/api/push", "/api/create"
SUCCESS = b'{"status":"success"}'


@asynccontextmanager
async def waiting_behind_a_pull(b: Any, begin: Callable[[], Job[Any]]) -> AsyncIterator[Job[Any]]:
    """A transfer that stands in line; at the end of the block its turn comes."""
    b.fake.script(Script(lines=[SUCCESS], hold_after_tokens=0), path=PULL)
    first = b.begin_pull("first")
    await b.fake.wait_for(lambda fake: fake.asked(PULL))
    job = begin()
    while job.queue_entry is None:
        await anyio.lowlevel.checkpoint()
    yield job
    b.fake.release()
    await first.result()


@pytest.mark.parametrize("by", ["name", "content"])
async def test_what_is_pushed_is_what_was_there_when_it_was_confirmed_not_when_the_turn_came(bench, by):
    with anyio.fail_after(5):
        async with bench(Model("me/m"), Model("other"), parallel=1) as b:
            yes = Confirmation("me/m", Model("me/m").digest if by == "content" else None)
            async with waiting_behind_a_pull(b, lambda: b.begin_push("me/m", confirmed=yes)) as job:
                await b.model_manager.copy("other", "me/m", confirmed=Confirmation("me/m"))
            with pytest.raises(NotConfirmed, match="me/m:latest has changed"):
                await job.result()
            assert b.fake.asked(PUSH) == []


async def test_a_model_that_is_gone_when_the_turn_comes_is_not_pushed(bench):
    with anyio.fail_after(5):
        async with bench(Model("me/m"), parallel=1) as b:
            yes = Confirmation("me/m")
            async with waiting_behind_a_pull(b, lambda: b.begin_push("me/m", confirmed=yes)) as job:
                del b.fake.models["me/m:latest"]
            with pytest.raises(ModelNotFound):
                await job.result()
            assert b.fake.asked(PUSH) == []


@pytest.mark.parametrize("yes", [None, Confirmation("mine"), Confirmation("mine", Model("mine").digest)])
async def test_what_is_replaced_is_what_was_there_when_that_was_confirmed(bench, yes):
    before = [] if yes is None else [Model("mine")]
    with anyio.fail_after(5):
        async with bench(Model("base"), Model("other"), *before, parallel=1) as b:
            wanted = build_create(model="mine", source="base")
            async with waiting_behind_a_pull(b, lambda: b.begin_create(wanted, confirmed=yes)) as job:
                await b.model_manager.copy("other", "mine", confirmed=yes)
            with pytest.raises(NotConfirmed, match=r"overwrite mine|mine:latest has changed"):
                await job.result()
            assert b.sent(CREATE) == []


async def test_a_yes_by_name_while_nothing_had_that_name_is_no_yes_to_replace_what_has_it_now(bench):
    with anyio.fail_after(5):
        async with bench(Model("base"), parallel=1) as b:
            wanted, yes = build_create(model="mine", source="base"), Confirmation("mine")
            async with waiting_behind_a_pull(b, lambda: b.begin_create(wanted, confirmed=yes)) as job:
                b.fake.add_model(Model("mine"))
            with pytest.raises(NotConfirmed, match="has changed"):
                await job.result()
            assert b.sent(CREATE) == []


async def test_a_source_that_is_gone_when_the_turn_comes_is_not_pulled_by_ollama(bench):
    with anyio.fail_after(5):
        async with bench(Model("base"), parallel=1) as b:
            wanted = build_create(model="new", source="base")
            async with waiting_behind_a_pull(b, lambda: b.begin_create(wanted)) as job:
                del b.fake.models["base:latest"]
            with pytest.raises(ModelNotFound):
                await job.result()
            assert b.sent(CREATE) == []


async def test_a_model_that_is_made_while_a_pull_of_its_name_waits_is_not_replaced(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), parallel=1) as b:
            async with waiting_behind_a_pull(b, lambda: b.begin_pull("mine")) as job:
                b.fake.add_model(Model("mine", parent_model="m"))
            with pytest.raises(NotConfirmed, match="overwrite mine:latest"):
                await job.result()
            assert [body["model"] for body in b.sent(PULL)] == ["first"]


async def test_two_transfers_of_one_name_run_one_after_the_other(bench):
    with anyio.fail_after(5):
        async with bench(Model("base"), parallel=4) as b:
            b.fake.script(Script(lines=[SUCCESS], hold_after_tokens=0), path=CREATE)
            first = b.begin_create(build_create(model="mine", source="base", system="a"))
            await b.fake.wait_for(lambda fake: fake.asked(CREATE))
            second = b.begin_create(build_create(model="MINE:latest", source="base", system="b"))
            other = b.begin_create(build_create(model="other", source="base"))
            await b.fake.wait_for(lambda fake: len(fake.asked(CREATE)) == 2)
            assert b.sent(CREATE)[1]["model"] == "other"
            b.fake.add_model(Model("mine"))
            b.fake.release()
            await first.result()
            await other.result()
            with pytest.raises(NotConfirmed, match="overwrite mine:latest"):
                await second.result()
            assert len(b.sent(CREATE)) == 2
            assert not b.app.transfers._names.here()


async def test_files_are_sent_when_the_turn_has_come(bench, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(1000))
    with anyio.fail_after(5):
        async with bench(parallel=1) as b:
            wanted = build_create(model="new", files=["m.gguf"], roots=[tmp_path])
            async with waiting_behind_a_pull(b, lambda: b.begin_create(wanted)) as job:
                assert b.fake.blobs == {}
                assert not [request for request in b.fake.requests if "/api/blobs" in request.path]
            await job.result()
            assert len(b.fake.blobs) == 1


async def test_a_yes_to_a_large_pull_is_no_yes_to_replace_what_was_made_meanwhile(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), max_pull_gb=0.0) as b:
            with pytest.raises(NotConfirmed, match="pull mine") as asked:
                await b.pull("mine")
            b.fake.add_model(Model("mine", parent_model="m"))
            with pytest.raises(NotConfirmed, match="has changed"):
                await b.pull("mine", confirmed=Confirmation.of(asked.value))
