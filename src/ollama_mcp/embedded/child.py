"""Starting the engine as a child process, and ending it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.to_thread

from ollama_mcp.embedded import EmbeddedUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    from ollama_mcp.embedded.weights import Weights

logger: logging.Logger = logging.getLogger(__name__)

# Seconds: the child listens after 0.6 s; a busy machine is ten times slower, an antivirus more.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0


class EmbeddedEngine:
    """The engine as a child process, for as long as a block runs.

    Both ``async with EmbeddedEngine(weights) as engine`` and plain ``with`` work. The child listens
    on loopback only and ends with its parent, even if that is killed. Models load with the first
    request, as in Ollama.

    Attributes:
        weights: The models, from ``locate`` or ``fetch``.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        port: int = 0,
        threads: int | None = None,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            weights: The models.
            port: 0 takes a free one.
            threads: Default: half the cores.
            start_timeout: Seconds until the child must listen.
        """
        self.weights = weights
        self._port = port
        self._threads = threads
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Return where it listens, ``http://127.0.0.1:N``; empty before it does."""
        return self._url

    @property
    def pid(self) -> int:
        """Return the child's process id, 0 when there is none."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Return whether the child lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return what the child wrote to stderr: a line for each cancelled generation, and faults."""
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def start(self) -> Self:
        """Start the child and wait until it listens (0.6 s). Blocks.

        Raises:
            EmbeddedUnavailable: It ended, said an error, or did not listen in time.
        """
        with ExitStack() as undo:
            undo.callback(self.close)
            self._url = self._listening_child()
            undo.pop_all()
        return self

    def close(self) -> None:
        """End the child: by closing its stdin, after five seconds by force. Blocks (0.5 s)."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        self._url = ""

    def _listening_child(self) -> str:
        self._log = tempfile.TemporaryFile(prefix="ollama-mcp-embedded-")  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        answer = self._first_line(self._process)
        if "port" not in answer:
            raise self._failure(answer)
        return f"http://127.0.0.1:{answer['port']}"

    def _command(self) -> list[str]:
        # -P: the folder that the caller happens to be in is not searched for modules.
        command = [sys.executable, "-P", "-m", "ollama_mcp.embedded", "--port", str(self._port)]
        command += ["--model", str(self.weights.chat)]
        if self.weights.embedding:
            command += ["--embedding-model", str(self.weights.embedding)]
        return command + (["--threads", str(self._threads)] if self._threads else [])

    def _first_line(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        lines: list[bytes] = []
        out = cast("IO[bytes]", process.stdout)
        reader = threading.Thread(target=lambda: lines.append(out.readline()))
        reader.start()
        reader.join(self._start_timeout)
        if reader.is_alive():
            process.kill()
            reader.join()
            return {"error": f"it did not start within {self._start_timeout:g} s"}
        return json.loads(lines[0]) if lines[0].startswith(b"{") else {}

    def _failure(self, answer: dict[str, Any]) -> EmbeddedUnavailable:
        cause = answer.get("error") or self._last_words() or "it ended without a word"
        return EmbeddedUnavailable(
            f"The embedded engine did not start: {cause}.",
            "If the port is taken, name another (--port 0 takes a free one). If the extra is missing: "
            "pip install 'ollama-mcp[embedded]'. If a model is damaged: ollama-mcp embedded fetch. "
            "Or install Ollama instead: https://ollama.com/download",
        )

    def _last_words(self) -> str:
        return self.log().strip().rpartition("\n")[2]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            await anyio.to_thread.run_sync(self.start)
            undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        logger.warning("the embedded engine did not end by itself and was killed")
        process.kill()
        process.wait()
