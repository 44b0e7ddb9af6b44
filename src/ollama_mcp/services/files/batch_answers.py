"""Kept answers about files: in memory, or as files of the operator's output folder.

The key of an answer covers the request and the file: the same call with the same file gets it again, and
any other call another one. Nothing is ever overwritten.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread

from ollama_mcp.errors import InvalidArgument, StorageError
from ollama_mcp.services.file_access import CAN_WALK, FOLDER, open_root


@dataclass(frozen=True)
class KeptJobs:
    """A kept answer: its text, or the name of its file in the output folder."""

    text: str = ""
    file: str = ""


class Store(Protocol):
    """A place for the answers of one call."""

    async def find(self, name: str, key: str) -> KeptJobs | None:
        """Return the answer about the file of that name, by its key."""
        ...

    async def keep(self, name: str, key: str, text: str) -> KeptJobs:
        """Keep an answer.

        Raises:
            StorageError: It cannot be kept.
        """
        ...


class Memory:
    """A bounded memory of answers; the ones that were not used for longest go first.

        memory = Memory(most_bytes=1 << 20)
        await memory.of("alice").keep("notes.md", key, "A summary.")

    Args:
        most_bytes: The size of all answers together.
    """

    def __init__(self, most_bytes: int = 16 << 20) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[tuple[str, str], str] = OrderedDict()

    def of(self, caller: str) -> _OfOne:
        """Return the Store of one caller: nobody gets the answers of others."""
        return _OfOne(self, caller)

    def get(self, caller: str, key: str) -> str | None:
        """Return an answer, which counts as new again."""
        if (caller, key) in self._kept:
            self._kept.move_to_end((caller, key))
        return self._kept.get((caller, key))

    def put(self, caller: str, key: str, text: str) -> None:
        """Keep an answer; old ones go."""
        self._kept.pop((caller, key), None)
        self._kept[caller, key] = text
        while sum(map(_cost, self._kept.values())) > self._most:
            self._kept.popitem(last=False)


def _cost(text: str) -> int:
    return 4 * len(text) + 500


@dataclass(frozen=True)
class _OfOne:
    memory: Memory
    caller: str

    async def find(self, name: str, key: str) -> KeptJobs | None:
        text = self.memory.get(self.caller, key)
        return None if text is None else KeptJobs(text)

    async def keep(self, name: str, key: str, text: str) -> KeptJobs:
        self.memory.put(self.caller, key, text)
        return KeptJobs(text)


_FOLDER_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_ .-]{0,62}[A-Za-z0-9_-])?\Z")
_MOST_FOLDERS = 4


@dataclass(frozen=True)
class Output:
    """A folder in which each answer is a new file.

        output = Output(Path("/srv/out"), ("summaries",), ".txt")
        kept = await output.keep("notes.md", key, "A summary.")
        kept.file  # "summaries/notes.md.4f1c….txt"

    Attributes:
        root: The operator's folder.
        folders: Folders below it; they are made.
        ending: The ending of the files' names.
    """

    root: Path
    folders: tuple[str, ...]
    ending: str

    async def find(self, name: str, key: str) -> KeptJobs | None:
        """Find a file of that name that is not empty, as `Store.find`."""
        file = self._name(name, key)
        is_there = await anyio.to_thread.run_sync(self._is_there, file)
        return KeptJobs(file=self._shown(file)) if is_there else None

    async def keep(self, name: str, key: str, text: str) -> KeptJobs:
        """Write a file, as `Store.keep`. It appears when it is complete; a process that dies leaves none."""
        file = self._name(name, key)
        # To its end, also if the call is cancelled meanwhile: the model has done the work.
        await anyio.to_thread.run_sync(self._write, file, text)
        return KeptJobs(file=self._shown(file))

    def _name(self, name: str, key: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name.replace("/", "--")).lstrip(".")
        return f"{plain[-100:].lstrip('.-')}.{key[:20]}{self.ending}"

    def _shown(self, file: str) -> str:
        return "/".join([*self.folders, file])

    def _is_there(self, file: str) -> bool:
        try:
            with _opened(self.root, self.folders, make=False) as folder:
                found = os.stat(folder.name(file), follow_symlinks=False, **folder.at)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size > 0

    def _write(self, file: str, text: str) -> None:
        try:
            with _opened(self.root, self.folders, make=True) as folder:
                folder.publish(file, text.encode(errors="replace"))
        except FileExistsError:
            if not self._is_there(file):  # else the same call has just done it, beside this one
                raise StorageError(
                    "something else has the name of the answer's file", "Send another output."
                ) from None
        except OSError:
            raise StorageError(
                "the answer cannot be written", "Check OLLAMA_MCP_OUTPUT: its permissions, and its disk."
            ) from None


def output_folders(path: str) -> tuple[str, ...]:
    """Return the folders that a caller names below the output folder; "." is that one itself.

    Raises:
        InvalidArgument: They are no plain names.
    """
    names = [name for name in path.strip().rstrip("/").split("/") if name != "."]
    if len(names) > _MOST_FOLDERS or not all(_FOLDER_NAME.match(name) for name in names):
        raise InvalidArgument(
            f'"output" is {path[:60]!r}',
            'Send the name of a folder such as "summaries": letters, digits, ., _ and -; or ".".',
        )
    return tuple(names)


@dataclass(frozen=True)
class _Folder:
    """An open folder: by its descriptor, or by its path where the system knows no better."""

    path: Path
    descriptor: int | None

    @property
    def at(self) -> dict[str, Any]:
        """The arguments that functions of `os` get beside a name."""
        return {} if self.descriptor is None else {"dir_fd": self.descriptor}

    def name(self, name: str) -> str:
        """Return the name that functions of `os` get."""
        return str(self.path / name) if self.descriptor is None else name

    def publish(self, file: str, data: bytes) -> None:
        """Make a file, whole or not at all.

        Raises:
            FileExistsError: There is something of that name.
        """
        draft = f".{secrets.token_hex(8)}.part"
        try:
            self._create(draft, data)
            self._rename(draft, file, data)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self.name(draft), **self.at)

    def _create(self, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(self.name(name), flags, 0o666, **self.at), "wb") as file:
            file.write(data)

    def _rename(self, draft: str, file: str, data: bytes) -> None:
        """Rename without ever replacing a file, which `os.rename` does outside of Windows."""
        if self.descriptor is None:
            os.rename(self.name(draft), self.name(file))
            return
        try:
            os.link(
                draft, file, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor, follow_symlinks=False
            )
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: the file may be seen half written, but replaces none.
            self._create(file, data)


@contextmanager
def _opened(root: Path, names: Sequence[str], *, make: bool) -> Generator[_Folder]:
    """Open a folder below the operator's, through no link; with `make` those missing are made."""
    if not CAN_WALK:
        path = root.joinpath(*names)
        if make:
            path.mkdir(parents=True, exist_ok=True)
        if path.resolve() != root.resolve().joinpath(*names):
            raise NotADirectoryError(path)
        yield _Folder(path, None)
        return
    folder = open_root(root)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
            folder, above = os.open(name, FOLDER, dir_fd=folder), folder
            os.close(above)
        yield _Folder(root.joinpath(*names), folder)
    finally:
        os.close(folder)
