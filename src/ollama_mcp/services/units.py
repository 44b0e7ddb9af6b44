"""Bytes and times as people read them; bytes in powers of ten, as Ollama writes them."""

from __future__ import annotations

_UNITS = ((1e12, "TB", 1), (1e9, "GB", 1), (1e6, "MB", 0), (1e3, "kB", 0), (1.0, "B", 0))


def format_bytes(count: float) -> str:
    """Write an amount of bytes.

    >>> [format_bytes(n) for n in (98362745, 5_200_000_000, 1429, 0)]
    ['98 MB', '5.2 GB', '1 kB', '0 B']
    """
    size, unit, places = _unit(count)
    return f"{count / size:.{places}f} {unit}"


def format_part(count: float, total: float) -> str:
    """Write a part of an amount of bytes, in the unit of the whole.

    >>> format_part(1_234_000_000, 4_700_000_000), format_part(0, 59)
    ('1.2 of 4.7 GB', '0 of 59 B')
    """
    size, unit, places = _unit(total)
    return f"{count / size:.{places}f} of {total / size:.{places}f} {unit}"


def format_duration(seconds: float) -> str:
    """Write a time that is left, in seconds, no more exact than it can be known.

    >>> [format_duration(s) for s in (65, 600, 9000)]
    ['65 s', '10 min', '2.5 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _unit(count: float) -> tuple[float, str, int]:
    return next((unit for unit in _UNITS if count >= unit[0]), _UNITS[-1])
