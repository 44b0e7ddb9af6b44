"""Failures of the way to Ollama, each with its remedy: no connection, a timeout, another service.

Answers of Ollama that tell an error are in `error_answers`; httpx's exceptions are told apart in `exchange`.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from ollama_mcp import errors
from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.hosts import DEFAULT_PORT

_WEB_PORT = 80
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


class ErrorContext(NamedTuple):
    """The circumstances of a request, as far as the text of its failure names them.

        context = ErrorContext("http://gpu-box:11434", "qwen3:8b", setting="OLLAMA_HOST")
        raise unreachable(context)

    Attributes:
        address: The server's address, without any secret.
        model: The model of the request; "" for none.
        in_cloud: Whether the server is Ollama's own web service.
        setting: The setting that named the address; "" where a program did.
        proxy: The variable that names the proxy on the way; "" where there is none.
        keeps_key: Whether there is an API key that is not sent to this server.
        beside: Another program's variable for the address, which is not read here.
        inside: Where this process runs: "container", "WSL", or "".
    """

    address: str
    model: str
    in_cloud: bool = False
    setting: str = ""
    proxy: str = ""
    keeps_key: bool = False
    beside: str = ""
    inside: str = ""

    @property
    def hostname(self) -> str:
        """The name or address of the server's machine."""
        return urlsplit(self.address).hostname or ""


def unreachable(context: ErrorContext) -> OllamaError:
    """Return the failure of a connection that was refused.

    The remedy depends on what can be seen of the address and of this machine.
    """
    parts = urlsplit(context.address)
    setting = context.setting or "OLLAMA_HOST"
    set_to = f"set {setting} to" if context.setting else "give the client"
    is_here = context.hostname in _THIS_MACHINE
    if context.beside:
        remedy = f"{context.beside} is set, which is not read here: set {setting} to its value."
    elif context.in_cloud:
        remedy = "Check the network: Ollama's web service cannot be reached."
    elif parts.port == _WEB_PORT and parts.scheme == "http" and not parts.path:
        right = parts.netloc.rpartition(":")[0]
        remedy = f"Ollama listens on port {DEFAULT_PORT}: {set_to} http://{right}:{DEFAULT_PORT}."
    elif is_here and context.inside == "container":
        remedy = (
            "Start it with `ollama serve`. If Ollama runs outside this container, start it there with "
            f"OLLAMA_HOST=0.0.0.0, and {set_to} http://host.docker.internal:{parts.port}."
        )
    elif is_here and context.inside == "WSL":
        remedy = (
            "Start it with `ollama serve` in WSL. If Ollama runs on Windows, start it there with "
            f"OLLAMA_HOST=0.0.0.0, and {set_to} the address that `ip route show default` shows."
        )
    else:
        remedy = f"Start it with `ollama serve`, or {_name_instead(context.setting)} where it runs."
    error = errors.Unreachable(f"no Ollama server answers at {context.address}", remedy)
    return through_proxy(error, context)


def through_proxy(error: OllamaError, context: ErrorContext) -> OllamaError:
    """Add to a failure, in place, the variable that names the proxy, where there is one on the way."""
    if context.proxy:
        error.cause += f", through the proxy of {context.proxy}"
        is_its_own = isinstance(error, errors.Unreachable) or error.upstream_status == 407
        name = context.hostname
        if is_its_own or isinstance(error, errors.Upstream):
            error.remedy = f"Add {name} to NO_PROXY if it needs no proxy, or correct {context.proxy}."
        else:
            error.remedy += f" If {name} needs no proxy, add it to NO_PROXY."
    return error


def unusable_proxy(variable: str, address: str, hostname: str) -> OllamaError:
    """Return the failure of a proxy of a kind that httpx does not have, or whose address is none."""
    error = errors.Unreachable(
        f"{address} is reached through the proxy of {variable}, which cannot be used",
        f"Add {hostname} to NO_PROXY if it needs no proxy, correct {variable}, or for a SOCKS proxy "
        "`pip install 'httpx[socks]'`.",
    )
    error.retryable = False  # only a change of the environment helps
    return error


def unknown_name(context: ErrorContext) -> OllamaError:
    """Return the failure of a machine's name for which there is no address."""
    error = errors.Unreachable(
        f"the name {context.hostname} of {context.address} cannot be resolved",
        f"Check the name and the network, or {_name_instead(context.setting)} where Ollama runs.",
    )
    return through_proxy(error, context)


def _name_instead(setting: str) -> str:
    return f"set {setting} to" if setting else "give the client the address"


_TIMEOUTS = {
    "connect": (
        "take the connection",
        "Check that the machine is up, or raise OLLAMA_MCP_CONNECT_TIMEOUT.",
    ),
    "first_byte": (
        "begin its answer",
        "The model may still be loading: try again, or raise OLLAMA_MCP_FIRST_BYTE_TIMEOUT.",
    ),
    "idle": (
        "send the next part of its answer",
        "Try again; if it stays so, unload the model or raise OLLAMA_MCP_IDLE_TIMEOUT.",
    ),
    "composing": (
        "send the next part of its answer",
        (
            "Ollama is silent while a model composes a tool call or JSON: try again, or raise "
            "OLLAMA_MCP_FIRST_BYTE_TIMEOUT."
        ),
    ),
    "transfer": (
        "say how far it is",
        "Call again: a pull goes on where it was. Or raise OLLAMA_MCP_TRANSFER_TIMEOUT.",
    ),
}
"""By the name of a timeout: what the server did not do, and the remedy."""


def timed_out(timeout: str, address: str) -> OllamaError:
    """Return the failure of a server that was too slow.

    Args:
        timeout: The timeout that is over: connect, first_byte, idle, composing or transfer.
        address: The server.
    """
    missing, remedy = _TIMEOUTS[timeout]
    return errors.Timeout(
        f"Ollama at {address} did not {missing} in time ({timeout} clock)", remedy, clock=timeout
    )


def pool_is_full(address: str) -> OllamaError:
    """Return the failure of a request for which no connection came free in time."""
    return errors.Busy(f"all connections to {address} are in use", "Try again later.")


def not_trusted(address: str) -> OllamaError:
    """Return the failure of a certificate that no authority known here has signed."""
    error = errors.Unreachable(
        f"the certificate of {address} is not trusted",
        "Set OLLAMA_MCP_CA_FILE to the PEM file of the authority that signed it.",
    )
    error.retryable = False  # unlike a server that is not up yet
    return error


def not_sendable() -> OllamaError:
    """Return the failure of a header or an address with characters that HTTP does not have."""
    return errors.InvalidArgument(
        "the request cannot be sent: its address or a header has characters that HTTP does not allow",
        "Check OLLAMA_HOST, OLLAMA_API_KEY and OLLAMA_MCP_HEADERS.",
    )


def stream_broken() -> OllamaError:
    """Return the failure of a connection that was lost in the middle of an answer."""
    return errors.StreamBroken(
        "the connection to Ollama was lost before the answer was complete",
        "Try again; the Ollama server's log says why it stopped.",
    )


def not_ollama(context: ErrorContext, status: int | None = None) -> OllamaError:
    """Return the failure of an address with another service, a path of nobody's, or a very old server.

    Args:
        context: Of the request.
        status: The HTTP status of the answer, where there was one.
    """
    parts = urlsplit(context.address)
    path = parts.path.strip("/").split("/")
    # People set the addresses that OpenAI's clients need, with /v1, or one of Ollama's /api.
    too_much = next((place for place, name in enumerate(path) if name in {"v1", "api"}), None)
    if too_much is not None:
        kept = "/".join(["", *path[:too_much]]).rstrip("/")
        right = urlunsplit((parts.scheme, parts.netloc, kept, "", ""))
        setting = context.setting or "the address"
        remedy = f"Leave /{'/'.join(path[too_much:])} out of {setting}: {right}."
    else:
        server = (
            f"Set {context.setting} to the Ollama server"
            if context.setting
            else "Give the client the Ollama server's address"
        )
        remedy = f"{server} (default port {DEFAULT_PORT}), or update it if it is very old."
    error = errors.NotOllama(
        f"what answers at {context.address} does not speak Ollama's API", remedy, upstream_status=status
    )
    return through_proxy(error, context)


def is_missing(error: OllamaError) -> bool:
    """Return whether a server that speaks a part of Ollama's API has no such endpoint."""
    return isinstance(error, errors.NotOllama) and error.upstream_status in {404, 405}


def wrong_scheme(context: ErrorContext, scheme: str) -> OllamaError:
    """Return the failure of TLS with a server that has none, or of no TLS with one that wants it.

    Args:
        context: Of the request.
        scheme: The right one: http or https.
    """
    right = urlunsplit(urlsplit(context.address)._replace(scheme=scheme))
    setting = f"Set {context.setting} to" if context.setting else "Give the client"
    return errors.NotOllama(
        f"what answers at {context.address} {'has no TLS' if scheme == 'http' else 'wants TLS'}",
        f"{setting} {right}.",
    )
