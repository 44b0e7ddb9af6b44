"""Readers of values, from a variable or from TOML; of a wrong one a ValueError says what is allowed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.rate_limit import Rate, parse_rates
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.ollama.model_names import check_name, is_registry
from ollama_mcp.ollama.options import parse_options
from ollama_mcp.ollama.parameters import KeepAlive, parse_keep_alive
from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.settings.listening import (
    AllowedHost,
    Origin,
    parse_allowed_host,
    parse_allowed_origin,
    parse_bind,
)


def read_text(value: Any) -> str:
    """Text, without blanks around it."""
    if not isinstance(value, str):
        raise ValueError("a string")  # noqa: TRY004 - every wrong value is one kind of failure here
    return value.strip()


def read_bool(value: Any) -> bool:
    """1 or 0, in any of the usual words."""
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False,
             "off": False, "": False}  # fmt: skip
    text = str(value).strip().lower()
    if text not in known:
        raise ValueError("1 or 0")
    return known[text]


def read_seconds(value: Any) -> float:
    """Seconds above 0."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < 1e6 or isinstance(value, bool):
        raise ValueError("a number of seconds above 0")
    return seconds


def read_seconds_or_never(value: Any) -> float:
    """0 is never."""
    if str(value).strip() in {"0", "0.0"} and value is not False:
        return 0.0
    try:
        return read_seconds(value)
    except ValueError:
        raise ValueError("a number of seconds above 0 and below 1000000, or 0 for never") from None


def read_count(low: int) -> Callable[[Any], int]:
    """Returns the reader of a whole number that is at least `low`."""

    def read(value: Any) -> int:
        text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
        if not text.isdecimal() or len(text) > 9 or int(text) < low:
            raise ValueError(f"a whole number of at least {low}")
        return int(text)

    return read


_SIZE = re.compile(r"(\d{1,12}) *(?:([KMG])(?:i?B)?)?\Z", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def read_size(value: Any) -> int:
    """Bytes, also as `16 MiB` or `512K`: powers of 1024 whichever way they are written."""
    text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    found = _SIZE.match(text)
    size = int(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0
    if not 0 < size < 2**40:
        raise ValueError("a number of bytes above 0 such as 1048576, 512 KiB or 16 MiB")
    return size


def read_gigabytes(value: Any) -> float:
    """Gigabytes, 0 or more."""
    try:
        size = float(value)
    except (TypeError, ValueError, OverflowError):
        size = -1.0
    if not 0 <= size < 1e6 or isinstance(value, bool):
        raise ValueError("a number of gigabytes, 0 or more")
    return size


def _listed(value: Any) -> list[Any]:
    """A list of TOML, or a text with commas or blanks between."""
    return cast("list[Any]", value) if isinstance(value, list) else read_text(value).replace(",", " ").split()


def read_names(value: Any) -> tuple[str, ...]:
    """Names with commas or blanks between, or a list of them."""
    named = _listed(value)
    if not all(isinstance(name, str) and name.strip().isidentifier() for name in named):
        raise ValueError("names with commas between, such as chat,models")
    return tuple(name.strip() for name in named)


def read_patterns(value: Any) -> tuple[str, ...]:
    """Names and patterns of tools, with commas or blanks between, or a list of them."""
    patterns = tuple(read_text(pattern) for pattern in _listed(value))
    if not all(re.fullmatch(r"[\w.*?\[\]!-]{1,128}", pattern) for pattern in patterns):
        raise ValueError("names or patterns of tools with commas between, such as fs__write_file,git__*")
    return patterns


def read_registries(value: Any) -> tuple[str, ...]:
    """Hosts of registries."""
    named = _listed(value)
    if not all(isinstance(name, str) and is_registry(name) for name in named):
        raise ValueError("host names such as registry.ollama.ai, hf.co or gpu-box:5000, with commas between")
    return tuple(name.strip().lower() for name in named)


def read_one_of(*allowed: str) -> Callable[[Any], str]:
    """Returns the reader of one of these words, whichever way it is written."""

    def read(value: Any) -> str:
        for choice in allowed:
            if str(value).strip().lower() == choice.lower():
                return choice
        raise ValueError("one of " + ", ".join(allowed))

    return read


def read_mapping(value: Any) -> dict[str, Any]:
    """A JSON object, or a table of TOML."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise ValueError("a JSON object") from None
    if not isinstance(value, dict):
        raise ValueError("a JSON object (in the file: a table)")  # noqa: TRY004 - as above
    return {str(k): v for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # RFC 9110


def read_headers(value: Any) -> dict[str, str]:
    """Names and values of HTTP headers."""
    found = {name: str(text) for name, text in read_mapping(value).items()}
    for name, text in found.items():
        if not _TOKEN.match(name) or not (text.isascii() and text.isprintable()):
            raise ValueError('a JSON object of header names and values, such as {"X-Team": "a"}')
    return found


def read_key(value: Any) -> str:
    """An API key."""
    key = read_text(value)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("a key of printable ASCII characters without spaces")
    return key


def read_host_name(value: Any) -> str:
    """The name alone of what may be given as an address."""
    try:
        return parse_host(read_text(value)).hostname if read_text(value) else ""
    except OllamaError:
        raise ValueError("a host name such as gpu-box") from None


def read_path(value: Any) -> Path:
    """A path, from the home folder where it begins with ~."""
    text = read_text(value)
    if "\0" in text:
        raise ValueError("a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path, whose ~ is a home folder that exists") from None


def read_path_text(value: Any) -> str:
    """A path as text; "" for none."""
    return str(read_path(value)) if read_text(value) else ""


def read_readable(value: Any) -> str:
    """The path of a file that exists; "" for none."""
    try:
        found = not read_text(value) or read_path(value).is_file()
    except OSError:  # too long, or in a folder that is closed to us
        found = False
    if not found:
        raise ValueError("the path of a file that exists")
    return str(read_path(value)) if read_text(value) else ""


def read_folder(value: Any) -> Path:
    """A folder that exists, by its whole path: hosts start us anywhere."""
    try:
        path = read_path(value)
        if path.is_absolute() and path.is_dir():
            return path
    except (OSError, ValueError):  # too long, or in a folder that is closed to us
        pass
    raise ValueError("the whole path of a folder that exists, such as /home/me/notes")


def read_folders(value: Any) -> tuple[Path, ...]:
    """Folders, separated as PATH is on this system."""
    named = cast("list[Any]", value) if isinstance(value, list) else read_text(value).split(os.pathsep)
    return tuple(read_folder(name) for name in named if name != "")


def read_store(value: Any) -> str | DatabaseUrl:
    """A folder by its whole path, made at its first use, or the URL of a PostgreSQL database; "" for none."""
    text = read_text(value)
    if re.match(r"postgres(ql)?://\S*\Z", text):
        return DatabaseUrl(text)
    if not text:
        return ""
    path = read_path(text)
    if "://" in text or not path.is_absolute() or path.is_file():
        raise ValueError(
            "the whole path of a folder, such as /home/me/.local/share/ollama-mcp, or a URL such as "
            "postgresql://user:password@host/database"
        )
    return str(path)


def read_collections(value: Any) -> tuple[str, ...]:
    """Names of collections, with commas between."""
    names = tuple(read_text(name) for name in _listed(value))
    if not all(re.fullmatch(r"[\w.-]{1,64}", name) for name in names):
        raise ValueError("names of collections with commas between, such as manual,faq")
    return names


def read_rates(value: Any) -> dict[str, Rate]:
    """Rates of calls."""
    return parse_rates(read_text(value))


def read_model(value: Any) -> str:
    """The name of a model; "" for none."""
    return check_name(read_text(value)) if read_text(value) else ""


def read_models(value: Any) -> tuple[str, ...]:
    """Names of models."""
    named = _listed(value)
    return tuple(dict.fromkeys(check_name(read_text(name)) for name in named))


def read_time(value: Any) -> KeepAlive:
    """A keep_alive that says how long."""
    found = parse_keep_alive(value)
    if found is None:
        raise ValueError("a time such as 10m, 2h or forever")
    return found


def read_options(value: Any) -> dict[str, Any]:
    """Ollama's options."""
    options, _ = parse_options(read_mapping(value))
    return options.model_dump(exclude_none=True)


def read_patience(value: Any) -> float:
    """Seconds, 0 or more."""
    try:
        return read_seconds_or_never(value)
    except ValueError:
        raise ValueError("a number of seconds from 0 to 1000000") from None


# --- serving HTTP ------------------------------------------------------------------------------

_TOKEN_BYTES = 32
_VERIFIER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


def read_bind(value: Any) -> tuple[str, int] | None:
    """Read an address to listen on; None for nothing."""
    return parse_bind(read_text(str(value) if type(value) is int else value)) if value != "" else None


def read_allowed_hosts(value: Any) -> tuple[AllowedHost, ...]:
    """Names by which the server may be called."""
    return tuple(parse_allowed_host(read_text(name)) for name in _listed(value))


def read_allowed_origins(value: Any) -> tuple[Origin, ...]:
    """Origins whose pages may call."""
    return tuple(parse_allowed_origin(read_text(name)) for name in _listed(value))


def read_verifier(value: Any) -> str:
    """Read the place of an operator's own TokenVerifier."""
    text = read_text(value)
    if text and not _VERIFIER.fullmatch(text):
        raise ValueError("a function of a module, such as my_package.auth:make_verifier")
    return text


def read_token(value: Any) -> tuple[tuple[str, str], ...]:
    """A bearer token that cannot be guessed, of nobody in particular."""
    return (("", _token(read_text(value))),) if read_text(value) else ()


def _token(text: str) -> str:
    if len(text) < _TOKEN_BYTES or not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(
            f"a secret of at least {_TOKEN_BYTES} printable characters without spaces; "
            "`openssl rand -hex 32` writes one"
        )
    return text


def read_token_file(value: Any) -> tuple[tuple[str, str], ...]:
    """A file of bearer tokens, one a line, each with its owner's name before it where there are several."""
    path = read_readable(value)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines() if path else []
    except (OSError, UnicodeDecodeError):
        raise ValueError("the path of a text file that can be read") from None
    entries = [_owned(number, line) for number, line in enumerate(lines, 1) if _is_entry(line)]
    if path and not entries:
        raise ValueError("the path of a file with a token a line, each after its owner's name or alone")
    tokens = [token for _, token in entries]
    if len(set(tokens)) < len(tokens):
        raise ValueError("the path of a file in which no token stands twice")
    return tuple(entries)


def _is_entry(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _owned(number: int, line: str) -> tuple[str, str]:
    """The owner, or "", and the token of one line."""
    words = line.split()
    if len(words) > 2:
        raise ValueError(
            f"the path of a file with an owner's name and a token a line; line {number} is neither"
        )
    try:
        return (words[0] if len(words) == 2 else ""), _token(words[-1])
    except ValueError as error:
        raise ValueError(f"the path of a file of tokens; in line {number} has to be {error}") from None
