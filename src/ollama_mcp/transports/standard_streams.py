"""The standard streams, taken for the wire. Imports next to nothing: what the SDK brings may print."""

from __future__ import annotations

import os
import sys

if sys.platform != "win32":
    import fcntl

Wires = tuple[int, int]
"""Descriptors: to read from, and to write to."""


def claim_stdio() -> Wires:
    """Take stdin and stdout for the wire and return their new descriptors.

    From then on file descriptor 0 is the null device and 1 is stderr, so neither a library that
    prints nor a child process can touch the wire. They stay so: text that waits in a buffer is
    written when the interpreter ends.
    """
    null = os.open(os.devnull, os.O_RDWR)
    wires = _divert(0, null), _divert(1, 2 if _is_open(2) else null)
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        # What is printed shall be seen, not wait for the end; and what was printed before, by a library
        # when it was imported, is written by this: after the diversion.
        reconfigure(line_buffering=True)
    return wires


def _divert(fd: int, substitute: int) -> int:
    wire = _above_standard(fd if _is_open(fd) else substitute)
    os.dup2(substitute, fd)
    return wire


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _above_standard(fd: int) -> int:
    if sys.platform == "win32":
        return os.dup(fd)
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
