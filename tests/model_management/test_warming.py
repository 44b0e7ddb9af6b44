"""Warm-up: what the operator wants loaded is loaded, and nobody waits for it or hears of it."""

import logging

import anyio
import pytest

from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

GENERATE, EMBED = "/api/generate", "/api/embed"
VECTORS = Model("v", capabilities=("embedding",))


async def test_all_are_loaded_in_turn_each_in_the_way_of_its_kind(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), VECTORS, Model("n"), warm=("m", "v", "n")) as b:
            b.app.warm_up()
            assert not b.fake.requests
            await b.fake.wait_for(lambda fake: fake.models["n:latest"].running)
            assert [r.json["model"] for r in b.fake.requests if r.path in {GENERATE, EMBED}] == [
                "m", "v", "n",
            ]  # fmt: skip


async def test_what_has_begun_is_not_begun_again(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), warm=("m",)) as b:
            for _ in range(3):
                b.app.warm_up()
            await b.fake.wait_for(lambda fake: fake.models["m:latest"].running)
            b.app.warm_up()
            assert b.app.jobs.in_flight <= 1
            await b.app.warmer._begun.here().task
            assert len(b.fake.asked(GENERATE)) == 1


async def test_a_failure_is_one_line_in_the_log_and_the_next_one_is_loaded(bench, caplog):
    caplog.set_level(logging.INFO, "ollama_mcp")
    with anyio.fail_after(5):
        async with bench(Model("m"), Model("bad"), warm=("nobody", "bad", "x:cloud", "m")) as b:
            b.fake.script(Script(status=500, body={"error": "no\nroom"}), path=GENERATE, model="bad")
            b.app.warm_up()
            await b.app.warmer._begun.here().task
            assert b.fake.models["m:latest"].running
    told = [record.getMessage() for record in caplog.records if "warm-up" in record.getMessage()]
    assert [line.split(": ")[1] for line in told[:3]] == ["MODEL_NOT_FOUND", "UPSTREAM", "FORBIDDEN"]
    assert told[3].startswith("warm-up of m: loaded after ")
    assert not any("\n" in line for line in told)
    assert [record.levelname for record in caplog.records if record.getMessage() in told] == [
        "WARNING", "WARNING", "WARNING", "INFO",
    ]  # fmt: skip


async def test_a_closing_app_stops_it_and_the_next_one_begins_anew(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), warm=("m",)) as b:
            b.fake.script(Script(load_delay=30), path=GENERATE, times=1)
            b.app.warm_up()
            await b.fake.wait_for(lambda fake: fake.asked(GENERATE))
            await b.app.aclose()
            await b.fake.wait_for(lambda fake: fake.disconnects)
            b.app.warm_up()
            await b.fake.wait_for(lambda fake: fake.models["m:latest"].running)


async def test_without_such_models_nothing_begins(bench):
    async with bench(Model("m")) as b:
        b.app.warm_up()
        assert b.app.warmer._begun.here().task is None
