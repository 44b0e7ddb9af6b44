"""`ollama-mcp embedded fetch | serve`: the small engine for machines without Ollama."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import StatusLine
from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable, Weights, locate
from ollama_mcp.embedded import fetch as fetch_weights
from ollama_mcp.services.units import format_bytes, format_duration
from ollama_mcp.settings import Settings

_LOOK_S = 0.5
"""Seconds between two looks whether the engine lives."""


def fetch(settings: Settings) -> int:
    """Download the models, saying what and how large; returns 0 when they are there."""
    try:
        download(settings)
    except EmbeddedUnavailable as error:
        return complain(error)
    print("The embedded engine is ready: `ollama-mcp embedded serve` or `ollama-mcp demo`.")
    return 0


def serve(settings: Settings, port: int) -> int:
    """Serve Ollama's API on loopback until a signal; returns the exit status."""
    try:
        require_extra()
        weights = find(settings)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt), EmbeddedEngine(weights, port=port) as engine:
            print(f"Ollama's API on {engine.url}; set OLLAMA_HOST={engine.url} to use it. Ctrl-C ends it.")
            sys.stdout.flush()
            while engine.running:
                time.sleep(_LOOK_S)
            told = engine.log().strip().splitlines()
            print(f"ollama-mcp: the engine has ended{': ' + told[-1] if told else ''}", file=sys.stderr)
            return 1
    except EmbeddedUnavailable as error:
        return complain(error)
    return 0


def find(settings: Settings) -> Weights:
    """The models that are there.

    Raises:
        EmbeddedUnavailable: With what is missing and what to do.
    """
    own = Path(settings.embedded_model) if settings.embedded_model else None
    return locate(settings.cache, model=own)


def complain(error: EmbeddedUnavailable) -> int:
    """Say what is missing; returns the exit status."""
    print(f"ollama-mcp: {error.cause}\n    -> {error.remedy}", file=sys.stderr)
    return 1


def download(settings: Settings) -> Weights:
    """Download what is missing, saying what, and drawing how far it is where a person looks on.

    Raises:
        EmbeddedUnavailable: With what is missing and what to do.
    """
    require_extra()
    bar = _Bar()
    return fetch_weights(settings.cache, bar.say, bar.draw)


def require_extra() -> None:
    """Before 176 MB are downloaded, not after.

    Raises:
        EmbeddedUnavailable: The extra is not installed.
    """
    missing = [name for name in ("xllamacpp", "gguf", "numpy") if find_spec(name) is None]
    if missing:
        raise EmbeddedUnavailable(
            f"The embedded engine is not installed: it needs {', '.join(missing)}.",
            f"Install it with `{Installation.find().install('embedded')}`.",
        )


class _Bar:
    """The progress of downloads on a terminal, with speed and time left; in a log it is noise."""

    def __init__(self) -> None:
        self._line = StatusLine()
        self._total = 0
        self._began = (0.0, 0)

    def say(self, text: str) -> None:
        """Print a line in place of the bar."""
        self._line.clear()
        print(f"  {text}", flush=True)

    def draw(self, done: int, total: int) -> None:
        """Show how many bytes of a download are here, about."""
        now = time.monotonic()
        if total != self._total:
            self._total, self._began = total, (now, done)
        began, before = self._began
        share = min(done / total, 1.0)
        told = f"  [{'#' * round(30 * share):30}] {100 * share:3.0f} % of {format_bytes(total)}"
        if now - began > 1 and (speed := (done - before) / (now - began)) >= 1:
            left = format_duration(max(total - done, 0) / speed)
            told += f" · {format_bytes(speed)}/s · {left} left"
        self._line.show(told)
