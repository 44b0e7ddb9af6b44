"""URL of a database, which is a secret as a whole: it may have a password, and always has an address."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DatabaseUrl:
    """URL of a PostgreSQL database, as libpq takes it.

    >>> url = DatabaseUrl("postgresql://me:secret@db/notes")
    >>> print(url, repr(url))
    PostgreSQL DatabaseUrl()

    Attributes:
        secret: The URL; never shown.
    """

    secret: str = field(repr=False)

    def __str__(self) -> str:
        """Name what it is of, for people."""
        return "PostgreSQL"
