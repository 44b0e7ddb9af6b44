"""Shared output of the commands for people."""

from __future__ import annotations

import signal


def die_with_the_reader() -> None:
    """End in silence where nobody reads on (`ollama-mcp demo | head`), as programs of a shell do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def confirmed(question: str) -> bool:
    """Ask for a yes; anything else is a no."""
    try:
        said = input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:  # nobody is there
        print("\n  Nobody answers: that is a no.")
        return False
    if not said:
        print("  Nothing is changed.")
    return said
