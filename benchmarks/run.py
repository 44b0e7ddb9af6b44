"""Measure ollama-mcp against a bare server and a small streaming one, in one run, as ratios.

    python benchmarks/run.py [--quick] [--without-speed] [--peer NAME COMMAND ARGUMENTS]

Linux only: CPU and memory are read from /proc. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from measures import FULL, MEASURES, QUICK, Contestant, Figures, start

from ollama_mcp.testing import FakeOllama

HERE = Path(__file__).parent
PROMPT = {"prompt": "Hi", "model": "llama3.2:3b"}
UNHELD = {"OLLAMA_MCP_PARALLEL": "32"}
"""The others let all calls in at once; ours has four of a model run, unless told."""
OURS = Contestant("ours", [str(Path(sys.executable).with_name("ollama-mcp"))], PROMPT, settings=UNHELD)
FLOOR = Contestant("floor", [sys.executable, str(HERE / "floor.py")], PROMPT)
BARE = Contestant("bare", [sys.executable, str(HERE / "bare.py")], PROMPT, asks_ollama=False)
WITHOUT = Contestant(
    "without speed", [sys.executable, str(HERE / "without_speed.py")], PROMPT, settings=UNHELD
)

WANTED = {
    "start to initialize, ms": ("bare", "<= 1.35"),
    "idle memory, MB": ("floor", "<= floor + 20"),
    "added to a call, ms": ("floor", "<= 1.15"),
    "added to a call with a progressToken, ms": ("floor", "<= 1.15"),
    "calls a second, 32 in flight": ("floor", ">= 1"),
    "CPU a call, 32 in flight, ms": ("floor", "<= 1"),
    "connections for 32 in flight": ("floor", "<= 33"),
    "a call of 200 tokens/s, % of a core": ("floor", "<= 1"),
    "progress for it, % of a core": ("floor", "<= 1 % of a core"),
}
"""Of each figure: the server whose figure ours is divided by, and what we want."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument("--without-speed", action="store_true", help="also ours without the extra `speed`")
    parser.add_argument(
        "--peer", nargs=3, action="append", default=[], metavar=("NAME", "COMMAND", "ARGUMENTS"),
        help="another stdio server; ARGUMENTS is the JSON that its ollama_chat takes",
    )  # fmt: skip
    return parser.parse_args(argv)


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    names = list(figures["start to initialize, ms"])
    lines = [f"| | {' | '.join(names)} | ours | wanted |", "|---|" + "---:|" * len(names) + "---|---|"]
    for figure, found in figures.items():
        other, wanted = WANTED[figure]
        cells = [f"{found[name]:.2f}" if name in found else "" for name in names]
        ratio = f"{found['ours'] / found[other]:.2f} × {other}"
        lines.append(f"| {figure} | {' | '.join(cells)} | {ratio} | {wanted} |")
    return "\n".join(lines)


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """Who takes part."""
    peers = [
        Contestant(name, shlex.split(command), json.loads(given)) for name, command, given in options.peer
    ]
    return [OURS, FLOOR, BARE, *([WITHOUT] if options.without_speed else []), *peers]


async def main(options: argparse.Namespace) -> None:
    """Measure, and print the table."""
    servers = contestants(options)
    effort = QUICK if options.quick else FULL
    figures: Figures = {}
    for measure in MEASURES:
        print(f"{measure.__name__} …", file=sys.stderr)
        who = [server for server in servers if server.asks_ollama or measure is start]
        async with FakeOllama() as fake:
            figures |= await measure(who, fake, effort)
    print(table(figures))


if __name__ == "__main__":
    asyncio.run(main(arguments()))
