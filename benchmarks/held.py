"""What a server holds while nothing goes on, look by look, and whether it grows."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import statistics
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

MOST_MIB = 1.0
"""MiB that memory may grow by in a hundred thousand calls."""
WARM_UP = 100_000
"""Calls before which growth is no leak: as many as it takes until the heap has found its size."""
SHORT_MIB = 24.0
"""MiB that it may grow by in a run that is not longer than that, after its first quarter."""
_LEAST = 5
"""Looks that make a line."""


@dataclass(frozen=True)
class Held:
    """One look.

    Attributes:
        calls: Calls until then.
        rss_mib: Resident memory.
        descriptors: Open descriptors, without the connections to Ollama, which it keeps for the next call.
        tasks: Tasks of asyncio.
        threads: Threads.
    """

    calls: int
    rss_mib: float
    descriptors: int
    tasks: int
    threads: int


class Counts:
    """The pipe on which `counted.py` tells how many tasks there are."""

    def __init__(self, reader: asyncio.StreamReader, writes: int) -> None:
        self._reader = reader
        self.writes = writes

    async def ask(self, pid: int) -> int:
        """How many there are now."""
        os.kill(pid, signal.SIGUSR1)
        return int(await self._reader.readline())


@asynccontextmanager
async def counts() -> AsyncGenerator[Counts]:
    """A pipe; its writing end is for the child."""
    reads, writes = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reads, "rb", 0)
    )
    try:
        yield Counts(reader, writes)
    finally:
        transport.close()
        os.close(writes)


def held(pid: int, calls: int, tasks: int, upstream: int) -> Held:
    """Look at a process.

    Args:
        pid: Which.
        calls: Calls so far.
        tasks: How many tasks it says that it has.
        upstream: Connections that Ollama has.
    """
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Held(
        calls=calls,
        rss_mib=int(status["VmRSS"].split()[0]) / 1024,
        descriptors=len(list((process / "fd").iterdir())) - upstream,
        tasks=tasks,
        threads=int(status["Threads"]),
    )


def warm(looks: Sequence[Held]) -> Sequence[Held]:
    """Those after the warm-up; where there are none, those after the first quarter."""
    return [look for look in looks if look.calls >= WARM_UP] or looks[len(looks) // 4 :]


def is_long(looks: Sequence[Held]) -> bool:
    """Whether there are enough looks after the warm-up to see a small leak."""
    return len(looks) >= _LEAST and warm(looks)[-_LEAST:][0].calls >= WARM_UP


def growth(looks: Sequence[Held]) -> tuple[float, float]:
    """MiB in a hundred thousand calls after the warm-up, by a straight line, and how sure that is.

    Returns:
        The slope, and its standard error, which is infinite for a handful of looks.
    """
    at = [look.calls / 1e5 for look in warm(looks)]
    found = [look.rss_mib for look in warm(looks)]
    if len(at) < _LEAST:
        return math.nan, math.inf
    slope, base = statistics.linear_regression(at, found)
    off = sum((y - base - slope * x) ** 2 for x, y in zip(at, found, strict=True))
    spread = sum((x - statistics.fmean(at)) ** 2 for x in at)
    return slope, (off / (len(at) - 2) / spread) ** 0.5


def grown(looks: Sequence[Held]) -> Iterator[str]:
    """What grows that should not, in words."""
    slope, error = growth(looks)
    more = looks[-1].rss_mib - warm(looks)[0].rss_mib
    if is_long(looks) and slope - 2 * error > MOST_MIB:
        yield f"memory grows by {slope:.2f} ± {error:.2f} MiB in 100,000 calls"
    if not is_long(looks) and more > SHORT_MIB:
        yield f"memory has grown by {more:.1f} MiB in {looks[-1].calls - warm(looks)[0].calls} calls"
    for name in ("descriptors", "tasks", "threads"):
        found = [getattr(look, name) for look in warm(looks)]
        if max(found) != min(found):
            yield f"{name} are not constant: {found}"
