"""Plays cases against one command: each on a model of its own, many at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from ollama_mcp.testing import FakeOllama, Model, Request, Script

from .drivers import CLOCK_S, TRANSPORTS, Driver, Outcome
from .kinds import Case
from .rules import codes

AT_ONCE = 8
"""As many as lookups may be in flight: one more would wait for those that hang."""
MOST_S = CLOCK_S + 1
"""Seconds that a call may take: the clock that ends it, and one more."""


@dataclass(frozen=True)
class Seen:
    """What came of a case.

    Attributes:
        outcome: How the call ended.
        seconds: How long it took.
        asked: How often the server was sent the request that fails.
        then: How the same call ended when nothing failed any more.
        left: Whether nothing of the request that failed went on a second after the call.
    """

    outcome: Outcome
    seconds: float
    asked: int
    then: Outcome
    left: bool

    def may_be_disturbed(self, case: Case) -> bool:
        """Whether others may have done it: the machine was busy, or a fault closed the connection it took.

        It was too slow, a clock ran out or a connection was lost that should not, or the request never came
        to the server.
        """
        code, alike = self.outcome.code, {"TIMEOUT", "STREAM_BROKEN"}
        is_odd = code in alike and (code not in codes(case) or not self.asked)
        return self.seconds >= MOST_S or is_odd or self.then.code in alike


@dataclass
class Played:
    """What came of all cases of a transport, and what was there afterwards."""

    seen: dict[str, Seen] = field(default_factory=dict)
    in_flight: int = 0
    connections: int = 0
    stderr: str = ""


class Upstream:
    """A fake Ollama in which a request fails if it is that of a case that is being played."""

    def __init__(self, fake: FakeOllama) -> None:
        self.fake = fake
        self._failing: dict[str, tuple[Case, list[Request]]] = {}
        self._endless: set[int] = set()
        fake.script(self._script)

    def _script(self, request: Request) -> Script:
        body = request.json if isinstance(request.json, dict) else {}
        for key in (str(body.get("model") or body.get("source") or ""), ""):
            case, asked = self._failing.get(key.removesuffix(":latest"), (None, []))
            if case is not None and case.endpoint.path == request.path:
                asked.append(request)
                script = case.make()
                if script.how == "silence":
                    self._endless.add(id(request))
                return script
        return Script()

    @contextmanager
    def failing(self, case: Case, model: str) -> Iterator[list[Request]]:
        """While it does; yields the requests that failed so far."""
        key, asked = model if case.endpoint.named else "", list[Request]()
        self._failing[key] = case, asked
        try:
            yield asked
        finally:
            del self._failing[key]

    async def is_left(self, asked: list[Request]) -> bool:
        """Whether the client has left what does not end by itself."""
        endless = {id(request) for request in asked} & self._endless
        with anyio.move_on_after(1):
            await self.fake.wait_for(lambda fake: endless <= {id(request) for request, _ in fake.left[-100:]})
            return True
        return False

    @contextmanager
    def model(self, name: str) -> Iterator[None]:
        can = ("completion", "tools", "embedding")
        installed = self.fake.add_model(Model(name, capabilities=can, dimensions=2))
        try:
            yield
        finally:
            self.fake.models.pop(installed.name, None)


async def play(transport: str, cases: Iterable[Case], folder: Path) -> Played:
    """Play cases.

    Those whose request does not say which model it is about, and once more those that others may have
    disturbed, go one after another.
    """
    played = Played()
    async with FakeOllama() as fake:
        with (folder / "stderr").open("w+") as stderr:
            async with TRANSPORTS[transport]({"OLLAMA_HOST": fake.url}, stderr) as driver:
                upstream = Upstream(fake)
                await _warm_up(driver)
                named = iter([case for case in cases if case.endpoint.named])
                alone = [case for case in cases if not case.endpoint.named]
                async with anyio.create_task_group() as group:
                    for number in range(AT_ONCE):
                        group.start_soon(_play_each, driver, upstream, named, f"m{number}", played)
                await _play_each(driver, upstream, iter(alone), "alone", played)
                disturbed = [case for case in cases if played.seen[case.id].may_be_disturbed(case)]
                await _play_each(driver, upstream, iter(disturbed), "again", played)
                with anyio.move_on_after(1):
                    await fake.wait_for(lambda fake: fake.in_flight == 0)
                played.in_flight, played.connections = fake.in_flight, fake.open_connections
            stderr.seek(0)
            played.stderr = stderr.read()
    return played


async def _warm_up(driver: Driver) -> None:
    """The first calls of a process import what they need."""
    for tool, arguments in (("ollama_chat", {"prompt": "hi"}), ("ollama_embeddings", {"input": ["hi"]})):
        await driver.call(tool, arguments)


async def _play_each(
    driver: Driver, upstream: Upstream, cases: Iterator[Case], model: str, played: Played
) -> None:
    for number, case in enumerate(cases):
        played.seen[case.id] = await _play_one(driver, upstream, case, f"{model}-{number}")


async def _play_one(driver: Driver, upstream: Upstream, case: Case, model: str) -> Seen:
    name = case.endpoint.prefix + model
    call = partial(driver.call, case.endpoint.tool, case.endpoint.arguments(name))
    with upstream.model(name), anyio.fail_after(20):
        started = time.monotonic()
        with upstream.failing(case, name) as asked:
            outcome = await call()
        seconds = time.monotonic() - started
        left = await upstream.is_left(asked)
        then = await call()
        while then.code == "LATE" or (outcome.code == "LATE" and then.code):
            then = await call()  # status waits on for an answer that another status had asked for
    return Seen(outcome, seconds, len(asked), then, left)
