"""Address of the Ollama server: `OLLAMA_HOST`, read as Ollama itself reads it."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from ollama_mcp.errors import InvalidArgument

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
_METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
)
_METADATA_ADDRESSES = frozenset(map(ipaddress.ip_address, _METADATA))
_V4_IN_V6 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
_TRIMMED = "\"' \t\r\n"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}\Z")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}\Z")
_NUMBER = re.compile(r"\d+\Z|0x[0-9a-f]*\Z", re.ASCII)


@dataclass(frozen=True)
class Host:
    """An address of an Ollama server, in its parts.

    `username` and `password` are sent as HTTP basic authentication and never shown.
    """

    scheme: str
    hostname: str
    port: int
    path: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    remark: str = field(default="", repr=False, compare=False)
    """What was made of a strange address, where that may not be what is meant."""

    @property
    def url(self) -> str:
        """The address without userinfo, and so fit to be shown."""
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.scheme}://{name}:{self.port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """True if the server is on this machine, by its name or address alone."""
        if self.hostname == "localhost" or self.hostname.endswith(".localhost"):
            return True
        address = _as_address(self.hostname)
        return address is not None and address.is_loopback

    @property
    def is_ollama_cloud(self) -> bool:
        """True for Ollama's own cloud service."""
        return self.hostname == "ollama.com" or self.hostname.endswith(".ollama.com")

    def __str__(self) -> str:
        return self.url


def parse_host(value: str, *, link_local: bool = False) -> Host:
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

    An address has one spelling, however it was spelled:

    >>> [parse_host(value).hostname for value in ("0x7f.1", "[0:0::1]", "127。0。0。1", "GPU.", "b\u00fcro")]
    ['127.0.0.1', '::1', '127.0.0.1', 'gpu', 'xn--bro-hoa']

    Args:
        value: The address.
        link_local: Whether a link-local address is allowed; that of a cloud's metadata never is.

    Raises:
        InvalidArgument: Another scheme than http or https, no address at all, or a link-local or
            metadata address.
    """
    text = value.strip(_TRIMMED)
    if not text.isprintable():
        raise _not_an_address()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    return _parse_rest(_scheme(scheme.lower()), rest, explicit=bool(separator), link_local=link_local)


def _scheme(scheme: str) -> str:
    if scheme in _SCHEME_PORTS:
        return scheme
    shown = f"the scheme {scheme!r}" if _SCHEME.match(scheme) else "another scheme than http"
    raise InvalidArgument(f"the address has {shown}", "Use http:// or https://, or no scheme at all.")


def _not_an_address() -> InvalidArgument:
    return InvalidArgument(
        "that is not an address of a server", "Use a form such as 127.0.0.1:11434 or https://gpu-box."
    )


def _parse_rest(scheme: str, rest: str, *, explicit: bool, link_local: bool) -> Host:
    authority, slash, path = rest.partition("/")
    userinfo, _, authority = authority.rpartition("@")
    username, _, password = userinfo.partition(":")
    written, port_text = _split_port(authority)
    name = _host_name(written, link_local=link_local) if written else _LOOPBACK[4]
    if name == "ollama.com" and not explicit:
        scheme, explicit = "https", True
    host = Host(
        scheme=scheme,
        hostname=name,
        port=_port(port_text, _SCHEME_PORTS[scheme] if explicit else DEFAULT_PORT),
        path=_checked_path((slash + path).rstrip(f"/{_TRIMMED}")),
        username=unquote(username),
        password=unquote(password),
    )
    return replace(host, remark=_remark(host, written, port_text, explicit=explicit))


def _remark(host: Host, written: str, port: str, *, explicit: bool) -> str:
    """Describe what was made of a strange address.

    >>> parse_host("gpu:99999").remark
    'its port is no number from 1 to 65535; http://gpu:11434 is called'
    >>> parse_host("http://http://gpu").remark
    'http is the name of the machine in http://http:80//gpu, which is called'
    >>> parse_host("8080").remark
    'a number alone is a machine: http://0.0.31.144:11434 is called; a port is written :8080'
    >>> parse_host("http://127.0.0.1").remark
    'behind http:// no port is 80, as in Ollama: http://127.0.0.1:80 is called, not http://127.0.0.1:11434'
    """
    if port and not _port(port, 0):
        return f"its port is no number from 1 to 65535; {host.url} is called"
    if host.hostname in _SCHEME_PORTS and host.path.startswith("//"):
        return f"{host.hostname} is the name of the machine in {host.url}, which is called"
    if written.isascii() and _port(written, 0):
        return f"a number alone is a machine: {host.url} is called; a port is written :{written}"
    if explicit and host.scheme == "http" and not port and not host.path:
        usual = replace(host, port=DEFAULT_PORT).url
        return f"behind http:// no port is 80, as in Ollama: {host.url} is called, not {usual}"
    return ""


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
    port = int(text.lstrip("0")[:6] or 0)
    return port if 0 < port < 65536 else default


def _checked_path(path: str) -> str:
    """A path that stays a path when an endpoint is put behind it; an `@` in it is a misread password's."""
    if any(c in path for c in "?#@\\"):
        raise _not_an_address()
    return path


# --- names and addresses -----------------------------------------------------------------------


def _host_name(name: str, *, link_local: bool) -> str:
    """The one spelling of a host's name or address, so that no other one slips past what is refused."""
    name = unicodedata.normalize("NFKC", name).replace("\u3002", ".").lower().removesuffix(".")
    address = _as_address(name)
    is_metadata = name in _METADATA_NAMES or address in _METADATA_ADDRESSES
    is_allowed = link_local and address is not None and address.is_link_local and not is_metadata
    if is_metadata or (address is not None and _is_unsafe(address) and not is_allowed):
        way = "" if is_metadata else ", or set OLLAMA_MCP_LINK_LOCAL=1"
        raise InvalidArgument(
            f"{name} is a link-local or metadata address", f"Name the machine that runs Ollama{way}."
        )
    if address is None:
        return _checked_name(name)
    return _LOOPBACK[address.version] if address.is_unspecified else str(address)


def _checked_name(name: str) -> str:
    labels = [label if label.isascii() else _punycode(label) for label in name.split(".")]
    ascii_name = ".".join(labels)
    if len(ascii_name) > 253 or not all(map(_LABEL.match, labels)) or _NUMBER.match(labels[-1]):
        raise _not_an_address()
    return ascii_name


def _punycode(label: str) -> str:
    """Encode a label of letters, digits and marks by IDNA; others are no names."""
    if not all(c in "-_" or unicodedata.category(c)[0] in "LNM" for c in label):
        raise _not_an_address()
    return "xn--" + label.encode("punycode").decode("ascii")


_PRIVATE_ENDINGS = (
    ".local", ".localhost", ".localdomain", ".internal", ".intranet", ".intra", ".lan", ".home",
    ".home.arpa", ".corp", ".private", ".fritz.box", ".ts.net", ".test", ".invalid", ".onion",
)  # fmt: skip
"""Endings of names that are nobody's in the public DNS (RFC 6761, 6762, 8375, 9476, ICANN on .internal)."""


def is_public(hostname: str) -> bool:
    """Return whether a name, as `parse_host` spells it, can be one of the public Internet.

    >>> [is_public(name) for name in ("example.com", "8.8.8.8", "10.0.0.7", "::1", "nas", "a.corp")]
    [True, True, False, False, False, False]
    """
    address = _as_address(hostname)
    if address is not None:
        return all(one.is_global and not one.is_multicast for one in (address, *_inside(address)))
    return "." in hostname and not hostname.endswith(_PRIVATE_ENDINGS)


def _is_unsafe(address: Address) -> bool:
    return any(a.is_link_local or a in _METADATA_ADDRESSES for a in (address, *_inside(address)))


def _inside(address: Address) -> Iterator[Address]:
    """The IPv4 addresses to which translators and tunnels take an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if any(address in network for network in _V4_IN_V6):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield address.teredo[1]


def _as_address(name: str) -> Address | None:
    """The IP address that a name spells, in the short and octal forms that resolvers take, too.

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
    parts = name.split(".")
    try:
        *heads, last = [_c_integer(part) for part in parts]
    except ValueError:
        return None
    if len(parts) > 4 or any(n > 255 for n in heads) or last >= 256 ** (5 - len(parts)):
        return None
    high = sum(n << (24 - 8 * i) for i, n in enumerate(heads))
    return ipaddress.IPv4Address(high + last)


def _c_integer(text: str) -> int:
    if not _NUMBER.match(text) or len(text) > 40:
        raise ValueError(text)
    if text.startswith("0x"):
        return int(text, 16)
    return int(text, 8 if len(text) > 1 and text.startswith("0") else 10)
