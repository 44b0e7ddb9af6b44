"""A client's settings file: read, replaced in one step, and kept beside as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOM = "\ufeff"


class ChangedMeanwhile(Exception):
    """The file is not what it was when the change was shown."""


@dataclass(frozen=True)
class ConfigFile:
    """A file as it was read; `text` is None where it does not exist."""

    path: Path
    text: str | None

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Read a file.

        Raises:
            OSError: It cannot be read.
            UnicodeDecodeError: It is not UTF-8.
        """
        try:
            return cls(path, path.read_bytes().decode("utf-8"))
        except FileNotFoundError:
            return cls(path, None)

    @property
    def content(self) -> str:
        """The text without a byte order mark; "" where there is no file."""
        return (self.text or "").removeprefix(_BOM)

    @property
    def backup(self) -> Path:
        """The file as it was before setup changed it. Some clients have a `.bak` of their own."""
        real = self.path.resolve()  # beside the file itself, not beside a link to it
        return real.with_name(f"{real.name}.ollama-mcp.bak")

    def write(self, content: str, *, keeps_backup: bool) -> None:
        """Replace the file by a new content, in one step; links, permissions and a byte order mark stay.

        Args:
            content: The new content.
            keeps_backup: Whether a backup that is there stays as it is.

        Raises:
            ChangedMeanwhile: Somebody else has written it.
            OSError: It cannot be written.
        """
        self._check()
        if self.text is not None and not (keeps_backup and self.backup.exists()):
            _replace(self.backup, self.text, self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        bom = _BOM if (self.text or "").startswith(_BOM) else ""
        _replace(self.path.resolve(), bom + content, self.path, self._check)

    def delete(self) -> None:
        """Remove the file.

        Raises:
            ChangedMeanwhile: Somebody else has written it.
        """
        self._check()
        self.path.unlink()

    def _check(self) -> None:
        if ConfigFile.read(self.path) != self:
            raise ChangedMeanwhile


def _replace(target: Path, text: str, like: Path, check: Callable[[], None] | None = None) -> None:
    """Write a file in one step, with the permissions of another; `check` may refuse at the last moment."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if like.exists():
            shutil.copymode(like, name)
        if check is not None:
            check()
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
