"""Opening files for reading: only under the allowed folders, only plain files, without waiting.

A path is looked up first (`paths`), and then walked from descriptor to descriptor, following no link:
whoever turns a folder or a file into a link in between gets a refusal, not another file. Where the
system cannot do that (Windows), what was opened is compared with what the path means afterwards.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ollama_mcp.errors import InvalidArgument, OllamaError
from ollama_mcp.files.paths import Place, absent, outside, place_of, told, unreadable


def _flags(*names: str) -> int:
    """Those of them that this system has."""
    return sum({getattr(os, name, 0) for name in names})


_READ = _flags("O_RDONLY", "O_NONBLOCK", "O_NOFOLLOW", "O_NOCTTY", "O_BINARY", "O_CLOEXEC")
"""Without O_NONBLOCK, opening a FIFO waits for somebody to write into it."""
FOLDER = _flags("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
CAN_WALK = {os.open, os.stat} <= os.supports_dir_fd
"""Whether a file can be opened from the descriptor of its folder."""


def open_inside(path: str, roots: Sequence[Path]) -> BinaryIO:
    """Open a file for reading, unbuffered. Blocks, though never for a writer: call it in a thread.

    Raises:
        Forbidden: It is in none of the folders, or something is turned into a link meanwhile.
        InvalidArgument: It is not there, or no plain file.
        StorageError: It cannot be read.
    """
    return open_place(place_of(path, roots), roots)


def open_place(place: Place, roots: Sequence[Path]) -> BinaryIO:
    """Open what `place_of` found; failures are those of `open_inside`."""
    name = place.names[-1] if place.names else ""
    try:
        descriptor = _walked(place) if CAN_WALK else _compared(place, roots)
    except OSError as error:
        raise _refused(place, error) from None
    try:
        _require_plain(os.fstat(descriptor), name)
        return os.fdopen(descriptor, "rb", buffering=0)
    except (OllamaError, OSError):
        os.close(descriptor)
        raise


def open_root(root: Path) -> int:
    """A descriptor of a folder that the operator named, through whatever links it was named."""
    return os.open(root, FOLDER & ~_flags("O_NOFOLLOW"))


def _walked(place: Place) -> int:
    """From the allowed folder down, each step from the descriptor of the one before."""
    *folders, name = place.names or (".",)
    folder = open_root(place.root)
    try:
        for below in folders:
            folder, above = os.open(below, FOLDER, dir_fd=folder), folder
            os.close(above)
        # Before, too: to open a device can already do something.
        _require_plain(os.stat(name, dir_fd=folder, follow_symlinks=False), name)
        return os.open(name, _READ, dir_fd=folder)
    finally:
        os.close(folder)


def _compared(place: Place, roots: Sequence[Path]) -> int:
    _require_plain(place.path.lstat(), place.path.name)
    descriptor = os.open(place.path, _READ)
    with suppress(OllamaError, OSError):
        is_same = os.path.samestat(place.path.lstat(), os.fstat(descriptor))
        if is_same and place_of(str(place.path), roots) == place:
            return descriptor
    os.close(descriptor)
    raise outside()


def _require_plain(found: os.stat_result, name: str) -> None:
    if stat.S_ISLNK(found.st_mode):  # it was none when its path was looked up
        raise outside()
    if not stat.S_ISREG(found.st_mode):
        raise InvalidArgument(f"{told(name)} is no plain file", "Name a file that can be read to its end.")


def _refused(place: Place, error: OSError) -> OllamaError:
    """What a failure to open means; a link on the way is told by numbers that differ between systems."""
    name = place.path.name
    if _has_link(place):
        return outside()
    is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
    return absent(name) if is_absent else unreadable(name)


def _has_link(place: Place) -> bool:
    path = place.root
    for name in place.names:
        path /= name
        with suppress(OSError):
            if path.is_symlink():
                return True
    return False
