"""Every setting, in one typed place: the environment and one optional TOML file.

The only module that reads the environment. The environment wins over the file; every bad value is
named at once, with what is allowed. README's table of settings is generated from `FIELDS`.
"""

from __future__ import annotations

import base64
import difflib
import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ollama_mcp.errors import OllamaError
from ollama_mcp.guards import Rate, parse_rates
from ollama_mcp.host import Host, parse_host
from ollama_mcp.limits import USUAL, Limits, setting_of, shown_size
from ollama_mcp.names import DEFAULT_REGISTRY, canonical, check_name, is_name, is_registry
from ollama_mcp.options import parse_options
from ollama_mcp.parameters import KeepAlive, parse_keep_alive, parse_think
from ollama_mcp.wire import Think

T = TypeVar("T")

_log = logging.getLogger("ollama_mcp")


class SettingsError(Exception):
    """One or more settings are wrong. `problems` has a line for each, with what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Clocks:
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
        clocks: See `Clocks`.
        max_connections: Connections at once; all are kept alive between calls.
        retries: How often a request is sent again that was refused, or that found Ollama busy.
        setting: What names `host`, for the remedies; "" where that is the program itself.
        swift: Whether aiohttp is to be used, where it is installed, for plain HTTP to this machine. The
            command does; in a library it would pass by whatever takes httpx's place in a test.
    """

    host: Host = field(default_factory=lambda: parse_host(""))
    api_key: str = field(default="", repr=False)
    api_key_host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    ca_file: str = ""
    clocks: Clocks = Clocks()
    max_connections: int = 64
    retries: int = 2
    setting: str = field(default="", compare=False)
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
class Settings:
    """All settings; the defaults are those of a user who sets nothing."""

    backend: Backend = Backend()
    chat_model: str = ""
    embedding_model: str = ""
    defaults: ModelDefaults = ModelDefaults()
    per_model: Mapping[str, ModelDefaults] = field(default_factory=dict[str, ModelDefaults])
    max_context: int = 32768
    limits: Limits = USUAL
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
    soft_deadline: float | None = None
    page: int | None = None
    unclaimed_timeout: float = 900.0
    parallel: int = 4
    queue: int = 64
    rate: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    burst: int = 10
    log_level: str = "WARNING"
    log_file: str = ""
    embedded_model: str = ""
    cache: Path = Path("~/.cache/ollama-mcp")
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
        own = next((own for name, own in self.per_model.items() if canonical(name) == named), None)
        return own.over(self.defaults) if own else self.defaults


# --- how each value is read --------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")  # noqa: TRY004 - every wrong value is one kind of failure here
    return value.strip()


def _bool(value: Any) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False,
             "off": False, "": False}  # fmt: skip
    text = str(value).strip().lower()
    if text not in known:
        raise ValueError("1 or 0")
    return known[text]


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < 1e6 or isinstance(value, bool):
        raise ValueError("a number of seconds above 0")
    return seconds


def _seconds_or_never(value: Any) -> float:
    """0 is never."""
    return 0.0 if str(value).strip() in {"0", "0.0"} and value is not False else _seconds(value)


def _count(low: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
        if not text.isdecimal() or len(text) > 9 or int(text) < low:
            raise ValueError(f"a whole number of at least {low}")
        return int(text)

    return read


_SIZE = re.compile(r"(\d{1,12}) *(?:([KMG])(?:i?B)?)?\Z", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def _size(value: Any) -> int:
    """Bytes, also as `16 MiB` or `512K`: powers of 1024 whichever way they are written."""
    text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    found = _SIZE.match(text)
    size = int(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0
    if not 0 < size < 2**40:
        raise ValueError("a number of bytes above 0 such as 1048576, 512 KiB or 16 MiB")
    return size


def _gigabytes(value: Any) -> float:
    try:
        size = float(value)
    except (TypeError, ValueError, OverflowError):
        size = -1.0
    if not 0 <= size < 1e6 or isinstance(value, bool):
        raise ValueError("a number of gigabytes, 0 or more")
    return size


def _names(value: Any) -> tuple[str, ...]:
    named = cast("list[Any]", value) if isinstance(value, list) else _text(value).replace(",", " ").split()
    if not all(isinstance(name, str) and name.strip().isidentifier() for name in named):
        raise ValueError("names with commas between, such as chat,models")
    return tuple(name.strip() for name in named)


def _registries(value: Any) -> tuple[str, ...]:
    named = cast("list[Any]", value) if isinstance(value, list) else _text(value).replace(",", " ").split()
    if not all(isinstance(name, str) and is_registry(name) for name in named):
        raise ValueError("host names such as registry.ollama.ai, hf.co or gpu-box:5000, with commas between")
    return tuple(name.strip().lower() for name in named)


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        for choice in allowed:
            if str(value).strip().lower() == choice.lower():
                return choice
        raise ValueError("one of " + ", ".join(allowed))

    return read


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise ValueError("a JSON object") from None
    if not isinstance(value, dict):
        raise ValueError("a JSON object (in the file: a table)")  # noqa: TRY004 - as above
    return {str(k): v for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # RFC 9110


def _headers(value: Any) -> dict[str, str]:
    found = {name: str(text) for name, text in _mapping(value).items()}
    for name, text in found.items():
        if not _TOKEN.match(name) or not (text.isascii() and text.isprintable()):
            raise ValueError('a JSON object of header names and values, such as {"X-Team": "a"}')
    return found


def _key(value: Any) -> str:
    key = _text(value)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("a key of printable ASCII characters without spaces")
    return key


def _host_name(value: Any) -> str:
    """The name alone of what may be given as an address."""
    try:
        return parse_host(_text(value)).hostname if _text(value) else ""
    except OllamaError:
        raise ValueError("a host name such as gpu-box") from None


def _path(value: Any) -> Path:
    text = _text(value)
    if "\0" in text:
        raise ValueError("a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path, whose ~ is a home folder that exists") from None


def _path_text(value: Any) -> str:
    return str(_path(value)) if _text(value) else ""


def _readable(value: Any) -> str:
    try:
        found = not _text(value) or _path(value).is_file()
    except OSError:  # too long, or in a folder that is closed to us
        found = False
    if not found:
        raise ValueError("the path of a file that exists")
    return str(_path(value)) if _text(value) else ""


def _folder(value: Any) -> Path:
    """A folder that exists, by its whole path: hosts start us anywhere."""
    try:
        path = _path(value)
        if path.is_absolute() and path.is_dir():
            return path
    except (OSError, ValueError):  # too long, or in a folder that is closed to us
        pass
    raise ValueError("the whole path of a folder that exists, such as /home/me/notes")


def _folders(value: Any) -> tuple[Path, ...]:
    named = cast("list[Any]", value) if isinstance(value, list) else _text(value).split(os.pathsep)
    return tuple(_folder(name) for name in named if name != "")


def _rates(value: Any) -> dict[str, Rate]:
    return parse_rates(_text(value))


def _model(value: Any) -> str:
    return check_name(_text(value)) if _text(value) else ""


def _models(value: Any) -> tuple[str, ...]:
    named = cast("list[Any]", value) if isinstance(value, list) else _text(value).replace(",", " ").split()
    return tuple(dict.fromkeys(check_name(_text(name)) for name in named))


def _time(value: Any) -> KeepAlive:
    found = parse_keep_alive(value)
    if found is None:
        raise ValueError("a time such as 10m, 2h or forever")
    return found


def _options(value: Any) -> dict[str, Any]:
    options, _ = parse_options(_mapping(value))
    return options.model_dump(exclude_none=True)


@dataclass(frozen=True)
class Field(Generic[T]):
    """One setting: its variable, its place in the TOML file, its reader, what README says of it."""

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
            read = _size if is_size else _count(1)
            default = shown_size(getattr(USUAL, limit.name)) if is_size else str(limit.default)
            yield Field(setting_of(limit.name), f"max_{limit.name}", read, default, says)


FIELDS: tuple[Field[Any], ...] = (
    Field("OLLAMA_HOST", "host", lambda v: parse_host(_text(v)), "127.0.0.1:11434",
          "Where Ollama runs, as Ollama itself reads it."),
    Field("OLLAMA_API_KEY", "api_key", _key, "", "Key for ollama.com; sent nowhere else.", secret=True),
    Field("OLLAMA_MCP_API_KEY_HOST", "api_key_host", _host_name, "", "A host that may have that key, too."),
    Field("OLLAMA_MCP_HEADERS", "headers", _headers, "{}",
          "JSON object of headers for a proxy before Ollama.", secret=True),
    Field("OLLAMA_MCP_CA_FILE", "ca_file", _readable, "", "PEM file of the authorities to trust for https."),
    Field("OLLAMA_MCP_CHAT_MODEL", "chat_model", _model, "",
          "Model of a call that names none; else one that is loaded, else the newest."),
    Field("OLLAMA_MCP_EMBEDDING_MODEL", "embedding_model", _model, "",
          "The same for embeddings."),
    Field("OLLAMA_MCP_WARM", "warm", _models, "",
          "Models to load in the background once a client has come, e.g. llama3.2,nomic-embed-text."),
    Field("OLLAMA_MCP_OPTIONS", "options", _options, "{}", 'Default options, e.g. {"temperature": 0.2}.'),
    Field("OLLAMA_MCP_SYSTEM", "system", _text, "", "Default system prompt."),
    Field("OLLAMA_MCP_KEEP_ALIVE", "keep_alive", parse_keep_alive, "",
          "How long models stay loaded: 300, 10m, 2h, 0, forever. Empty: Ollama's own 5m."),
    Field("OLLAMA_MCP_THINK", "think", parse_think, "",
          "true, false, low, medium, high or max. Empty: the model's own default."),
    Field("OLLAMA_MCP_MAX_CONTEXT", "max_context", _count(1024), "32768",
          "Largest window, in tokens, that a caller gets, or a prompt which does not fit. More is lowered."),
    Field("OLLAMA_MCP_MAX_KEEP_ALIVE", "max_keep_alive", _time, "1h",
          "Longest keep_alive that a caller gets: 10m, 2h, forever. More is lowered."),
    *_limit_fields(),
    Field("OLLAMA_MCP_CLOUD", "cloud", _bool, "0", "1 allows cloud models: prompts leave the machine."),
    Field("OLLAMA_MCP_TOOLSETS", "toolsets", _names, "chat,embeddings,models",
          "Groups of tools: chat, embeddings, models, manage, files; or all."),
    Field("OLLAMA_MCP_TOOLS", "tools", _names, "", "Single tools beside those, e.g. ollama_pull_model."),
    Field("OLLAMA_MCP_READ_ONLY", "read_only", _bool, "0",
          "1 leaves out every tool that changes something, whatever else is set."),
    Field("OLLAMA_MCP_REGISTRIES", "registries", _registries, DEFAULT_REGISTRY,
          "Hosts that models may be pulled from and pushed to, e.g. registry.ollama.ai,hf.co."),
    Field("OLLAMA_MCP_MAX_PULL_GB", "max_pull_gb", _gigabytes, "20",
          "A larger pull has to be confirmed; 0: every one."),
    Field("OLLAMA_MCP_ROOTS", "roots", _folders, "",
          "Folders whose files tools may read, separated as in PATH. Empty: none."),
    Field("OLLAMA_MCP_CLIENT_ROOTS", "client_roots", _bool, "0",
          "1 allows the folders, too, that a client on stdio names as its roots."),
    Field("OLLAMA_MCP_OUTPUT", "output", _folder, "", "Folder for new files with answers. Empty: none."),
    Field("OLLAMA_MCP_PROGRESS", "progress", _one_of("status", "text"), "status",
          "What progress messages say: a status line, or exactly the new text."),
    Field("OLLAMA_MCP_SOFT_DEADLINE", "soft_deadline", _seconds_or_never, "",
          "Seconds after which a call that goes on returns a handle; 0: never. Empty: by the client."),
    Field("OLLAMA_MCP_PAGE", "page", _count(1000), "",
          "Most characters of an answer in one result; a longer one comes in pages. Empty: by the client."),
    Field("OLLAMA_MCP_UNCLAIMED_TIMEOUT", "unclaimed_timeout", _seconds, "900",
          "Seconds after which an answer is stopped that nobody asks for by its handle."),
    Field("OLLAMA_MCP_PARALLEL", "parallel", _count(1), "4", "Calls of one model that run at once."),
    Field("OLLAMA_MCP_QUEUE", "queue", _count(0), "64",
          "Calls of one model that may wait for their turn; the next one is BUSY."),
    Field("OLLAMA_MCP_CONNECT_TIMEOUT", "connect_timeout", _seconds, "5", "Seconds to wait to connect."),
    Field("OLLAMA_MCP_FIRST_BYTE_TIMEOUT", "first_byte_timeout", _seconds, "300",
          "Seconds to wait for an answer to begin: queue, load and prompt."),
    Field("OLLAMA_MCP_IDLE_TIMEOUT", "idle_timeout", _seconds, "60", "Seconds between parts of an answer."),
    Field("OLLAMA_MCP_TRANSFER_TIMEOUT", "transfer_timeout", _seconds, "600",
          "The same for pull, push and create, which check and convert large files in silence."),
    Field("OLLAMA_MCP_MAX_CONNECTIONS", "max_connections", _count(1), "64", "Connections at once."),
    Field("OLLAMA_MCP_RETRIES", "retries", _count(0), "2",
          "How often a request is sent again that was refused, or that found Ollama busy."),
    Field("OLLAMA_MCP_RATE", "rate", _rates, "",
          "Most calls in a time: 60/min for all that may wait for a model, ollama_chat=10/min for one."),
    Field("OLLAMA_MCP_BURST", "burst", _count(1), "10", "Calls that may come at once under OLLAMA_MCP_RATE."),
    Field("OLLAMA_MCP_LOG_LEVEL", "log_level", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "WARNING",
          "What is logged on stderr. Prompts only at DEBUG."),
    Field("OLLAMA_MCP_LOG_FILE", "log_file", _path_text, "", "A file that gets the log as well."),
    Field("OLLAMA_MCP_EMBEDDED_MODEL", "embedded_model", _readable, "", "GGUF file for the embedded engine."),
    Field("OLLAMA_MCP_CACHE", "cache", _path, "~/.cache/ollama-mcp",
          "Folder of the embedded engine's models."),
    Field("OLLAMA_MCP_CONFIG", "", _text, "", "A TOML file with any of these by their names in the file."),
)  # fmt: skip

_PER_MODEL = ("options", "system", "keep_alive", "think")


# --- reading all of it -------------------------------------------------------------------------


def load(environment: Mapping[str, str] | None = None, *, flags: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    Args:
        environment: Variables; those of the process by default.
        flags: Values by variable that win over it, as from a command line.

    Raises:
        SettingsError: Any value is wrong; every one is named.
    """
    variables = {**(os.environ if environment is None else environment), **(flags or {})}
    problems: list[str] = []
    table = _read_file(variables.get("OLLAMA_MCP_CONFIG", ""), problems)
    values = dict(_values(variables, table, problems))
    per_model = dict(_model_tables(table.pop("models", {}), problems))
    problems.extend(_strangers(table))
    unknown = tuple(_unknown_variables(variables))
    if problems:
        raise SettingsError([*problems, *unknown])
    values.setdefault("cache", _cache_folder(variables))
    return _build(values, per_model, unknown)


def own() -> Settings:
    """The settings of this process, for programs that have our code in them; their warnings are logged.

    Raises:
        SettingsError: As for `load`.
    """
    settings = load()
    for warning in settings.warnings:
        _log.warning("%s", warning)
    return settings


def _cache_folder(variables: Mapping[str, str]) -> Path:
    """Where the user's caches are, by the habits of the operating system."""
    root = variables.get("XDG_CACHE_HOME") or variables.get("LOCALAPPDATA") or "~/.cache"
    try:
        return Path(root).expanduser() / "ollama-mcp"
    except RuntimeError:  # a user without a home folder, as in many containers: told where it is needed
        return Path(root) / "ollama-mcp"


def _read_file(path: str, problems: list[str]) -> dict[str, Any]:
    if not path.strip():
        return {}
    try:
        return tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"OLLAMA_MCP_CONFIG: {path[:200]} is not TOML: {error}")
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path"
        problems.append(f"OLLAMA_MCP_CONFIG: {path[:200]} cannot be read ({reason}); name a TOML file")
    return {}


def _values(
    variables: Mapping[str, str], table: dict[str, Any], problems: list[str]
) -> Iterator[tuple[str, Any]]:
    for entry in FIELDS:
        in_file = table.pop(entry.key, None)
        raw = variables.get(entry.variable)
        source = entry.variable if raw is not None else f"{entry.key} in OLLAMA_MCP_CONFIG"
        raw = in_file if raw is None else raw
        is_blank = isinstance(raw, str) and not raw.strip()  # then the default holds, also over the file
        if raw is not None and not is_blank and entry.key:
            yield from _one(entry, raw, source, problems)


def _one(entry: Field[Any], raw: Any, source: str, problems: list[str]) -> Iterator[tuple[str, Any]]:
    try:
        yield entry.key, entry.read(raw)
    except OllamaError as error:
        problems.append(f"{source}: {error.cause}. {error.remedy}")
    except ValueError as error:
        is_secret = entry.secret or entry.key in {"host", "api_key_host"}  # an address can hold a password
        shown = "its value" if is_secret else _shown(raw)
        problems.append(f"{source}: {shown} is not allowed; it must be {error}")


def _shown(raw: Any) -> str:
    try:
        text = repr(raw)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number"
    return text if len(text) <= 100 else text[:99] + "…"


def _model_tables(tables: Any, problems: list[str]) -> Iterator[tuple[str, ModelDefaults]]:
    entries = {entry.key: entry for entry in FIELDS if entry.key in _PER_MODEL}
    if not isinstance(tables, dict):
        problems.append('models in OLLAMA_MCP_CONFIG: it must be tables such as [models."qwen3:8b"]')
        return
    for name, table in cast("dict[str, Any]", tables).items():
        place = f'models."{name[:80]}" in OLLAMA_MCP_CONFIG'
        if not is_name(name):
            problems.append(f'{place}: it is not a model name such as "qwen3:8b"')
        values: dict[str, Any] = {}
        if not isinstance(table, dict):
            problems.append(f"{place}: it must be a table")
            continue
        for key, raw in cast("dict[str, Any]", table).items():
            if key not in entries:
                problems.append(f"{place}: {key} is unknown; allowed are {', '.join(_PER_MODEL)}")
            else:
                values.update(_one(entries[key], raw, f"{place}: {key}", problems))
        yield name, ModelDefaults(**values)


def _strangers(table: Mapping[str, Any]) -> Iterator[str]:
    known = [entry.key for entry in FIELDS if entry.key]
    for key in table:
        close = difflib.get_close_matches(key, known, n=1)
        meant = f"; {close[0]} is meant?" if close else f"; allowed are {', '.join(known)}, models"
        yield f"{key[:80]} in OLLAMA_MCP_CONFIG is unknown{meant}"


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    ours = "OLLAMA_MCP_"
    known = [entry.variable.removeprefix(ours) for entry in FIELDS if entry.variable.startswith(ours)]
    for name in (variable.removeprefix(ours) for variable in variables if variable.startswith(ours)):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
            yield f"{ours}{name} is no setting" + (f"; {ours}{close[0]} is meant?" if close else "")


_ALIKE = 0.75
"""Of 1: one letter wrong in a short name, two or three in a long one."""
_LIMITS = {f"max_{limit.name}": limit.name for limit in fields(Limits)}
_CLOCKS = {f"{clock.name}_timeout": clock.name for clock in fields(Clocks)}
_BACKEND = ("host", "api_key", "api_key_host", "headers", "ca_file", "max_connections", "retries")


def _build(
    values: dict[str, Any], per_model: Mapping[str, ModelDefaults], unknown: tuple[str, ...]
) -> Settings:
    clocks = Clocks(**{_CLOCKS[key]: values.pop(key) for key in list(values) if key in _CLOCKS})
    backend = replace(
        Backend(clocks=clocks, setting="OLLAMA_HOST"),
        **{key: values.pop(key) for key in _BACKEND if key in values},
    )
    limits = Limits(**{_LIMITS[key]: values.pop(key) for key in list(values) if key in _LIMITS})
    defaults = ModelDefaults(**{key: values.pop(key) for key in _PER_MODEL if key in values})
    return Settings(
        backend=backend, defaults=defaults, limits=limits, per_model=per_model, unknown=unknown, **values
    )
