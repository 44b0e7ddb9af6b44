"""`python -m ollama_mcp.testing`: a fake Ollama from a shell, until SIGINT or SIGTERM.

`python -m ollama_mcp.testing record --to DIR`: a recorder in front of a real one.
The first line on stdout is the URL, either way.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama_server.installed_models import Model
from ollama_mcp.testing.fake import FakeOllama
from ollama_mcp.testing.listener import Listener
from ollama_mcp.testing.scripts import Script


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line of the fake."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m ollama_mcp.testing",
        description=__doc__,
        formatter_class=as_written,
        allow_abbrev=False,
    )
    parser.add_argument("--version", default="0.33.0", help="the Ollama to pretend to be")
    parser.add_argument("--model", action="append", help="a chat model to have (again for more)")
    parser.add_argument("--tokens", type=int, help="answer every chat and generate with so many tokens")
    parser.add_argument("--rate", type=float, default=0.0, help="tokens a second; 0 is without pauses")
    parser.add_argument("--parallel", type=int, help="requests that a model runs at a time")
    parser.add_argument(
        "--replay", metavar="DIR", help="answer by the recordings in this folder, and only so"
    )
    _add_common(parser)
    if argv and not argv[0].startswith("-"):
        parser.error(f"there is no command {argv[0]!r}, only record")
    given = parser.parse_args(argv)
    made_up = [name for name in _MADE_UP if getattr(given, name) != parser.get_default(name)]
    if given.replay and made_up:
        parser.error(f"--{made_up[0]} has no effect with --replay, which answers by its recordings only")
    return given


_MADE_UP = ("version", "model", "tokens", "rate", "parallel")
"""Options of what is made up, and not recorded."""


def record_arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line of the recorder."""
    parser = argparse.ArgumentParser(
        prog="python -m ollama_mcp.testing record",
        description="Pass requests on to a real Ollama, and write each exchange into a folder. "
        "Point your client at the URL that is printed.",
    )
    parser.add_argument("--to", required=True, metavar="DIR", help="the folder, made if need be")
    parser.add_argument("--upstream", help="Ollama's address; the default is what OLLAMA_HOST says")
    parser.add_argument("--why", default="", help="written into every file")
    _add_common(parser)
    return parser.parse_args(argv)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free one")
    parser.add_argument("--until-eof", action="store_true", help="end also when stdin ends")


def _port(text: str) -> int:
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _script(tokens: int | None, rate: float) -> Script:
    pause = 1 / rate if rate else 0.0
    words = None if tokens is None else [f"word{place} " for place in range(tokens)]
    return Script(tokens=words, delay=pause, delay_first=pause)


def fake(options: argparse.Namespace) -> FakeOllama:
    """Return the fake that the command line asks for."""
    models = [Model(name) for name in options.model] if options.model else None
    settings = {name: getattr(options, name) for name in ("host", "port", "version", "parallel")}
    made = FakeOllama(models, **settings)
    made.script(_script(options.tokens, options.rate), path=("/api/chat", "/api/generate"))
    if options.replay:
        made.replay_all(options.replay)
    return made


def recorder(options: argparse.Namespace) -> Listener:
    """Return the recorder that the command line asks for."""
    # The fake needs only the standard library.
    from ollama_mcp.settings import SettingsError, load  # noqa: PLC0415
    from ollama_mcp.testing.recorder import Recorder  # noqa: PLC0415

    try:
        backend = load().backend
    except SettingsError as error:
        raise ValueError(str(error)) from error
    return Recorder(
        options.upstream or backend.host,
        options.to,
        why=options.why,
        secrets=backend.secrets,
        host=options.host,
        port=options.port,
    )


async def serve(listener: Listener, *, until_eof: bool) -> None:
    """Serve until a signal, or with `until_eof` until stdin ends."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":  # there, Ctrl-C ends `asyncio.run`
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, over.set)
    async with listener:
        print(listener.url, flush=True)  # noqa: T201  (it is what a shell script reads)
        if until_eof:
            threading.Thread(target=_read_stdin, args=(loop, over.set), daemon=True).start()
        await over.wait()


def _read_stdin(loop: asyncio.AbstractEventLoop, at_end: Callable[[], None]) -> None:
    """Read until stdin ends: in a thread, since Windows and files let nobody wait for them."""
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    with suppress(RuntimeError):  # the server has ended first
        loop.call_soon_threadsafe(at_end)


def main(argv: list[str]) -> None:
    """Run the fake or the recorder; what it cannot begin with is one line on stderr."""
    records = argv[:1] == ["record"]
    options = record_arguments(argv[1:]) if records else arguments(argv)
    try:
        listener = recorder(options) if records else fake(options)
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(listener, until_eof=options.until_eof))
    except (OSError, ValueError, OllamaError) as error:
        sys.exit(f"python -m ollama_mcp.testing: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
