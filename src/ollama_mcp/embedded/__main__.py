"""The child process: ``python -m ollama_mcp.embedded --model PATH``.

On stdout it prints one line of JSON: ``{"port": N}`` when it listens, or ``{"error": …}`` and ends.
It ends when stdin ends, so that it never outlives whoever started it, and on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_mcp.embedded.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_mcp.embedded.catalog import Model

LOOPBACK = "127.0.0.1"
# What open streams may take to end, in seconds.
GRACE = 0.3
# When it ends by force, in seconds.
LAST_RESORT = 3


def main() -> None:
    """Serve until stdin ends."""
    _hold_signals()
    logging.basicConfig(stream=sys.stderr, format="embedded: %(message)s", level=logging.WARNING)
    arguments = _parser().parse_args()
    try:
        models = _models(arguments)
        listening = _listen(arguments.port)
    except (ModelFileError, OSError, ImportError) as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201  # the protocol
        raise SystemExit(2) from None
    asyncio.run(_serve(models, arguments.threads, listening))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ollama_mcp.embedded", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--model", type=Path, required=True, help="the chat model, a GGUF")
    parser.add_argument("--embedding-model", type=Path, help="all-MiniLM-L6-v2 as a GGUF")
    parser.add_argument("--threads", type=int, help="default: half the cores")
    return parser


def _models(arguments: argparse.Namespace) -> list[Model]:
    import_module("xllamacpp")  # a missing extra is told before anything listens

    from ollama_mcp.embedded.catalog import describe  # noqa: PLC0415
    from ollama_mcp.embedded.weights import CHAT  # noqa: PLC0415

    models = [describe(arguments.model, embedding=False, known_digest=CHAT.sha256)]
    if arguments.embedding_model:
        models.append(describe(arguments.embedding_model, embedding=True))
    return models


def _listen(port: int) -> socket.socket:
    # The protocol is named because asyncio turns Nagle's algorithm off only where it sees TCP; without
    # that every answer takes 40 ms longer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere it would let us take a port that somebody listens on
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((LOOPBACK, port))
    listening.listen(128)
    return listening


async def _serve(models: list[Model], threads: int | None, listening: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415  # heavy, and wrong files are told before

    from ollama_mcp.embedded.llama import default_threads  # noqa: PLC0415
    from ollama_mcp.embedded.server import Engine, build_app  # noqa: PLC0415

    app = build_app(Engine(models, threads or default_threads()))
    grace: int = GRACE  # pyright: ignore[reportAssignmentType]  # it goes to wait_for, which takes fractions
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", lifespan="off", access_log=False, timeout_graceful_shutdown=grace
        )
    )
    _watch_for_the_end(lambda: setattr(server, "should_exit", True))
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)  # noqa: T201  # the protocol
    await server.serve(sockets=[listening])
    # No destructor runs: a model in the middle of a batch must not delay the end.
    os._exit(0)


def _hold_signals() -> None:
    # Some versions of xllamacpp install llama.cpp's own handlers with each model. Signals that are
    # blocked in every thread reach no handler at all; one thread of ours takes them instead.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


def _watch_for_the_end(end: Callable[[], None]) -> None:
    _in_background(sys.stdin.buffer.read, end)
    if hasattr(signal, "sigwait"):
        _in_background(lambda: signal.sigwait({signal.SIGTERM, signal.SIGINT}), end)


def _in_background(wait: Callable[[], object], end: Callable[[], None]) -> None:
    def run() -> None:
        wait()
        end()
        # Whatever holds the server up, it does not outlive its parent.
        time.sleep(LAST_RESORT)
        os._exit(1)

    threading.Thread(target=run, daemon=True).start()


if __name__ == "__main__":
    main()
