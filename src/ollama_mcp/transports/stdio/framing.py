"""Lines and JSON-RPC messages, both ways; nothing that comes in or goes out ends the loop.

In: bytes are split into lines, of which none is held beyond its limit. A line that is no message raises
`Refused`, which carries the answer to send (the SDK drops such lines without a word). Lone surrogates are
replaced, because clients that cut text in the middle of an emoji send them, and so is a byte order mark,
because PowerShell writes one.

Out: `encode` always returns a line. What JSON cannot say is replaced, and what cannot be replaced
becomes an error with the same id.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Any, cast

import pydantic_core
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from pydantic import ValidationError

from ollama_mcp.ollama.sanitize import sanitize, sanitize_text
from ollama_mcp.transports.messages import TOO_MANY_PARTS, has_too_many_parts

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message in."""

EDGE = 512
"""Bytes kept of either end of a line that is too long: enough to find whom to answer."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """Rest of a line over the limit."""

    head: bytes
    tail: bytes
    limit: int
    """Bytes that it could have had."""


Line = bytes | TooLong


class LineSplitter:
    """Cuts a stream of bytes at every LF, wherever its chunks end."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._head: bytes | None = None  # of the line that is being skipped

    def feed(self, chunk: bytes) -> list[Line]:
        """Take a chunk and return the lines that it completes, without their LF."""
        *pieces, rest = chunk.split(b"\n")
        lines = [self._complete(piece) for piece in pieces]
        self._keep(rest)
        return lines

    def finish(self) -> list[Line]:
        """Return the last line, if the stream ended without a LF."""
        return [self._complete(b"")] if self._buffer else []

    def _complete(self, piece: bytes) -> Line:
        self._keep(piece)
        rest, self._buffer = bytes(self._buffer), bytearray()
        head, self._head = self._head, None
        return rest if head is None else TooLong(head, rest, self._limit)

    def _keep(self, piece: bytes) -> None:
        self._buffer += piece
        if self._head is None and len(self._buffer) > self._limit:
            self._head = bytes(self._buffer[:EDGE])
        if self._head is not None:
            del self._buffer[:-EDGE]


_logger = logging.getLogger(__name__)

# In a line that is too long or too deep to be parsed the id of a request is read where the SDKs of
# Python (first) and of TypeScript (last) write it. The patterns are anchored at the outermost brace, so
# they cannot match an argument's content; and a response has no method, whose id would be one of ours.
_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\]{0,200}")'
_FIRST = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*' + _ID + rb'\s*,\s*"method"')
_METHOD_FIRST = re.compile(rb'\s*\{\s*"method"')
_LAST = re.compile(rb",\s*" + _ID + rb"\s*\}\s*$")


class Refused(Exception):
    """The line is not a JSON-RPC message; raised by `decode`, seen by the reading end of the wire."""

    def __init__(self, code: int, message: str, request_id: RequestId | None = None) -> None:
        super().__init__(message)
        self.answer = _error(request_id, code, message)


def decode(line: Line) -> JSONRPCMessage:
    """Read one message.

    Raises:
        Refused: The line is too long or too deep, has too many parts, is not JSON, or not a message.
    """
    if isinstance(line, TooLong):
        most = f"a message may have at most {line.limit} bytes, which is OLLAMA_MCP_MAX_LINE"
        raise Refused(INVALID_REQUEST, most, _id_at_an_edge(line))
    if has_too_many_parts(line):
        raise Refused(INVALID_REQUEST, TOO_MANY_PARTS, _id_at_an_edge(line))
    value = _parse(line)
    if not isinstance(value, dict):
        raise Refused(INVALID_REQUEST, "a message is one JSON object; batches are not part of MCP")
    return _message(cast("dict[str, Any]", value))


def _parse(line: bytes) -> Any:
    try:
        return pydantic_core.from_json(line)
    except ValueError:
        return _parse_slowly(line)


def _parse_slowly(line: bytes) -> Any:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except RecursionError:
        raise Refused(INVALID_REQUEST, "the message is nested too deeply", _id_at_an_edge(line)) from None
    except ValueError as error:
        raise Refused(PARSE_ERROR, f"not JSON: {error}") from None
    try:
        return sanitize(value)
    except RecursionError:
        raise Refused(INVALID_REQUEST, "the message is nested too deeply", _id_of(value)) from None


def _message(value: dict[str, Any]) -> JSONRPCMessage:
    try:
        return _kind(value).model_validate(value, by_name=False)
    except ValidationError:
        raise Refused(INVALID_REQUEST, "not a JSON-RPC 2.0 message", _id_of(value)) from None


def _kind(
    value: dict[str, Any],
) -> type[JSONRPCRequest | JSONRPCNotification | JSONRPCResponse | JSONRPCError]:
    # By the keys present, not by what fits: the SDK's union reads a request with a bad id as a
    # notification, which nobody answers.
    if "method" in value:
        return JSONRPCRequest if "id" in value else JSONRPCNotification
    return JSONRPCError if "error" in value else JSONRPCResponse


def _id_of(value: Any) -> RequestId | None:
    if not isinstance(value, dict):
        return None
    message = cast("dict[str, Any]", value)
    # The id of a bad response is one of ours; echoed, it would seem to answer a request of the client's.
    if "method" not in message and ("result" in message or "error" in message):
        return None
    request_id = message.get("id")
    if isinstance(request_id, str):
        return sanitize_text(request_id)
    return request_id if type(request_id) is int else None


def _id_at_an_edge(line: Line) -> RequestId | None:
    head, tail = (line.head, line.tail) if isinstance(line, TooLong) else (line[:EDGE], line[-EDGE:])
    match = _FIRST.match(head) or (_METHOD_FIRST.match(head) and _LAST.search(tail))
    if match is None:
        return None
    try:
        return cast("RequestId", json.loads(match[1]))
    except ValueError:  # bytes that are not UTF-8, or a control character
        return None


def encode(message: JSONRPCMessage) -> bytes:
    """Write one message as a line, whatever it holds."""
    try:
        return _dump(message)
    except ValueError:
        # Ours never gets here; another transport would end by it.
        _logger.warning("a message was not clean, and had to be mended before it was written")
        return _encode_slowly(message)


def _dump(message: JSONRPCMessage) -> bytes:
    # NaN and infinity become null here by pydantic's own rule; a lone surrogate raises.
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


def _encode_slowly(message: JSONRPCMessage) -> bytes:
    try:
        value = sanitize(message.model_dump(by_alias=True, exclude_unset=True))
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (ValueError, TypeError, RecursionError) as error:
        return _encode_instead(message, error)


def _encode_instead(message: JSONRPCMessage, error: Exception) -> bytes:
    _logger.error("a message could not be written as JSON: %s", error)
    if isinstance(message, JSONRPCResponse | JSONRPCError):
        return _dump(_error(message.id, INTERNAL_ERROR, "the answer could not be written as JSON"))
    return b""  # nobody waits for it


def _error(request_id: RequestId | None, code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))
