"""Settings as data, each declared where its value is; the defaults are those of a user who sets nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ollama_mcp.jobs.rate_limit import Rate
from ollama_mcp.ollama.api_models import Think
from ollama_mcp.ollama.hosts import Host, parse_host
from ollama_mcp.ollama.model_names import DEFAULT_REGISTRY, canonical
from ollama_mcp.ollama.parameters import KeepAlive, parse_keep_alive, parse_think
from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.settings.declaration import (
    CONCURRENCY,
    CONFIG,
    ENGINE,
    FILES,
    GROUPS,
    HTTP,
    LOGGING,
    LONG_CALLS,
    MODELS,
    PERMISSIONS,
    RATE_LIMIT,
    SERVER,
    SIZES,
    STORAGE,
    TIMEOUTS,
    Field,
    declared,
    declared_in,
    setting,
)
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits
from ollama_mcp.settings.listening import AllowedHost, Origin
from ollama_mcp.settings.readers import (
    read_allowed_hosts,
    read_allowed_origins,
    read_bind,
    read_bool,
    read_collections,
    read_count,
    read_folder,
    read_folders,
    read_gigabytes,
    read_headers,
    read_host_name,
    read_key,
    read_model,
    read_models,
    read_names,
    read_one_of,
    read_options,
    read_path,
    read_path_text,
    read_patience,
    read_patterns,
    read_rates,
    read_readable,
    read_registries,
    read_seconds,
    read_seconds_or_never,
    read_store,
    read_text,
    read_token,
    read_token_file,
    read_verifier,
)
from ollama_mcp.settings.upstreams import UpstreamServer


class SettingsError(Exception):
    """Wrong settings.

    Attributes:
        problems: A line for each, with what is allowed.
        stops: Whether no server may start, not even one that only says so: a wrong value is about security,
            or HTTP is to be served.
    """

    def __init__(self, problems: list[str], *, stops: bool = True) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.stops = stops


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for Ollama.

    Attributes:
        connect: For a connection.
        first_byte: For the first byte of an answer.
        idle: Between two parts of an answer.
        transfer: Between two parts of a pull, push or create: Ollama is silent while it checks or converts
            files of many gigabytes.
    """

    KEY: ClassVar[str] = "{}_timeout"

    # fmt: off
    connect: float = setting(
        read_seconds, 5.0,
        "Seconds to wait for a connection to Ollama.", TIMEOUTS)
    first_byte: float = setting(
        read_seconds, 300.0,
        "Seconds to wait for the first byte of an answer: Ollama's queue, loading and the prompt.", TIMEOUTS)
    idle: float = setting(
        read_seconds, 60.0,
        "Seconds to wait between two parts of an answer.", TIMEOUTS)
    transfer: float = setting(
        read_seconds, 600.0,
        "Idle timeout of pull, push and create, where Ollama checks and converts large files in silence.",
        TIMEOUTS)
    # fmt: on


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
        timeouts: See `Timeouts`.
        max_connections: Connections at once; all are kept alive between calls.
        retries: How often a request is sent again that was refused, or that found Ollama busy.
        setting: What names `host`, for the remedies; "" where that is the program itself.
        beside: A variable of another program's for it that is set where ours is not, for the remedies.
        inside: Where we run ourselves, for the remedies: "container", "WSL", or "".
        swift: Whether aiohttp is to be used, where it is installed, for plain HTTP to this machine. The
            command does; in a library it would pass by whatever takes httpx's place in a test.
    """

    host: Host = field(
        default_factory=lambda: parse_host(""),
        metadata=declared(
            lambda value: parse_host(read_text(value)),
            "127.0.0.1:11434",
            "Address of the Ollama server, read by Ollama's own rules.",
            SERVER,
            key="host",
            variable="OLLAMA_HOST",
        ),
    )
    # fmt: off
    api_key: str = setting(
        read_key, "",
        "API key (authentication) for ollama.com. No other host gets it but OLLAMA_MCP_API_KEY_HOST.",
        SERVER, secret=True, variable="OLLAMA_API_KEY")
    api_key_host: str = setting(
        read_host_name, "",
        "One more host that gets the API key.", SERVER)
    headers: Mapping[str, str] = setting(
        read_headers, {},
        "JSON object of HTTP headers for a reverse proxy before Ollama.", SERVER, secret=True)
    ca_file: str = setting(
        read_readable, "",
        "PEM file of the certificate authorities to trust for https (TLS) to Ollama.", SERVER)
    insecure_tls: bool = setting(
        read_bool, False,
        "1 accepts any TLS certificate of OLLAMA_HOST. Anyone in between can read and change everything.",
        SERVER)
    link_local: bool = setting(
        read_bool, False,
        "1 allows a link-local address as OLLAMA_HOST, for example over a cable between two machines.",
        SERVER)
    timeouts: Timeouts = Timeouts()
    max_connections: int = 64
    retries: int = setting(
        read_count(0), 2,
        "Retries of a request whose connection was refused, or that found Ollama busy.", TIMEOUTS)
    # fmt: on
    setting: str = field(default="", compare=False)
    beside: str = field(default="", compare=False)
    inside: str = field(default="", compare=False)
    swift: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must never be shown, though a server or a proxy may repeat them to us."""
        basic = base64.b64encode(f"{self.host.username}:{self.host.password}".encode()).decode()
        known = (
            self.api_key,
            self.host.password,
            basic if self.host.password else "",
            *self.headers.values(),
        )
        return tuple(secret for secret in known if len(secret) >= _SHORTEST_SECRET)

    def takes_key(self, host: Host) -> bool:
        """Return whether the API key may be sent there: to Ollama's cloud by https, or to `api_key_host`."""
        if not self.api_key:
            return False
        is_named = host.hostname == self.api_key_host.lower()
        return is_named or (host.is_ollama_cloud and host.scheme == "https")


@dataclass(frozen=True)
class ModelDefaults:
    """Defaults of a call, for all models or for one."""

    # fmt: off
    options: Mapping[str, Any] = setting(
        read_options, {},
        'Default model options, e.g. {"temperature": 0.2}.', MODELS)
    system: str = setting(
        read_text, "",
        "Default system prompt.", MODELS)
    keep_alive: KeepAlive | None = setting(
        parse_keep_alive, None,
        "How long models stay loaded after a call: 300, 10m, 2h, 0, forever. Empty: Ollama's own 5m.", MODELS)
    think: Think | None = setting(
        parse_think, None,
        "Thinking (reasoning): true, false, low, medium, high or max. Empty: the model's own default.",
        MODELS)
    # fmt: on

    def over(self, base: ModelDefaults) -> ModelDefaults:
        """Return these defaults, and where they are silent those of `base`."""
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
        token: Token that may call, without a name.
        token_file: Tokens of a file, each with the name of its owner ("" for none).
        verifier: `module:factory` of somebody's own TokenVerifier; "" for none.
        insecure_no_auth: Whether everybody who reaches the address may call.
        allow_hosts: Names, beside its own, by which the server may be called.
        allow_origins: Origins whose pages may call.
        connections: Open requests, connections, and sessions, at most.
        grace: Seconds that calls may go on after a signal to end.
    """

    # fmt: off
    bind: tuple[str, int] | None = setting(
        read_bind, None,
        "Address to listen on for HTTP, instead of stdio, e.g. 127.0.0.1:8000.", HTTP, key="http")
    sse: bool = setting(
        read_bool, False,
        "1 also serves the SSE transport of 2024, at /sse.", HTTP)
    token: tuple[tuple[str, str], ...] = setting(
        read_token, (),
        "Authentication: bearer token of at least 32 characters that callers over HTTP must send.",
        HTTP, secret=True)
    token_file: tuple[tuple[str, str], ...] = setting(
        read_token_file, (),
        "File of such tokens, one a line, each after its owner's name or alone.", HTTP, secret=True)
    verifier: str = setting(
        read_verifier, "",
        "module:factory of your own TokenVerifier (OAuth), instead of tokens.", HTTP)
    insecure_no_auth: bool = setting(
        read_bool, False,
        "1 allows calls without authentication at an address that other machines can reach.", HTTP)
    allow_hosts: tuple[AllowedHost, ...] = setting(
        read_allowed_hosts, (),
        "More names of the server (DNS rebinding protection): gpu.example.com, gpu-box:9000, gpu-box:*.",
        HTTP)
    allow_origins: tuple[Origin, ...] = setting(
        read_allowed_origins, (),
        "Origins whose pages may call (CORS), e.g. https://app.example. Empty: the server's own.", HTTP)
    connections: int = setting(
        read_count(2), 4096,
        "Concurrency over HTTP: open requests, connections and sessions, at most.",
        HTTP, key="http_connections")
    grace: float = setting(
        read_patience, 1.0,
        "Graceful shutdown: seconds that running calls over HTTP get after a signal.", HTTP, key="http_grace")
    # fmt: on

    @property
    def tokens(self) -> tuple[tuple[str, str], ...]:
        """Owner and token of all that may call."""
        return (*self.token, *self.token_file)

    @property
    def is_meant(self) -> bool:
        """True if something is set that has no meaning where HTTP is not served."""
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
    """Settings of a process; the defaults are those of a user who sets nothing."""

    # fmt: off
    backend: Backend = Backend()
    chat_model: str = setting(
        read_model, "",
        "Model of a call that names none. Empty: a loaded model, else the newest.", MODELS)
    embedding_model: str = setting(
        read_model, "",
        "The same for calls that embed.", MODELS)
    warm: tuple[str, ...] = setting(
        read_models, (),
        "Models to preload in the background when a client connects, e.g. llama3.2,nomic-embed-text.", MODELS)
    defaults: ModelDefaults = ModelDefaults()
    per_model: Mapping[str, ModelDefaults] = field(default_factory=dict[str, ModelDefaults])
    max_context: int = setting(
        read_count(1024), 32768,
        "Largest context window (num_ctx) in tokens, asked for or grown. Larger values are lowered to it.",
        SIZES)
    limits: Limits = DEFAULT_LIMITS
    cloud: bool = setting(
        read_bool, False,
        "1 allows cloud models. Their prompts leave the machine.", PERMISSIONS)
    toolsets: tuple[str, ...] = setting(
        read_names, ("chat", "embeddings", "models", "rag", "storage", "agent"),
        "Toolsets to serve: chat, embeddings, models, rag, storage, agent, manage, files, web; or all.",
        PERMISSIONS)
    tools: tuple[str, ...] = setting(
        read_names, (),
        "Single tools to serve as well, e.g. ollama_pull_model.", PERMISSIONS)
    read_only: bool = setting(
        read_bool, False,
        "1 leaves out every tool that changes something, whatever else is set.", PERMISSIONS)
    registries: tuple[str, ...] = setting(
        read_registries, (DEFAULT_REGISTRY,),
        "Registries to pull models from and push them to, e.g. registry.ollama.ai,hf.co.", PERMISSIONS)
    max_pull_gb: float = setting(
        read_gigabytes, 20.0,
        "Pulls above this many gigabytes need confirmation. 0: every pull.", PERMISSIONS)
    roots: tuple[Path, ...] = setting(
        read_folders, (),
        "Folders below which tools may read files, separated as in PATH. Empty: none.", FILES)
    output: Path | None = setting(
        read_folder, None,
        "Folder for new files with answers. Empty: none are written.", FILES)
    store: str | DatabaseUrl = setting(
        read_store, "",
        "Folder for collections and conversations, or postgresql://user:password@host/database. Empty: the "
        "folder that `ollama-mcp index` has made; without it memory, and no collections.",
        STORAGE)
    conversation_days: int = setting(
        read_count(1), 90,
        "Days after which a conversation that nobody has gone on with is removed.", STORAGE)
    summarise: bool = setting(
        read_bool, False,
        "1 has the model sum up messages of a chat that no longer fit, instead of leaving them out.",
        STORAGE)
    shared_collections: tuple[str, ...] = setting(
        read_collections, (),
        "Collections of this operating-system user that every caller over HTTP may read, e.g. manual,faq.",
        STORAGE)
    upstream_file: str = setting(
        read_readable, "",
        "mcp.json of other MCP servers, whose tools ollama_rag_query and ollama_agent may call.",
        PERMISSIONS, key="upstream")
    agent_allow: tuple[str, ...] = setting(
        read_patterns, (),
        "Tools that ollama_agent may call without a question to the user, e.g. fs__write_file,git__*.",
        PERMISSIONS)
    progress: str = setting(
        read_one_of("status", "text"), "status",
        "Text of progress notifications: status is a status line; text streams exactly the new text.",
        LONG_CALLS)
    protocol: str = setting(
        read_one_of("auto", "legacy"), "auto",
        "On stdio: legacy serves only MCP versions before 2026-07-28, for clients that mix versions up.",
        LONG_CALLS)
    soft_deadline: float | None = setting(
        read_seconds_or_never, None,
        "Deadline in seconds, after which a running call returns a handle. 0: none. Empty: by the client.",
        LONG_CALLS)
    page: int | None = setting(
        read_count(1000), None,
        "Page size: most characters of an answer in one result; more comes in pages. Empty: by client.",
        LONG_CALLS)
    unclaimed_timeout: float = setting(
        read_seconds, 900.0,
        "Seconds after which an answer is stopped if nobody asks for it by its handle.", LONG_CALLS)
    parallel: int = setting(
        read_count(1), 4,
        "Concurrency: calls of one model that run at once.", CONCURRENCY)
    queue: int = setting(
        read_count(0), 64,
        "Calls of one model that may wait in its queue. A new one then fails with BUSY.", CONCURRENCY)
    rate: Mapping[str, Rate] = setting(
        read_rates, {},
        "Rate limit per caller: 60/min for all tools that wait for a model, ollama_chat=10/min for one.",
        RATE_LIMIT, shown="")
    burst: int = setting(
        read_count(1), 10,
        "Calls that may come at once under the rate limit.", RATE_LIMIT)
    http: Http = Http()
    log_level: str = setting(
        read_one_of("DEBUG", "INFO", "WARNING", "ERROR"), "WARNING",
        "Log level on stderr: DEBUG, INFO, WARNING or ERROR. Prompts are logged at DEBUG only.", LOGGING)
    log_file: str = setting(
        read_path_text, "",
        "File that gets the log as well.", LOGGING)
    embedded_model: str = setting(
        read_readable, "",
        "GGUF file for the embedded engine.", ENGINE)
    # fmt: on
    cache: Path = field(
        default_factory=_cache,
        metadata=declared(
            read_path,
            "~/.cache/ollama-mcp",
            "Folder for the embedded engine's models.",
            ENGINE,
            key="cache",
        ),
    )
    unknown: tuple[str, ...] = ()
    """Variables that look like ours but are none: warned of, not refused, so that a downgrade works."""
    upstreams: tuple[UpstreamServer, ...] = field(default=(), repr=False)
    """Servers of `upstream_file`."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Values that are taken, and may not be what is meant: a line each."""
        remark = self.backend.host.remark
        return (*self.unknown, *([f"OLLAMA_HOST: {remark}"] if remark else []))

    def defaults_for(self, model: str) -> ModelDefaults:
        """Return the defaults of a call of that model."""
        named = canonical(model)
        own = next(
            (own for name, own in self.per_model.items() if canonical(name) == named),
            None,
        )
        return own.over(self.defaults) if own else self.defaults


FIELDS: tuple[Field, ...] = (
    *sorted(declared_in(Settings), key=lambda one: GROUPS.index(one.group)),
    Field(
        "OLLAMA_MCP_CONFIG",
        "",
        read_text,
        "",
        "TOML file with any of these settings, by their names in the file.",
        CONFIG,
    ),
)
"""Every setting, by groups."""
