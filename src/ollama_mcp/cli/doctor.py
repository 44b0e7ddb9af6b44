"""`ollama-mcp doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio

from ollama_mcp.app import App
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.rate_limit import format_rates
from ollama_mcp.ollama.endpoints import VERSION
from ollama_mcp.ollama.hosts import Host
from ollama_mcp.server import create_server
from ollama_mcp.services.catalog import Listed
from ollama_mcp.services.specs import build_chat
from ollama_mcp.settings import FIELDS, Field, Settings
from ollama_mcp.settings.declaration import written
from ollama_mcp.settings.limits import shown_size
from ollama_mcp.settings.listening import Authority
from ollama_mcp.settings.readers import read_size
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError
from ollama_mcp.tools.upstreams.source import Upstreams

_REACH_S = 10.0


@dataclass(frozen=True)
class Finding:
    """A line of the report; a problem has its remedy; with one that `stops`, the server does not start."""

    text: str
    remedy: str = ""
    is_problem: bool = False
    stops: bool = False


def doctor(settings: Settings) -> int:
    """Print the report; returns 0 only if the server starts and a chat works."""
    return asyncio.run(_report(settings))


async def _report(settings: Settings) -> int:
    app, works, starts = App.create(settings), False, True
    try:
        async for finding in examine(app):
            works = works or finding.text.startswith("chat")
            starts = starts and not finding.stops
            _print(finding)
    finally:
        await app.aclose()
    print("A chat works." if works else "A chat does not work yet: see the lines marked with !")
    if not starts:
        print("The server does not start: see the lines marked with !")
    return 0 if works and starts else 1


def _print(finding: Finding) -> None:
    print(f"{'!' if finding.is_problem else ' '} {finding.text}")
    if finding.remedy:
        print(f"    -> {finding.remedy}")
    sys.stdout.flush()


async def examine(app: App) -> AsyncIterator[Finding]:
    """Look at everything that a chat needs, in order; stops at what makes the rest pointless."""
    for line in (*_settings_in_force(app.settings), *_refusals(app)):
        yield line
    for line in await _upstreams(app):
        yield line
    try:
        with anyio.fail_after(_REACH_S):
            version = (await app.client.call(VERSION)).version
            rows = await app.catalog.listed()
    except (OllamaError, TimeoutError) as error:
        yield _problem(error)
        yield Finding("without Ollama: `ollama-mcp demo` shows everything on a small embedded engine")
        return
    yield Finding(f"Ollama {version or 'of an unknown version'} answers at {app.client.address}")
    for row in rows:
        yield _model(row)
    async for finding in _configured(app):
        yield finding
    async for finding in _chat(app):
        yield finding
    if not any("embedding" in row.model.capabilities for row in rows):
        yield Finding(
            "no embedding model is installed", "Install one with `ollama pull nomic-embed-text`.", True
        )


def _settings_in_force(settings: Settings) -> list[Finding]:
    lines = {entry.variable: _shown(entry, settings) for entry in FIELDS if entry.key}
    found = [Finding(f"{variable} = {value}") for variable, value in lines.items() if value]
    silent = len(lines) - len(found)
    return [
        *found,
        Finding(f"{silent} other settings are not set (docs/settings.md lists them)"),
        *[Finding(text, "Correct it, or take it out.", is_problem=True) for text in settings.warnings],
    ]


def _shown(entry: Field, settings: Settings) -> str:
    """Return the value of a setting as the environment has it; "" for none."""
    value = entry.value_in(settings)
    if isinstance(value, Host):
        return value.url
    if entry.key == "headers":
        return ", ".join(f"{name}: ***" for name in value)
    if entry.secret:
        return "***" if value else ""
    if entry.key == "rate":
        return format_rates(value)
    if entry.key == "http":
        return str(Authority(*value)) if value else ""
    if entry.path[0] == "limits" and isinstance(value, int) and entry.read is read_size:
        return shown_size(value)
    if isinstance(value, Mapping):
        return json.dumps(dict(cast("Mapping[str, Any]", value))) if value else ""
    return written(value)


def _refusals(app: App) -> list[Finding]:
    """Return the settings with which the server does not start."""
    found = _log_file(app.settings)
    for check in (create_server, _check_http):
        try:
            check(app)
        except ValueError as error:
            found.append(Finding(str(error), "Correct it, or take it out.", is_problem=True, stops=True))
        except OSError as error:
            said = f"OLLAMA_MCP_HTTP: {error.strerror or error}, unless it is this server that runs already"
            found.append(Finding(said, "Name another port or address.", is_problem=True, stops=True))
    return found


def _check_http(app: App) -> None:
    """See that HTTP, where it is to be served, is open to none but those who should call.

    Raises:
        ValueError: It is not.
        OSError: The name to listen on is unknown.
    """
    from ollama_mcp.transports import http  # noqa: PLC0415 - most do without it

    if app.settings.http.bind is not None:
        _, sockets = http.listen(app.settings)
        for opened in sockets:
            opened.close()


def _log_file(settings: Settings) -> list[Finding]:
    folder = Path(settings.log_file).parent
    if not settings.log_file or (folder.is_dir() and os.access(folder, os.W_OK)):
        return []
    text, remedy = "OLLAMA_MCP_LOG_FILE cannot be written", "Name a file in a folder that exists."
    return [Finding(text, remedy, is_problem=True, stops=True)]


async def _upstreams(app: App) -> list[Finding]:
    """Connect to each upstream, side by side; return what it offers, or why it cannot be reached."""
    source = Upstreams(app.upstreams)

    async def examined(server: UpstreamServer) -> Finding:
        try:
            offered = await source.offered(server)
        except SourceError as error:
            remedy = "Correct its entry in OLLAMA_MCP_UPSTREAM, or take it out."
            return Finding(f"upstream {server.name}: {error}", remedy, is_problem=True)
        allowed = [tool.name for tool in offered if tool.is_allowed(())]
        named = f": {', '.join(allowed)}" if allowed else ""
        finding = f"upstream {server.name}: {len(allowed)} of {len(offered)} tools may be asked{named}"
        if allowed or not offered:
            return Finding(finding)
        others = ", ".join(tool.name.removeprefix(server.prefix) for tool in offered[:5])
        return Finding(finding, f'List those that may in its "tools"; it has {others}.')

    return await asyncio.gather(*map(examined, app.upstreams.servers.values()))


def _problem(error: Exception) -> Finding:
    if isinstance(error, OllamaError):
        return Finding(f"{error.code}: {error.cause}", error.remedy, is_problem=True)
    return Finding(
        f"Ollama did not answer within {_REACH_S:g} s", "Restart it, or set OLLAMA_HOST.", is_problem=True
    )


def _model(row: Listed) -> Finding:
    can = ", ".join(sorted(row.model.capabilities)) or "unknown capabilities"
    window = f", up to {row.model.max_context} tokens" if row.model.max_context else ""
    where = " in the cloud" if row.model.is_cloud else ""
    return Finding(f"model {row.info.name}{where}: {can}{window}{_loaded(row)}")


def _loaded(row: Listed) -> str:
    running = row.running
    if running is None:
        return ""
    share = round(100 * (running.gpu_share or 0))
    return f"; loaded with a window of {running.context_length or '?'}, {share} % on the GPU"


async def _configured(app: App) -> AsyncIterator[Finding]:
    """The operator's models that cannot be used."""
    settings = app.settings
    needed: list[tuple[str, str, list[str]]] = [
        ("OLLAMA_MCP_CHAT_MODEL", settings.chat_model, ["completion"]),
        ("OLLAMA_MCP_EMBEDDING_MODEL", settings.embedding_model, ["embedding"]),
        *[("OLLAMA_MCP_WARM", name, []) for name in settings.warm],
    ]
    for variable, name, capabilities in needed:
        try:
            if name:
                await app.catalog.resolve(name, capabilities, default="")
        except OllamaError as error:
            yield Finding(f"{variable}: {error.cause}", error.remedy, is_problem=True)


async def _chat(app: App) -> AsyncIterator[Finding]:
    spec = build_chat(prompt="Say hi.", options={"num_predict": 2}, think="")
    try:
        answer = await app.jobs.start(partial(app.generator.run, spec)).result()
        rows = await app.catalog.listed()
    except OllamaError as error:
        yield _problem(error)
        return
    stats = answer.stats
    speed = f", {stats.tokens_per_s:g} tokens/s" if stats.tokens_per_s else ""
    window = f", window {stats.context_window}" if stats.context_window else ""
    yield Finding(f"chat with {stats.model} ({stats.chosen}): {stats.total_s} s{speed}{window}")
    for row in rows:
        if row.running is not None and row.running.size_vram == 0:
            yield Finding(
                f"{row.info.name} runs on the CPU only", "Expect slow answers; a smaller model helps."
            )
