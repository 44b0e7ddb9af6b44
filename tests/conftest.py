"""What every test shares."""

import asyncio
import gc
import itertools
import os
import selectors
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blockbuster
import certifi
import pytest
from anyio._backends._asyncio import AsyncIOBackend
from hypothesis import HealthCheck, settings
from mcp.server.mcpserver.prompts import Prompt

from ollama_mcp.jobs.job import Job
from ollama_mcp.ollama_server.http_connections import ClientLeft
from ollama_mcp.testing import FakeOllama

# No machine is too slow for an example, and the first one waits for tables that hypothesis makes once.
settings.register_profile("quick", deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
settings.register_profile(
    "thorough", deadline=None, max_examples=100, suppress_health_check=list(HealthCheck)
)

# --- what makes the suites quick ---------------------------------------------------------------

gc.set_threshold(50_000, 20, 20)
"""Python's own thresholds cost 8 % of a run, which makes millions of objects beside 200,000 that stay."""

if find_spec("sniffio") is None:
    # httpcore asks for it at each lock and event, and Python looks for a missing module each time: 4 %.
    sys.modules["sniffio"] = None


@pytest.fixture(scope="session", autouse=True)
def _authorities_once() -> Iterator[None]:
    """Read the usual authorities once: httpx takes 20 ms for each client, also for plain http."""
    make, names = ssl.create_default_context, ("SSL_CERT_FILE", "SSL_CERT_DIR")
    usual = {None, certifi.where(), os.environ.get("SSL_CERT_FILE")}
    once = cache(lambda cafile, *environment: make(cafile=cafile))

    def create(*args: Any, cafile: str | None = None, **kwargs: Any) -> ssl.SSLContext:
        if args or kwargs or cafile not in usual:
            return make(*args, cafile=cafile, **kwargs)
        return once(cafile, *map(os.environ.get, names))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create)
        yield


@pytest.fixture(scope="session", autouse=True)
def _prompts_once() -> Iterator[None]:
    """Make each prompt's arguments once: a thousand tests have a server, for which the SDK takes 10 ms."""
    make, made = Prompt.from_function, dict[str, Prompt]()

    def from_function(function: Any, name: str, title: str, description: str, **more: Any) -> Prompt:
        if name not in made:
            made[name] = make(function, name, title, description, **more)
        return made[name].model_copy(update={"fn": function})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prompt, "from_function", from_function)
        yield


# --- the suites --------------------------------------------------------------------------------

LONG = (
    "faults/test_every_byte.py",
    "faults/test_transports.py",
    "house",
    "http",
    "process",
    "replay/test_tools.py",
    "tasks/test_transports.py",
    "transports/test_stdio.py",
    "transports/test_stopping.py",
    "upstreams/test_child_process.py",
    "upstreams/test_ending.py",
    "upstreams/test_outcomes.py",
    "upstreams/test_real_servers.py",
    "upstreams/test_secrets.py",
)
"""Tests that start the command, or take long: of the long suite, but for those that are marked `gate`."""


def _is_long(path: Path) -> bool:
    inside = path.relative_to(Path(__file__).parent).as_posix()
    return any(inside == name or inside.startswith(f"{name}/") for name in LONG)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough",
        action="store_true",
        help="as the long suite does: measured times are held to their figures, random tests draw more",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("thorough" if config.getoption("--thorough") else "quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave what the quick suite does not run uncollected, which takes seconds."""
    return True if config.option.markexpr == QUICK and _is_long(collection_path) else None


QUICK = "not gate and not long"
"""What `addopts` in pyproject.toml selects."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_engine = item.get_closest_marker("engine") is not None
        if is_engine or (_is_long(item.path) and item.get_closest_marker("gate") is None):
            item.add_marker(pytest.mark.long)


def pytest_collection_finish() -> None:
    """Keep what was collected out of garbage collections: some tests ask for one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long suite."""
    return pytestconfig.getoption("--thorough")


@pytest.fixture(scope="session")
def figure(thorough: bool) -> Callable[[float], float]:
    """The limit of a measured time: its figure in the long suite, elsewhere 30 s against hanging."""
    return lambda seconds: seconds if thorough else 30.0


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The one event loop that we run on: in virtual time but where a process or another loop takes part."""
    is_real = request.node.get_closest_marker("real_time") is not None or _is_long(request.node.path)
    return "asyncio", {"loop_factory": asyncio.SelectorEventLoop if is_real else VirtualLoop}


@pytest.fixture
def in_line() -> Callable[[int, str], str]:
    """What a queued call says first; its words are accepted in tests/jobs/test_status_line.py."""

    def said(position: int, model: str) -> str:
        job: Job[Any] = Job()
        job.queue(SimpleNamespace(position=position, model=model))
        return job.status()

    return said


# --- with an Ollama that watches ----------------------------------------------------------------


class Watched(FakeOllama):
    """Says when the client of each chat's prompt left; the fake's own log has no names."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.asked_at: dict[str, float] = {}
        self.left_at: dict[str, float] = {}

    async def _respond(self, request: Any, connection: Any) -> bool:
        if request.path != "/api/chat":
            return await super()._respond(request, connection)
        prompt = request.json["messages"][-1]["content"]
        self.asked_at[prompt] = time.monotonic()
        self._log.notify()
        try:
            return await super()._respond(request, connection)
        except ClientLeft:
            self.left_at[prompt] = time.monotonic()
            self._log.notify()
            raise


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Watched.in_thread() as fake:
        yield fake


# --- in virtual time ---------------------------------------------------------------------------


class _Jump(getattr(selectors, "PollSelector", selectors.SelectSelector)):
    """Waits for nothing: the clock jumps to where the next thing happens."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.outside = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.outside or timeout is None:  # what a thread or a process does takes real time
            begun = time.monotonic()
            ready = super().select(HANGS_S if timeout is None else timeout)
            if not ready and timeout is None:
                raise RuntimeError("everybody waits for ever")
            self.now += time.monotonic() - begun
        else:
            self.now += timeout
        return ready


HANGS_S = 20
"""Real seconds after which something from outside of the event loop will not come any more."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which hours pass in no time, exactly; while a thread or a child works, time is real.

    What waits for another event loop or process over a socket needs real time: `pytest.mark.real_time`.
    """

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    @contextmanager
    def waiting_outside(self) -> Iterator[None]:
        self._jump.outside += 1
        try:
            yield
        finally:
            self._jump.outside -= 1


def _clock() -> float:
    """`time.monotonic` for our own modules: that of the running event loop, if it is a virtual one."""
    loop = asyncio._get_running_loop()
    return loop.time() if isinstance(loop, VirtualLoop) else time.monotonic()


@pytest.fixture(scope="session", autouse=True)
def _virtual_clock() -> Iterator[None]:
    """Let our modules read the clock of a VirtualLoop, which waits for worker threads and children."""

    def outside(begin: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wait(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio.get_running_loop()
            with loop.waiting_outside() if isinstance(loop, VirtualLoop) else nullcontext():
                return await begin(*args, **kwargs)

        return wait

    ours = SimpleNamespace(**vars(time) | {"monotonic": _clock})
    with pytest.MonkeyPatch.context() as patch:
        for name, module in tuple(sys.modules.items()):
            if name.startswith("ollama_mcp.") and vars(module).get("time") is time:
                patch.setattr(module, "time", ours)
        threads = AsyncIOBackend.run_sync_in_worker_thread
        patch.setattr(AsyncIOBackend, "run_sync_in_worker_thread", outside(threads))
        yield


@pytest.fixture
def virtually() -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run an async function in a VirtualLoop of its own."""

    def run(work: Callable[[], Awaitable[Any]]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(work())

    return run


# --- nothing is left behind --------------------------------------------------------------------

GRACE = 5
"""Seconds within which what a test has ended must be gone: threads and processes die in their own time."""

LIBRARIES_OWN = (
    # anyio's plugin runs each test in it; closing the event loop is how it ends it.
    "coro=<TestRunner._run_tests_and_fixtures() ",
    # sse_starlette has one per event loop, which looks twice a second whether uvicorn shall end.
    "coro=<_shutdown_watcher() ",
)
"""Tasks (as their repr begins) that libraries leave to the end of the event loop."""

MAY_BLOCK = (
    # Modules are imported late on purpose: the first call brings httpx, so that a start is short.
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    # asyncio begins each child process on its event loop, and has no other way.
    ("asyncio/unix_events.py", {"_start"}),
    # Once, before anything is served; tests do it within their event loop.
    ("ollama_mcp/settings/loading.py", {"load"}),
    ("ollama_mcp/testing/recorder.py", {"__init__"}),
    ("ollama_mcp/testing/recordings.py", {"__init__"}),
    # The name that is to be served is looked up before anything is.
    ("ollama_mcp/transports/http/serve_http.py", {"resolved"}),
    # One who records writes each exchange in one go, also when its client leaves, which would end an await.
    ("ollama_mcp/testing/recorder.py", {"_write"}),
    # What the engine's child wrote is read by tests, and once it has died.
    ("ollama_mcp/embedded/child.py", {"log"}),
    # The doctor and the demo are commands of their own, which serve nobody.
    ("ollama_mcp/cli/doctor.py", {"examine"}),
    ("ollama_mcp/cli/demo.py", {"_demo"}),
    # A fake in a thread is waited for when it begins and when it ends.
    ("ollama_mcp/testing/listener.py", {"in_thread", "_loop_in_thread"}),
    # A test that reads or writes a recording waits for it.
    ("ollama_mcp/testing/recordings.py", {"load", "save"}),
    # A test changes a file in the moment in which it is told how much of it was sent.
    ("tests/model_management/test_files.py", {"tell"}),
    # Log lines go to stderr, here to a file of pytest's.
    ("logging/__init__.py", {"emit"}),
)
"""Functions that may block an event loop (file, names)."""

BLOCKS_TOO = (
    "os.open",
    "io.open",
    "builtins.open",
    "os.fsync",
    "socket.getaddrinfo",
    "subprocess.Popen.__init__",
)
"""What blockbuster does not look for by itself; it finds the reading of buffered files only."""


_target = os.readlink  # as it is before blockbuster wraps it


def _listed(folder: str) -> list[str]:
    """The names in a folder of /proc; none where the system has none."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _descriptors() -> set[str]:
    """What this process has open, each by its number and kind: "7 socket:[8143]", "8 pipe:[8150]"."""
    found: set[str] = set()
    for number in _listed("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(f"{number} {_target(f'/proc/self/fd/{number}')}")
    return found


def _processes() -> set[str]:
    """The children of every thread of this process."""
    found: set[str] = set()
    try:  # one call of the system says that there is none, as after most tests
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (AttributeError, ChildProcessError):  # Windows has no waitid, and no /proc either
        return found
    for thread in _listed("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            found.update(Path(f"/proc/self/task/{thread}/children").read_text("ascii").split())
    return {f"process {pid}" for pid in found}


def _held() -> set[str]:
    """Everything that a test could leave behind but tasks."""
    # A loop keeps its workers for the next call; those of a server for a whole module outlive a test.
    known = [thread for thread in threading.enumerate() if not thread.name.startswith("AnyIO worker thread")]
    threads = {f"{thread.name} {thread.ident}" for thread in known}
    return threads | _processes() | _descriptors()


def _left(before: set[str]) -> set[str]:
    """What was not there before and does not go away."""
    patience = time.monotonic() + GRACE
    while (left := _held() - before) and time.monotonic() < patience:
        time.sleep(0.005)
    return left


async def _unfinished() -> list[str]:
    """The tasks of this event loop that do not end in a few steps, as those do that close a generator."""
    for _ in range(20):
        await asyncio.sleep(0)
        tasks = [repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]
        if not (left := [task for task in tasks if not any(own in task for own in LIBRARIES_OWN)]):
            break
    return left


@pytest.fixture(scope="session", autouse=True)
def _tasks() -> Iterator[list[str]]:
    """Collects the tasks that are still there when their event loop is closed, which would cancel them."""
    left: list[str] = []
    close = asyncio.Runner.close

    def closing(runner: asyncio.Runner) -> None:
        left.extend(runner.run(_unfinished()))
        close(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Runner, "close", closing)
        yield left


@pytest.fixture(scope="session", autouse=True)
def _blocked() -> Iterator[list[str]]:
    """Makes calls fail that block an event loop and that our code began; collects where they were.

    They are collected because a failure is no more than an exception, which some of our code may catch.
    """
    seen: list[str] = []

    class Seen(blockbuster.BlockingError):
        def __init__(self, function: str) -> None:
            super().__init__(function)
            seen.append(f"{function} was called on an event loop:\n{''.join(traceback.format_stack())}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blockbuster.blockbuster.BlockingError", Seen)
        with blockbuster.blockbuster_ctx("ollama_mcp") as busters:
            for name in BLOCKS_TOO:
                more = blockbuster.BlockBusterFunction(None, name, scanned_modules="ollama_mcp")
                busters.functions[name] = more.activate()
            for function, where in itertools.product(busters.functions.values(), MAY_BLOCK):
                function.can_block_in(*where)
            yield seen


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(_tasks: list[str], _blocked: list[str]) -> Iterator[None]:
    _tasks.clear()
    _blocked.clear()
    before = _held()
    yield
    left = sorted(_left(before))
    assert not left, f"left behind: {left}"
    assert not _tasks, f"left behind: {_tasks}"
    assert not _blocked, "\n".join(_blocked)
