"""Call a server for an hour while its Ollama fails and its client leaves: does it leak, or lose an answer?

    python benchmarks/soak.py [--minutes 60] [--rate CALLS_A_SECOND] [--transport http] [--era 2026]

Of a hundred calls ten meet a fault of Ollama's and ten are cancelled, and now and then Ollama is away. Every
few seconds the client waits until all is answered: what is held then must not grow, `held.py` says how. The
exit status is the verdict. Linux only: memory and descriptors are read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from held import Counts, Held, counts, grown, growth, held
from served import Served, serving
from storm import Caller, CallStats, next_kind
from wires import Wire

HERE = Path(__file__).parent
IN_FLIGHT = 48
SHARE = 0.09
"""The least part of all calls that must have met a fault, and that must have been cancelled."""
LOOKS = 60
EVERY_S = 8.0
"""At most so many looks, and at least so many seconds of calls between two."""
SETTLED_S = 5.0
"""Seconds within which what goes on without its call ends."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--rate", type=float, default=0.0, help="calls a second; 0 (default): as many as go")
    parser.add_argument("--transport", choices=("stdio", "http"), default="stdio")
    parser.add_argument("--era", choices=("2025", "2026"), default="2025", help="of the protocol")
    parser.add_argument("--seed", type=int, default=1, help="of the dice")
    return parser.parse_args(argv)


class Backend:
    """The Ollama that fails, a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self._one = asyncio.Lock()
        self.url = url

    async def ask(self, what: str) -> dict[str, int]:
        """`count` or `restart`; what goes on there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._one:
            self._process.stdin.write(what.encode() + b"\n")
            return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def failing_ollama() -> AsyncGenerator[Backend]:
    """Start it, and end it afterwards."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, str(HERE / "faulty.py")]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Backend(process, (await process.stdout.readline()).decode().strip())
    finally:
        process.stdin.close()
        await process.wait()


class Soak:
    """One run.

    Attributes:
        tally: What became of the calls.
        looks: What was held, look by look.
    """

    def __init__(
        self, wire: Wire, pid: int, backend: Backend, counter: Counts, options: argparse.Namespace
    ) -> None:
        self.tally = CallStats()
        self.looks: list[Held] = []
        self.wire = wire
        self._pid = pid
        self._backend = backend
        self._counter = counter
        self._pause = 1 / options.rate if options.rate else 0.0
        self._due = 0.0
        self._caller = Caller(wire, random.Random(options.seed), self.tally)

    async def run(self, seconds: float) -> None:
        """Call for so long, and look now and then; Ollama is away once between two looks."""
        every, until = max(seconds / LOOKS, EVERY_S), time.monotonic() + seconds
        await self._look()
        while time.monotonic() < until:
            await self._calls(every)
            await self._look()

    async def _calls(self, seconds: float) -> None:
        self._due = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(self._lane(self._due + seconds))
            await asyncio.sleep(seconds * self._caller.dice.random())
            await self._backend.ask("restart")

    async def _lane(self, until: float) -> None:
        while time.monotonic() < until:
            self._due += self._pause
            if (early := self._due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            await next_kind(self._caller.dice)(self._caller)

    async def _look(self) -> None:
        self.looks.append(await self._quiet())
        print(self.looks[-1], file=sys.stderr, flush=True)

    async def _quiet(self) -> Held:
        """What is held once nothing goes on; what nobody waits for any more gets a while to end."""
        await self.wire.settle()
        until = time.monotonic() + SETTLED_S
        while True:
            await asyncio.sleep(0.1)  # the task of the last answer ends just after it
            tasks, upstream = await self._counter.ask(self._pid), await self._backend.ask("count")
            found = held(self._pid, self.tally.calls, tasks, upstream["open"])
            first = self.looks[0] if self.looks else found
            more = found.tasks > first.tasks or found.descriptors > first.descriptors
            if not (more or upstream["in_flight"]) or time.monotonic() > until:
                return found

    def faults(self) -> Iterator[str]:
        """What was not as it should be, in words."""
        tally = self.tally
        yield from tally.wrong[:20]
        if len(tally.wrong) > 20:
            yield f"{len(tally.wrong)} calls in all, which ended so"
        if self.wire.strays:
            yield f"{len(self.wire.strays)} answers to nobody, such as {self.wire.strays[0]}"
        for name, count in (("met a fault", tally.faults), ("were cancelled", self.wire.left)):
            if count < SHARE * tally.calls:
                yield f"only {count} of {tally.calls} calls {name}"
        yield from grown(self.looks)


def complaints(served: Served, log: IO[str]) -> Iterator[str]:
    """What its stderr and its exit status say."""
    log.seek(0)
    text = log.read()
    if "Traceback" in text:
        yield f"a traceback: {text[text.index('Traceback') :][:2000]}"
    if served.status != 0:
        yield f"it ended with status {served.status}"


def report(soak: Soak, seconds: float) -> str:
    """The figures for people."""
    tally, (slope, error), last = soak.tally, growth(soak.looks), soak.looks[-1]
    ends = "\n".join(f"  {kind}: {end} {count}" for (kind, end), count in sorted(tally.ends.items()))
    return (
        f"{ends}\n{tally.calls} calls in {seconds:.0f} s, {tally.calls / seconds:.0f} a second; "
        f"{tally.faults / tally.calls:.1%} met a fault, {soak.wire.left / tally.calls:.1%} were cancelled\n"
        f"memory: {last.rss_mib:.1f} MiB, {slope:+.2f} ± {error:.2f} MiB in 100,000 calls after the warm-up; "
        f"{last.descriptors} descriptors, {last.tasks} tasks, {last.threads} threads"
    )


async def main(options: argparse.Namespace, log: IO[str]) -> int:
    """Soak; returns the exit status: 0 where nothing was wrong."""
    begun = time.monotonic()
    async with failing_ollama() as backend, counts() as counter:
        modern = options.era == "2026"
        async with serving(options.transport, backend.url, counter.writes, log, modern=modern) as served:
            soak = Soak(served.wire, served.pid, backend, counter, options)
            await soak.run(options.minutes * 60)
    found = [*soak.faults(), *complaints(served, log)]
    print(report(soak, time.monotonic() - begun))
    print("\n".join([f"WRONG: {fault}" for fault in found] or ["nothing was wrong"]))
    return bool(found)


if __name__ == "__main__":
    with tempfile.TemporaryFile("w+") as stderr:
        raise SystemExit(asyncio.run(main(arguments(), stderr)))
