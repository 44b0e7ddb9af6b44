"""What a server said last: with its age, asked for once at a time, and never wiped by a look that failed."""

import asyncio

import pytest

from ollama_mcp import OllamaClient
from ollama_mcp.errors import Upstream
from ollama_mcp.services.snapshot import CachedValue, Snapshot
from ollama_mcp.testing import FakeOllama, Script


class Server:
    """Answers with numbers, or fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def __call__(self, _once: bool) -> int:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(1)
        if self.fails:
            raise Upstream("it broke", "")
        return number


def test_several_who_ask_at_once_share_a_request_and_what_is_young_is_not_asked_for(virtually):
    async def work() -> None:
        fact = CachedValue(server := Server())
        assert await asyncio.gather(*(fact.within(5) for _ in range(4))) == [1, 1, 1, 1]
        await asyncio.sleep(3)
        assert await fact.within(5) == 1
        assert await fact.now() == 2, "a request of its own"
        fact.expire()
        assert (await fact.within(5), server.asked) == (3, 3)

    virtually(work)


def test_a_look_that_fails_wipes_nothing(virtually):
    async def work() -> None:
        fact = CachedValue(server := Server())
        await fact.now()
        server.fails = True
        for ask in (fact.now, lambda: fact.within(0)):
            with pytest.raises(Upstream):
                await ask()
        assert fact.known == 1
        assert fact.age_s == 3

    virtually(work)


def test_an_older_request_that_ends_later_does_not_overwrite_a_newer_one(virtually):
    async def work() -> None:
        waits = iter((5.0, 1.0))

        async def ask(_once: bool) -> float:
            wait = next(waits)
            await asyncio.sleep(wait)
            return wait

        fact = CachedValue(ask)
        async with asyncio.TaskGroup() as group:
            group.create_task(fact.now())
            await asyncio.sleep(0.1)
            group.create_task(fact.now())
        assert fact.known == 1.0

    virtually(work)


@pytest.mark.anyio
async def test_each_fact_stands_for_itself_and_a_server_may_lack_one():
    async with FakeOllama() as fake, OllamaClient(fake.url) as client:
        snapshot = Snapshot(client)
        assert [info.name for info in await snapshot.installed.now()]
        assert await snapshot.version.now() == "0.33.0"
        fake.script(Script(status=404), path="/api/ps")
        assert await snapshot.loaded.now() is None
        fake.script(Script(status=500), path="/api/tags")
        with pytest.raises(Upstream):
            await snapshot.installed.now(once=True)
        assert snapshot.installed.known
        assert snapshot.version.known == "0.33.0"
