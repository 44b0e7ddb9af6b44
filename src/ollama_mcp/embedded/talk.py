"""``/api/chat`` and ``/api/generate``: checks in Ollama's order, then load, unload or an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from ollama_mcp.embedded.errors import Refused
from ollama_mcp.embedded.gowords import rfc3339
from ollama_mcp.embedded.options import check_options, integer
from ollama_mcp.embedded.prompts import Writer, wrapped_error
from ollama_mcp.embedded.streaming import completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ollama_mcp.embedded.answering import Outlet
    from ollama_mcp.embedded.host import Host, Lease
    from ollama_mcp.embedded.requests import Ask

Json = dict[str, Any]

_MILLISECOND = 1_000_000


def check_talk(ask: Ask, host: Host) -> None:
    """Refuse what the model cannot do.

    Raises:
        Refused: 400 in Ollama's words.
    """
    model = host.model
    if ask.fields.get("raw") and any(ask.fields.get(name) for name in ("system", "template", "context")):
        raise Refused(400, "raw mode does not support template, system, or context")
    if model.embedding:
        verb = "chat" if ask.kind == "ChatRequest" else "generate"
        raise Refused(400, f'"{ask.model}" does not support {verb}')
    for field, ability in (("tools", "tools"), ("suffix", "insert")):
        if ask.fields.get(field):
            raise Refused(400, f"{model.key.full} does not support {ability}")
    if ask.thinks:
        raise Refused(400, f'"{ask.model}" does not support thinking')
    if ask.text("template"):
        raise Refused(400, "the embedded engine does not support template")
    if not 0 <= (ask.fields.get("top_logprobs") or 0) <= 20:
        raise Refused(400, "top_logprobs must be between 0 and 20")


def is_empty(ask: Ask) -> bool:
    """Return whether the request says nothing: it only loads or unloads the model."""
    return not (ask.messages or ask.text("prompt"))


@dataclass(frozen=True)
class Talk:
    """One request for text, and how its answer is shaped."""

    ask: Ask
    host: Host
    begin_ns: int

    async def run(self, outlet: Outlet) -> None:
        """Answer the request.

        Raises:
            Refused: Anything that Ollama refuses too.
        """
        if is_empty(self.ask) and self.ask.keep_alive == 0:
            self.host.unload()
            await outlet.whole(self.piece("", done=True, done_reason="unload"))
            return
        check_talk(self.ask, self.host)
        options = check_options(self.ask.options)
        async with self.host.use(integer(options, "num_ctx"), self.ask.keep_alive) as lease:
            last = self.piece("", done=True, done_reason="load")
            if not is_empty(self.ask):
                last = await self._answer(lease, options, outlet)
        # Only now: who reads the end may rely on the slot being free, and on keep_alive 0 being done.
        await outlet.end(last)

    def piece(self, text: str, **more: Any) -> Json:
        """Return a chunk, shaped for chat or for generate."""
        chat = self.ask.kind == "ChatRequest"
        said = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
        return {"model": self.ask.model, "created_at": rfc3339(time.time_ns()), **said, "done": False, **more}

    async def _answer(self, lease: Lease, options: Json, outlet: Outlet) -> Json:
        writer = Writer(self.host.model, lease.llama)
        body = await anyio.to_thread.run_sync(writer.completion, self.ask, options)
        said = _Said(lease, body)
        async with completion(lease.llama, body) as chunks:
            if self.ask.stream:
                return await self._stream(said, chunks, outlet)
            return await self._whole(said, chunks)

    async def _stream(self, said: _Said, chunks: AsyncIterator[Json], outlet: Outlet) -> Json:
        async for text, more in said.listen(chunks):
            await outlet.line(self.piece(text, **more))
        await outlet.open()
        return self.piece("", **await self._ending(said))

    async def _whole(self, said: _Said, chunks: AsyncIterator[Json]) -> Json:
        texts: list[str] = []
        logprobs: list[Json] = []
        async for text, more in said.listen(chunks):
            texts.append(text)
            logprobs += more.get("logprobs", [])
        ending = await self._ending(said)
        return self.piece("".join(texts), **ending, **({"logprobs": logprobs} if logprobs else {}))

    async def _ending(self, said: _Said) -> Json:
        context = {} if self._has_no_context() else {"context": await anyio.to_thread.run_sync(said.context)}
        return {
            "done": True,
            "done_reason": said.reason,
            **context,
            "total_duration": time.perf_counter_ns() - self.begin_ns,
            **said.figures(),
        }

    def _has_no_context(self) -> bool:
        return self.ask.kind == "ChatRequest" or bool(self.ask.fields.get("raw"))


class _Said:
    """What the model said so far, and llama.cpp's figures at the end."""

    def __init__(self, lease: Lease, body: Json) -> None:
        self._lease = lease
        self._body = body
        self._text = ""
        self._last: Json = {}

    async def listen(self, chunks: AsyncIterator[Json]) -> AsyncIterator[tuple[str, Json]]:
        """Yield each piece of text and its log probabilities.

        Raises:
            Refused: An error of llama.cpp, with its own JSON in the text, as Ollama passes it on.
        """
        async for chunk in chunks:
            if "error" in chunk:
                raise Refused(chunk["error"].get("code", 500), wrapped_error(chunk["error"]))
            if "prompt_progress" in chunk:
                continue
            choice = chunk["choices"][0]
            if choice["finish_reason"]:
                self._last = chunk
            else:
                self._text += choice["text"]
                yield choice["text"], _logprobs(choice)
        if not self._last:
            raise Refused(
                500, "an error was encountered while running the model: it stopped without a reason"
            )

    @property
    def reason(self) -> str:
        """Return ``stop`` or ``length``."""
        return self._last["choices"][0]["finish_reason"]

    def context(self) -> list[int]:
        """Return the tokens of prompt and answer, for a next request to go on from."""
        prompt, llama = self._body["prompt"], self._lease.llama
        return (llama.tokens(prompt) if isinstance(prompt, str) else prompt) + llama.tokens(self._text)

    def figures(self) -> Json:
        """Return counts of tokens, and durations in nanoseconds."""
        usage, timings = self._last["usage"], self._last["timings"]
        return {
            "load_duration": self._lease.load_ns,
            "prompt_eval_count": usage["prompt_tokens"],
            "prompt_eval_duration": int(timings["prompt_ms"] * _MILLISECOND),
            "eval_count": usage["completion_tokens"],
            "eval_duration": int(timings["predicted_ms"] * _MILLISECOND),
        }


def _logprobs(choice: Json) -> Json:
    found = choice.get("logprobs")
    return {"logprobs": [_logprob(item) for item in found["content"]]} if found else {}


def _logprob(item: Json) -> Json:
    shown = {name: item[name] for name in ("token", "logprob", "bytes")}
    top = item.get("top_logprobs")
    return shown | {"top_logprobs": [_logprob(other) for other in top]} if top else shown
