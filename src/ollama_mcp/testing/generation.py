"""/api/chat and /api/generate: the checks, the default answer, and the records of an answer.

Without a script the answer is `You said: ` and the last thing the user said, a word a record; with
`format` it is JSON that fits. A model that can think thinks `Let me think.` first. num_predict and
stop cut this default answer; a scripted one comes exactly as it is written.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ollama_mcp.testing import go
from ollama_mcp.testing.answers import JSON, NDJSON, Answer, Element, Refusal, Stream
from ollama_mcp.testing.limits import (
    Fit,
    check_format,
    check_images,
    check_options,
    fit,
    installed,
    require,
    wants_thinking,
    window_of,
    words,
)
from ollama_mcp.testing.models import Model, is_valid, remote
from ollama_mcp.testing.sample import sample
from ollama_mcp.testing.scripts import Script
from ollama_mcp.testing.world import Call, World, loading

Wrap: TypeAlias = "Callable[[dict[str, Any]], dict[str, Any]]"
"""Makes of {content, thinking, tool_calls} the fields that an endpoint's record has."""

_TOKEN_NS = 7_000_000  # what a token takes in the recordings
_LOAD_NS = 534_365_492  # the cold start in the recordings
_WARM_NS = 900_000


@dataclass(frozen=True)
class Reply:
    """What the model is going to say: pieces of thinking and of text, calls, and why it ends."""

    thinking: Sequence[str]
    tokens: Sequence[str]
    tool_calls: Sequence[Mapping[str, Any]]
    done_reason: str

    @property
    def count(self) -> int:
        """Tokens: each piece is one, whatever it holds."""
        return len(self.thinking) + len(self.tokens) + len(self.tool_calls)


@dataclass(frozen=True)
class Run:
    """One generation, all checks passed."""

    world: World
    call: Call
    model: Model
    alive: float
    fitted: Fit
    reply: Reply
    wrap: Wrap
    context: bool = False
    """Whether the last record has the tokens so far as `context`: generate, unless it is raw."""


def chat(world: World, call: Call) -> Answer:
    """POST /api/chat."""
    alive = go.keep_alive(call.body.get("keep_alive"))
    if not call.name:
        raise Refusal(400, "model is required")
    if not is_valid(call.name):
        raise Refusal(400, "invalid model name")
    model = _speaker(world, call, "chat", empty=not call.body.get("messages"))
    messages = [go.as_object(message) for message in go.as_list(call.body.get("messages"))]
    if not messages:
        return _load_only(world, call, model, alive, _as_message)
    _check_messages(messages)
    options = check_options(model, call.options)
    check_format(call.body.get("format"))
    thinks = wants_thinking(call, model)
    check_images(world, model, [image for message in messages for image in message.get("images") or ()])
    fitted = _fit_messages(world, call, window_of(world, model, options), messages)
    reply = _reply(call, options, _last_said(messages), thinks=thinks)
    return _stream(Run(world, call, model, alive, fitted, reply, _as_message))


def generate(world: World, call: Call) -> Answer:
    """POST /api/generate."""
    alive = go.keep_alive(call.body.get("keep_alive"))
    model = _speaker(world, call, "generate", empty=not call.text("prompt"))
    raw = bool(call.body.get("raw"))
    if raw and any(call.body.get(field) for field in ("template", "system", "context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    if not call.text("prompt") and not call.text("suffix"):
        return _load_only(world, call, model, alive, _as_response)
    options = check_options(model, call.options)
    check_format(call.body.get("format"))
    thinks = wants_thinking(call, model)
    check_images(world, model, call.body.get("images") or ())
    prompt = words(call.text("system")) + words(call.text("prompt")) + words(call.text("suffix"))
    fitted = fit(world, call, window_of(world, model, options), [prompt])
    reply = _reply(call, options, call.text("prompt"), thinks=thinks)
    return _stream(Run(world, call, model, alive, fitted, reply, _as_response, context=not raw))


def _speaker(world: World, call: Call, endpoint: str, *, empty: bool = False) -> Model:
    model = installed(world, call.name)
    # Loading an embedding model by an empty generate is refused too, unloading it is not.
    unloads = empty and go.keep_alive(call.body.get("keep_alive")) == 0
    if not model.can("completion") and not unloads:
        raise Refusal(400, f'"{call.name}" does not support {endpoint}')
    if call.body.get("tools"):
        require(call, model, "tools")
    if call.text("suffix"):
        require(call, model, "insert")
    return model


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    calls = [called for message in messages for called in go.as_list(message.get("tool_calls"))]
    for called in calls:
        if isinstance(go.as_object(go.as_object(called).get("function")).get("arguments"), str):
            raise Refusal(400, "Value looks like object, but can't find closing '}' symbol")


def _fit_messages(world: World, call: Call, window: int, messages: Sequence[Mapping[str, Any]]) -> Fit:
    counts = [(message.get("role"), words(message.get("content") or "")) for message in messages]
    kept = sum(count for role, count in counts if role == "system")
    return fit(world, call, window, [count for role, count in counts if role != "system"], kept)


def _last_said(messages: Sequence[Mapping[str, Any]]) -> str:
    said = [message.get("content") or "" for message in messages if message.get("role") != "system"]
    return said[-1] if said else ""


def _load_only(world: World, call: Call, model: Model, alive: float, wrap: Wrap) -> Answer:
    def records() -> Iterator[Element]:
        if alive:
            yield from loading(world, call, model, window_of(world, model, call.options))
        model.keep(alive)
        yield _stamp(call, model) | wrap({"content": ""}) | {"done": True, "done_reason": why}

    why = "load" if alive else "unload"
    # One object, whatever `stream` says: the real server has nothing to stream here.
    return Stream(records(), lambda lines: dict(lines[-1]), {"Content-Type": JSON})


def _reply(call: Call, options: Mapping[str, Any], said: str, *, thinks: bool) -> Reply:
    script = call.script
    if script.tokens is None and not script.thinking and not script.tool_calls:
        return _default_reply(call, options, said, script, thinks=thinks)
    return Reply(script.thinking or (), script.tokens or (), script.tool_calls, script.done_reason or "stop")


def _default_reply(
    call: Call, options: Mapping[str, Any], said: str, script: Script, *, thinks: bool
) -> Reply:
    wanted = call.body.get("format")
    answer = go.dump(sample(wanted)).decode() if wanted else f"You said: {said}"
    thinking = ["Let", " me", " think."] if thinks else []
    tokens = _stopped(re.findall(r"\s*\S+|\s+$", answer), _stops(options))
    limit = go.as_int(options.get("num_predict"), -1)
    if 0 <= limit < len(thinking) + len(tokens):
        rest = tokens[: max(limit - len(thinking), 0)]
        return Reply(thinking[:limit], rest, (), script.done_reason or "length")
    return Reply(thinking, tokens, (), script.done_reason or "stop")


def _stops(options: Mapping[str, Any]) -> list[str]:
    return [stop for stop in go.as_list(options.get("stop")) if stop and isinstance(stop, str)]


def _stopped(tokens: list[str], stops: Sequence[str]) -> list[str]:
    text = "".join(tokens)
    places = [text.find(stop) for stop in stops if stop in text]
    end = min(places, default=len(text))
    starts = itertools.accumulate((len(token) for token in tokens), initial=0)
    return [token[: end - start] for token, start in zip(tokens, starts, strict=False) if start < end]


def _stream(run: Run) -> Answer:
    fold = None if run.call.streams else _folder(run.wrap)
    return Stream(_records(run), fold, {"Content-Type": JSON if fold else NDJSON})


def _records(run: Run) -> Iterator[Element]:
    cold = yield from loading(run.world, run.call, run.model, run.fitted.window)
    for piece in _pieces(run.reply):
        told = _logprobs(run.call, piece["content"])
        yield _stamp(run.call, run.model) | run.wrap(piece) | {"done": False} | told
    run.model.keep(run.alive)
    last = _stamp(run.call, run.model) | run.wrap({"content": ""}) | _statistics(run, cold=cold)
    laid_over = last | dict(run.call.script.final)
    yield {name: value for name, value in laid_over.items() if value is not None}


def _pieces(reply: Reply) -> Iterator[dict[str, Any]]:
    for text in reply.thinking:
        yield {"content": "", "thinking": text}
    for text in reply.tokens:
        yield {"content": text}
    for index, called in enumerate(reply.tool_calls):
        yield {"content": "", "tool_calls": [_tool_call(index, called)]}


def _tool_call(index: int, called: Mapping[str, Any]) -> dict[str, Any]:
    function = {"index": index, "name": called.get("name"), "arguments": called.get("arguments", {})}
    return {"id": called.get("id") or f"call_fake{index:04d}", "function": function}


def _logprobs(call: Call, token: str) -> dict[str, Any]:
    if not call.body.get("logprobs") or not token:
        return {}
    own: dict[str, Any] = {"token": token, "logprob": -0.1, "bytes": list(token.encode())}
    top = {"top_logprobs": [own]} if call.body.get("top_logprobs") else {}
    return {"logprobs": [own | top]}


def _stamp(call: Call, model: Model) -> dict[str, Any]:
    return {"model": call.name, **remote(model), "created_at": go.timestamp()}


def _as_message(piece: dict[str, Any]) -> dict[str, Any]:
    return {"message": {"role": "assistant", **piece}}


def _as_response(piece: dict[str, Any]) -> dict[str, Any]:
    return {"response" if name == "content" else name: value for name, value in piece.items()}


def _statistics(run: Run, *, cold: bool) -> dict[str, Any]:
    seen, count = run.fitted.seen, run.reply.count
    load = _LOAD_NS if cold else _WARM_NS
    told: dict[str, Any] = {"done": True, "done_reason": run.reply.done_reason}
    if run.context:
        told["context"] = list(range(1, seen + count + 1))
    return told | {
        "total_duration": load + (seen + count) * _TOKEN_NS,
        "load_duration": load,
        # Go leaves a zero out.
        "prompt_eval_count": seen or None,
        "prompt_eval_duration": seen * _TOKEN_NS or None,
        "eval_count": count or None,
        "eval_duration": count * _TOKEN_NS or None,
    }


def _folder(wrap: Wrap) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
    def fold(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        pieces = [go.as_object(record.get("message", record)) for record in records]
        text = {"content": _joined(pieces, "content") or _joined(pieces, "response")}
        thinking = {"thinking": _joined(pieces, "thinking")}
        calls = {"tool_calls": [called for piece in pieces for called in piece.get("tool_calls", ())]}
        said = {name: value for name, value in (thinking | calls).items() if value}
        last = records[-1] if records else {}
        return dict(last) | wrap(text | said)

    return fold


def _joined(pieces: Sequence[Mapping[str, Any]], field: str) -> str:
    return "".join(piece.get(field) or "" for piece in pieces)
