"""What the commands for people share: colours, the line that shows progress, the log."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TextIO

from ollama_mcp.settings import Settings

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1", "cyan": "36"}


def die_with_the_reader() -> None:
    """End in silence where nobody reads on (`ollama-mcp demo | head`), as programs of a shell do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def write_any_text() -> None:
    """Have stdout take any text: on Windows a file or a pipe gets the code page of old, which has few."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.platform == "win32" and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")


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


def has_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose user has not switched colours off (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return a text in a colour, where stdout, or another stream, has them."""
    if not has_colours(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def mark(is_good: bool) -> str:
    """Return ✓ or ✗ in its colour; + or ! where stdout cannot write them."""
    sign, plain, colour = ("✓", "+", "green") if is_good else ("✗", "!", "red")
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return plain
    return paint(sign, colour)


def warn(text: str) -> None:
    """Print what is wrong, behind its mark."""
    print(f"{mark(False)} {text}")


def width() -> int:
    """Return the columns of a text: those of the terminal, 80 elsewhere, and at most 100."""
    return min(shutil.get_terminal_size().columns, 100) if sys.stdout.isatty() else 80


def start_log(settings: Settings) -> None:
    """Send the log to stderr and, where that is set, to a file.

    Raises:
        ValueError: The file cannot be opened.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if settings.log_file:
        try:
            handlers.append(logging.FileHandler(settings.log_file, encoding="utf-8"))
        except OSError as error:
            told = f"OLLAMA_MCP_LOG_FILE: {error.strerror}; name a file in a folder that exists"
            raise ValueError(told) from error
    logging.basicConfig(
        level=settings.log_level, handlers=handlers, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "httpcore", "httpx2", "httpcore2", "mcp.client"):  # they log addresses
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of each request that is no HTTP: whoever reaches the port could fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def shown_path(path: object) -> str:
    """Return a path with ~ for the user's home."""
    home, text = str(Path.home()), str(path)
    is_below = text.startswith(f"{home}{os.sep}") and sys.platform != "win32"
    return f"~{text[len(home) :]}" if is_below else text


class StatusLine:
    """A line on stderr, if that is a terminal, written over itself; nothing elsewhere.

    Attributes:
        is_paused: True while something else is written there.
    """

    def __init__(self) -> None:
        self.is_paused = False
        self._shows = sys.stderr.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        if self._shows and not self.is_paused:
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0

    def print(self, text: str) -> None:
        """Print a line above."""
        self.clear()
        print(text, file=sys.stderr, flush=True)
