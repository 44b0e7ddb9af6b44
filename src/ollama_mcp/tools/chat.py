"""Toolset chat: words from a model."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations

from ollama_mcp.app import App
from ollama_mcp.files.mapping import Mapped
from ollama_mcp.replies.answer import Answer, Unfinished, Vectors
from ollama_mcp.replies.asks import chat_ask, generate_ask
from ollama_mcp.tools.attaching import with_files
from ollama_mcp.tools.caller import principal
from ollama_mcp.tools.following import answered, watched
from ollama_mcp.tools.handles import outcome, stopped
from ollama_mcp.tools.results import words
from ollama_mcp.tools.toolset import Files, Toolset, WaitS, says

chat: Toolset = Toolset("chat")

Objects = list[dict[str, Any]]
Model = Annotated[str, says('Model name. "" (default): the configured, a loaded or the newest one.')]
System = Annotated[str, says('System prompt. Default "".')]
Options = Annotated[
    dict[str, Any],
    says("Ollama options: temperature, seed, num_predict, num_ctx, top_k, top_p, stop … Default {}."),
]
Format = Annotated[str, says('"json" for any JSON. Default "".')]
Schema = Annotated[dict[str, Any], says("JSON Schema that the answer must fit. Default {}.")]
Think = Annotated[str, says('true, false, low, medium, high or max. "" (default): as the model does.')]
KeepAlive = Annotated[str, says('How long the model stays loaded: 10m, 0, -1. Default "": 5m.')]
Truncate = Annotated[bool, says("true: cut a prompt that is too long. false (default): refuse it.")]

_IN_A_MESSAGE = 'Send it in a message: messages=[{"role": "user", "content": "…", "images": ["<base64>"]}].'
_NOT_IN_CHAT = {
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
_NOT_IN_GENERATE = {
    "system_prompt": 'Send it as "system".',
    "systemPrompt": 'Send it as "system".',
    "messages": "Use ollama_chat, which takes it.",
    "tools": "Use ollama_chat, which takes it.",
}

_NO_OBJECTS: Objects = []
_NO_TEXTS: list[str] = []
_NOTHING: dict[str, Any] = {}


@chat.tool("Chat with a local model", words, elsewhere=_NOT_IN_CHAT)
async def ollama_chat(
    app: App,
    prompt: Annotated[str, says('The user\'s message, after messages. Default "".')] = "",
    model: Model = "",
    messages: Annotated[
        Objects,
        says(
            "Turns so far: role (system, user, assistant, tool), content, images (base64), tool_calls, "
            "tool_name. Default []."
        ),
    ] = _NO_OBJECTS,
    system: System = "",
    options: Options = _NOTHING,
    format: Format = "",  # noqa: A002 - Ollama's name
    schema: Schema = _NOTHING,
    tools: Annotated[
        Objects, says("Functions the model may call; its calls come back as a JSON array. Default [].")
    ] = _NO_OBJECTS,
    think: Think = "",
    keep_alive: KeepAlive = "",
    truncate: Truncate = False,
    files: Files = _NO_TEXTS,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Answer:
    """Ask a model that runs on this machine, in Ollama. Send prompt, messages or both; the answer is text."""
    ask = chat_ask(
        model=model, prompt=prompt, messages=messages, system=system, options=options, format=format,
        schema=schema, tools=tools, think=think, keep_alive=keep_alive, truncate=truncate,
        limits=app.settings.limits,
    )  # fmt: skip
    ask = await with_files(app, ask, files, ctx)
    return await answered(app, partial(app.generator.run, ask), ctx, wait_s)


@chat.tool("Complete a text with a local model", words, elsewhere=_NOT_IN_GENERATE)
async def ollama_generate(
    app: App,
    prompt: Annotated[str, says("Text to complete or to answer.")],
    model: Model = "",
    system: System = "",
    suffix: Annotated[str, says('Text that follows the gap to fill. Default "".')] = "",
    images: Annotated[list[str], says("Images in base64. Default [].")] = _NO_TEXTS,
    options: Options = _NOTHING,
    format: Format = "",  # noqa: A002 - Ollama's name
    schema: Schema = _NOTHING,
    think: Think = "",
    raw: Annotated[bool, says("true: no template around the prompt. Default false.")] = False,
    template: Annotated[str, says('Template instead of the model\'s own. Default "".')] = "",
    keep_alive: KeepAlive = "",
    truncate: Truncate = False,
    files: Files = _NO_TEXTS,
    wait_s: WaitS = 0.0,
    ctx: Context[Any, Any] | None = None,
) -> Answer:
    """Complete one text with a model that runs on this machine, in Ollama, without a conversation."""
    ask = generate_ask(
        prompt=prompt, model=model, system=system, suffix=suffix, images=images, options=options,
        format=format, schema=schema, think=think, raw=raw, template=template, keep_alive=keep_alive,
        truncate=truncate, limits=app.settings.limits,
    )  # fmt: skip
    ask = await with_files(app, ask, files, ctx)
    return await answered(app, partial(app.generator.run, ask), ctx, wait_s)


Handle = Annotated[str, says("What STILL RUNNING, a page or an error gave.")]


@chat.tool("Wait for an answer", outcome)
async def ollama_continue(
    app: App,
    handle: Handle,
    wait_s: WaitS = 0.0,
    partial: Annotated[bool, says("true: what is written so far, at once. Default false.")] = False,
    page: Annotated[int, says("Which page of a long answer. Default 1.")] = 1,
    ctx: Context[Any, Any] | None = None,
) -> Answer | Vectors | Mapped | Unfinished:
    """Get the answer of a call that was STILL RUNNING, as often as needed, or a page of a long answer."""
    reply = app.replies.find(handle, principal())
    return reply.so_far() if partial else await watched(app, reply, ctx, wait_s)


@chat.tool(
    "Stop an answer",
    stopped,
    hints=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
)
async def ollama_cancel(
    app: App, handle: Handle, ctx: Context[Any, Any] | None = None
) -> Answer | Vectors | Mapped | Unfinished:
    """Stop an answer that is still running; what was written is kept for a while."""
    reply = app.replies.find(handle, principal())
    await reply.stop()
    return reply.so_far()
