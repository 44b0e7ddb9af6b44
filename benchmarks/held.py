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
WARM_UP = 0.25
"""Part of the looks before which growth is no leak."""
_LEAST = 5


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
    """Those after the warm-up."""
    return looks[round(len(looks) * WARM_UP) :]


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
    if slope - 2 * error > MOST_MIB:
        yield f"memory grows by {slope:.2f} ± {error:.2f} MiB in 100,000 calls"
    for name in ("descriptors", "tasks", "threads"):
        found = [getattr(look, name) for look in warm(looks)]
        if max(found) != min(found):
            yield f"{name} are not constant: {found}"
