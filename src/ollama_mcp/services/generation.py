"""One generation, from a ChatSpec to an Answer: the model, the stream, the window that grows, the schema."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ollama_mcp.errors import ContextOverflow, OllamaError
from ollama_mcp.jobs.answers import Answer, Stats
from ollama_mcp.jobs.job import JobState, Part
from ollama_mcp.ollama.api_models import ChatRequest, Chunk, Message, ToolCall
from ollama_mcp.ollama.options import Options
from ollama_mcp.services.answer_check import Ending, cut_json, does_not_fit, is_closed, no_answer
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Choice
from ollama_mcp.services.clamp import clamp_limits, lowered
from ollama_mcp.services.context_window import (
    Need,
    cut_window,
)
from ollama_mcp.services.context_window_growth import Attempt, WindowGrowth
from ollama_mcp.services.model_output import ThinkSplitter, json_inside, printed_calls, without_thinking
from ollama_mcp.services.schema import repair_request
from ollama_mcp.services.schema_check import SchemaValidator
from ollama_mcp.services.specs import ChatSpec, GenerationRequest, prompt_bytes, with_defaults

_NS = 1e9
_BLANK = " \t\r\n\f\v\u00a0\u200b\u2060\ufeff"
"""Characters of which nobody sees anything."""


@dataclass
class _Draft:
    """What one stream has brought so far; it is the answer unless the schema or an error says no."""

    splitter: ThinkSplitter | None
    texts: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    logprobs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    chunks: int = 0
    last: Chunk = field(default_factory=Chunk)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thinking(self) -> str:
        return "".join(self.thoughts)

    def take(self, chunk: Chunk) -> str:
        """Add a line; returns the new text of the answer."""
        self.chunks += 1
        self.last = chunk
        self.calls.extend(chunk.calls)
        self.logprobs.extend(chunk.logprobs or ())
        text, leaked = self.splitter.feed(chunk.text) if self.splitter else (chunk.text, "")
        self._add(text, chunk.thoughts + leaked)
        return text + self.end() if chunk.is_last else text

    def end(self) -> str:
        """Nothing more will come: add what was held back; returns the text of it."""
        text, leaked = self.splitter.rest() if self.splitter else ("", "")
        self._add(text, leaked)
        return text

    def _add(self, text: str, thoughts: str) -> None:
        if text:
            self.texts.append(text)
        if thoughts:
            self.thoughts.append(thoughts)


@dataclass
class _Run:
    """One ChatSpec on its way: the request as it stands, and what happened to it."""

    spec: ChatSpec
    choice: Choice
    request: GenerationRequest
    job: Part
    window: int | None = None
    """The loaded window, where it had to be asked for before the end."""
    grown: bool = False
    repaired: bool = False
    ending: Ending | None = None
    """How the last draft ended; None for one that has calls of tools."""

    @property
    def model(self) -> str:
        return self.choice.model.name

    @property
    def asked_window(self) -> int | None:
        """The window that Ollama was asked to load, which is never larger than the model's own."""
        own, asked = self.choice.model.max_context, _num_ctx(self.request)
        return min(asked, own) if asked and own else asked

    @property
    def window_given(self) -> bool:
        """Whether the caller chose the window; an operator's default may grow."""
        return self.spec.request.options is not None and self.spec.request.options.num_ctx is not None

    @property
    def may_stop_thinking(self) -> bool:
        """Whether the caller could still ask for an answer without thinking."""
        return "thinking" in self.choice.model.capabilities and self.request.think is not False

    @property
    def fills_gap(self) -> bool:
        """Whether blanks alone can be a right answer: of a gap in a text, or behind a raw prompt."""
        return self.spec.is_raw or bool(getattr(self.request, "suffix", None))

    def grow(self, window: int) -> None:
        """Ask for a larger window from now on."""
        self.grown = True
        self.request = _with_window(self.request, window)


class Generator:
    """Runs Asks. Holds no state of its own but the windows that models have grown to."""

    def __init__(self, backend: OllamaBackend, schema_validator: SchemaValidator) -> None:
        self._client = backend.client
        self._schema_validator = schema_validator
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._growth = WindowGrowth(backend)
        self._model_queue = backend.model_queue
        self._settings = backend.settings

    async def run(self, spec: ChatSpec, job: Part) -> Answer:
        """Answer a ChatSpec; `job` shows how far it is.

        Raises:
            OllamaError: Any of the tree; what was written by then is in `partial_text`.
        """
        await self.check(spec)
        return await self.answer(spec, job)

    async def answer(self, spec: ChatSpec, job: Part) -> Answer:
        """As `run`, of a ChatSpec that was checked."""
        job.notes.extend(spec.notes)
        run = await self._begin(spec, job)
        async with self._model_queue.admit(run.model, job.caller, job.queue):
            job.enter()
            async with self._catalog.explaining(run.model):
                draft = await self._finished(run, await self._draft(run))
            return await self._answer(run, draft)

    async def check(self, spec: ChatSpec) -> None:
        """Refuse a ChatSpec whose schema is none (`InvalidArgument`): once, of one that is answered often."""
        if spec.schema:
            await self._schema_validator.check(spec.schema)

    async def _begin(self, spec: ChatSpec, job: Part) -> _Run:
        settings = self._settings
        choice = await self._catalog.resolve(spec.request.model, spec.needs, default=settings.chat_model)
        model = choice.model
        asked, notes = lowered(spec.request, clamp_limits(settings, model.name, model.max_context))
        job.notes.extend(notes)
        request = with_defaults(
            asked,
            model.name,
            settings.defaults_for(model.name),
            can_think=model.may_think(spec.request.think),
            window=self._windows.of(model.name),
        )
        if not model.is_described:
            job.notes.append("the server has no /api/show: what the model can do was not checked")
        job.model = model.name
        job.total = _limit(request)
        job.look = partial(job.find_out, self._catalog.is_loaded)
        return _Run(spec, choice, request, job)

    # --- streaming, with a window that grows once -----------------------------------------------

    async def _draft(self, run: _Run) -> _Draft:
        attempt = Attempt(
            send=partial(self._stream, run),
            need=partial(self._need, run),
            grow=run.grow,
            window=_num_ctx(run.request),
            is_final=run.grown,
            is_given=run.window_given,
            is_cut=bool(run.request.truncate),
        )
        return await self._growth.run(run.choice.model, run.job, attempt)

    async def _need(self, run: _Run, error: ContextOverflow) -> Need:
        window = error.details.get("window") or run.asked_window
        return Need(
            tokens=error.details.get("tokens"),
            size=prompt_bytes(run.request),
            answer=_limit(run.request),
            window=window or await self._catalog.window(run.model),
        )

    async def _stream(self, run: _Run) -> _Draft:
        draft = _Draft(_splitter(run))
        run.job.restart()
        certain = run.spec.schema is None
        try:
            async with self._client.stream(run.spec.endpoint, run.request) as chunks:
                async for chunk in chunks:
                    self._check_place(run, chunk)
                    text = draft.take(chunk)
                    _tell(run.job, chunk, text, certain=certain)
                    if draft.chunks == 1 and _unloads(run.request):
                        run.window = await self._catalog.window(run.model)  # nobody knows it afterwards
        except OllamaError as error:
            draft.end()
            error.partial_text = draft.text
            raise
        return draft

    def _check_place(self, run: _Run, chunk: Chunk) -> None:
        """A model that looked local and answers from the cloud."""
        if chunk.remote_host and not run.choice.model.is_cloud:
            self._catalog.allow_cloud(run.model)

    # --- is it an answer ------------------------------------------------------------------------

    async def _finished(self, run: _Run, draft: _Draft) -> _Draft:
        """The draft, or that of one more turn: there is an answer, and it is what was asked for.

        Raises:
            Truncated: It was cut off before there was an answer, or in the middle of its JSON.
            BadUpstream: Nothing was generated.
            Upstream: It does not fit the schema.
        """
        schema, run.ending = run.spec.schema, None
        _read_tolerantly(run, draft)
        if draft.calls:
            return draft
        ending = run.ending = await self._ending(run, draft)
        if not draft.text.strip(_BLANK) and not (run.fills_gap and draft.text):
            raise no_answer(ending)
        if schema is None:
            return draft
        found = await self._schema_validator.violations(draft.text, schema)
        if found and not run.spec.is_raw and await self._takes_json_inside(run, draft, is_cut=ending.is_cut):
            found = []
        if found and not ending.is_cut and not run.spec.is_raw and not run.repaired:
            run.request = _asked_again(run.request, draft, repair_request(found, schema))
            run.repaired = True
            return await self._finished(run, await self._repaired(run, draft))
        if ending.is_cut and (found or not is_closed(draft.text)):
            raise cut_json(ending)
        if found:
            raise does_not_fit(ending, found, schema, repaired=run.repaired)
        run.job.settle(draft.text)
        return draft

    async def _takes_json_inside(self, run: _Run, draft: _Draft, *, is_cut: bool) -> bool:
        """Whether there is one JSON in the text that is what was asked for, which then is the answer."""
        schema = run.spec.schema or {}
        inside = json_inside(draft.text, in_fences_only=is_cut, at_first=not schema)
        fitting = [inner for inner in inside if not await self._schema_validator.violations(inner, schema)]
        if len(fitting) != 1:
            return False
        draft.texts = fitting
        run.job.notes.append("the JSON stood among other text, which was left out")
        return True

    async def _repaired(self, run: _Run, draft: _Draft) -> _Draft:
        try:
            return await self._draft(run)
        except OllamaError as error:
            error.partial_text = error.partial_text or draft.text
            raise

    async def _ending(self, run: _Run, draft: _Draft) -> Ending:
        last, limit = draft.last, _limit(run.request)
        has_run_out = limit is not None and last.eval_count >= limit  # of a server that gives no reason
        is_cut = last.done_reason == "length" or (not last.done_reason and has_run_out)
        return Ending(
            text=draft.text,
            thinking=draft.thinking,
            reason="length" if is_cut else last.done_reason,
            prompt_tokens=last.prompt_eval_count,
            tokens=last.eval_count,
            limit=limit,
            window=await self._window(run) if is_cut else None,
            may_stop_thinking=run.may_stop_thinking,
        )

    async def _window(self, run: _Run) -> int | None:
        return run.asked_window or run.window or await self._catalog.window(run.model)

    # --- the answer and its numbers -------------------------------------------------------------

    async def _answer(self, run: _Run, draft: _Draft) -> Answer:
        window = await self._window(run)
        truncated = await self._truncated(run, draft, window)
        if truncated:
            run.job.notes.append(
                f"Ollama cut the prompt to {truncated['seen']} tokens: the answer saw only a part of it"
            )
        if _unloads(run.request):
            self._windows.forget(run.model)
        stats = _stats(run, draft, window, truncated)
        is_prose = run.spec.schema is None and run.ending is not None  # nothing is put behind JSON
        return Answer(
            draft.text,
            stats=stats,
            thinking=draft.thinking,
            tool_calls=draft.calls,
            logprobs=draft.logprobs,
            notes=run.job.notes,
            cut=run.ending.cut_line if is_prose and run.ending else "",
            prompt_cut=_prompt_cut(truncated) if is_prose and truncated else "",
        )

    async def _truncated(self, run: _Run, draft: _Draft, window: int | None) -> dict[str, int] | None:
        seen = draft.last.prompt_eval_count
        keep = run.request.options.num_keep if run.request.options else None
        if not window or not cut_window(seen, window, keep, version=None):
            return None
        version = None if run.request.truncate else await self._version()
        return {"seen": seen, "window": window} if cut_window(seen, window, keep, version=version) else None

    async def _version(self) -> tuple[int, ...]:
        try:
            return await self._catalog.version()
        except OllamaError:
            return ()  # a note is not worth the answer


def _prompt_cut(truncated: dict[str, int]) -> str:
    return f"[the prompt was cut: the model saw only {truncated['seen']} tokens of it]"


def _asked(run: _Run) -> str:
    return run.request.to_json().decode(errors="replace")


def _read_tolerantly(run: _Run, draft: _Draft) -> None:
    """Take thinking out of the text, and calls of tools that the model printed.

    Raises:
        Upstream: It printed one that cannot be read.
    """
    if run.fills_gap:
        return
    model = run.choice.model
    thinks = model.opens_thinking or "thinking" in model.capabilities
    text, thinking = without_thinking(draft.text, thinks=thinks, asked=partial(_asked, run))
    if thinking or text != draft.text:
        draft.texts, draft.thoughts = [text], [*draft.thoughts, thinking]
    if draft.calls:
        return
    try:
        text, draft.calls = printed_calls(draft.text, getattr(run.request, "tools", None) or [])
    except OllamaError as error:
        error.partial_text = draft.text
        raise
    if draft.calls:
        draft.texts = [text]
        run.job.notes.append("the model printed its call of a tool as text, which was read as one")


def _splitter(run: _Run) -> ThinkSplitter | None:
    if run.spec.is_raw:
        return None
    return ThinkSplitter(may_be_inside=run.choice.model.opens_thinking and run.request.think is False)


def _tell(job: Part, chunk: Chunk, text: str, *, certain: bool) -> None:
    thinks = bool(chunk.thoughts)
    if chunk.text or thinks or chunk.calls:
        job.advance(JobState.THINKING if thinks else JobState.WRITING)
        job.write(text, chunk.text or chunk.thoughts)
    if certain:
        job.settle(text)


def _limit(request: GenerationRequest) -> int | None:
    """The most tokens of an answer, where that was said."""
    limit = request.options.num_predict if request.options else None
    return limit if limit is not None and limit > 0 else None


def _num_ctx(request: GenerationRequest) -> int | None:
    return request.options.num_ctx if request.options else None


def _unloads(request: GenerationRequest) -> bool:
    """Whether the model will be gone when the answer is complete."""
    return request.keep_alive in (0, "0s", "0m", "0h")


def _with_window(request: GenerationRequest, window: int) -> GenerationRequest:
    options = (request.options or Options()).model_copy(update={"num_ctx": window})
    return request.model_copy(update={"options": options})


def _asked_again(request: GenerationRequest, draft: _Draft, complaint: str) -> GenerationRequest:
    if isinstance(request, ChatRequest):
        turns = [Message(role="assistant", content=draft.text), Message(role="user", content=complaint)]
        return request.model_copy(update={"messages": [*request.messages, *turns]})
    prompt = f"{request.prompt}\n\nYour answer was:\n{draft.text}\n\n{complaint}"
    return request.model_copy(update={"prompt": prompt})


def _stats(run: _Run, draft: _Draft, window: int | None, truncated: dict[str, int] | None) -> Stats:
    last, job, now = draft.last, run.job, time.monotonic()
    prompt, output = last.prompt_eval_count or None, last.eval_count or None
    return Stats(
        model=run.model,
        chosen=run.choice.why,
        done_reason=last.done_reason or "stop",
        prompt_tokens=prompt,
        output_tokens=output,
        tokens_per_s=_rounded(output / (last.eval_duration / _NS)) if output and last.eval_duration else None,
        load_s=_rounded(last.load_duration / _NS) if last.load_duration else None,
        first_token_s=_rounded(job.first_at - job.started_at) if job.first_at else None,
        total_s=_rounded(now - job.started_at),
        context_used=(prompt or 0) + (output or 0) or None,
        context_window=window,
        context_grown=run.grown,
        truncated=truncated,
        chunks=draft.chunks,
        thinking_chars=len(draft.thinking),
        repaired=run.repaired,
        cloud=run.choice.model.is_cloud or bool(last.remote_host),
    )


def _rounded(number: float) -> float:
    return round(number, 3)
