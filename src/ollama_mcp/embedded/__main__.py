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
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_mcp.embedded.gguf_header import ModelFileError
from ollama_mcp.ollama_server.http_connections import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_mcp.embedded.gguf_models import GgufModel

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Serve until stdin ends."""
    # Some versions of xllamacpp install llama.cpp's own handlers with each model. Signals that are
    # blocked in every thread reach no handler at all; one thread of ours takes them instead.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    logging.basicConfig(stream=sys.stderr, format="embedded: %(message)s", level=logging.WARNING)
    arguments = _parser().parse_args()
    try:
        asyncio.run(_serve(_models(arguments), arguments))
    except (ModelFileError, OSError, ImportError) as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201  # the protocol
        raise SystemExit(2) from None
    except KeyboardInterrupt:  # where no thread of ours can take the signal
        os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ollama_mcp.embedded", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--model", type=Path, required=True, help="the chat model, a GGUF")
    parser.add_argument("--embedding-model", type=Path, help="all-MiniLM-L6-v2 as a GGUF")
    parser.add_argument("--threads", type=int, help="default: half the cores")
    return parser


def _models(arguments: argparse.Namespace) -> list[GgufModel]:
    import_module("xllamacpp")  # a missing extra is told before anything listens

    from ollama_mcp.embedded.gguf_models import describe  # noqa: PLC0415
    from ollama_mcp.embedded.weights import CHAT  # noqa: PLC0415

    models = [describe(arguments.model, embedding=False, known_digest=CHAT.sha256)]
    if arguments.embedding_model:
        models.append(describe(arguments.embedding_model, embedding=True))
    return models


async def _serve(models: list[GgufModel], arguments: argparse.Namespace) -> None:
    from ollama_mcp.embedded.engine import Engine  # noqa: PLC0415
    from ollama_mcp.embedded.llama import default_threads  # noqa: PLC0415

    engine = Engine(models, arguments.threads or default_threads())
    port = await Server(engine.respond, engine.activity).listen(LOOPBACK, arguments.port)
    print(json.dumps({"port": port}), flush=True)  # noqa: T201  # the protocol
    _end_after(sys.stdin.buffer.read)
    if hasattr(signal, "sigwait"):
        _end_after(lambda: signal.sigwait({signal.SIGTERM, signal.SIGINT}))
    await asyncio.Event().wait()


def _end_after(wait: Callable[[], object]) -> None:
    def run() -> None:
        wait()
        # At once, streams and all. No destructor runs: a model in the middle of a batch must not delay it.
        os._exit(0)

    threading.Thread(target=run, daemon=True).start()


if __name__ == "__main__":
    main()
