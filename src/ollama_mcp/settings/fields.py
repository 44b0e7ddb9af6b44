"""Every setting: its variable, its place in the file, how it is read, what docs/settings.md says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.ollama.model_names import DEFAULT_REGISTRY
from ollama_mcp.ollama.parameters import parse_keep_alive, parse_think
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits, setting_of, shown_size
from ollama_mcp.settings.readers import (
    read_allowed_hosts,
    read_allowed_origins,
    read_bind,
    read_bool,
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
    read_rates,
    read_readable,
    read_registries,
    read_seconds,
    read_seconds_or_never,
    read_size,
    read_text,
    read_time,
    read_token,
    read_token_file,
    read_verifier,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Field(Generic[T]):
    """One setting: its variable, its place in the TOML file, its reader, what docs/settings.md says of it."""

    variable: str
    key: str
    read: Callable[[Any], T]
    default: str
    says: str
    secret: bool = False


def _limit_fields() -> Iterator[Field[Any]]:
    """Those of `Limits` that are numbers, as they describe themselves."""
    for limit in fields(Limits):
        if says := limit.metadata.get("says"):
            is_size = limit.metadata["unit"] == "bytes"
            read = read_size if is_size else read_count(1)
            default = shown_size(getattr(DEFAULT_LIMITS, limit.name)) if is_size else str(limit.default)
            yield Field(setting_of(limit.name), f"max_{limit.name}", read, default, says)


FIELDS: tuple[Field[Any], ...] = (
    Field("OLLAMA_HOST", "host", lambda v: parse_host(read_text(v)), "127.0.0.1:11434",
          "Address of the Ollama server, read by Ollama's own rules."),
    Field("OLLAMA_API_KEY", "api_key", read_key, "",
          "API key (authentication) for ollama.com. No other host gets it but OLLAMA_MCP_API_KEY_HOST.",
          secret=True),
    Field("OLLAMA_MCP_API_KEY_HOST", "api_key_host", read_host_name, "",
          "One more host that gets the API key."),
    Field("OLLAMA_MCP_HEADERS", "headers", read_headers, "{}",
          "JSON object of HTTP headers for a reverse proxy before Ollama.", secret=True),
    Field("OLLAMA_MCP_CA_FILE", "ca_file", read_readable, "",
          "PEM file of the certificate authorities to trust for https (TLS) to Ollama."),
    Field("OLLAMA_MCP_INSECURE_TLS", "insecure_tls", read_bool, "0",
          "1 accepts any TLS certificate of OLLAMA_HOST. Anyone in between can read and change everything."),
    Field("OLLAMA_MCP_LINK_LOCAL", "link_local", read_bool, "0",
          "1 allows a link-local address as OLLAMA_HOST, for example over a cable between two machines."),
    Field("OLLAMA_MCP_CHAT_MODEL", "chat_model", read_model, "",
          "Model of a call that names none. Empty: a loaded model, else the newest."),
    Field("OLLAMA_MCP_EMBEDDING_MODEL", "embedding_model", read_model, "",
          "The same for calls that embed."),
    Field("OLLAMA_MCP_WARM", "warm", read_models, "",
          "Models to preload in the background when a client connects, e.g. llama3.2,nomic-embed-text."),
    Field("OLLAMA_MCP_OPTIONS", "options", read_options, "{}",
          'Default model options, e.g. {"temperature": 0.2}.'),
    Field("OLLAMA_MCP_SYSTEM", "system", read_text, "", "Default system prompt."),
    Field("OLLAMA_MCP_KEEP_ALIVE", "keep_alive", parse_keep_alive, "",
          "How long models stay loaded after a call: 300, 10m, 2h, 0, forever. Empty: Ollama's own 5m."),
    Field("OLLAMA_MCP_THINK", "think", parse_think, "",
          "Thinking (reasoning): true, false, low, medium, high or max. Empty: the model's own default."),
    Field("OLLAMA_MCP_MAX_CONTEXT", "max_context", read_count(1024), "32768",
          "Largest context window (num_ctx) in tokens, asked for or grown. Larger values are lowered to it."),
    Field("OLLAMA_MCP_MAX_KEEP_ALIVE", "max_keep_alive", read_time, "1h",
          "Longest keep_alive that a call gets: 10m, 2h, forever. Longer ones are lowered to it."),
    *_limit_fields(),
    Field("OLLAMA_MCP_CLOUD", "cloud", read_bool, "0",
          "1 allows cloud models. Their prompts leave the machine."),
    Field("OLLAMA_MCP_TOOLSETS", "toolsets", read_names, "chat,embeddings,models",
          "Toolsets to serve: chat, embeddings, models, manage, files, web; or all."),
    Field("OLLAMA_MCP_TOOLS", "tools", read_names, "",
          "Single tools to serve as well, e.g. ollama_pull_model."),
    Field("OLLAMA_MCP_READ_ONLY", "read_only", read_bool, "0",
          "1 leaves out every tool that changes something, whatever else is set."),
    Field("OLLAMA_MCP_REGISTRIES", "registries", read_registries, DEFAULT_REGISTRY,
          "Registries to pull models from and push them to, e.g. registry.ollama.ai,hf.co."),
    Field("OLLAMA_MCP_MAX_PULL_GB", "max_pull_gb", read_gigabytes, "20",
          "Pulls above this many gigabytes need confirmation. 0: every pull."),
    Field("OLLAMA_MCP_ROOTS", "roots", read_folders, "",
          "Folders below which tools may read files, separated as in PATH. Empty: none."),
    Field("OLLAMA_MCP_CLIENT_ROOTS", "client_roots", read_bool, "0",
          "1 also allows the folders that a client on stdio names as its roots."),
    Field("OLLAMA_MCP_OUTPUT", "output", read_folder, "",
          "Folder for new files with answers. Empty: none are written."),
    Field("OLLAMA_MCP_PROGRESS", "progress", read_one_of("status", "text"), "status",
          "Text of progress notifications: status is a status line; text streams exactly the new text."),
    Field("OLLAMA_MCP_PROTOCOL", "protocol", read_one_of("auto", "legacy"), "auto",
          "On stdio: legacy serves only MCP versions before 2026-07-28, for clients that mix versions up."),
    Field("OLLAMA_MCP_SOFT_DEADLINE", "soft_deadline", read_seconds_or_never, "",
          "Deadline in seconds, after which a running call returns a handle. 0: none. Empty: by the client."),
    Field("OLLAMA_MCP_PAGE", "page", read_count(1000), "",
          "Page size: most characters of an answer in one result; more comes in pages. Empty: by client."),
    Field("OLLAMA_MCP_UNCLAIMED_TIMEOUT", "unclaimed_timeout", read_seconds, "900",
          "Seconds after which an answer is stopped if nobody asks for it by its handle."),
    Field("OLLAMA_MCP_PARALLEL", "parallel", read_count(1), "4",
          "Concurrency: calls of one model that run at once."),
    Field("OLLAMA_MCP_QUEUE", "queue", read_count(0), "64",
          "Calls of one model that may wait in its queue. The next one fails with BUSY."),
    Field("OLLAMA_MCP_CONNECT_TIMEOUT", "connect_timeout", read_seconds, "5",
          "Seconds to wait for a connection to Ollama."),
    Field("OLLAMA_MCP_FIRST_BYTE_TIMEOUT", "first_byte_timeout", read_seconds, "300",
          "Seconds to wait for the first byte of an answer: Ollama's queue, loading and the prompt."),
    Field("OLLAMA_MCP_IDLE_TIMEOUT", "idle_timeout", read_seconds, "60",
          "Seconds to wait between two parts of an answer."),
    Field("OLLAMA_MCP_TRANSFER_TIMEOUT", "transfer_timeout", read_seconds, "600",
          "Idle timeout of pull, push and create, where Ollama checks and converts large files in silence."),
    Field("OLLAMA_MCP_RETRIES", "retries", read_count(0), "2",
          "Retries of a request whose connection was refused, or that found Ollama busy."),
    Field("OLLAMA_MCP_RATE", "rate", read_rates, "",
          "Rate limit per caller: 60/min for all tools that wait for a model, ollama_chat=10/min for one."),
    Field("OLLAMA_MCP_BURST", "burst", read_count(1), "10",
          "Calls that may come at once under the rate limit."),
    Field("OLLAMA_MCP_HTTP", "http", read_bind, "",
          "Address to listen on for HTTP, instead of stdio, e.g. 127.0.0.1:8000."),
    Field("OLLAMA_MCP_SSE", "sse", read_bool, "0", "1 also serves the SSE transport of 2024, at /sse."),
    Field("OLLAMA_MCP_TOKEN", "token", read_token, "",
          "Authentication: bearer token of at least 32 characters that callers over HTTP must send.",
          secret=True),
    Field("OLLAMA_MCP_TOKEN_FILE", "token_file", read_token_file, "",
          "File of such tokens, one a line, each after its owner's name or alone.", secret=True),
    Field("OLLAMA_MCP_VERIFIER", "verifier", read_verifier, "",
          "module:factory of your own TokenVerifier (OAuth), instead of tokens."),
    Field("OLLAMA_MCP_INSECURE_NO_AUTH", "insecure_no_auth", read_bool, "0",
          "1 allows calls without authentication at an address that other machines can reach."),
    Field("OLLAMA_MCP_ALLOW_HOSTS", "allow_hosts", read_allowed_hosts, "",
          "More names of the server (DNS rebinding protection): gpu.example.com, gpu-box:9000, gpu-box:*."),
    Field("OLLAMA_MCP_ALLOW_ORIGINS", "allow_origins", read_allowed_origins, "",
          "Origins whose pages may call (CORS), e.g. https://app.example. Empty: the server's own."),
    Field("OLLAMA_MCP_HTTP_CONNECTIONS", "http_connections", read_count(2), "4096",
          "Concurrency over HTTP: open requests, connections and sessions, at most."),
    Field("OLLAMA_MCP_HTTP_GRACE", "http_grace", read_patience, "1",
          "Graceful shutdown: seconds that running calls over HTTP get after a signal."),
    Field("OLLAMA_MCP_LOG_LEVEL", "log_level", read_one_of("DEBUG", "INFO", "WARNING", "ERROR"), "WARNING",
          "Log level on stderr: DEBUG, INFO, WARNING or ERROR. Prompts are logged at DEBUG only."),
    Field("OLLAMA_MCP_LOG_FILE", "log_file", read_path_text, "", "File that gets the log as well."),
    Field("OLLAMA_MCP_EMBEDDED_MODEL", "embedded_model", read_readable, "",
          "GGUF file for the embedded engine."),
    Field("OLLAMA_MCP_CACHE", "cache", read_path, "~/.cache/ollama-mcp",
          "Folder for the embedded engine's models."),
    Field("OLLAMA_MCP_CONFIG", "", read_text, "",
          "TOML file with any of these settings, by their names in the file."),
)  # fmt: skip

_FIXED = "what it limits is larger than anything that a model can use"
REMOVED = {
    "MAX_CONNECTIONS": "there are as many as OLLAMA_MCP_PARALLEL needs",
    **dict.fromkeys(
        (
            *("MAX_MESSAGES", "MAX_MESSAGES_SIZE", "MAX_IMAGES", "MAX_MEGAPIXELS", "MAX_TEXTS_SIZE"),
            *("MAX_TOOLS", "MAX_TOOLS_SIZE", "MAX_SCHEMA_SIZE"),
        ),
        _FIXED,
    ),
}
"""Settings that there were, without OLLAMA_MCP_, and why nobody needs them; ignored with a warning."""

PER_MODEL = ("options", "system", "keep_alive", "think")
