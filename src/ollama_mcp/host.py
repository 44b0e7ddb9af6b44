"""Where the Ollama server is: `OLLAMA_HOST`, read as Ollama itself reads it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ollama_mcp.errors import InvalidArgument

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server binds, a client cannot dial
_METADATA = frozenset({"metadata", "metadata.google.internal", "fd00:ec2::254", "100.100.100.200"})
_TRIMMED = "\"' \t\r\n"


@dataclass(frozen=True)
class Host:
    """An address of an Ollama server, in its parts.

    `username` and `password` are sent as HTTP basic authentication and never shown.
    """

    scheme: str
    hostname: str
    port: int
    path: str = ""
    username: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        """The address without userinfo, and so fit to be shown."""
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.scheme}://{name}:{self.port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, by its name or address alone."""
        if self.hostname == "localhost":
            return True
        address = _as_address(self.hostname)
        return address is not None and address.is_loopback

    @property
    def is_ollama_cloud(self) -> bool:
        """Whether this is Ollama's own cloud service."""
        return self.hostname == "ollama.com" or self.hostname.endswith(".ollama.com")

    def __str__(self) -> str:
        return self.url


def parse_host(value: str) -> Host:
    """Read an `OLLAMA_HOST` by Ollama's own rules.

    >>> [parse_host(value).url for value in ("", "gpu", "http://gpu", "https://gpu", ":5")]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['http://127.0.0.1:11434', 'http://gpu:11434', 'http://gpu:80', 'https://gpu:443',
     'http://127.0.0.1:5']

    What a server binds is not what a client dials:

    >>> [parse_host(value).url for value in ("0.0.0.0", "0.0.0.0:80", "::", "[::]:81", "::1", "[::1]:9")]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['http://127.0.0.1:11434', 'http://127.0.0.1:80', 'http://[::1]:11434', 'http://[::1]:81',
     'http://[::1]:11434', 'http://[::1]:9']

    The cloud is on https, quotes and spaces go, a path stays, a bad port is the default one:

    >>> [parse_host(value).url for value in ("ollama.com", ' "gpu" ', "https://gw/ollama/", "gpu:http")]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['https://ollama.com:443', 'http://gpu:11434', 'https://gw:443/ollama', 'http://gpu:11434']
    >>> parse_host("gpu:70000").port, parse_host("http://gpu:-1").port
    (11434, 80)

    Userinfo is kept apart, so that the address can be shown:

    >>> host = parse_host("https://me:s%3Acret@gw/ollama")
    >>> str(host), host.username, host.password
    ('https://gw:443/ollama', 'me', 's:cret')

    Raises:
        InvalidArgument: Another scheme than http or https, or a link-local or metadata address.
    """
    text = value.strip(_TRIMMED)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    host = _parse_rest(scheme.lower(), rest, explicit=bool(separator))
    _refuse_unsafe(host)
    return host


def _parse_rest(scheme: str, rest: str, *, explicit: bool) -> Host:
    authority, slash, path = rest.partition("/")
    userinfo, at, authority = authority.rpartition("@")
    username, _, password = userinfo.partition(":") if at else ("", "", "")
    name, port_text = _split_port(authority)
    name = _ANY_ADDRESS.get(name, name) or "127.0.0.1"
    if name == "ollama.com" and not explicit:
        scheme, explicit = "https", True
    default = _SCHEME_PORTS.get(scheme, DEFAULT_PORT) if explicit else DEFAULT_PORT
    return Host(
        scheme=scheme,
        hostname=name.lower(),
        port=_port(port_text, default),
        path=(slash + path).rstrip("/"),
        username=unquote(username),
        password=unquote(password),
    )


def _split_port(authority: str) -> tuple[str, str]:
    """Split `name:port`, `[v6]:port` or a bare v6 address.

    >>> [_split_port(text) for text in ("a:1", "a", "[::1]:2", "::1", ":3")]
    [('a', '1'), ('a', ''), ('::1', '2'), ('::1', ''), ('', '3')]
    """
    if authority.startswith("["):
        name, _, rest = authority[1:].partition("]")
        return name, rest.removeprefix(":")
    if authority.count(":") > 1:
        return authority, ""
    name, _, port = authority.partition(":")
    return name, port


def _port(text: str, default: int) -> int:
    if not (text.isascii() and text.isdigit()):
        return default
    port = int(text[:6])
    return port if 0 < port < 65536 else default


def _refuse_unsafe(host: Host) -> None:
    if host.scheme not in _SCHEME_PORTS:
        raise InvalidArgument(
            f"OLLAMA_HOST has the scheme {host.scheme!r}", "Use http:// or https://, or no scheme at all."
        )
    if not _is_host_name(host.hostname):
        raise InvalidArgument(
            "OLLAMA_HOST is not an address", "Use a form such as 127.0.0.1:11434 or https://gpu-box."
        )
    address = _as_address(host.hostname)
    if host.hostname in _METADATA or (address is not None and address.is_link_local):
        raise InvalidArgument(
            f"OLLAMA_HOST {host.hostname} is a link-local or metadata address",
            "Name the machine that runs Ollama.",
        )


def _is_host_name(name: str) -> bool:
    """Whether a URL with this name is read back as the same name: no spaces, slashes or tricks."""
    if _as_address(name) is not None:
        return True
    try:
        return not any(c.isspace() or c in '[]<>\\^`{|}"%?#@:,' for c in name) and bool(
            urlsplit(f"http://{name}").hostname
        )
    except ValueError:
        return False


def _as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a name spells, in the short and octal-free forms that resolvers take too.

    An IPv4 address in IPv6's clothes is the IPv4 address:

    >>> str(_as_address("::ffff:169.254.169.254")), _as_address("gpu-box")
    ('169.254.169.254', None)
    """
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return _as_number(name)
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _as_number(name: str) -> ipaddress.IPv4Address | None:
    """The address that inet_aton reads in `2852039166`, `0xa9fea9fe` or `169.254.43518`.

    >>> str(_as_number("2852039166")), str(_as_number("0xa9.254.0251.254")), _as_number("1.2.3.4.5")
    ('169.254.169.254', '169.254.169.254', None)
    """
    parts = name.lower().split(".")
    try:
        numbers = [_c_integer(part) for part in parts]
    except ValueError:
        return None
    *heads, last = numbers
    if len(parts) > 4 or any(n > 255 for n in heads) or last >= 256 ** (5 - len(parts)):
        return None
    high = sum(n << (24 - 8 * i) for i, n in enumerate(heads))
    return ipaddress.IPv4Address(high + last)


def _c_integer(text: str) -> int:
    if text.startswith("0x"):
        return int(text, 16)
    if len(text) > 1 and text.startswith("0"):
        return int(text, 8)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)
