"""Paths of callers, and files that are opened only inside the allowed folders.

Links are resolved; a path outside is refused in the same words whether there is a file or not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError, StorageError

_MOST_CHARACTERS = 4096


@dataclass(frozen=True)
class Place:
    """The place of a file: its allowed folder, and the names that lead there, none of them a link.

        place = place_of("notes/today.md", [Path("/srv")])
        with open_place(place, [Path("/srv")]) as file:
            text = file.read()

    Attributes:
        root: The allowed folder, without links.
        names: The names from there to the file.
    """

    root: Path
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.root.joinpath(*self.names)

    @property
    def shown(self) -> str:
        """The path from the allowed folder on, which may be shown."""
        return "/".join(self.names)


def place_of(path: str, roots: Sequence[Path]) -> Place:
    """Return the place that a path names. A path is absolute, or goes on from one of the folders.

    Raises:
        Forbidden: It is in none of the folders, whatever links lead to it.
        InvalidArgument: There is no such file, or the path cannot be one.
        StorageError: It cannot be looked at.
    """
    missing: InvalidArgument | None = None
    allowed = [_real(root) for root in roots]
    for root, names in readings(path, roots):
        depth = 0
        for name in names:  # a path that leaves its folder by `..` could tell what is beside it
            depth += -1 if name == ".." else 1
            if depth < 0:
                raise outside()
        try:
            real = root.joinpath(*names).resolve()
        except (OSError, RuntimeError):  # links in a circle
            raise outside() from None
        inside = next((folder for folder in allowed if real.is_relative_to(folder)), None)
        if inside is None:
            raise outside()
        place = Place(inside, real.relative_to(inside).parts)
        for name in place.names:
            check_name(name)
        try:
            if not stat.S_ISLNK(real.lstat().st_mode):
                return place
            raise outside()  # a circle again
        except (FileNotFoundError, NotADirectoryError):
            missing = missing or absent(real.name)
        except OSError:
            raise unreadable(real.name) from None
    raise missing or outside()


def outside() -> Forbidden:
    """Return the refusal of a path outside, in the same words whether there is a file or not."""
    return Forbidden("that file is in none of the folders that are allowed", "Name a file under one of them.")


def readings(path: str, roots: Sequence[Path]) -> list[tuple[Path, list[str]]]:
    """Return the folders that a path may begin at, without links, each with the names that follow.

    Raises:
        Forbidden: It begins outside of all of them.
        InvalidArgument: It cannot be a path.
    """
    can_be_path = bool(path.strip()) and "\0" not in path and len(path) <= _MOST_CHARACTERS
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a surrogate pair
        can_be_path = False
    if not can_be_path:
        raise InvalidArgument("there is a path that cannot be one", "Name a file under an allowed folder.")
    try:
        given = Path(path).expanduser()
    except RuntimeError:  # ~ of nobody
        raise outside() from None
    if not given.is_absolute():
        if given.anchor:  # on Windows: a drive without a folder, or a folder of whatever drive
            raise outside()
        return [(_real(root), list(given.parts)) for root in roots]
    found: list[tuple[Path, list[str]]] = []
    for root in roots:
        real = _real(root)
        spelled = next((folder for folder in (root, real) if given.is_relative_to(folder)), None)
        if spelled is not None:
            found.append((real, list(given.relative_to(spelled).parts)))
    if not found:
        raise outside()
    return found


def _real(root: Path) -> Path:
    try:
        return root.resolve()
    except (OSError, RuntimeError):  # links in a circle
        raise StorageError("an allowed folder cannot be read", "Check OLLAMA_MCP_ROOTS.") from None


_PORTS = (f"{port}{number}" for port in ("com", "lpt") for number in range(10))
_DEVICES = frozenset({"con", "prn", "aux", "nul", *_PORTS})


def check_name(name: str, system: str = os.name) -> None:
    """Refuse a name that means something else than a file: on Windows a device, or a stream of a file.

    Raises:
        Forbidden: The name is such a one.
    """
    if system == "nt" and (":" in name or name.partition(".")[0].strip().lower() in _DEVICES):
        raise outside()


def absent(name: str) -> InvalidArgument:
    """Return the error of a file that an allowed folder does not have."""
    return InvalidArgument(f"there is no file {printable(name)}", "Check its path.")


def unreadable(name: str) -> StorageError:
    """Return the error of a file that is there and cannot be read."""
    return StorageError(f"{printable(name)} cannot be read", "Check its permissions.")


def printable(name: str) -> str:
    """Return a name fit for a sentence: its last 80 characters on one line, all of them visible.

    >>> printable("a" + chr(10) + "b" + chr(0x202E)), printable("folder/" * 20 + "a.txt")[-13:]
    ('a b', '/folder/a.txt')
    """
    shown = "".join(c if c.isprintable() else " " for c in name).strip() or "without a name"
    return shown if len(shown) <= 80 else f"…{shown[-79:]}"


def _flags(*names: str) -> int:
    """Return the flags of `os` by their names, as far as this system has them."""
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
    """Open a place that `place_of` found; failures are those of `open_inside`."""
    name = place.names[-1] if place.names else ""
    try:
        descriptor = _walked(place) if CAN_WALK else _compared(place, roots)
    except OSError as error:
        # A link on the way is told by numbers that differ between systems: look for one.
        path = place.root
        for step in place.names:
            path /= step
            with suppress(OSError):
                if path.is_symlink():
                    raise outside() from None
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise (absent(place.path.name) if is_absent else unreadable(place.path.name)) from None
    try:
        _require_plain(os.fstat(descriptor), name)
        return os.fdopen(descriptor, "rb", buffering=0)
    except (OllamaError, OSError):
        os.close(descriptor)
        raise


def open_root(root: Path) -> int:
    """Open a folder that the operator named, through whatever links; returns the descriptor."""
    return os.open(root, FOLDER & ~_flags("O_NOFOLLOW"))


def _walked(place: Place) -> int:
    """Open from the allowed folder down, each step from the descriptor of the one before."""
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
    """Open by path, and check that the file is still the one that was looked up."""
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
        raise InvalidArgument(
            f"{printable(name)} is no plain file", "Name a file that can be read to its end."
        )
