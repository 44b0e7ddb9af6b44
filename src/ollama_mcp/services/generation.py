"""Generation, from a ChatSpec to an Answer: the model, the stream, the window that grows, the schema."""

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
from ollama_mcp.services.answer_check import Completion, cut_json, does_not_fit, is_closed, no_answer
from ollama_mcp.services.backend import OllamaBackend
from ollama_mcp.services.catalog import Choice
from ollama_mcp.services.clamp import clamp, clamp_limits
from ollama_mcp.services.context_window import Attempt, PromptSize, WindowGrowth, was_prompt_cut
from ollama_mcp.services.model_output import ThinkSplitter, json_inside, printed_calls, without_thinking
from ollama_mcp.services.schema import SchemaValidator, repair_request
from ollama_mcp.services.specs import ChatSpec, GenerationRequest, prompt_bytes, with_defaults

_NS = 1e9
"""Nanoseconds, in which Ollama counts, in a second."""
_BLANK = " \t\r\n\f\v\u00a0\u200b\u2060\ufeff"
"""Characters that cannot be seen: a text of nothing else is no answer."""


@dataclass
class _Output:
    """The output of one stream so far; the answer, unless the schema or an error says no."""

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
        if text:
            self.texts.append(text)
        if thoughts := chunk.thoughts + leaked:
            self.thoughts.append(thoughts)
        return text + self.end() if chunk.is_last else text

    def end(self) -> str:
        """Add what the splitter held back, as nothing more will come; returns the text of it."""
        text, leaked = self.splitter.rest() if self.splitter else ("", "")
        if text:
            self.texts.append(text)
        if leaked:
            self.thoughts.append(leaked)
        return text


@dataclass
class _Run:
    """The run of a ChatSpec: its model, the request as it stands, and what happened to it."""

    spec: ChatSpec
    choice: Choice
    request: GenerationRequest
    job: Part
    window: int | None = None
    """The loaded window in tokens, where it had to be looked up before the end."""
    has_grown: bool = False
    is_repaired: bool = False
    completion: Completion | None = None
    """The end of the last output; None for one that has calls of tools."""

    @property
    def requested_window(self) -> int | None:
        """The window, in tokens, that Ollama loads for the request, at most the model's own."""
        own = self.choice.model.max_context
        requested = self.request.options.num_ctx if self.request.options else None
        return min(requested, own) if requested and own else requested

    @property
    def fills_gap(self) -> bool:
        """Whether blanks alone can be a right answer: in a gap of a text, or behind a raw prompt."""
        return self.spec.is_raw or bool(getattr(self.request, "suffix", None))

    def grow(self, window: int) -> None:
        """Ask for a larger window, in tokens, from now on."""
        self.has_grown = True
        options = (self.request.options or Options()).model_copy(update={"num_ctx": window})
        self.request = self.request.model_copy(update={"options": options})


class Generator:
    """Answers ChatSpecs with a model.

    spec = build_chat(prompt="Why is the sky blue?")
    job = app.jobs.start(partial(app.generator.run, spec))
    print(await job.result())
    """

    def __init__(self, backend: OllamaBackend, schema_validator: SchemaValidator) -> None:
        self._client = backend.client
        self._schema_validator = schema_validator
        self._catalog = backend.catalog
        self._windows = backend.windows
        self._growth = WindowGrowth(backend)
        self._model_queue = backend.model_queue
        self._settings = backend.settings

    async def run(self, spec: ChatSpec, job: Part) -> Answer:
        """Check a ChatSpec and answer it.

        Args:
            spec: The request.
            job: Shows the progress, and gets the notes.

        Raises:
            InvalidArgument: Its schema is no JSON Schema.
            OllamaError: Any of the tree; what was written by then is in `partial_text`.
        """
        await self.check(spec)
        return await self.answer(spec, job)

    async def check(self, spec: ChatSpec) -> None:
        """Refuse a ChatSpec whose schema is none (`InvalidArgument`): once, of one that is answered often."""
        if spec.schema:
            await self._schema_validator.check(spec.schema)

    async def answer(self, spec: ChatSpec, job: Part, *, bounded: bool = True) -> Answer:
        """Answer a ChatSpec that was checked; otherwise as `run`.

        Args:
            spec: The request.
            job: Shows the progress, and gets the notes.
            bounded: False for the next part of work that has begun: it never finds the queue full.
        """
        settings = self._settings
        job.notes.extend(spec.notes)
        choice = await self._catalog.resolve(spec.request.model, spec.needs, default=settings.chat_model)
        model = choice.model
        clamped, notes = clamp(spec.request, clamp_limits(settings, model.name, model.max_context))
        job.notes.extend(notes)
        request = with_defaults(
            clamped,
            model.name,
            settings.defaults_for(model.name),
            can_think=model.may_think(spec.request.think),
            window=self._windows.of(model.name),
        )
        if not model.is_described:
            job.notes.append("the server has no /api/show: what the model can do was not checked")
        job.model = model.name
        job.total = _max_tokens(request)
        job.look = partial(job.find_out, self._catalog.is_loaded)
        run = _Run(spec, choice, request, job)
        async with self._model_queue.admit(model.name, job.caller, job.queue, bounded=bounded):
            job.enter()
            async with self._catalog.explaining(model.name):
                output = await self._checked(run, await self._generate(run))
            return await self._answer(run, output)

    # --- streaming, with a window that grows once -----------------------------------------------

    async def _generate(self, run: _Run) -> _Output:
        async def measure(error: ContextOverflow) -> PromptSize:
            window = error.details.get("window") or run.requested_window
            return PromptSize(
                tokens=error.details.get("tokens"),
                size=prompt_bytes(run.request),
                answer=_max_tokens(run.request),
                window=window or await self._catalog.window(run.choice.model.name),
            )

        callers = run.spec.request.options
        attempt = Attempt(
            send=partial(self._stream, run),
            measure=measure,
            grow=run.grow,
            window=run.request.options.num_ctx if run.request.options else None,
            has_grown=run.has_grown,
            is_given=callers is not None and callers.num_ctx is not None,  # an operator's default may grow
            may_be_cut=bool(run.request.truncate),
        )
        return await self._growth.run(run.choice.model, run.job, attempt)

    async def _stream(self, run: _Run) -> _Output:
        model, job = run.choice.model, run.job
        splitter = None
        if not run.spec.is_raw:
            splitter = ThinkSplitter(may_be_inside=model.opens_thinking and run.request.think is False)
        output = _Output(splitter)
        job.restart()
        try:
            async with self._client.stream(run.spec.endpoint, run.request) as chunks:
                async for chunk in chunks:
                    if chunk.remote_host and not model.is_cloud:  # it looked local, and is the cloud's
                        self._catalog.allow_cloud(model.name)
                    text = output.take(chunk)
                    thinks = bool(chunk.thoughts)
                    if chunk.text or thinks or chunk.calls:
                        job.advance(JobState.THINKING if thinks else JobState.WRITING)
                        job.write(text, chunk.text or chunk.thoughts)
                    if run.spec.schema is None:  # else it may yet be repaired
                        job.settle(text)
                    if output.chunks == 1 and _unloads(run.request):  # nobody knows it afterwards
                        run.window = await self._catalog.window(model.name)
        except OllamaError as error:
            output.end()
            error.partial_text = output.text
            raise
        return output

    # --- is it an answer ------------------------------------------------------------------------

    async def _checked(self, run: _Run, output: _Output) -> _Output:
        """Return the output, or that of one more turn, once it is an answer of the form that was asked for.

        Raises:
            Truncated: It was cut off before there was an answer, or in the middle of its JSON.
            BadUpstream: Nothing was generated.
            Upstream: It does not fit the schema.
        """
        schema, job = run.spec.schema, run.job
        while True:
            run.completion = None
            _extract_thinking_and_calls(run, output)
            if output.calls:
                return output
            completion = run.completion = await self._completion(run, output)
            if not output.text.strip(_BLANK) and not (run.fills_gap and output.text):
                raise no_answer(completion)
            if schema is None:
                return output
            violations = await self._schema_validator.violations(output.text, schema)
            if violations and not run.spec.is_raw:
                # One JSON in a fence or between words, which is what was asked for, is the answer. In a
                # text that was cut off, what stands between words may be a part of it.
                inside = json_inside(output.text, in_fences_only=completion.is_cut, at_first=not schema)
                fits = [not await self._schema_validator.violations(text, schema) for text in inside]
                if sum(fits) == 1:
                    output.texts, violations = [inside[fits.index(True)]], []
                    job.notes.append("the JSON stood among other text, which was left out")
            is_whole = not completion.is_cut or is_closed(output.text)
            if not violations and is_whole:
                job.settle(output.text)
                return output
            if completion.is_cut:
                raise cut_json(completion)
            if run.spec.is_raw or run.is_repaired:
                raise does_not_fit(completion, violations, schema, repaired=run.is_repaired)
            run.is_repaired = True
            run.request = _with_complaint(run.request, output.text, repair_request(violations, schema))
            try:
                output = await self._generate(run)
            except OllamaError as error:
                error.partial_text = error.partial_text or output.text
                raise

    async def _completion(self, run: _Run, output: _Output) -> Completion:
        last, limit = output.last, _max_tokens(run.request)
        # A server that gives no reason has stopped at the limit if it wrote that many tokens.
        has_run_out = limit is not None and last.eval_count >= limit
        is_cut = last.done_reason == "length" or (not last.done_reason and has_run_out)
        can_think = "thinking" in run.choice.model.capabilities
        return Completion(
            text=output.text,
            thinking=output.thinking,
            reason="length" if is_cut else last.done_reason,
            prompt_tokens=last.prompt_eval_count,
            tokens=last.eval_count,
            limit=limit,
            window=await self._window(run) if is_cut else None,
            may_stop_thinking=can_think and run.request.think is not False,
        )

    async def _window(self, run: _Run) -> int | None:
        return run.requested_window or run.window or await self._catalog.window(run.choice.model.name)

    # --- the answer and its numbers -------------------------------------------------------------

    async def _answer(self, run: _Run, output: _Output) -> Answer:
        model, job, last = run.choice.model, run.job, output.last
        window = await self._window(run)
        seen, keep = last.prompt_eval_count, run.request.options.num_keep if run.request.options else None
        truncated: dict[str, int] | None = None
        if window and was_prompt_cut(seen, window, keep, version=None):
            version: tuple[int, ...] | None = None
            if not run.request.truncate:
                try:
                    version = await self._catalog.version()
                except OllamaError:
                    version = ()  # a note is not worth the answer
            if was_prompt_cut(seen, window, keep, version=version):
                truncated = {"seen": seen, "window": window}
                job.notes.append(f"Ollama cut the prompt to {seen} tokens: the answer saw only a part of it")
        if _unloads(run.request):
            self._windows.forget(model.name)
        prompt, written = last.prompt_eval_count or None, last.eval_count or None
        speed = written / (last.eval_duration / _NS) if written and last.eval_duration else None
        stats = Stats(
            model=model.name,
            chosen=run.choice.why,
            done_reason=last.done_reason or "stop",
            prompt_tokens=prompt,
            output_tokens=written,
            tokens_per_s=round(speed, 3) if speed is not None else None,
            load_s=round(last.load_duration / _NS, 3) if last.load_duration else None,
            first_token_s=round(job.first_at - job.started_at, 3) if job.first_at else None,
            total_s=round(time.monotonic() - job.started_at, 3),
            context_used=(prompt or 0) + (written or 0) or None,
            context_window=window,
            context_grown=run.has_grown,
            truncated=truncated,
            chunks=output.chunks,
            thinking_chars=len(output.thinking),
            repaired=run.is_repaired,
            cloud=model.is_cloud or bool(last.remote_host),
        )
        cut = prompt_cut = ""
        if run.spec.schema is None and run.completion is not None:  # nothing is put behind JSON, or calls
            cut = run.completion.cut_line
            if truncated:
                prompt_cut = f"[the prompt was cut: the model saw only {seen} tokens of it]"
        return Answer(
            output.text,
            stats=stats,
            thinking=output.thinking,
            tool_calls=output.calls,
            logprobs=output.logprobs,
            notes=job.notes,
            cut=cut,
            prompt_cut=prompt_cut,
        )


def _extract_thinking_and_calls(run: _Run, output: _Output) -> None:
    """Take thinking, and calls of tools that the model printed, out of the text of an output.

    Raises:
        Upstream: It printed a call that cannot be read.
    """
    if run.fills_gap:
        return
    model = run.choice.model
    text, thinking = without_thinking(
        output.text,
        thinks=model.opens_thinking or "thinking" in model.capabilities,
        is_told=bool(output.thinking.strip()),
        asked=lambda: run.request.to_json().decode(errors="replace"),
    )
    if thinking or text != output.text:
        output.texts, output.thoughts = [text], [*output.thoughts, thinking]
    if output.calls:
        return
    try:
        text, output.calls = printed_calls(output.text, getattr(run.request, "tools", None) or [])
    except OllamaError as error:
        error.partial_text = output.text
        raise
    if output.calls:
        output.texts = [text]
        run.job.notes.append("the model printed its call of a tool as text, which was read as one")


def _max_tokens(request: GenerationRequest) -> int | None:
    """Return the most tokens of an answer, where the request limits them."""
    limit = request.options.num_predict if request.options else None
    return limit if limit is not None and limit > 0 else None


def _unloads(request: GenerationRequest) -> bool:
    """Return whether the model will be gone when the answer is complete."""
    return request.keep_alive in (0, "0s", "0m", "0h")


def _with_complaint(request: GenerationRequest, text: str, complaint: str) -> GenerationRequest:
    """Return the request with the answer to it, and a message that says what is wrong with that."""
    if isinstance(request, ChatRequest):
        turns = [Message(role="assistant", content=text), Message(role="user", content=complaint)]
        return request.model_copy(update={"messages": [*request.messages, *turns]})
    prompt = f"{request.prompt}\n\nYour answer was:\n{text}\n\n{complaint}"
    return request.model_copy(update={"prompt": prompt})
