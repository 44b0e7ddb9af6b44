"""Model files of this machine, sent to Ollama as blobs: opened once, hashed and read from where they are.

Only GGUF files, and only under folders that the operator named: the Ollama server may be another machine.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio.to_thread

from ollama_mcp.bodies import Upload
from ollama_mcp.client import OllamaClient
from ollama_mcp.endpoints import BLOB_EXISTS, BLOB_UPLOAD
from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError, StorageError

T = TypeVar("T")

_MAGIC = b"GGUF"
_HASHED_AT_ONCE = 8 << 20
_SENT_AT_ONCE = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""Without O_NONBLOCK, opening a FIFO waits for somebody to write into it."""


@dataclass(frozen=True)
class ModelFile:
    """A file that is to be sent: its path as somebody gave it, and the folders that it may be in."""

    path: str
    roots: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What it is called, without where it is."""
        return Path(self.path).name[:80]


def model_file(path: str, roots: Sequence[Path]) -> ModelFile:
    """Name a file; whether it is there and allowed is found out when it is opened.

    Raises:
        Forbidden: No folder is allowed at all.
    """
    if not roots:
        raise Forbidden(
            "files of this machine are not given to Ollama here",
            "Name an installed model, or have the operator name folders in OLLAMA_MCP_ROOTS.",
        )
    return ModelFile(path, tuple(roots))


def open_file(file: ModelFile) -> BinaryIO:
    """Open a file, once, and look at what was opened: a name can be made to mean another file meanwhile.

    Raises:
        Forbidden: It is in none of the folders, whatever links lead to it.
        InvalidArgument: It is not there, no plain file, or not GGUF.
        StorageError: It cannot be read.
    """
    path = _allowed(file)
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidArgument(f"there is no file {file.name}", "Check its path.") from None
    except OSError:
        raise StorageError(f"{file.name} cannot be read", "Check its permissions.") from None
    try:
        _check(descriptor, path, file)
    except (OllamaError, OSError):
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb", buffering=0)


def _check(descriptor: int, path: Path, file: ModelFile) -> None:
    found = os.fstat(descriptor)
    if _allowed(file) != path or not _is(path, found):
        raise _outside()
    if not stat.S_ISREG(found.st_mode) or os.read(descriptor, len(_MAGIC)) != _MAGIC:
        raise InvalidArgument(f"{file.name} is no GGUF file", "Name a model file in GGUF format.")


def _is(path: Path, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), found)
    except OSError:
        return False


def _allowed(file: ModelFile) -> Path:
    path = _resolved(Path(file.path))
    if not any(path.is_relative_to(_resolved(root)) for root in file.roots):
        raise _outside()
    return path


def _resolved(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, ValueError, RuntimeError):  # NUL, too long, links in a circle, no home
        raise _outside() from None


def _outside() -> Forbidden:
    return Forbidden("that file is in none of the folders that are allowed", "Name a file under one of them.")


Tell = Callable[[str, int, int], None]
"""Says how far it is: what is done, bytes so far, bytes in all (0 and 0 where they do not count)."""


async def send(client: OllamaClient, file: ModelFile, tell: Tell) -> str:
    """Give Ollama a file, unless it has it, and return its digest as `sha256:…`.

    Nothing here blocks the event loop, and the file is never in memory as a whole.

    Raises:
        OllamaError: As of `open_file`, or any of the backend's; a file that changed meanwhile is refused
            by Ollama, whose digest is then another one.
    """
    tell(f"checking {file.name}", 0, 0)
    with await _in_thread(lambda: open_file(file)) as handle:
        digest = f"sha256:{await _hashed(handle)}"
        if not await _has(client, digest):
            size = os.fstat(handle.fileno()).st_size
            upload = Upload(_chunks(handle, size, partial(tell, f"sending {file.name}")), size)
            await client.call(BLOB_UPLOAD, upload, digest=digest)
    return digest


async def _hashed(handle: BinaryIO) -> str:
    """In pieces, so that a cancelled call does not leave a thread hashing for a minute."""
    hashing = hashlib.sha256()

    def step() -> bool:
        piece = handle.read(_HASHED_AT_ONCE)
        hashing.update(piece)
        return bool(piece)

    handle.seek(0)
    while await _in_thread(step):
        pass
    return hashing.hexdigest()


async def _chunks(handle: BinaryIO, size: int, tell: Callable[[int, int], None]) -> AsyncIterator[bytes]:
    left = size
    handle.seek(0)
    while piece := await _in_thread(partial(handle.read, min(_SENT_AT_ONCE, left))):
        yield piece
        left -= len(piece)
        tell(size - left, size)
    if left:
        raise StorageError("the model file changed while it was sent", "Call again when it is complete.")


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError:
        raise StorageError(
            "the model file cannot be read to its end", "Check the disk that it is on."
        ) from None


async def _has(client: OllamaClient, digest: str) -> bool:
    try:
        await client.call(BLOB_EXISTS, digest=digest)
    except OllamaError as error:
        if error.upstream_status != 404:
            raise
        return False
    return True
