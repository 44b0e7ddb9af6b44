"""The tree of failures: every way in which a call can end without an answer.

    OllamaError
    ├── CallerError              the caller can mend it: the remedy names what to send next
    │   ├── InvalidArgument      INVALID_ARGUMENT
    │   │   └── UnknownOption    UNKNOWN_OPTION
    │   ├── TooLarge             TOO_LARGE
    │   ├── ModelNotFound        MODEL_NOT_FOUND
    │   ├── CapabilityMissing    CAPABILITY
    │   ├── ContextOverflow      CONTEXT_OVERFLOW
    │   ├── Forbidden            FORBIDDEN
    │   ├── NotConfirmed         NOT_CONFIRMED
    │   └── UnknownHandle        UNKNOWN_HANDLE
    ├── Cancelled                CANCELLED
    ├── LimitError               try again later
    │   ├── Busy                 BUSY
    │   └── RateLimited          RATE_LIMITED
    ├── BackendError             the Ollama server, or the way to it
    │   ├── Unreachable          UNREACHABLE
    │   ├── NotOllama            NOT_OLLAMA
    │   ├── Timeout              TIMEOUT
    │   ├── Upstream             UPSTREAM
    │   ├── BadUpstream          BAD_UPSTREAM
    │   ├── StreamBroken         STREAM_BROKEN
    │   └── Truncated            TRUNCATED
    └── ServerError              this program
        ├── StorageError         STORAGE
        ├── WrongSettings        WRONG_SETTINGS
        └── InternalError        INTERNAL

The client raises the backend's half, the rings above it the caller's half, and the tools turn any
of them into one MCP result. Somebody who uses only the client catches `OllamaError`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from contextvars import ContextVar
from typing import Any, ClassVar

TEXT_LIMIT = 400
"""The longest text of a failure, in characters: it stands in front of a model."""


ARGUMENTS: ContextVar[Collection[str] | None] = ContextVar("ARGUMENTS", default=None)
"""Names of the arguments of the tool that is called, so that no remedy names another; None outside of one."""


class OllamaError(Exception):
    """A failure that can be told: what happened, and what to do next.

    Args:
        ways: Instead of `remedy`, alternatives: for each the argument that it needs ("" for none), and
            what to do. Those that the called tool has no argument for are left out.

    Attributes:
        code: Stable name of the kind of failure, in capitals.
        cause: One sentence, without a final stop, that says what happened.
        remedy: One sentence that says what to do or to send next.
        retryable: Whether the same call can succeed later without a change.
        retry_after_s: Seconds to wait before that, where known.
        upstream_status: HTTP status of the Ollama server's answer, where there was one.
        partial_text: What the model had written before the failure.
        handle: Finds what the model had written, where that is kept; "" where it is not.
        is_last: Whether nothing can be asked for afterwards: what was written has to be told with it.
        details: Numbers and names behind the cause (token counts, models …), JSON-able.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: bool = False
    handle: str = ""
    is_last: bool = False

    def __init__(
        self,
        cause: str,
        remedy: str = "",
        *,
        ways: Iterable[tuple[str, str]] = (),
        retry_after_s: float | None = None,
        upstream_status: int | None = None,
        partial_text: str = "",
        **details: Any,
    ) -> None:
        remedy = remedy or _one_of(ways)
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        self.upstream_status = upstream_status
        self.partial_text = partial_text
        self.details = details

    def __str__(self) -> str:
        """`CODE: cause. Remedy.`, at most `TEXT_LIMIT` characters: the cause gives way first."""
        remedy = _shorten(self.remedy, TEXT_LIMIT * 3 // 4) or "Try again"
        frame = len(self.code) + len(": . .") + len(remedy)
        return f"{self.code}: {_shorten(self.cause, TEXT_LIMIT - frame) or 'failed'}. {remedy}."

    def as_data(self) -> dict[str, Any]:
        """Return the failure as data, with the id under which the log has the traceback."""
        return {
            **self.details,
            "code": self.code,
            "message": self.cause,
            "remedy": self.remedy,
            "retryable": self.retryable,
            "retry_after_s": self.retry_after_s,
            "upstream_status": self.upstream_status,
            "partial_text": self.partial_text[:TEXT_LIMIT],
            "handle": self.handle or None,
            "error_id": None,
        }


def _one_of(ways: Iterable[tuple[str, str]]) -> str:
    """A sentence of alternatives: those that the called tool has the arguments for.

    >>> _one_of([("", "send less"), ("options", "raise the limit"), ("", "wait")])
    'Send less, raise the limit, or wait.'
    """
    taken = ARGUMENTS.get()
    # Outside of a tool there is one model, and its name is called so.
    texts = [way for a, way in ways if _is_open(a, taken)]
    text = " or ".join(texts) if len(texts) < 3 else f"{', '.join(texts[:-1])}, or {texts[-1]}"
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _is_open(argument: str, taken: Collection[str] | None) -> bool:
    """Return whether a way is open without this argument; "!files" is one for tools without that."""
    if argument.startswith("!"):
        return taken is not None and argument[1:] not in taken
    return not argument or (argument in taken if taken is not None else argument != "models")


def _shorten(text: str, room: int) -> str:
    """Return one line without a final stop."""
    text = " ".join(text.split()).rstrip(". ")
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


class CallerError(OllamaError):
    """The caller can mend it; raised before the model runs wherever that is possible."""


class InvalidArgument(CallerError):
    """A wrong argument. Raised by the argument check, `api_models` and the client (HTTP 400)."""

    code = "INVALID_ARGUMENT"


class UnknownOption(InvalidArgument):
    """An option that Ollama does not know, and would ignore in silence. Raised by `options`."""

    code = "UNKNOWN_OPTION"


class TooLarge(CallerError):
    """An input is over one of our limits, which the text names."""

    code = "TOO_LARGE"


class ModelNotFound(CallerError):
    """The model is not installed; the catalog adds the installed names that look alike."""

    code = "MODEL_NOT_FOUND"


class CapabilityMissing(CallerError):
    """The model cannot do what was asked (`details["lacks"]`: vision, tools, thinking …)."""

    code = "CAPABILITY"


class ContextOverflow(CallerError):
    """The prompt does not fit the window: `details` has `tokens` and `window`, where known."""

    code = "CONTEXT_OVERFLOW"


class Forbidden(CallerError):
    """Not allowed here: a cloud model, a host that refuses us, a switch that is off."""

    code = "FORBIDDEN"


class NotConfirmed(CallerError):
    """A destructive call that nobody confirmed."""

    code = "NOT_CONFIRMED"


class UnknownHandle(CallerError):
    """No Job of this caller has that handle (the same words for unknown and foreign ones)."""

    code = "UNKNOWN_HANDLE"


class Cancelled(OllamaError):
    """The work was stopped at somebody's word; `partial_text` has what was written by then."""

    code = "CANCELLED"


class LimitError(OllamaError):
    """Too much at once; the same call can succeed later."""

    retryable = True


class Busy(LimitError):
    """The queue is full, here or in Ollama (HTTP 503)."""

    code = "BUSY"


class RateLimited(LimitError):
    """Too many calls in a time; `retry_after_s` says when the next one fits."""

    code = "RATE_LIMITED"


class BackendError(OllamaError):
    """The Ollama server, or the way to it, failed. Raised by the client only."""


class Unreachable(BackendError):
    """No connection to the server."""

    code = "UNREACHABLE"
    retryable = True


class NotOllama(BackendError):
    """Something answers at that address, but it does not speak Ollama's API."""

    code = "NOT_OLLAMA"


class Timeout(BackendError):
    """A clock ran out: `details["clock"]` is connect, first_byte, idle, transfer, unclaimed or shutdown."""

    code = "TIMEOUT"
    retryable = True


class Upstream(BackendError):
    """Ollama says that it failed: before the answer (HTTP 5xx) or in the middle of it.

    The next call gets a model that is loaded anew, and so can succeed.
    """

    code = "UPSTREAM"
    retryable = True


class BadUpstream(BackendError):
    """An answer that breaks the protocol: not an object, too long, not a number."""

    code = "BAD_UPSTREAM"


class StreamBroken(BackendError):
    """The connection was lost in the middle of the answer; `partial_text` has what came."""

    code = "STREAM_BROKEN"
    retryable = True


class Truncated(BackendError):
    """The answer ended orderly but without `done`: it is not complete."""

    code = "TRUNCATED"
    retryable = True


class ServerError(OllamaError):
    """A failure of this program."""


class StorageError(ServerError):
    """Something could not be read from or written to this machine's disk."""

    code = "STORAGE"


class WrongSettings(ServerError):
    """The server was started with settings that it cannot work with."""

    code = "WRONG_SETTINGS"


class InternalError(ServerError):
    """A defect of ours. The text has an id; the traceback stands under that id on stderr."""

    code = "INTERNAL"

    def __init__(self) -> None:
        self.error_id: str = secrets.token_hex(4)
        super().__init__(
            "this server failed in an unexpected way",
            f"Report error {self.error_id}, whose traceback is in the server's log.",
        )

    def as_data(self) -> dict[str, Any]:
        """Return the failure as data, with the id under which the log has the traceback."""
        return {**super().as_data(), "error_id": self.error_id}
