"""Reading all of it: the only place that looks at the environment. Every bad value is named at once."""

from __future__ import annotations

import difflib
import logging
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.hosts import Host, parse_host
from ollama_mcp.ollama.model_names import is_name
from ollama_mcp.settings.declaration import Field, build, declared_in
from ollama_mcp.settings.model import FIELDS, Backend, ModelDefaults, Settings, SettingsError
from ollama_mcp.settings.readers import read_text
from ollama_mcp.settings.upstreams import DEPTH, UpstreamServer, read_upstreams

_log = logging.getLogger("ollama_mcp")

PER_MODEL = tuple(one.key for one in declared_in(ModelDefaults))
"""Settings that a table of the file can have for one model."""

_FIXED = "what it limits is larger than anything that a model can use"
REMOVED = {
    "CLIENT_ROOTS": "OLLAMA_MCP_ROOTS names folders, and the protocol asks clients for none any more",
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
    wrong: list[Field] = []
    values = dict(_values(variables, table, problems, wrong))
    per_model = dict(_model_tables(table.pop("models", {}), problems))
    removed = [key for key in table if key.upper() in REMOVED]
    problems.extend(_strangers({key: value for key, value in table.items() if key not in removed}))
    unknown = (*_unknown_variables(variables), *map(_is_removed, removed))
    upstreams: tuple[UpstreamServer, ...] = ()
    if file := values.get("upstream"):
        if variables.get(DEPTH):
            unknown += ("OLLAMA_MCP_UPSTREAM is ignored: this server is an upstream of another ollama-mcp",)
        else:
            upstreams = read_upstreams(file, variables, problems)
    if problems:
        stops = bool(values.get("http")) or any(entry.is_security for entry in wrong)
        raise SettingsError([*problems, *unknown], stops=stops)
    values.setdefault("cache", _cache_folder(variables))
    settings = build(Settings, values)
    backend = replace(
        settings.backend,
        setting="OLLAMA_HOST",
        max_connections=max(Backend.max_connections, 2 * settings.parallel),
        beside=_beside(variables),
        inside=_inside(),
    )
    return replace(settings, backend=backend, per_model=per_model, unknown=unknown, upstreams=upstreams)


_OTHERS = ("OLLAMA_BASE_URL", "OLLAMA_API_BASE", "OLLAMA_API_BASE_URL", "OLLAMA_URL", "OLLAMA_API_URL",
           "OLLAMA_ENDPOINT", "OLLAMA_SERVER_URL", "OLLAMA_HOST_URL", "OLLAMA_BASEURL")  # fmt: skip
"""What other programs call the address: Open WebUI, LiteLLM, LangChain's examples, Continue, n8n …"""


def _beside(variables: Mapping[str, str]) -> str:
    """The variable of another program's that names the server, where ours does not."""
    if variables.get("OLLAMA_HOST", "").strip():
        return ""
    for name in _OTHERS:
        with suppress(OllamaError):  # one that names the usual address, too, says nothing new
            if (value := variables.get(name, "").strip()) and parse_host(value).url != parse_host("").url:
                return name
    return ""


def _inside() -> str:
    """Return where this process runs: "container", "WSL", or "" for a machine as any other."""
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return "container"
    try:
        release = Path("/proc/sys/kernel/osrelease").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return "WSL" if "microsoft" in release.lower() else ""


def load_from_environment() -> Settings:
    """The settings of this process, for programs that have our code in them; their warnings are logged.

    Raises:
        SettingsError: As for `load`.
    """
    settings = load()
    for warning in settings.warnings:
        _log.warning("%s", warning)
    return settings


def _cache_folder(variables: Mapping[str, str]) -> Path:
    """Return the user's folder for caches, by the habits of the operating system."""
    root = variables.get("XDG_CACHE_HOME") or variables.get("LOCALAPPDATA") or "~/.cache"
    try:
        return Path(root).expanduser() / "ollama-mcp"
    except RuntimeError:  # a user without a home folder, as in many containers: told where it is needed
        return Path(root) / "ollama-mcp"


def with_default_store(settings: Settings, *, is_made: bool = False) -> Settings:
    """Return settings with the user's own store, where none is set and there is one already.

    Args:
        settings: Settings of a command. A library uses a store only where its settings name one.
        is_made: Whether the command makes it.
    """
    if settings.store:
        return settings
    windows = os.environ.get("LOCALAPPDATA")  # it has the cache, too, so that a folder more is needed
    place = f"{windows}/ollama-mcp/store" if windows else "~/.local/share/ollama-mcp"
    if root := os.environ.get("XDG_DATA_HOME"):
        place = f"{root}/ollama-mcp"
    try:
        folder = Path(place).expanduser()
        is_there = is_made or folder.is_dir()
    except (RuntimeError, OSError):  # a user without a home folder
        return settings
    return replace(settings, store=str(folder)) if is_there else settings


def _read_file(path: str, problems: list[str]) -> dict[str, Any]:
    if not path.strip():
        return {}
    try:
        return tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"OLLAMA_MCP_CONFIG: {path[:200]} is not TOML: {error}")
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path"
        problems.append(f"OLLAMA_MCP_CONFIG: {path[:200]} cannot be read ({reason}); name a TOML file")
    return {}


def _values(
    variables: Mapping[str, str], table: dict[str, Any], problems: list[str], wrong: list[Field]
) -> Iterator[tuple[str, Any]]:
    """Yield the values by keys; those that are wrong are described in `problems`, and listed in `wrong`."""
    link_local = variables.get("OLLAMA_MCP_LINK_LOCAL") or table.get("link_local")
    for entry in FIELDS:
        in_file = table.pop(entry.key, None)
        raw = variables.get(entry.variable)
        source = entry.variable if raw is not None else f"{entry.key} in OLLAMA_MCP_CONFIG"
        raw = in_file if raw is None else raw
        is_blank = isinstance(raw, str) and not raw.strip()  # then the default holds, also over the file
        if entry.key == "host" and str(link_local).strip().lower() in {"1", "true", "yes", "on"}:
            entry = replace(entry, read=_any_host)  # noqa: PLW2901
        if raw is not None and not is_blank and entry.key:
            before = len(problems)
            yield from _one(entry, raw, source, problems)
            if len(problems) > before:
                wrong.append(entry)


def _any_host(value: Any) -> Host:
    return parse_host(read_text(value), link_local=True)


_UNEXPANDED = re.compile(r"\s*(?:\$\{[^{}]+\}|(?P<bare>\$[A-Za-z_]\w*)|%[A-Za-z_]\w*%)\s*\Z")
"""A variable, as some clients' files have it, and hand it on as it is where they do not know it."""


def _one(entry: Field, raw: Any, source: str, problems: list[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(raw, str) and (found := _UNEXPANDED.match(raw)) and not (entry.secret and found["bare"]):
        name = "the name of a variable" if entry.secret else repr(raw.strip()[:80])
        problems.append(
            f"{source} is {name} itself: whoever started this did not put the variable's value there. Write "
            "the value, or set that variable for the client."
        )
        return
    try:
        yield entry.key, entry.read(raw)
    except OllamaError as error:
        problems.append(f"{source}: {error.cause}. {error.remedy}")
    except ValueError as error:
        is_database = entry.key == "store" and any(sign in str(raw) for sign in ("@", "://", "="))
        is_address = entry.key in {"host", "api_key_host"} or is_database  # an address can hold a password
        is_secret = entry.secret or is_address
        shown = "its value" if is_secret else _shown(raw)
        problems.append(f"{source}: {shown} is not allowed; it must be {error}")


def _shown(raw: Any) -> str:
    try:
        text = repr(raw)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number"
    return text if len(text) <= 100 else text[:99] + "…"


def _model_tables(tables: Any, problems: list[str]) -> Iterator[tuple[str, ModelDefaults]]:
    entries = {entry.key: entry for entry in FIELDS if entry.key in PER_MODEL}
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
                problems.append(f"{place}: {key} is unknown; allowed are {', '.join(PER_MODEL)}")
            else:
                values.update(_one(entries[key], raw, f"{place}: {key}", problems))
        yield name, ModelDefaults(**values)


def _strangers(table: Mapping[str, Any]) -> Iterator[str]:
    known = [entry.key for entry in FIELDS if entry.key]
    for key in table:
        close = difflib.get_close_matches(key, known, n=1)
        meant = f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}, models."
        yield f"Unknown setting {key[:80]} in OLLAMA_MCP_CONFIG. {meant}"


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    ours = "OLLAMA_MCP_"
    known = [entry.variable.removeprefix(ours) for entry in FIELDS if entry.variable.startswith(ours)]
    for name in (variable.removeprefix(ours) for variable in variables if variable.startswith(ours)):
        if name in REMOVED:
            yield _is_removed(name)
        elif name not in known and f"{ours}{name}" != DEPTH:
            close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
            yield f"Unknown setting {ours}{name}." + (f" Did you mean {ours}{close[0]}?" if close else "")


def _is_removed(name: str) -> str:
    return f"OLLAMA_MCP_{name.upper()} is ignored, since it is no setting any more: {REMOVED[name.upper()]}"


_ALIKE = 0.75
"""Of 1: one letter wrong in a short name, two or three in a long one."""
