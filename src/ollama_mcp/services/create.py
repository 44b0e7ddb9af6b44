"""Create a model: from an installed one, or from model files of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import anyio.to_thread
from pydantic import ValidationError

from ollama_mcp.client import OllamaClient
from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError, StorageError
from ollama_mcp.ollama.api_models import CreateRequest, Message
from ollama_mcp.ollama.base_models import Upload
from ollama_mcp.ollama.endpoints import BLOB_EXISTS, BLOB_UPLOAD
from ollama_mcp.ollama.model_names import check_name
from ollama_mcp.ollama.options import parse_options
from ollama_mcp.services.file_access import open_inside, told
from ollama_mcp.settings.limits import (
    DEFAULT_LIMITS,
    Limits,
    check_length,
    check_messages,
    check_options,
    check_text,
)

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


_QUANTIZATION = re.compile(r"[A-Za-z0-9_]{1,16}\Z")
_ROLES = ("system", "user", "assistant")
_FIELDS = frozenset({"role", "content"})


@dataclass(frozen=True)
class CreateSpec:
    """A model that is asked for.

    Attributes:
        request: What goes to Ollama; `from_` is the model that it is made from, unless it is made from files.
        files: Files of this machine that it is made from; they are sent first.
        notes: What was dropped on the way.
    """

    request: CreateRequest
    files: tuple[ModelFile, ...] = ()
    notes: tuple[str, ...] = ()


def build_create(
    *,
    model: str,
    source: str = "",
    files: Sequence[str] = (),
    roots: Sequence[Path] = (),
    system: str = "",
    template: str = "",
    parameters: Mapping[str, Any] | None = None,
    messages: Sequence[Mapping[str, Any]] = (),
    quantize: str = "",
    license: str = "",  # noqa: A002 - Ollama's name
    limits: Limits = DEFAULT_LIMITS,
) -> CreateSpec:
    """Put a new model into Ollama's words.

    Args:
        model: The name that it gets.
        source: The installed model that it is made from, or:
        files: GGUF files of this machine that it is made from.
        roots: Folders that such files may be in; none is allowed outside of them.
        system: Its system prompt.
        template: Its prompt template, in Go's template language.
        parameters: Options by name, as of a chat.
        messages: The beginning of every conversation: {"role", "content"} each.
        quantize: Such as Q4_K_M, for a source in F16 or F32.
        license: Its licence.
        limits: The operator's.

    Raises:
        InvalidArgument: Anything that Ollama would refuse, or take and fail on later.
        Forbidden: Files, where no folder is allowed.
        TooLarge: Anything over a limit.
    """
    for name, text in (("system", system), ("template", template), ("license", license)):
        check_text(limits, name, text)
    check_length(limits, "messages", messages)
    check_options(limits, parameters or {})
    if bool(source.strip()) == bool(files):
        what = "two things" if files else "nothing"
        raise InvalidArgument(
            f"there is {what} to make the model from", 'Send one installed model as "from_model".'
        )
    model_files = tuple(model_file(path, roots) for path in files)
    _require_own_names(model_files)
    options, notes = parse_options(parameters or {})
    beginning = [_message(place, raw) for place, raw in enumerate(messages)]
    check_messages(limits, beginning)
    request = CreateRequest(
        model=check_name(model),
        from_=None if files else check_name(source),
        system=system or None,
        template=template or None,
        parameters=options if options.model_fields_set else None,
        messages=beginning or None,
        quantize=_quantization(quantize) or None,
        license=license or None,
    )
    return CreateSpec(request, model_files, tuple(notes))


def _require_own_names(files: Sequence[ModelFile]) -> None:
    """Ollama gets files by their names, without where they are."""
    if len({file.name for file in files}) < len(files):
        raise InvalidArgument("two files have the same name", "Name each file once, and rename one of those.")


def _quantization(wanted: str) -> str:
    wanted = wanted.strip()
    if wanted and not _QUANTIZATION.match(wanted):
        raise InvalidArgument(f"quantize {wanted[:40]!r} is no quantization", 'Send one such as "Q4_K_M".')
    return wanted


def _message(place: int, raw: Any) -> Message:
    """One message; what a model cannot be made with (images, tools) is refused, not dropped."""
    given: dict[str, Any] = dict(cast("Mapping[str, Any]", raw)) if isinstance(raw, Mapping) else {}
    if given.get("role") not in _ROLES or given.keys() - _FIELDS:
        raise _bad_message(place)
    try:
        return Message.model_validate(given)
    except ValidationError:
        raise _bad_message(place) from None


def _bad_message(place: int) -> InvalidArgument:
    return InvalidArgument(
        f"messages[{place}] is not a message that a model can begin with",
        'Send {"role": "system", "user" or "assistant", "content": "…"} for each.',
    )
