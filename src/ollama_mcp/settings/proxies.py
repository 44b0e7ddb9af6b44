"""Proxy of the environment that leads to a server, by the rules of Go's net/http, which Ollama follows.

Besides Go's HTTP_PROXY and HTTPS_PROXY, ALL_PROXY counts where those are not set, as curl has it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from ollama_mcp.ollama.hosts import Host


@dataclass(frozen=True)
class Proxy:
    """A proxy: the variable that names it, and its address, which may have a password."""

    variable: str
    url: str = field(repr=False)

    @property
    def is_address(self) -> bool:
        """True if it has a host, and a port that exists."""
        try:
            parts = urlsplit(self.url)
            return bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False


def proxy_for(host: Host, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy through which a server is reached; None where it is reached directly.

    >>> from ollama_mcp.ollama.hosts import parse_host
    >>> box = parse_host("http://gpu-box:11434")
    >>> proxy_for(box, {"ALL_PROXY": "socks5://127.0.0.1:9"}).variable
    'ALL_PROXY'
    >>> proxy_for(box, {"HTTP_PROXY": "proxy:3128", "NO_PROXY": "10.0.0.0/8, gpu-box"})
    """
    environment = os.environ if environment is None else environment
    if host.is_loopback or _is_excepted(host, _value(environment, "NO_PROXY")[1]):
        return None
    for name in (f"{host.scheme.upper()}_PROXY", "ALL_PROXY"):
        variable, url = _value(environment, name)
        if url:
            return Proxy(variable, url if "://" in url else f"http://{url}")
    return None


def _value(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable that is set, in capitals or not, and its value; the name and "" for none."""
    for variable in (name, name.lower()):
        if value := environment.get(variable, "").strip():
            return variable, value
    return name, ""


def _is_excepted(host: Host, no_proxy: str) -> bool:
    entries = (entry.strip().lower() for entry in no_proxy.split(","))
    return any(entry == "*" or _covers(entry, host) for entry in entries if entry)


def _covers(entry: str, host: Host) -> bool:
    """Return whether an entry names a server: an address, a network, or a domain with all below it."""
    name = host.hostname.lower().strip("[]").rstrip(".")
    try:
        return ip_address(name) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    pattern, _, port = entry.rpartition(":") if _has_port(entry) else (entry, "", "")
    if port and int(port) != host.port:
        return False
    pattern = pattern.strip("[]").removeprefix("*")
    return name.endswith(pattern if pattern.startswith(".") else f".{pattern}") or name == pattern


def _has_port(entry: str) -> bool:
    pattern, colon, port = entry.rpartition(":")
    return bool(colon) and port.isdecimal() and (":" not in pattern or pattern.endswith("]"))
