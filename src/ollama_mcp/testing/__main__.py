"""`python -m ollama_mcp.testing`: a fake Ollama from a shell, until SIGINT or SIGTERM.

The first line on stdout is its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from ollama_mcp.testing.fake import FakeOllama
from ollama_mcp.testing.models import Model
from ollama_mcp.testing.scripts import Script


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m ollama_mcp.testing", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--version", default="0.33.0", help="the Ollama to pretend to be")
    parser.add_argument("--model", action="append", help="a chat model to have (again for more)")
    parser.add_argument("--tokens", type=int, help="answer every chat and generate with so many tokens")
    parser.add_argument("--rate", type=float, default=0.0, help="tokens a second; 0 is without pauses")
    parser.add_argument("--parallel", type=int, help="requests that a model runs at a time")
    parser.add_argument("--until-eof", action="store_true", help="end also when stdin ends")
    return parser.parse_args(argv)


def _script(tokens: int | None, rate: float) -> Script:
    pause = 1 / rate if rate else 0.0
    words = None if tokens is None else [f"word{place} " for place in range(tokens)]
    return Script(tokens=words, delay=pause, delay_first=pause)


async def serve(options: argparse.Namespace) -> None:
    """Serve until a signal, or with --until-eof until stdin ends."""
    models = [Model(name) for name in options.model] if options.model else None
    settings = {name: getattr(options, name) for name in ("host", "port", "version", "parallel")}
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with FakeOllama(models, **settings) as fake:
        fake.script(_script(options.tokens, options.rate), path=("/api/chat", "/api/generate"))
        print(fake.url, flush=True)  # noqa: T201  (it is what a shell script reads)
        if options.until_eof:
            loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 4096) else over.set())
        await over.wait()


if __name__ == "__main__":
    asyncio.run(serve(arguments(sys.argv[1:])))
