"""The tools of the matrix, the request of each that fails, and the answer that it should have got."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ollama_mcp.ollama_server.http_messages import LAST_CHUNK, chunk, head_bytes

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json; charset=utf-8"}

MOMENTS = (
    "first-byte",  # nothing has been sent
    "head",  # in the middle of a header
    "body",  # the head is complete
    "first-line",
    "between",  # two lines are complete
    "line",
    "character",  # in a line, and in one of its characters
    "before-done",  # all lines but the last are complete
    "done-line",
    "after-done",  # all lines are complete, the end mark is missing
    "after-end",
)
IN_HEAD = {"first-byte": 0, "head": 25}
BOUNDARIES = {"body": 0, "between": 2, "before-done": -1, "after-done": None}
"""Moments between two lines of a stream, by the lines that are complete."""


@dataclass(frozen=True)
class Endpoint:
    """One request of a tool.

    Attributes:
        name: Its short name.
        tool: The tool.
        path: The path of the request that fails; those before it succeed.
        arguments: The tool's arguments, for a model of that name.
        lines: The body of the answer that it should have got: lines of a stream, or one object, or nothing.
        form: A stream of lines, one object, or a bare status.
        clocks: Which runs until the head is there, and which from there on.
        texts: What the model says in each line.
        once: Whether it is never sent again.
        named: Whether the request says which model it is about.
        prefix: What the model's name begins with.
    """

    name: str
    tool: str
    path: str
    arguments: Callable[[str], dict[str, Any]]
    lines: tuple[bytes, ...]
    form: Literal["stream", "object", "bare"] = "stream"
    timeouts: tuple[str, str] = ("first_byte", "idle")
    texts: tuple[str, ...] = ()
    once: bool = False
    named: bool = True
    prefix: str = ""

    @property
    def body(self) -> bytes:
        return b"".join(self.lines)

    @property
    def head(self) -> bytes:
        if self.form == "stream":
            return head_bytes(200, NDJSON, close=False, chunked=True)
        return head_bytes(200, JSON, close=False, length=len(self.body))

    @property
    def moments(self) -> tuple[str, ...]:
        """The moments that its answer has."""
        without = {"stream": set[str](), "object": {"between", "done-line", "after-done"}}
        if self.form == "bare":
            return ("first-byte", "head", "after-end")
        return tuple(moment for moment in MOMENTS if moment not in without[self.form])

    def sent(self, moment: str) -> int:
        """Bytes of the body that have been sent by then."""
        body, ends = self.body, self._ends()
        letter = next(at for at, byte in enumerate(body) if byte >= 0xC0)
        return {
            "body": 0,
            "first-line": ends[0] // 2 if self.form == "stream" else 1,
            "between": ends[min(1, len(ends) - 1)],
            "line": letter - 2,
            "character": letter + 1,
            "before-done": ends[-2] if len(ends) > 1 else len(body) - 1,
            "done-line": len(body) - 5,
            "after-done": len(body),
        }[moment]

    def _ends(self) -> list[int]:
        return [len(b"".join(self.lines[: n + 1])) for n in range(len(self.lines))]

    def until(self, moment: str) -> bytes:
        """The bytes of the answer, head and framing and all, that have been sent by then."""
        if moment in IN_HEAD:
            return self.head[: IN_HEAD[moment]]
        if moment == "after-end":
            return self.head + self.framed(self.lines) + self.end
        return self.head + self._framed_until(self.sent(moment))

    @property
    def end(self) -> bytes:
        return LAST_CHUNK if self.form == "stream" else b""

    def framed(self, lines: tuple[bytes, ...]) -> bytes:
        return b"".join(chunk(line) if self.form == "stream" else line for line in lines)

    def _framed_until(self, size: int) -> bytes:
        if self.form != "stream":
            return self.body[:size]
        sent = b""
        for line in self.lines:
            whole = chunk(line)
            if size < len(line):
                return sent + (whole[: whole.index(b"\n") + 1 + size] if size else b"")
            sent += whole
            size -= len(line)
        return sent

    def text_until(self, moment: str) -> str:
        """What the model has said by then in lines that are complete."""
        if moment in IN_HEAD:
            return ""
        size = len(self.body) if moment == "after-end" else self.sent(moment)
        return "".join(self.texts[: self.body[:size].count(b"\n")])


def _line(**record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


TEXTS = ("One ", "two ", "thrée ", "four.")
AT = {"model": "m", "created_at": "2026-11-25T10:00:00Z"}
_END = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4, "eval_duration": 4000}
_CHAT = (
    *(_line(**AT, message={"role": "assistant", "content": text}, done=False) for text in TEXTS),
    _line(**AT, message={"role": "assistant", "content": ""}, **_END),
)
_GENERATE = (
    *(_line(**AT, response=text, done=False) for text in TEXTS),
    _line(**AT, response="", **_END),
)
_LOAD = (
    *(_line(**AT, response="", done=False, why="é") for _ in range(3)),
    _line(**AT, response="", done=True, done_reason="load"),
)
_LAYER = {"digest": "sha256:" + "7" * 64, "total": 2000}
_TRANSFER = (
    _line(status="looking"),
    _line(status="layer 1", **_LAYER, completed=1000),
    _line(status="schicht für schicht", **_LAYER, completed=2000),
    _line(status="writing manifest"),
    _line(status="success"),
)
_EMBED = (_line(model="modèle", embeddings=[[0.6, 0.8], [0.8, 0.6]], total_duration=10, prompt_eval_count=4),)
_DETAILS = {"family": "llama", "parameter_size": "3B", "quantization_level": "Q4", "context_length": 4096}
_SHOW = (
    _line(
        template="{{ .Prompt }} é",
        details=_DETAILS,
        model_info={"llama.context_length": 4096},
        capabilities=["completion", "tools", "embedding"],
    ),
)
_TAGS = (
    _line(
        models=[
            {"name": "modèle", "model": "modèle", "size": 5, "digest": "1" * 64, "details": _DETAILS,
             "modified_at": "2026-11-25T10:00:00Z", "capabilities": ["completion"]}
        ]
    ),
)  # fmt: skip
_PS = (
    _line(models=[{"name": "modèle", "model": "modèle", "size": 5, "size_vram": 5, "context_length": 4096}]),
)
_VERSION = (_line(version="0.33.0-é"),)

_LOOKUP: tuple[str, str] = ("idle", "idle")
_SLOW: tuple[str, str] = ("first_byte", "transfer")


def _model(model: str) -> dict[str, Any]:
    return {"model": model}


def _prompt(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "hi"}


def _texts(model: str) -> dict[str, Any]:
    return {"model": model, "input": ["a", "b"]}


def _confirmed(model: str) -> dict[str, Any]:
    return {"model": model, "confirm": model}


def _nothing(model: str) -> dict[str, Any]:
    return {}


def _made(model: str) -> dict[str, Any]:
    return {"model": model, "from_model": "llama3.2:3b", "confirm": model}


def _copied(model: str) -> dict[str, Any]:
    return {"source": model, "destination": f"copy-{model}", "confirm": f"copy-{model}"}


ENDPOINTS = (
    Endpoint("chat", "ollama_chat", "/api/chat", _prompt, _CHAT, texts=TEXTS),
    Endpoint("generate", "ollama_generate", "/api/generate", _prompt, _GENERATE, texts=TEXTS),
    Endpoint("load", "ollama_load_model", "/api/generate", _model, _LOAD),
    Endpoint("pull", "ollama_pull_model", "/api/pull", _model, _TRANSFER, timeouts=_SLOW, once=True),
    Endpoint("push", "ollama_push_model", "/api/push", _confirmed, _TRANSFER, timeouts=_SLOW,
             once=True, prefix="me/"),
    Endpoint("create", "ollama_create_model", "/api/create", _made, _TRANSFER, timeouts=_SLOW,
             once=True),
    Endpoint("embed", "ollama_embeddings", "/api/embed", _texts, _EMBED, "object"),
    Endpoint("show", "ollama_show_model", "/api/show", _model, _SHOW, "object", _LOOKUP),
    Endpoint("chat-show", "ollama_chat", "/api/show", _prompt, _SHOW, "object", _LOOKUP),
    Endpoint("copy", "ollama_copy_model", "/api/copy", _copied, (), "bare", _LOOKUP, once=True),
    Endpoint("delete", "ollama_delete_model", "/api/delete", _confirmed, (), "bare", _LOOKUP, once=True),
    Endpoint("tags", "ollama_list_models", "/api/tags", _nothing, _TAGS, "object", _LOOKUP, named=False),
    Endpoint("ps", "ollama_list_models", "/api/ps", _nothing, _PS, "object", _LOOKUP, named=False),
    Endpoint("version", "ollama_status", "/api/version", _nothing, _VERSION, "object", _LOOKUP, once=True,
             named=False),
)  # fmt: skip
