"""Create a model: from an installed one, or from model files of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
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
from ollama_mcp.services.file_access import open_inside, printable
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
"""Bytes; in pieces, so that a cancelled call does not leave a thread hashing for a minute."""
_SENT_AT_ONCE = 1 << 20
"""Bytes."""
_QUANTIZATION = re.compile(r"[A-Za-z0-9_]{1,16}\Z")
_ROLES = ("system", "user", "assistant")
_FIELDS = frozenset({"role", "content"})


@dataclass(frozen=True)
class ModelFile:
    """A file to send.

    Attributes:
        path: The path, as the caller gave it.
        roots: The folders that it may be in.
    """

    path: str
    roots: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The name, without the folder."""
        return Path(self.path).name[:80]


def model_file(path: str, roots: Sequence[Path]) -> ModelFile:
    """Make a ModelFile, which is looked for when it is opened.

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
    """Open a file in its folder, once, and check that it is GGUF.

    Raises:
        Forbidden: It is in none of the folders, whatever links lead to it.
        InvalidArgument: It is not there, no plain file, or not GGUF.
        StorageError: It cannot be read.
    """
    handle = open_inside(file.path, file.roots)
    try:
        if handle.read(len(_MAGIC)) != _MAGIC:
            raise InvalidArgument(
                f"{printable(file.name)} is no GGUF file", "Name a model file in GGUF format."
            )
    except (OllamaError, OSError):
        handle.close()
        raise
    return handle


async def send(client: OllamaClient, file: ModelFile, tell: Callable[[str, int, int], None]) -> str:
    """Send Ollama a file, unless it has it. Does not block, and never has the file in memory as a whole.

    Args:
        client: Of the server.
        file: The file.
        tell: Called with the step, the bytes so far and the bytes in all (0 and 0 where they do not count).

    Returns:
        The digest, as `sha256:…`.

    Raises:
        OllamaError: As of `open_file`, or any of the backend's; a file that changed meanwhile is refused
            by Ollama, whose digest is then another one.
    """
    tell(f"checking {file.name}", 0, 0)
    with await _in_thread(lambda: open_file(file)) as handle:
        hashing = hashlib.sha256()

        def hash_piece() -> bool:
            piece = handle.read(_HASHED_AT_ONCE)
            hashing.update(piece)
            return bool(piece)

        handle.seek(0)
        while await _in_thread(hash_piece):
            pass
        digest = f"sha256:{hashing.hexdigest()}"
        try:
            await client.call(BLOB_EXISTS, digest=digest)
        except OllamaError as error:
            if error.upstream_status != 404:
                raise
            size = os.fstat(handle.fileno()).st_size
            chunks = _chunks(handle, size, partial(tell, f"sending {file.name}"))
        else:
            return digest
        await client.call(BLOB_UPLOAD, Upload(chunks, size), digest=digest)
    return digest


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


@dataclass(frozen=True)
class CreateSpec:
    """A checked request for a new model.

        spec = build_create(model="pirate", source="qwen3:8b", system="You are a pirate.")
        done = await app.transfers.create(spec, job)

    Attributes:
        request: The request to Ollama; `from_` is the source, unless the model is made from files.
        files: Files of this machine to make it from; they are sent first.
        notes: Notes on options that were ignored.
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
    """Check the arguments for a new model and make its request.

    Args:
        model: The new name.
        source: The installed model to make it from, or:
        files: GGUF files of this machine to make it from.
        roots: Folders that such files may be in; none is allowed outside of them.
        system: The system prompt.
        template: The prompt template, in Go's template language.
        parameters: Options by name, as of a chat.
        messages: The beginning of every conversation: {"role", "content"} each.
        quantize: The quantization, such as Q4_K_M, for a source in F16 or F32.
        license: The text of the licence.
        limits: The operator's.

    Raises:
        InvalidArgument: Ollama would refuse an argument, or take it and fail later.
        Forbidden: There are files, and no folder is allowed.
        TooLarge: An argument is over a limit.
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
    # Ollama gets files by their names, without their folders.
    if len({file.name for file in model_files}) < len(model_files):
        raise InvalidArgument("two files have the same name", "Name each file once, and rename one of those.")
    options, notes = parse_options(parameters or {})
    beginning = [_message(place, raw) for place, raw in enumerate(messages)]
    check_messages(limits, beginning)
    new_name, from_ = check_name(model), None if files else check_name(source)
    quantize = quantize.strip()
    if quantize and not _QUANTIZATION.match(quantize):
        raise InvalidArgument(f"quantize {quantize[:40]!r} is no quantization", 'Send one such as "Q4_K_M".')
    request = CreateRequest(
        model=new_name,
        from_=from_,
        system=system or None,
        template=template or None,
        parameters=options if options.model_fields_set else None,
        messages=beginning or None,
        quantize=quantize or None,
        license=license or None,
    )
    return CreateSpec(request, model_files, tuple(notes))


def _message(place: int, raw: Any) -> Message:
    """Read one message; fields that a model cannot be made with (images, tools) are refused, not dropped."""
    given: dict[str, Any] = dict(cast("Mapping[str, Any]", raw)) if isinstance(raw, Mapping) else {}
    if given.get("role") in _ROLES and not given.keys() - _FIELDS:
        with suppress(ValidationError):
            return Message.model_validate(given)
    raise InvalidArgument(
        f"messages[{place}] is not a message that a model can begin with",
        'Send {"role": "system", "user" or "assistant", "content": "…"} for each.',
    )
