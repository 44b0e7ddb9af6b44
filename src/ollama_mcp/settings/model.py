"""The settings as data, which is what the other rings get of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_mcp.jobs.rate_limit import Rate
from ollama_mcp.ollama.api_models import Think
from ollama_mcp.ollama.hosts import Host, parse_host
from ollama_mcp.ollama.model_names import DEFAULT_REGISTRY, canonical
from ollama_mcp.ollama.parameters import KeepAlive
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits
from ollama_mcp.settings.listening import AllowedHost, Origin


class SettingsError(Exception):
    """One or more settings are wrong. `problems` has a line for each, with what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait: for a connection, for the first byte of an answer, between two parts of it.

    `transfer` is that last one for pull, push and create: Ollama is silent while it checks or converts
    files of many gigabytes.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 60.0
    transfer: float = 600.0


_SHORTEST_SECRET = 4
"""Characters; hiding a shorter one would only spoil texts."""


@dataclass(frozen=True)
class Backend:
    """The Ollama server and the way to it: all that the client needs to know.

    Attributes:
        host: Where it is.
        api_key: Sent as a bearer token to ollama.com, and to `api_key_host` where that is set.
        api_key_host: Host name that the operator trusts with the key.
        headers: Sent with every request (for a proxy in front of Ollama).
        ca_file: PEM file of the authorities to trust for https, instead of the usual ones.
        insecure_tls: Whether any certificate of `host` is taken, so that anybody between could read all.
        link_local: Whether `host` may be a link-local address.
        clocks: See `Timeouts`.
        max_connections: Connections at once; all are kept alive between calls.
        retries: How often a request is sent again that was refused, or that found Ollama busy.
        setting: What names `host`, for the remedies; "" where that is the program itself.
        beside: A variable of another program's for it that is set where ours is not, for the remedies.
        inside: Where we run ourselves, for the remedies: "container", "WSL", or "".
        swift: Whether aiohttp is to be used, where it is installed, for plain HTTP to this machine. The
            command does; in a library it would pass by whatever takes httpx's place in a test.
    """

    host: Host = field(default_factory=lambda: parse_host(""))
    api_key: str = field(default="", repr=False)
    api_key_host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    ca_file: str = ""
    insecure_tls: bool = False
    link_local: bool = False
    timeouts: Timeouts = Timeouts()
    max_connections: int = 64
    retries: int = 2
    setting: str = field(default="", compare=False)
    beside: str = field(default="", compare=False)
    inside: str = field(default="", compare=False)
    swift: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, though a server or a proxy may repeat it to us."""
        basic = base64.b64encode(f"{self.host.username}:{self.host.password}".encode()).decode()
        known = (
            self.api_key,
            self.host.password,
            basic if self.host.password else "",
            *self.headers.values(),
        )
        return tuple(secret for secret in known if len(secret) >= _SHORTEST_SECRET)

    def takes_key(self, host: Host) -> bool:
        """Whether the API key may be sent to that host: Ollama's cloud by https, or one named for it."""
        if not self.api_key:
            return False
        is_named = host.hostname == self.api_key_host.lower()
        return is_named or (host.is_ollama_cloud and host.scheme == "https")


@dataclass(frozen=True)
class ModelDefaults:
    """What a call gets that does not say otherwise; for all models or for one."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    system: str = ""
    keep_alive: KeepAlive | None = None
    think: Think | None = None

    def over(self, base: ModelDefaults) -> ModelDefaults:
        """These defaults, and where they are silent those of `base`."""
        return ModelDefaults(
            options={**base.options, **self.options},
            system=self.system or base.system,
            keep_alive=base.keep_alive if self.keep_alive is None else self.keep_alive,
            think=base.think if self.think is None else self.think,
        )


@dataclass(frozen=True)
class Http:
    """Serving over HTTP instead of stdio.

    Attributes:
        bind: Name or address, and port, to listen on; None for stdio.
        sse: Whether the transport of 2024 is served, too, at /sse.
        tokens: Those that may call, each with the name of whoever has it ("" for nobody in particular).
        verifier: `module:factory` of somebody's own TokenVerifier; "" for none.
        insecure_no_auth: Whether everybody who reaches the address may call.
        allow_hosts: Names, beside its own, by which the server may be called.
        allow_origins: Origins whose pages may call.
        connections: Open requests, connections, and sessions, at most.
        grace: Seconds that calls may go on after a signal to end.
    """

    bind: tuple[str, int] | None = None
    sse: bool = False
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    verifier: str = ""
    insecure_no_auth: bool = False
    allow_hosts: tuple[AllowedHost, ...] = ()
    allow_origins: tuple[Origin, ...] = ()
    connections: int = 4096
    grace: float = 1.0

    @property
    def is_meant(self) -> bool:
        """Whether something is set that says nothing where HTTP is not served."""
        lets_in = self.allow_hosts or self.allow_origins or self.insecure_no_auth
        return bool(self.tokens or self.verifier or self.sse or lets_in)


def _cache() -> Path:
    folder = Path("~/.cache/ollama-mcp")
    try:
        return folder.expanduser()
    except RuntimeError:  # a user without a home folder: told where it is needed
        return folder


@dataclass(frozen=True)
class Settings:
    """All settings; the defaults are those of a user who sets nothing."""

    backend: Backend = Backend()
    chat_model: str = ""
    embedding_model: str = ""
    defaults: ModelDefaults = ModelDefaults()
    per_model: Mapping[str, ModelDefaults] = field(default_factory=dict[str, ModelDefaults])
    max_context: int = 32768
    limits: Limits = DEFAULT_LIMITS
    cloud: bool = False
    toolsets: tuple[str, ...] = ("chat", "embeddings", "models")
    tools: tuple[str, ...] = ()
    read_only: bool = False
    warm: tuple[str, ...] = ()
    registries: tuple[str, ...] = (DEFAULT_REGISTRY,)
    max_pull_gb: float = 20.0
    roots: tuple[Path, ...] = ()
    client_roots: bool = False
    output: Path | None = None
    progress: str = "status"
    protocol: str = "auto"
    soft_deadline: float | None = None
    page: int | None = None
    unclaimed_timeout: float = 900.0
    parallel: int = 4
    queue: int = 64
    rate: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    burst: int = 10
    http: Http = Http()
    log_level: str = "WARNING"
    log_file: str = ""
    embedded_model: str = ""
    cache: Path = field(default_factory=_cache)
    unknown: tuple[str, ...] = ()
    """Variables that look like ours but are none: warned of, not refused, so that a downgrade works."""

    @property
    def takes_files(self) -> bool:
        """Whether files of this machine may be read at all."""
        return bool(self.roots) or self.client_roots

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is taken, and may not be what is meant: a line each."""
        remark = self.backend.host.remark
        return (*self.unknown, *([f"OLLAMA_HOST: {remark}"] if remark else []))

    def defaults_for(self, model: str) -> ModelDefaults:
        """What a call of that model gets that does not say otherwise."""
        named = canonical(model)
        own = next(
            (own for name, own in self.per_model.items() if canonical(name) == named),
            None,
        )
        return own.over(self.defaults) if own else self.defaults
