"""What `ollama-mcp doctor` looks at: settings, upstreams, Ollama and its models, the store, clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import anyio.to_thread

from ollama_mcp.app import App
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.output import shown_path
from ollama_mcp.cli.setup.clients import CLIENT_CONFIGS, ClientConfig
from ollama_mcp.cli.setup.config_file import ConfigFile
from ollama_mcp.cli.setup.config_text import NotEditable, read
from ollama_mcp.errors import OllamaError, Unreachable
from ollama_mcp.jobs.rate_limit import format_rates
from ollama_mcp.ollama.endpoints import VERSION
from ollama_mcp.ollama.hosts import Host
from ollama_mcp.server import create_server
from ollama_mcp.services.catalog import Listed
from ollama_mcp.services.specs import build_chat
from ollama_mcp.services.units import format_bytes
from ollama_mcp.settings import FIELDS, Field, Settings, SettingsError, load
from ollama_mcp.settings.declaration import written
from ollama_mcp.settings.limits import shown_size
from ollama_mcp.settings.listening import Authority
from ollama_mcp.settings.machine import Machine
from ollama_mcp.settings.proxies import proxy_for
from ollama_mcp.settings.readers import read_size
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError
from ollama_mcp.tools.results import columns
from ollama_mcp.tools.upstreams.source import Upstreams

T = TypeVar("T")

_REACH_S = 10.0
_LARGE = 2e9
"""Bytes of a model above which a GPU is missed."""
_MOST_MODELS = 8
"""Models that the report lists; `ollama-mcp models` has all."""

CHAT = "chat with "


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Attributes:
        section: Its heading.
        text: What was found.
        is_good: True or False for what was checked; None for what is only told.
        remedy: What to do about a problem.
        stops: Whether the server does not start with it.
        seconds: Time that the check took; None where it is not worth telling.
    """

    section: str
    text: str
    is_good: bool | None = None
    remedy: str = ""
    stops: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class _Entry:
    """An entry for this server in a client's settings: where it is, and what its variables mean."""

    place: str
    settings: Settings


@dataclass
class Examination:
    """One run of the checks.

    Args:
        app: The App of the settings in force.
        installation: This installation, for remedies.
        tell: Told in a few words which slow step begins.

    Attributes:
        has_ollama: Whether Ollama's own command is on this machine.
    """

    app: App
    installation: Installation
    tell: Callable[[str], None]
    has_ollama: bool = True

    def run(self) -> list[Finding]:
        """Look at everything in order; what Ollama's silence makes pointless is left out."""
        self.has_ollama = bool(shutil.which("ollama"))
        settings = self.app.settings
        before = [*_settings(settings), *_refusals(self.app), *_proxies(settings)]
        clients = list(self._clients())  # files, which no event loop waits for
        found = [*before, *asyncio.run(self._connected(clients))]
        return [self._runnable(finding) for finding in found]

    async def _connected(self, clients: list[Finding | _Entry]) -> list[Finding]:
        try:
            found = [finding async for finding in self._ollama()]
            found += [*await self._store(), *await self._upstreams()]
            self.tell("trying what the clients' settings name")
            return [*found, *await asyncio.gather(*map(self._checked, clients))]
        finally:
            await self.app.aclose()

    def _runnable(self, finding: Finding) -> Finding:
        """Return a finding with commands that work on this machine."""

        def mended(text: str) -> str:
            if not self.has_ollama:
                text = text.replace("`ollama pull ", "`ollama-mcp pull ")
            return self.installation.in_its_commands(text)

        return replace(finding, text=mended(finding.text), remedy=mended(finding.remedy))

    async def _timed(self, doing: str, work: Awaitable[T]) -> tuple[T, float]:
        self.tell(doing)
        started = time.monotonic()
        return await work, round(time.monotonic() - started, 2)

    # --- Ollama -------------------------------------------------------------------------------

    async def _ollama(self) -> AsyncIterator[Finding]:
        app = self.app

        async def ask() -> tuple[str, list[Listed]]:
            with anyio.fail_after(_REACH_S):
                return (await app.client.call(VERSION)).version, await app.catalog.listed()

        try:
            (version, rows), took = await self._timed(f"asking {app.client.address}", ask())
        except (OllamaError, TimeoutError) as error:
            problem = _problem(error)
            is_absent = isinstance(error, Unreachable) and not self.has_ollama
            backend = app.settings.backend
            if is_absent and backend.host.is_loopback and not (backend.beside or backend.inside):
                remedy = f"Ollama is not installed here: https://ollama.com/download has it. {problem.remedy}"
                problem = replace(problem, remedy=remedy)
            yield problem
            yield Finding("Ollama", "`ollama-mcp demo` works without it, on a small engine")
            return
        named = f"Ollama {version or 'of an unknown version'} answers at {app.client.address}"
        yield Finding("Ollama", named, True, seconds=took)
        async for finding in self._chat(rows):
            yield finding
        for finding in await _configured(app):
            yield finding
        if not any("embedding" in row.model.capabilities for row in rows):
            remedy = "Install one with `ollama pull nomic-embed-text`."
            yield Finding("Ollama", "no embedding model is installed", False, remedy)
        if rows:
            for line in columns(map(_model_cells, rows[:_MOST_MODELS])).splitlines():
                yield Finding("Models", line)
        if len(rows) > _MOST_MODELS:
            more = f"and {len(rows) - _MOST_MODELS} more: `ollama-mcp models`"
            yield Finding("Models", more)

    async def _chat(self, rows: list[Listed]) -> AsyncIterator[Finding]:
        spec = build_chat(prompt="Say hi.", options={"num_predict": 2}, think="")
        job = self.app.jobs.start(partial(self.app.generator.run, spec))
        try:
            answer, took = await self._timed("a chat; a model may have to be loaded", job.result())
            rows[:] = await self.app.catalog.listed()  # what is loaded has changed
        except OllamaError as error:
            yield _problem(error)
            return
        stats = answer.stats
        speed = f", {stats.tokens_per_s:.3g} tokens/s" if stats.tokens_per_s else ""
        window = f", window {stats.context_window}" if stats.context_window else ""
        yield Finding("Ollama", f"{CHAT}{stats.model} ({stats.chosen}){speed}{window}", True, seconds=took)
        for row in rows:
            if row.running is not None and row.running.size_vram == 0 and row.running.size > _LARGE:
                yield Finding("Ollama", f"{row.info.name} runs on the CPU: a smaller model answers sooner")

    # --- what is beside it ----------------------------------------------------------------------

    async def _store(self) -> list[Finding]:
        settings = self.app.settings
        if not settings.store:
            return [
                Finding("Store", "none; `ollama-mcp index FOLDER` makes one, for documents and conversations")
            ]
        if isinstance(settings.store, str) and not await anyio.Path(settings.store).is_dir():
            return [Finding("Store", f"{shown_path(settings.store)} is made at its first use")]
        try:
            with anyio.fail_after(_REACH_S):
                listed, took = await self._timed("opening the store", self.app.collections.listed(""))
                talks = len(await self.app.conversations.store.listed(""))
        except OllamaError as error:
            return [Finding("Store", f"{error.code}: {error.cause}", False, error.remedy)]
        except TimeoutError:
            told = f"{shown_path(settings.store)} did not answer within {_REACH_S:g} s"
            return [Finding("Store", told, False, "Correct OLLAMA_MCP_STORE, or start its database.")]
        passages = sum(one.passages for one in listed)
        has = f"{_counted(len(listed), 'collection')} with {_counted(passages, 'passage')}, "
        has += _counted(talks, "conversation")
        if isinstance(settings.store, str):
            has += f", {format_bytes(await anyio.to_thread.run_sync(_size, Path(settings.store)))}"
            if find_spec("numpy") is None:
                told = "collections of documents need numpy, which is not installed"
                return [Finding("Store", told, False, 'Install "ollama-mcp[rag]".')]
        return [Finding("Store", f"{shown_path(settings.store)}: {has}", True, seconds=took)]

    async def _upstreams(self) -> list[Finding]:
        """Connect to each upstream, side by side; return what it offers, or why it cannot be reached."""
        source = Upstreams(self.app.upstreams)

        async def examined(server: UpstreamServer) -> Finding:
            started = time.monotonic()
            try:
                offered = await source.offered(server)
            except SourceError as error:
                remedy = "Correct its entry in OLLAMA_MCP_UPSTREAM, or take it out."
                return Finding("Upstreams", f"{server.name}: {error}", False, remedy)
            took = round(time.monotonic() - started, 2)
            allowed = [tool.name for tool in offered if tool.is_allowed(())]
            named = f": {', '.join(allowed)}" if allowed else ""
            text = f"{server.name}: {len(allowed)} of {len(offered)} tools may be asked{named}"
            if allowed or not offered:
                return Finding("Upstreams", text, True, seconds=took)
            others = ", ".join(tool.name.removeprefix(server.prefix) for tool in offered[:5])
            remedy = f'List those that may in its "tools"; it has {others}.'
            return Finding("Upstreams", text, None, remedy, seconds=took)

        servers = self.app.upstreams.servers.values()
        if servers:
            self.tell(f"connecting to {len(servers)} upstreams")
        return await asyncio.gather(*map(examined, servers))

    def _clients(self) -> Iterator[Finding | _Entry]:
        """Yield the clients' entries for this server, or what is wrong in them."""
        machine = Machine()
        without: list[str] = []
        for client in CLIENT_CONFIGS:
            if not client.files or not client.is_installed(machine):
                continue
            path = client.path(machine)
            try:
                entries = _entries(client, ConfigFile.read(path).content) if path else {}
            except (NotEditable, OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                remedy, is_good = "Correct the file.", False
                if isinstance(error.__cause__, ImportError):
                    why, is_good = "only a library of the extra cli reads it", None
                    remedy = 'Install "ollama-mcp[cli]".'
                yield Finding("Clients", f"{client.title}: {shown_path(path)}: {why}", is_good, remedy)
                continue
            if not entries:
                without.append(client.id)
            for name, entry in entries.items():
                yield self._entry(client, f"{client.title}: `{name}` in {shown_path(path)}", entry)
        if without:
            example = f"`ollama-mcp setup {without[0]}` puts it there."
            yield Finding("Clients", f"without ollama-mcp: {', '.join(without)}", None, example)

    def _entry(self, client: ClientConfig, place: str, entry: Mapping[str, Any]) -> Finding | _Entry:
        command: Any = entry.get("command") or entry.get("cmd")
        if isinstance(command, list):
            command = next(iter(cast("list[Any]", command)), None)
        again = f"`ollama-mcp setup {client.id}` writes it anew."
        if entry.get("disabled") is True or entry.get("enabled") is False:
            return Finding("Clients", f"{place} is switched off there")
        if not isinstance(command, str):
            return Finding("Clients", f"{place} is an address", True)
        if not shutil.which(command):
            return Finding("Clients", f"{place}: there is no program {shown_path(command)}", False, again)
        given: Any = entry.get("env") or entry.get("environment") or entry.get("envs")
        pairs = cast("dict[Any, Any]", given) if isinstance(given, dict) else {}
        variables = {str(name): str(value) for name, value in pairs.items()}
        try:
            settings = load(variables)
        except SettingsError as error:
            return Finding("Clients", f"{place}: {'; '.join(error.problems)}", False, "Correct it there.")
        if settings.unknown:
            return Finding("Clients", f"{place}: {' '.join(settings.unknown)}", False, "Correct it there.")
        return _Entry(place, settings)

    async def _checked(self, entry: Finding | _Entry) -> Finding:
        """Return whether the Ollama and the models of an entry can be used; a finding comes back as it is."""
        if isinstance(entry, Finding):
            return entry
        host, ours = entry.settings.backend.host.url, self.app.settings.backend.host.url
        place = entry.place + (f", with another Ollama: {host}" if host != ours else "")
        if problem := await self._problem_with(entry.settings):
            remedy = f"{problem.remedy} Correct it there."
            return Finding("Clients", f"{place}: {problem.text}", False, remedy)
        return Finding("Clients", place, True)

    async def _problem_with(self, settings: Settings) -> Finding | None:
        """Return what is wrong with the Ollama or the models of settings, if these are others than ours."""
        ours = self.app.settings
        own = [(s.backend.host, s.chat_model, s.embedding_model, s.warm) for s in (settings, ours)]
        if own[0] == own[1]:
            return None
        async with App.create(settings) as app:
            try:
                with anyio.fail_after(_REACH_S):
                    await app.client.call(VERSION)
                    return next(iter(await _configured(app)), None)
            except (OllamaError, TimeoutError) as error:
                # The report has said so of our own Ollama.
                return None if settings.backend.host == ours.backend.host else _problem(error)


async def _configured(app: App) -> list[Finding]:
    """Return the operator's models that cannot be used."""
    settings = app.settings
    found: list[Finding] = []
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
            found.append(Finding("Ollama", f"{variable}: {error.cause}", False, error.remedy))
    return found


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _size(store: Path) -> int:
    return sum(file.stat().st_size for file in store.glob("*.db"))


def _entries(client: ClientConfig, text: str) -> dict[str, Mapping[str, Any]]:
    """Return the servers of a client's settings that are this program, by name."""
    servers: Any = read(client, text).get(client.key)
    if isinstance(servers, list):
        named = [cast("dict[str, Any]", row) for row in cast("list[Any]", servers) if isinstance(row, dict)]
        servers = {str(row.get("name", "")): row for row in named}
    if not isinstance(servers, dict):
        return {}
    rows = cast("dict[str, Any]", servers)
    return {
        name: entry
        for name, entry in rows.items()
        if isinstance(entry, dict) and re.search("ollama[-_]mcp", json.dumps(entry))
    }


def _settings(settings: Settings) -> Iterator[Finding]:
    """Yield the settings that differ from their defaults, and what is strange in them."""
    usual = Settings()
    for entry in FIELDS:
        if entry.key not in {"", "store"} and entry.value_in(settings) != entry.value_in(usual):
            yield Finding("Settings", f"{entry.variable} = {_shown(entry, settings)}")
    for text in settings.warnings:
        yield Finding("Settings", text, False, "Correct it, or take it out.")
    if settings.backend.beside:
        told = f"{settings.backend.beside} is set, which is not read here: the setting is OLLAMA_HOST"
        yield Finding("Settings", told)


def _shown(entry: Field, settings: Settings) -> str:
    """Return the value of a setting as the environment has it."""
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
    found: list[Finding] = []
    folder = Path(app.settings.log_file).parent
    if app.settings.log_file and not (folder.is_dir() and os.access(folder, os.W_OK)):
        text, remedy = "OLLAMA_MCP_LOG_FILE cannot be written", "Name a file in a folder that exists."
        found.append(Finding("Settings", text, False, remedy, stops=True))
    for check in (create_server, _check_http):
        try:
            check(app)
        except ValueError as error:
            remedy = "Correct it, or take it out."
            found.append(Finding("Settings", str(error), False, remedy, stops=True))
        except OSError as error:
            told = f"OLLAMA_MCP_HTTP: {error.strerror or error}, unless it is this server that runs already"
            found.append(Finding("Settings", told, False, "Name another port or address.", stops=True))
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


def _proxies(settings: Settings) -> Iterator[Finding]:
    """Yield the proxy between here and Ollama."""
    host = settings.backend.host
    proxy = proxy_for(host)
    if proxy is None:
        return
    parts = urlsplit(proxy.url)
    if not proxy.is_address:
        remedy = f"Correct {proxy.variable}, or put {host.hostname} into NO_PROXY."
        yield Finding("Proxies", f"{proxy.variable} is no address of a proxy", False, remedy)
    else:
        through = f"{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        told = f"{proxy.variable}: {host.hostname} is reached through {through}; NO_PROXY leaves it out"
        yield Finding("Proxies", told)


def _problem(error: Exception) -> Finding:
    if isinstance(error, OllamaError):
        return Finding("Ollama", f"{error.code}: {error.cause}", False, error.remedy)
    told = f"Ollama did not answer within {_REACH_S:g} s"
    return Finding("Ollama", told, False, "Restart it, or set OLLAMA_HOST.")


def _model_cells(row: Listed) -> tuple[str, ...]:
    size = "cloud" if row.model.is_cloud else format_bytes(row.info.size) if row.info.size else "-"
    where = "-"
    if (running := row.running) is not None:
        share = round(100 * (running.gpu_share or 0))
        where = f"loaded ({running.context_length or '?'}), {share} % GPU"
    return row.info.name, size, ", ".join(sorted(row.model.capabilities)) or "-", where
