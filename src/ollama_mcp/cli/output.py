"""Shared output of the commands for people."""

from __future__ import annotations

import signal


def die_with_the_reader() -> None:
    """End in silence where nobody reads on (`ollama-mcp demo | head`), as programs of a shell do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
