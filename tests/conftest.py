"""What every test shares."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_mcp.replies import overview, progress, registry, reply


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that we run on."""
    return "asyncio"


# --- with a clock of our own -------------------------------------------------------------------


class _Jump(selectors.SelectSelector):
    """Waits for nothing: the clock jumps to where the next thing happens."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits for ever")
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which hours pass in no time, exactly."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


@pytest.fixture
def virtually(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs an async function in a VirtualLoop, whose clock the Replies and what is about them use."""

    def clock() -> float:
        return asyncio.get_running_loop().time()

    for module in (overview, progress, registry, reply):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))

    def run(work: Callable[[], Awaitable[Any]]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(work())

    return run
