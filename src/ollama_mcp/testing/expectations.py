"""What a client must make of an answer, as far as the answer itself says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ollama_mcp.testing import go

_LAST = {"done_reason": "done_reason", "prompt_tokens": "prompt_eval_count", "output_tokens": "eval_count"}


def expectations(path: str, status: int, body: bytes, *, client_left: bool) -> dict[str, Any]:
    """The `expects` of a recording. A failure expects nothing: which code of ours is right is not in it.

    Args:
        path: The request's path.
        status: The answer's HTTP status.
        body: The answer's body, without framing.
        client_left: Whether the client left before the end.
    """
    if client_left:
        return {"cancelled": True}
    if path == "/" and status == 200 and body:
        return {"text": body.decode(errors="replace")}
    lines = _objects(body)
    if status >= 300 or not lines or any("error" in line for line in lines):
        return {}
    read = _READERS.get(path)
    return read(lines) if read else {}


def _objects(body: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in body.split(b"\n"):
        if line.strip():
            try:
                found.append(go.as_object(json.loads(line)))
            except (ValueError, RecursionError):
                return []
    return found


def _chat(lines: list[dict[str, Any]]) -> dict[str, Any]:
    messages = [go.as_object(line.get("message")) for line in lines]
    calls = [go.as_object(call) for message in messages for call in go.as_list(message.get("tool_calls"))]
    expects = _words(lines, messages, "content")
    if calls:
        expects["tool_calls"] = [_function(go.as_object(call.get("function"))) for call in calls]
    return expects


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": function.get("name"), "arguments": function.get("arguments")}


def _generate(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return _words(lines, lines, "response")


def _words(lines: list[dict[str, Any]], carriers: list[dict[str, Any]], field: str) -> dict[str, Any]:
    last = lines[-1]
    if not last.get("done"):
        return {}  # broken off
    expects: dict[str, Any] = {"text": _joined(carriers, field)}
    if thinking := _joined(carriers, "thinking"):
        expects["thinking"] = thinking
    return expects | {name: last.get(key) for name, key in _LAST.items()}


def _joined(carriers: list[dict[str, Any]], field: str) -> str:
    return "".join(str(carrier.get(field) or "") for carrier in carriers)


def _vectors(lines: list[dict[str, Any]]) -> dict[str, Any]:
    vectors = go.as_list(lines[0].get("embeddings", [lines[0].get("embedding")]))
    expects: dict[str, Any] = {"count": len(vectors)}
    first = go.as_list(vectors[0]) if vectors else []
    if first:
        expects["dimensions"] = len(first)
    return expects


def _progress(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"status": lines[-1].get("status")}


_READERS = {
    "/api/chat": _chat,
    "/api/generate": _generate,
    "/api/embed": _vectors,
    "/api/embeddings": _vectors,
    "/api/pull": _progress,
    "/api/push": _progress,
    "/api/create": _progress,
}
