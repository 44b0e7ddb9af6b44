"""Declaration of a setting, at the attribute that holds its value.

    chat_model: str = setting(read_model, "", "Model of a call that names none.", MODELS)

The attribute has the name in the settings file, and the variable is `OLLAMA_MCP_` and that name. Variables,
the file, docs/settings.md and `ollama-mcp doctor` derive from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, TypeVar, cast

T = TypeVar("T")

SERVER = "Ollama server: address, API key, TLS"
MODELS = "Models and defaults"
SIZES = "Context window and size limits"
PERMISSIONS = "Toolsets and permissions"
FILES = "Files"
STORAGE = "Collections and conversations"
LONG_CALLS = "Progress, protocol and long-running calls"
CONCURRENCY = "Concurrency and queues"
TIMEOUTS = "Timeouts and retries"
RATE_LIMIT = "Rate limit"
HTTP = "HTTP transport, authentication and graceful shutdown"
LOGGING = "Logging"
ENGINE = "Embedded engine"
CONFIG = "Settings file"
GROUPS = (
    SERVER, MODELS, SIZES, PERMISSIONS, FILES, STORAGE, LONG_CALLS, CONCURRENCY, TIMEOUTS, RATE_LIMIT,
    HTTP, LOGGING, ENGINE, CONFIG,
)  # fmt: skip
"""Headings of docs/settings.md, in their order."""


_SECURITY = {
    "api_key_host", "ca_file", "insecure_tls", "link_local", "cloud", "read_only", "registries",
    "max_pull_gb",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A setting as it was declared.

    Attributes:
        variable: Environment variable.
        key: Name in the settings file; "" for one that only a variable has.
        read: Return the value of a string, or of what TOML has; raise ValueError that says what is allowed.
        default: Default as a user would write it; "" for none.
        description: Sentence for docs/settings.md.
        group: One of `GROUPS`.
        secret: True if its value must never be shown.
        path: Attributes of `Settings` that lead to the value, such as ("backend", "api_key").
    """

    variable: str
    key: str
    read: Callable[[Any], Any]
    default: str
    description: str
    group: str
    secret: bool = False
    path: tuple[str, ...] = ()

    @property
    def is_security(self) -> bool:
        """True if a wrong value could open what was meant to be closed."""
        return self.secret or self.group in {HTTP, FILES} or self.key in _SECURITY

    def value_in(self, settings: object) -> Any:
        """Return the value that settings have."""
        for name in self.path:
            settings = getattr(settings, name)
        return settings


def setting(
    read: Callable[[Any], Any],
    default: Any,
    description: str,
    group: str,
    *,
    key: str = "",
    variable: str = "",
    shown: str | None = None,
    secret: bool = False,
    **more: Any,
) -> Any:
    """Declare a setting as the default of a dataclass's attribute.

    Args:
        read: As of `Field`.
        default: Value of a user who sets nothing.
        description: As of `Field`.
        group: As of `Field`.
        key: Name in the file, where it is not that of the attribute.
        variable: Environment variable, where it is not `OLLAMA_MCP_` and the key.
        shown: Default as a user would write it, where `written` does not know.
        secret: As of `Field`.
        more: For `dataclasses.field`.
    """
    shown = written(default) if shown is None else shown
    metadata = declared(read, shown, description, group, key=key, variable=variable, secret=secret)
    if isinstance(default, dict):
        kept = cast("dict[str, Any]", default)
        return field(default_factory=lambda: dict(kept), metadata=metadata, repr=not secret, **more)
    return field(default=default, metadata=metadata, repr=not secret, **more)


def declared(
    read: Callable[[Any], Any],
    shown: str,
    description: str,
    group: str,
    *,
    key: str = "",
    variable: str = "",
    secret: bool = False,
) -> dict[str, Any]:
    """Return the metadata of a setting whose attribute has a default of its own making; as of `setting`."""
    return {"setting": Field(variable, key, read, shown, description, group, secret)}


def written(value: Any) -> str:
    """Return a default as a user would write it.

    >>> [written(value) for value in (True, None, 5.0, ("chat", "models"), {})]
    ['1', '', '5', 'chat,models', '{}']
    """
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[Any, ...]", value)))
    return "" if value is None else str(value)


def declared_in(kind: Any, path: tuple[str, ...] = ()) -> Iterator[Field]:
    """Yield the settings of a dataclass, and of the dataclasses that its attributes hold.

    Args:
        kind: Dataclass. Its `KEY`, if any, makes a key of an attribute's name: `"{}_timeout"`.
        path: Attributes that lead to it.
    """
    for one in dataclasses.fields(kind):
        here = (*path, one.name)
        if "setting" in one.metadata:
            declared: Field = one.metadata["setting"]
            key = _key_of(kind, one)
            yield replace(
                declared, key=key, variable=declared.variable or f"OLLAMA_MCP_{key.upper()}", path=here
            )
        elif is_dataclass(one.default):
            yield from declared_in(type(one.default), here)


def _key_of(kind: Any, one: dataclasses.Field[Any]) -> str:
    template: str = getattr(kind, "KEY", "{}")
    return one.metadata["setting"].key or template.format(one.name)


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass of values by the keys of its settings; what has no value keeps its default."""
    made: dict[str, Any] = {}
    for one in dataclasses.fields(cast("Any", kind)):
        if "setting" in one.metadata:
            if (key := _key_of(kind, one)) in values:
                made[one.name] = values[key]
        elif is_dataclass(one.default):
            made[one.name] = build(cast("type[Any]", type(one.default)), values)
    return kind(**made)
