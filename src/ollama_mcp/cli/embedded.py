"""`ollama-mcp embedded fetch | serve`: the small engine for machines without Ollama."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable, Weights, locate
from ollama_mcp.embedded import fetch as fetch_weights
from ollama_mcp.settings import Settings


def fetch(settings: Settings) -> int:
    """Download the models, saying what and how large; returns 0 when they are there."""
    try:
        fetch_weights(settings.cache, Bar())
    except EmbeddedUnavailable as error:
        return complain(error)
    print("The embedded engine is ready: `ollama-mcp embedded serve` or `ollama-mcp demo`.")
    return 0


def serve(settings: Settings, port: int) -> int:
    """Serve Ollama's API on loopback until a signal; returns the exit status."""
    try:
        weights = find(settings)
        with EmbeddedEngine(weights, port=port) as engine:
            print(f"Ollama's API on {engine.url}; set OLLAMA_HOST={engine.url} to use it. Ctrl-C ends it.")
            sys.stdout.flush()
            _wait_for_signal()
    except EmbeddedUnavailable as error:
        return complain(error)
    return 0


def _wait_for_signal() -> None:
    wanted = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    signal.sigwait(wanted)


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


class Bar:
    """Says what is downloaded, and draws how far it is where a person looks on."""

    def __call__(self, text: str) -> None:
        """Say what happens."""
        print(f"  {text}")
        sys.stdout.flush()

    def at(self, done: int, total: int) -> None:
        """Draw how far a download is, in bytes."""
        if not sys.stdout.isatty():
            return
        share = min(done / total, 1.0)
        end = "\n" if done >= total else ""
        print(f"\r  [{'#' * round(30 * share):30}] {100 * share:3.0f} % of {total / 1e6:.0f} MB", end=end)
        sys.stdout.flush()
