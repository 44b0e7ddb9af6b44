"""Addresses as a server meets them: what it listens on, and whom a Host or an Origin header names.

Read strictly, unlike `OLLAMA_HOST`: what a browser can be made to send must not be guessed at.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_][A-Za-z0-9_.-]{0,252})(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://(.*)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_LOOPBACK = "127.0.0.1"
ANY_PORT = "*"


@dataclass(frozen=True)
class Authority:
    """A name or an address, and a port where one is written.

    Attributes:
        name: In lower case; an IP address in its one spelling, without brackets.
        port: None where none is written.
    """

    name: str
    port: int | None = None

    @property
    def is_this_machine(self) -> bool:
        """True if the name can only mean the machine of whoever uses it."""
        return self.name in _THIS_MACHINE

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def parse_authority(text: str) -> Authority | None:
    """Read `name`, `name:port`, `address:port` or `[v6]:port`, and nothing else.

    >>> [str(parse_authority(text)) for text in ("GPU-box:8000", "127.0.0.1", "[0:0::1]:80")]
    ['gpu-box:8000', '127.0.0.1', '[::1]:80']
    >>> [parse_authority(text) for text in ("", "a:", "a:0", "a:65536", "a:1:2", "::1", "u@a", "[1.2]")]
    [None, None, None, None, None, None, None, None]
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    name = _name(found[1])
    port = None if found[2] is None else int(found[2])
    if name is None or (port is not None and not 0 < port < 65536):
        return None
    return Authority(name, port)


def _name(written: str) -> str | None:
    """The one spelling of an address, or the name in lower case."""
    if not written.startswith("["):
        return written.lower()
    try:
        return str(ipaddress.IPv6Address(written[1:-1]))
    except ValueError:
        return None


def parse_bind(text: str) -> tuple[str, int]:
    """Read an address to listen on: a name or an address, and a port (0 is any that is free).

    >>> [parse_bind(text) for text in ("127.0.0.1:8000", "localhost:0", "[::]:80", ":8000", "8000")]
    [('127.0.0.1', 8000), ('localhost', 0), ('::', 80), ('127.0.0.1', 8000), ('127.0.0.1', 8000)]

    Raises:
        ValueError: It is no such thing.
    """
    name, _, port = text.strip().rpartition(":")
    authority = parse_authority(name or _LOOPBACK)
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65536
    if authority is None or authority.port is not None or not is_port:
        raise ValueError("an address to listen on such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000")
    return authority.name, int(port)


@dataclass(frozen=True)
class AllowedHost:
    """A name by which clients may call the server, beside its own.

    Attributes:
        name: As in `Authority`.
        port: Exactly this one; None: none, the server's own or a usual one (80, 443); "*": any.
    """

    name: str
    port: int | str | None = None

    def admits(self, named: Authority, own_port: int) -> bool:
        """Return whether a Host header of that name and port may pass."""
        if named.name != self.name:
            return False
        if self.port is None:
            return named.port in (None, own_port, *_DEFAULT_PORTS.values())
        return self.port in (ANY_PORT, named.port)

    def __str__(self) -> str:
        """As it is written in the settings."""
        name = str(Authority(self.name))
        return name if self.port is None else f"{name}:{self.port}"


def parse_allowed_host(text: str) -> AllowedHost:
    """Read `name`, `name:port` or `name:*`.

    Raises:
        ValueError: It is no such thing.
    """
    name, separator, port = text.strip().rpartition(":")
    any_port = bool(separator) and port == ANY_PORT
    found = parse_authority(name if any_port else text.strip())
    if found is None or (any_port and found.port is not None):
        raise ValueError("names such as gpu.example.com, gpu-box:9000 or gpu-box:*, with commas between")
    return AllowedHost(found.name, ANY_PORT if any_port else found.port)


@dataclass(frozen=True)
class Origin:
    """Origin of a browser's page; the port is always known."""

    scheme: str
    name: str
    port: int

    def __str__(self) -> str:
        """As a browser writes it: without the usual port."""
        is_usual = self.port == _DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{Authority(self.name, None if is_usual else self.port)}"


def parse_origin(text: str) -> Origin | None:
    """Read `http://name`, `https://name:port`; None for `null` and whatever else.

    >>> parse_origin("https://App.example"), parse_origin("http://[::1]:6274")
    (Origin(scheme='https', name='app.example', port=443), Origin(scheme='http', name='::1', port=6274))
    >>> [parse_origin(text) for text in ("null", "http://a/", "file://a", "a", "http://a b")]
    [None, None, None, None, None]
    """
    found = _ORIGIN.fullmatch(text)
    authority = parse_authority(found[2]) if found else None
    if found is None or authority is None:
        return None
    scheme = found[1].lower()
    return Origin(scheme, authority.name, authority.port or _DEFAULT_PORTS[scheme])


def parse_allowed_origin(text: str) -> Origin:
    """Read an origin that pages may come from.

    Raises:
        ValueError: It is no such thing.
    """
    found = parse_origin(text.strip())
    if found is None:
        raise ValueError("origins such as https://app.example or http://localhost:6274, with commas between")
    return found


@dataclass(frozen=True)
class AllowedNames:
    """Names by which this server may be called, and origins of pages that may call it.

    A page of a stranger can make a browser call a server of this machine under a name of the stranger's
    own (DNS rebinding). It cannot make it say `localhost` or an address.

    Attributes:
        bound: What the operator bound: a name or an address.
        hosts: Further names.
        origins: Pages of these may call.
    """

    bound: str = _LOOPBACK
    hosts: tuple[AllowedHost, ...] = ()
    origins: tuple[Origin, ...] = ()

    def has_host(self, header: str, local: tuple[str, int], scheme: str = "http") -> bool:
        """Return whether a Host header names this server.

        Args:
            header: Its value.
            local: Address and port that the connection came to.
            scheme: Of the connection.
        """
        named = parse_authority(header)
        if named is None:
            return False
        return self._is_own(named, local, scheme) or any(a.admits(named, local[1]) for a in self.hosts)

    def _is_own(self, named: Authority, local: tuple[str, int], scheme: str) -> bool:
        is_ours = named.is_this_machine or named.name in (self.bound, _plain(local[0]))
        return is_ours and (named.port or _DEFAULT_PORTS.get(scheme)) == local[1]

    def has_origin(self, header: str, local: tuple[str, int], scheme: str = "http") -> bool:
        """Return whether an Origin header is of a page that may call.

        Those of this very server are, under whichever of its names, and those allowed.

        The arguments are those of `has_host`.
        """
        origin = parse_origin(header)
        if origin is None:
            return False
        if origin in self.origins:
            return True
        page = Authority(origin.name, origin.port)
        if any(allowed.admits(page, local[1]) for allowed in self.hosts):
            return True
        return origin.scheme == scheme and self._is_own(page, local, scheme)


def _plain(address: str) -> str:
    """An IPv4 address in IPv6's clothes, as a server on `::` sees it, is the IPv4 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a path of a Unix socket
        return address
    return str(getattr(found, "ipv4_mapped", None) or found)


def is_loopback(address: str) -> bool:
    """Return whether a socket that is bound to this address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(_plain(address)).is_loopback
    except ValueError:
        return False
