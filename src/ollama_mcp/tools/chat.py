"""Toolset chat: words from a model."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import WithJsonSchema

from ollama_mcp.app import App
from ollama_mcp.jobs.answers import Answer
from ollama_mcp.ollama.api_models import Message
from ollama_mcp.ollama.options import Options as OllamaOptions
from ollama_mcp.services.compare import Compared, Comparison
from ollama_mcp.services.specs import build_chat, build_generate
from ollama_mcp.tools.attachments import with_files
from ollama_mcp.tools.caller import caller_id
from ollama_mcp.tools.calls import cancel_result, run_job, wait_for_job
from ollama_mcp.tools.client_profiles import PageSize
from ollama_mcp.tools.results import (
    STATS,
    answer_result,
    fits,
    page_of,
    render,
    text_of,
    text_page,
    text_result,
)
from ollama_mcp.tools.toolset import ConversationName, Files, Toolset, WaitS, describe


@render.register
def comparison(found: Comparison) -> CallToolResult:
    """Every answer under its model's name, with the numbers side by side at the end."""
    stats = {row.model: row.answer.stats.as_data() for row in found.rows if row.answer is not None}
    result = text_result(compared_text(found), {STATS: stats})
    result.is_error = not stats  # nobody answered
    return result


def compared_text(found: Comparison) -> str:
    """Return all answers as one text; that a model failed is its first line."""
    failed = [row.model for row in found.rows if row.answer is None]
    parts = [f"FAILED: no answer from {', '.join(failed)}."] if failed else []
    parts += [f"## {row.model}\n\n{_answer_of(row)}" for row in found.rows]
    numbers = "\n".join(["## numbers", "", *map(_numbers, found.rows)])
    return "\n\n".join([*parts, numbers])


@fits.register
def _comparison_fits(found: Comparison, page: PageSize) -> bool:
    return page.holds(compared_text(found))


page_of.register(Comparison, text_page)


def _answer_of(row: Compared) -> str:
    return str(row.failure) if row.answer is None else text_of(row.answer)


def _numbers(row: Compared) -> str:
    if row.answer is None:
        return f"{row.model}: failed"
    stats = row.answer.stats
    told = [
        f"{stats.output_tokens} tok" if stats.output_tokens else "",
        f"{stats.tokens_per_s:.0f} tok/s" if stats.tokens_per_s else "",
        f"{stats.total_s:.1f} s" if stats.total_s is not None else "",
        stats.done_reason,
    ]
    return f"{row.model}: {' · '.join(filter(None, told))}"


chat: Toolset = Toolset("chat")

Objects = list[dict[str, Any]]
Model = Annotated[
    str, describe('Name (no tag: latest). "" (default): configured, loaded or newest that fits.')
]
System = Annotated[str, describe('System prompt. Default "".')]
# Unions are for Python callers; the published schemas say what language models write.
Options = Annotated[
    dict[str, Any] | OllamaOptions,
    WithJsonSchema({"type": "object"}),
    describe("temperature, seed, num_predict, num_ctx, stop … Default {}."),
]
Format = Annotated[str, describe('"json": any JSON. Default "".')]
Schema = Annotated[
    dict[str, Any], describe("JSON Schema that the answer must fit; needs no format. Default {}.")
]
Think = Annotated[
    str | bool,
    WithJsonSchema({"type": "string"}),
    describe('true, false, low, medium, high, max. "" (default): its own way.'),
]
KeepAlive = Annotated[
    str | float,
    WithJsonSchema({"type": "string"}),
    describe('How long it stays loaded: 10m, 1h, 0. "" (default): as before, or 5m.'),
]
Logprobs = Annotated[int, describe("1 to 20: log probabilities of tokens and so many others. Default 0.")]
Truncate = Annotated[
    bool, describe("true: what is too long loses its oldest part. false (default): refused.")
]

_IN_A_MESSAGE = 'Send it in a message: messages=[{"role": "user", "content": "…", "images": ["<base64>"]}].'
_AS_OPENAI_HAS_IT = {
    "response_format": 'Send it as format="json", or send the JSON Schema as "schema".',
    "reasoning_effort": 'Send it as "think".',
    "reasoning": 'Send it as "think".',
    "instructions": 'Send it as "system".',
    "functions": 'Send them as "tools".',
}
"""Arguments that callers know from another API, and whose loss would be another answer."""
_NOT_IN_CHAT = _AS_OPENAI_HAS_IT | {
    "images": _IN_A_MESSAGE,
    "image": _IN_A_MESSAGE,
    "message": 'Send it as "prompt".',
    "content": 'Send it as "prompt".',
    "system_prompt": 'Send it as "system".',
    "systemPrompt": 'Send it as "system".',
    "suffix": "Use ollama_generate, which takes it.",
    "raw": "Use ollama_generate, which takes it.",
    "template": "Use ollama_generate, which takes it.",
}
_NOT_IN_GENERATE = _AS_OPENAI_HAS_IT | {
    "functions": "Use ollama_chat, which takes them as tools.",
    "system_prompt": 'Send it as "system".',
    "systemPrompt": 'Send it as "system".',
    "messages": "Use ollama_chat, which takes it.",
    "tools": "Use ollama_chat, which takes it.",
}

_NO_OBJECTS: Objects = []
_NO_MESSAGES: list[dict[str, Any] | Message] = []
_NO_TEXTS: list[str] = []
_NOTHING: dict[str, Any] = {}


@chat.tool(
    "Chat with a local model",
    answer_result,
    misplaced_arguments=_NOT_IN_CHAT,
    example={"prompt": "Name three colours."},
)
async def ollama_chat(
    app: App,
    prompt: Annotated[str, describe('User message, after messages. Default "".')] = "",
    model: Model = "",
    messages: Annotated[
        list[dict[str, Any] | Message],
        WithJsonSchema({"type": "array", "items": {"type": "object"}}),
        describe(
            "Turns so far: role (system, user, assistant, tool), content, images (base64), tool_calls, "
            "tool_name. Default []."
        ),
    ] = _NO_MESSAGES,
    system: System = "",
    options: Options = _NOTHING,
    format: Format = "",  # noqa: A002 - Ollama's name
    schema: Schema = _NOTHING,
    tools: Annotated[
        Objects,
        describe(
            "Functions it may call, {type: function, function: {name, description, parameters}}; calls come "
            "as JSON. Default []."
        ),
    ] = _NO_OBJECTS,
    think: Think = "",
    logprobs: Logprobs = 0,
    keep_alive: KeepAlive = "",
    truncate: Truncate = False,
    files: Files = _NO_TEXTS,
    conversation: ConversationName = "",
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Answer:
    """Ask a local model in Ollama; prompt, messages (also for pictures) or both.

    From Python: `app` is `App.create()`. With `ctx`, the `Context` of a tool of yours, the model's progress
    is that of your tool; progress must not go down, and ours counts tokens from 1, so report none of your
    own before. Without a `wait_s` (seconds) the call lasts as long as the answer; cancelling it stops the
    model.

    Returns:
        The text: a str that has `stats`, `thinking`, `tool_calls`, `logprobs` and `notes`, too.

    Raises:
        OllamaError: There is no answer; `partial_text` has what was written. Any of the tree in
            `ollama_mcp.errors`, such as `InvalidArgument`, before the model is asked.
        StillRunning: `wait_s` has passed. The model goes on, `reply.handle` is for `ollama_continue`.
    """
    spec = build_chat(
        model=model, prompt=prompt, messages=messages, system=system, options=options, format=format,
        schema=schema, tools=tools, think=think, logprobs=logprobs, keep_alive=keep_alive, truncate=truncate,
        limits=app.settings.limits,
    )  # fmt: skip
    spec = await with_files(app, spec, files)
    if conversation:
        return await run_job(app, partial(app.conversations.chat, spec, conversation), ctx, wait_s)
    return await run_job(app, partial(app.generator.run, spec), ctx, wait_s)


@chat.tool(
    "Complete a text with a local model",
    answer_result,
    misplaced_arguments=_NOT_IN_GENERATE,
    example={"prompt": "def add(a, b):", "suffix": "return c"},
)
async def ollama_generate(
    app: App,
    prompt: Annotated[str, describe("Text to complete or to answer.")],
    model: Model = "",
    system: System = "",
    suffix: Annotated[str, describe('Text behind the gap that the answer fills. Default "".')] = "",
    images: Annotated[list[str], describe("Images in base64. Default [].")] = _NO_TEXTS,
    options: Options = _NOTHING,
    format: Format = "",  # noqa: A002 - Ollama's name
    schema: Schema = _NOTHING,
    think: Think = "",
    logprobs: Logprobs = 0,
    raw: Annotated[bool, describe("true: no template around the prompt. Default false.")] = False,
    template: Annotated[str, describe('Template instead of the model\'s own. Default "".')] = "",
    keep_alive: KeepAlive = "",
    truncate: Truncate = False,
    files: Files = _NO_TEXTS,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Answer:
    """Complete one text with a local model in Ollama, or fill the gap between prompt and suffix.

    From Python: `app`, `ctx` and `wait_s` are as for `ollama_chat`.

    Returns:
        The text: a str that has `stats`, `thinking`, `logprobs` and `notes`, too.

    Raises:
        OllamaError: As for `ollama_chat`.
        StillRunning: As for `ollama_chat`.
    """
    spec = build_generate(
        prompt=prompt, model=model, system=system, suffix=suffix, images=images, options=options,
        format=format, schema=schema, think=think, logprobs=logprobs, raw=raw, template=template,
        keep_alive=keep_alive, truncate=truncate, limits=app.settings.limits,
    )  # fmt: skip
    spec = await with_files(app, spec, files)
    return await run_job(app, partial(app.generator.run, spec), ctx, wait_s)


@chat.tool(
    "Compare local models",
    comparison,
    example={"prompt": "Name three colours.", "models": ["llama3.2:3b", "qwen3:8b"]},
)
async def ollama_compare(
    app: App,
    prompt: Annotated[str, describe("What each model is asked.")],
    models: Annotated[list[str], describe("Installed models, at most 8.")],
    system: System = "",
    options: Options = _NOTHING,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Comparison:
    """Ask several local models the same, and see answers and speeds side by side."""
    spec = build_chat(prompt=prompt, system=system, options=options, limits=app.settings.limits)
    return await run_job(app, partial(app.comparer.run, spec, models), ctx, wait_s)


Handle = Annotated[str, describe("What STILL RUNNING, a page or an error gave.")]


@chat.tool(
    "Wait for an answer", render, bypasses_queue=True, example={"handle": "0123456789abcdef0123456789abcdef"}
)
async def ollama_continue(
    app: App,
    handle: Handle,
    wait_s: WaitS = 0.0,
    partial: Annotated[bool, describe("true: what is written so far, at once. Default false.")] = False,
    page: Annotated[int, describe("Which page of a long answer. Default 1.")] = 1,
    ctx: Context[Any, Any] | None = None,
) -> Any:
    """Get the answer of a call that was STILL RUNNING, as often as needed, or a page of a long one.

    From Python: `app` and `ctx` are as for `ollama_chat`; `page` is for results of MCP only.

    Returns:
        What the call would have returned; with `partial` an `Unfinished`, whose `text` is there so far.

    Raises:
        OllamaError: As the call would have failed; `UnknownHandle` where nothing of that name is kept.
        StillRunning: `wait_s` has passed once more.
    """
    job = app.jobs.find(handle, caller_id())
    found = job.so_far() if partial else await wait_for_job(app, job, ctx, wait_s)
    if isinstance(found, Answer):
        found.handle = job.handle
    return found


@chat.tool(
    "Stop an answer",
    cancel_result,
    bypasses_queue=True,
    example={"handle": "0123456789abcdef0123456789abcdef"},
)
async def ollama_cancel(app: App, handle: Handle, ctx: Context[Any, Any] | None = None) -> Any:
    """Stop an answer that is still running; what was written is kept for a while.

    From Python: `app` is as for `ollama_chat`; `ctx` has no effect.

    Returns:
        What there is of it: an `Unfinished`, or the whole where it had ended before.

    Raises:
        UnknownHandle: Nothing of that name is kept.
    """
    job = app.jobs.find(handle, caller_id())
    await job.stop()
    return job.so_far()
