"""Plays cases, one after another, against a server that a driver calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from ollama_mcp.testing import FakeOllama, Model, Request, Script

from .drivers import Driver, Outcome
from .kinds import Case


@dataclass(frozen=True)
class Seen:
    """What came of a case.

    Attributes:
        outcome: How the call ended.
        seconds: How long it took, by the event loop's clock.
        asked: How often the server was sent the request that fails.
        then: How the same call ended when nothing failed any more.
        left: Whether nothing of the request that failed went on a second after the call.
    """

    outcome: Outcome
    seconds: float
    asked: int
    then: Outcome
    left: bool


class Upstream:
    """A fake Ollama in which a request fails if it is that of a case that is being played."""

    def __init__(self, fake: FakeOllama) -> None:
        self.fake = fake
        self._failing: dict[str, tuple[Case, list[Request]]] = {}
        self._endless: set[int] = set()
        fake.scripts.add([self._script])

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


async def warm_up(driver: Driver) -> None:
    """The first calls of a process import what they need."""
    for tool, arguments in (("ollama_chat", {"prompt": "hi"}), ("ollama_embeddings", {"input": ["hi"]})):
        await driver.call(tool, arguments)


async def play(driver: Driver, upstream: Upstream, case: Case, model: str) -> Seen:
    """Play one case on a model of its own."""
    name = case.endpoint.prefix + model
    call = partial(driver.call, case.endpoint.tool, case.endpoint.arguments(name))
    with upstream.model(name), anyio.fail_after(60):
        started = anyio.current_time()
        with upstream.failing(case, name) as asked:
            outcome = await call()
        seconds = anyio.current_time() - started
        left = await upstream.is_left(asked)
        then = await call()
        while then.code == "LATE" or (outcome.code == "LATE" and then.code):
            then = await call()  # status waits on for an answer that another status had asked for
    return Seen(outcome, seconds, len(asked), then, left)
