"""Which file a path names, and whether that is in one of the allowed folders.

Links are resolved; what is outside is refused in the same words whether it is there or not.
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
    """A file by its folder, which is allowed, and the names that lead there, none of them a link.

    Attributes:
        root: The allowed folder, without links.
        names: From there to the file.
    """

    root: Path
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """All of it."""
        return self.root.joinpath(*self.names)

    @property
    def shown(self) -> str:
        """As it may be told: from the allowed folder on."""
        return "/".join(self.names)


def place_of(path: str, roots: Sequence[Path]) -> Place:
    """Find out what a path names. It is absolute, or goes on from one of the folders.

    Raises:
        Forbidden: It is in none of the folders, whatever links lead to it.
        InvalidArgument: There is no such file, or the path cannot be one.
        StorageError: It cannot be looked at.
    """
    missing: InvalidArgument | None = None
    allowed = [_real(root) for root in roots]
    for root, names in readings(path, roots):
        _refuse_leaving(names)
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


def _refuse_leaving(names: Sequence[str]) -> None:
    """Refuse a path that leaves its folder by `..`, and so could tell what is beside it."""
    depth = 0
    for name in names:
        depth += -1 if name == ".." else 1
        if depth < 0:
            raise outside()


def outside() -> Forbidden:
    """The same words for all that lies outside, whether it is there or not."""
    return Forbidden("that file is in none of the folders that are allowed", "Name a file under one of them.")


def readings(path: str, roots: Sequence[Path]) -> list[tuple[Path, list[str]]]:
    """The folders that a path may begin at, without links, each with the names that follow.

    Raises:
        Forbidden: It begins outside of all of them.
        InvalidArgument: It cannot be a path.
    """
    if not path.strip() or "\0" in path or len(path) > _MOST_CHARACTERS or not _can_be_name(path):
        raise InvalidArgument("there is a path that cannot be one", "Name a file under an allowed folder.")
    try:
        given = Path(path).expanduser()
    except RuntimeError:  # ~ of nobody
        raise outside() from None
    if not given.is_absolute():
        _refuse_half(given)
        return [(_real(root), list(given.parts)) for root in roots]
    found = [(_real(root), below) for root in roots if (below := _below(given, root)) is not None]
    if not found:
        raise outside()
    return found


def _can_be_name(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _below(path: Path, root: Path) -> list[str] | None:
    for spelled in (root, _real(root)):
        if path.is_relative_to(spelled):
            return list(path.relative_to(spelled).parts)
    return None


def _refuse_half(path: Path) -> None:
    """On Windows a path can name a drive without being absolute, or be absolute on whatever drive."""
    if path.anchor and not path.is_absolute():
        raise outside()


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
        Forbidden: It does.
    """
    if system == "nt" and (":" in name or name.partition(".")[0].strip().lower() in _DEVICES):
        raise outside()


def absent(name: str) -> InvalidArgument:
    """That an allowed folder has no such file."""
    return InvalidArgument(f"there is no file {told(name)}", "Check its path.")


def unreadable(name: str) -> StorageError:
    """That a file is there and cannot be read."""
    return StorageError(f"{told(name)} cannot be read", "Check its permissions.")


def told(name: str) -> str:
    """A name as it may stand in a sentence: on one line, without what cannot be seen.

    >>> told("a" + chr(10) + "b" + chr(0x202E))
    'a b'
    """
    return "".join(c if c.isprintable() else " " for c in name).strip()[:80] or "without a name"


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
