"""Model files of this machine, sent to Ollama as blobs: opened once, hashed and read from where they are.

Only GGUF files, and only under folders that the operator named: the Ollama server may be another machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio.to_thread

from ollama_mcp.client import OllamaClient
from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError, StorageError
from ollama_mcp.files.opening import open_inside
from ollama_mcp.files.paths import told
from ollama_mcp.ollama.base_models import Upload
from ollama_mcp.ollama.endpoints import BLOB_EXISTS, BLOB_UPLOAD

T = TypeVar("T")

_MAGIC = b"GGUF"
_HASHED_AT_ONCE = 8 << 20
_SENT_AT_ONCE = 1 << 20


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
    """Open a file, once, from where it is in the folders.

    Raises:
        Forbidden: It is in none of the folders, whatever links lead to it.
        InvalidArgument: It is not there, no plain file, or not GGUF.
        StorageError: It cannot be read.
    """
    handle = open_inside(file.path, file.roots)
    try:
        _check_magic(handle, file)
    except (OllamaError, OSError):
        handle.close()
        raise
    return handle


def _check_magic(handle: BinaryIO, file: ModelFile) -> None:
    if handle.read(len(_MAGIC)) != _MAGIC:
        raise InvalidArgument(f"{told(file.name)} is no GGUF file", "Name a model file in GGUF format.")


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
