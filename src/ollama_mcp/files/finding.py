"""Which files patterns mean: `*`, `?`, `[…]` in a name, `**` for any folders; hidden ones by name only."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ollama_mcp.errors import InvalidArgument, OllamaError
from ollama_mcp.files.paths import Place, place_of, readings
from ollama_mcp.settings.limits import Limits, check_length

MOST_LOOKED_AT = 200_000
"""Names that one call looks through, each as often as a pattern of it does."""
_ANY = "**"


def find_files(
    patterns: Sequence[str], roots: Sequence[Path], limits: Limits, without: Path | None = None
) -> list[Place | str]:
    """Find files by patterns or paths, each once, in the order of the patterns and then of their names.

    Args:
        patterns: Absolute, or from one of the folders on.
        roots: The folders.
        limits: The most files.
        without: A folder whose files no pattern means.

    Returns:
        Places; a path that leads to none stays as it is, to fail when it is read.

    Raises:
        Forbidden: A pattern begins outside the folders.
        InvalidArgument: No file fits, or a pattern would look through too much.
        TooLarge: More files fit than one call may have.
    """
    check_length(limits, "files", patterns)
    found: dict[Place | str, None] = {}
    skipped, effort = without.resolve() if without else None, _Effort(MOST_LOOKED_AT)
    for pattern in patterns:
        for place in _meant(pattern, roots, skipped, effort):
            found[place] = None
            check_length(limits, "files", found)
    if not found:
        raise InvalidArgument(
            "no file fits", 'Send "files" as paths or patterns under an allowed folder, such as "notes/*.md".'
        )
    return list(found)


@dataclass
class _Effort:
    """How many names a call may still look at, over all its patterns."""

    left: int

    def spend(self, count: int) -> None:
        """Look at so many.

        Raises:
            InvalidArgument: They are too many.
        """
        self.left -= count
        if self.left < 0:
            raise InvalidArgument(
                f"the patterns look through more than {MOST_LOOKED_AT} files", "Send fewer, narrower ones."
            )


def _meant(
    pattern: str, roots: Sequence[Path], skipped: Path | None, effort: _Effort
) -> Iterator[Place | str]:
    if not glob.has_magic(pattern):
        yield _placed(pattern, roots)
        return
    for root, parts in readings(pattern, roots):
        if ".." in parts:
            raise InvalidArgument('a pattern has ".." in it', "Send it without.")
        for place in _walked(root, _short(parts), effort):
            if skipped is None or not place.path.is_relative_to(skipped):
                yield _placed(str(place.path), roots, place)


def _placed(path: str, roots: Sequence[Path], otherwise: Place | None = None) -> Place | str:
    """Where it is; a link that leads nowhere is where it was found, and will not be opened."""
    try:
        return place_of(path, roots)
    except OllamaError:
        return otherwise or path


def _short(parts: Sequence[str]) -> list[str]:
    """Without each `**` behind another one, which means nothing more and would cost time with every name."""
    return [part for place, part in enumerate(parts) if not place or not part == parts[place - 1] == _ANY]


def _walked(root: Path, parts: Sequence[str], effort: _Effort) -> Iterator[Place]:
    """The files of a folder that fit; no link to a folder is followed, and nothing is looked at in vain."""
    for folder, folders, names in _folders(root):
        below = Path(folder).relative_to(root).parts
        effort.spend(len(folders) + len(names))
        folders[:] = sorted(name for name in folders if _leads_on(parts, (*below, name)))
        yield from (Place(root, (*below, name)) for name in sorted(names) if _fits(parts, (*below, name)))


def _folders(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, and from descriptor to descriptor where the system can."""
    walk: Any = getattr(os, "fwalk", os.walk)
    for folder, folders, names, *_ in walk(root):
        yield folder, folders, names


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    return len(parts) in _reached(parts, names)


def _leads_on(parts: Sequence[str], names: Sequence[str]) -> bool:
    return any(place < len(parts) for place in _reached(parts, names))


def _reached(parts: Sequence[str], names: Sequence[str]) -> set[int]:
    """How many parts of a pattern the names can use up: every way at once, so that none costs more."""
    places = _past_any(parts, {0})
    for name in names:
        places = _past_any(parts, {step for place in places for step in _step(parts, place, name)})
    return places


def _step(parts: Sequence[str], place: int, name: str) -> Iterable[int]:
    if place == len(parts):
        return ()
    part = parts[place]
    if name.startswith(".") and not part.startswith("."):
        return ()
    if part == _ANY:
        return (place,)
    return (place + 1,) if fnmatchcase(name, part) else ()


def _past_any(parts: Sequence[str], places: set[int]) -> set[int]:
    """Any number of folders can be none."""
    for place in range(len(parts)):
        if place in places and parts[place] == _ANY:
            places.add(place + 1)
    return places
