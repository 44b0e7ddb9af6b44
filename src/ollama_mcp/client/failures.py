"""The one place where a failing answer becomes an `OllamaError` (httpx's exceptions: `connection`).

Texts of Ollama carry its own paths and name servers, so they are scrubbed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast
from urllib.parse import urljoin, urlsplit, urlunsplit

from ollama_mcp import errors
from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.hosts import DEFAULT_PORT, parse_host
from ollama_mcp.ollama.model_names import is_cloud_name
from ollama_mcp.ollama.ndjson import parse_object

_TEXT_LIMIT = 200
_READ_LIMIT = 2000
_UNSAFE = re.compile(
    r"""
      (?<=//)[^\s/@]{1,200}@                                # userinfo
    | \bbearer\s+\S+
    | (?<![\w.-])[\w.-]++:\d{2,5}->\S+                      # a socket pair
    | \[(?=[^\]]{0,45}:)[0-9a-f:.]{2,45}(?:%\w{1,20})?\](?::\d{1,5})?       # an IPv6 address in brackets
    | \b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d{1,5})?              # an IPv4 address
    | (?<![0-9a-f:.])(?=[0-9a-f.]*:[0-9a-f.]*:)[0-9a-f:.]{3,45}+(?:%\w{1,20})?(?!\w)  # a bare IPv6 address
    | \bfile:\S+
    | (?<![\w/.])(?:[a-z]:)?[\\/](?:[\w.@~+\ -]+[\\/])+[\w.@~+-]*   # an absolute path
    """,
    re.VERBOSE | re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Show a server's words without its paths, addresses and secrets: one line of at most 200 characters.

    >>> scrub('open /root/.ollama/models/blobs/sha256-1: no such file')
    'open …: no such file'
    >>> scrub("dial tcp: lookup registry.ollama.ai on 198.51.100.53:53: no such host")
    'dial tcp: lookup registry.ollama.ai on …: no such host'
    """
    if len(text) > _READ_LIMIT:  # not in the middle of a word, which could be the half of an address
        text = " ".join(text[:_READ_LIMIT].split()[:-1])
    line = " ".join(_UNSAFE.sub("…", text).split())
    return line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"


def _quoting(cause: str, text: str) -> str:
    said = scrub(text)
    return f"{cause}: {said}" if said else cause


# --- no answer, or half of one --------------------------------------------------------------------


def unreachable(context: ErrorContext) -> OllamaError:
    """No connection."""
    return through_proxy(
        errors.Unreachable(f"no Ollama server answers at {context.address}", _where_it_may_be(context)),
        context,
    )


def _where_it_may_be(context: ErrorContext) -> str:
    """What to do about an address at which nothing listens, by what can be seen of it and of this machine."""
    parts = urlsplit(context.address)
    setting = context.setting or "OLLAMA_HOST"
    set_to = f"set {setting} to" if context.setting else "give the client"
    if context.beside:
        return f"{context.beside} is set, which is not read here: set {setting} to its value."
    if context.in_cloud:
        return "Check the network: Ollama's web service cannot be reached."
    if parts.port == _WEB_PORT and parts.scheme == "http" and not parts.path:
        right = parts.netloc.rpartition(":")[0]
        return f"Ollama listens on port {DEFAULT_PORT}: {set_to} http://{right}:{DEFAULT_PORT}."
    if context.name in _THIS_MACHINE and context.inside == "container":
        return (
            "Start it with `ollama serve`, or for one outside of this container start that with "
            f"OLLAMA_HOST=0.0.0.0, and {set_to} http://host.docker.internal:{parts.port}."
        )
    if context.name in _THIS_MACHINE and context.inside == "WSL":
        return (
            "Start it with `ollama serve` in WSL, or for the one of Windows start that with "
            f"OLLAMA_HOST=0.0.0.0, and {set_to} the address that `ip route show default` shows."
        )
    return f"Start it with `ollama serve`, or {_name_instead(context.setting)} where it runs."


_WEB_PORT = 80
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


def through_proxy(error: OllamaError, context: ErrorContext) -> OllamaError:
    """The same failure; where a proxy was on the way, with the variable that names it."""
    if context.proxy:
        error.cause += f", through the proxy of {context.proxy}"
        is_its_own = isinstance(error, errors.Unreachable) or error.upstream_status == 407
        if is_its_own or isinstance(error, errors.Upstream):
            error.remedy = f"Add {context.name} to NO_PROXY if it needs no proxy, or correct {context.proxy}."
        else:
            error.remedy += f" If {context.name} needs no proxy, add it to NO_PROXY."
    return error


def unusable_proxy(variable: str, address: str, name: str) -> OllamaError:
    """The environment names a proxy of a kind that we do not have, or that is no address."""
    error = errors.Unreachable(
        f"{address} is reached through the proxy of {variable}, which cannot be used",
        f"Add {name} to NO_PROXY if it needs no proxy, correct {variable}, or for a SOCKS proxy "
        "`pip install 'httpx[socks]'`.",
    )
    error.retryable = False  # only a change of the environment helps
    return error


def unknown_name(context: ErrorContext) -> OllamaError:
    """No address is known for the name of the machine."""
    error = errors.Unreachable(
        f"the name {context.name} of {context.address} cannot be resolved",
        f"Check the name and the network, or {_name_instead(context.setting)} where Ollama runs.",
    )
    return through_proxy(error, context)


def _name_instead(setting: str) -> str:
    return f"set {setting} to" if setting else "give the client the address"


def timed_out(timeout: str, address: str) -> OllamaError:
    """One of the clocks connect, first_byte, idle, composing (see `between_lines`), transfer."""
    waiting = {
        "connect": "take the connection",
        "first_byte": "begin its answer",
        "idle": "send the next part of its answer",
        "composing": "send the next part of its answer",
        "transfer": "say how far it is",
    }[timeout]
    remedy = {
        "connect": "Check that the machine is up, or raise OLLAMA_MCP_CONNECT_TIMEOUT.",
        "first_byte": "The model may still be loading: try again, or raise OLLAMA_MCP_FIRST_BYTE_TIMEOUT.",
        "idle": "Try again; if it stays so, unload the model or raise OLLAMA_MCP_IDLE_TIMEOUT.",
        "composing": "Ollama is silent while a model composes a tool call or JSON: try again, or raise "
        "OLLAMA_MCP_FIRST_BYTE_TIMEOUT.",
        "transfer": "Call again: a pull goes on where it was. Or raise OLLAMA_MCP_TRANSFER_TIMEOUT.",
    }[timeout]
    return errors.Timeout(
        f"Ollama at {address} did not {waiting} in time ({timeout} clock)", remedy, clock=timeout
    )


def pool_is_full(address: str) -> OllamaError:
    """All connections are in use, and stayed so for the first-byte clock."""
    return errors.Busy(
        f"all connections to {address} are in use",
        "Try again later.",
    )


def is_missing(error: OllamaError) -> bool:
    """Whether a server that speaks a part of Ollama's API says that it has no such endpoint."""
    return isinstance(error, errors.NotOllama) and error.upstream_status in {404, 405}


def not_trusted(address: str) -> OllamaError:
    """TLS, but with a certificate that no authority of ours has signed."""
    error = errors.Unreachable(
        f"the certificate of {address} is not trusted",
        "Set OLLAMA_MCP_CA_FILE to the PEM file of the authority that signed it.",
    )
    error.retryable = False  # unlike a server that is not up yet
    return error


def not_sendable() -> OllamaError:
    """A header or an address with characters that HTTP does not have."""
    return errors.InvalidArgument(
        "the request cannot be sent: its address or a header has characters that HTTP does not allow",
        "Check OLLAMA_HOST, OLLAMA_API_KEY and OLLAMA_MCP_HEADERS.",
    )


def stream_broken() -> OllamaError:
    """The connection went away under the answer."""
    return errors.StreamBroken(
        "the connection to Ollama was lost before the answer was complete",
        "Try again; the Ollama server's log says why it stopped.",
    )


def not_ollama(context: ErrorContext, status: int | None = None) -> OllamaError:
    """Another service, a path that is none of Ollama's, or a very old server."""
    error = errors.NotOllama(
        f"what answers at {context.address} does not speak Ollama's API",
        _another_address(context),
        upstream_status=status,
    )
    return through_proxy(error, context)


def _another_address(context: ErrorContext) -> str:
    parts = urlsplit(context.address)
    names = parts.path.strip("/").split("/")
    ends = [place for place, name in enumerate(names) if name in {"v1", "api"}]
    if ends:
        rest = "/".join(names[ends[0] :])
        right = urlunsplit(
            (parts.scheme, parts.netloc, "/".join(["", *names[: ends[0]]]).rstrip("/"), "", "")
        )
        setting = context.setting or "the address"
        return f"Leave /{rest} out of {setting}: {right}."
    server = (
        f"Set {context.setting} to the Ollama server"
        if context.setting
        else "Give the client the Ollama server's address"
    )
    return f"{server} (default port {DEFAULT_PORT}), or update it if it is very old."


def wrong_scheme(context: ErrorContext, scheme: str) -> OllamaError:
    """The right machine and port, and TLS where there is none, or none where there is."""
    right = urlunsplit(urlsplit(context.address)._replace(scheme=scheme))
    setting = f"Set {context.setting} to" if context.setting else "Give the client"
    return errors.NotOllama(
        f"what answers at {context.address} {'has no TLS' if scheme == 'http' else 'wants TLS'}",
        f"{setting} {right}.",
    )


# --- answers with a failing status -------------------------------------------------------------


class ErrorContext(NamedTuple):
    """What a failing answer is an answer to.

    Attributes:
        address: The server's, without any secret.
        model: The model that was asked for; "" for none.
        in_cloud: Whether it is Ollama's own web service.
        setting: What named the address; "" where that was a program.
        proxy: The variable that names the proxy on the way; "" where there is none.
        keeps_key: Whether there is an API key that is not sent there.
        beside: Another program's variable for the address, which we do not read.
        inside: Where we run ourselves: "container", "WSL", or "".
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
    def name(self) -> str:
        """The machine's."""
        return urlsplit(self.address).hostname or ""


def from_status(
    status: int, body: bytes, retry_after: str | None, context: ErrorContext, location: str = ""
) -> OllamaError:
    """Translate an answer whose status is not 2xx.

    Args:
        status: Its status.
        body: Its body, as far as it was read.
        retry_after: That header, if there was one.
        context: What it answers.
        location: Where a redirect leads, if there was one.
    """
    if 300 <= status < 400:
        return _redirected(status, context, location)
    record = _object(body) or {}
    text, inner = _told(record.get("error"))
    if text is None or status == 407:  # which only a proxy answers, whatever it says
        error = through_proxy(_from_bare_status(status, body, context), context)
    elif status == 401 and not context.in_cloud and (signin := _signin(record, context)):
        error = signin
    else:
        error = _from_text(status, text, inner, context)
    error.upstream_status = status
    error.retry_after_s = _seconds(retry_after)
    return error


def _redirected(status: int, context: ErrorContext, location: str) -> OllamaError:
    """Redirects are not followed: a request has a prompt in it, and a key perhaps."""
    target = urlsplit(urljoin(context.address, location))
    which = "the final address"
    with suppress(OllamaError, ValueError):  # a redirect to a page for signing in is none of Ollama's
        host = parse_host(f"{target.scheme}://{target.netloc.rpartition('@')[2]}")
        path, api, _ = target.path.partition("/api/")
        if api and _PLAIN_PATH.match(path) and target.scheme in {"http", "https"}:
            which = f"{host.url}{path}"
    return errors.BadUpstream(
        "Ollama's address answered with a redirect, which is not followed",
        f"Set {context.setting} to {which}." if context.setting else f"Give the client {which}.",
        upstream_status=status,
    )


_PLAIN_PATH = re.compile(r"[\w/.-]{0,80}\Z")


def _signin(record: dict[str, Any], context: ErrorContext) -> OllamaError | None:
    """An Ollama that has to sign in to its cloud first, with the link that it gives for that."""
    link = record.get("signin_url")
    is_known = isinstance(link, str) and len(link) <= _TEXT_LIMIT and _SIGNIN.match(link)
    if not is_known and not is_cloud_name(context.model):
        return None
    way = f", or open {link}" if is_known else ""
    return errors.Forbidden(
        f"the Ollama server is not signed in to ollama.com, which {context.model or 'the model'} needs",
        f"Sign in on the machine of Ollama: `ollama signin`{way}.",
    )


_SIGNIN = re.compile(r"https://ollama\.com/[\w/?&=.%~+-]*\Z")


def from_line(said: Any, context: ErrorContext, *, tells_in_stream: bool) -> OllamaError:
    """Translate the `error` of a line in the middle of an answer.

    A generation's takes no code from its text: when a runner dies, Ollama quotes the last error
    that it ever printed, which may belong to another call.
    """
    text, inner = _told(said)
    if "error parsing tool call" in (text or ""):
        return broken_call(said=text or "")
    if tells_in_stream:
        return _from_text(200, text or "", inner, context)
    return errors.Upstream(
        _quoting("Ollama stopped in the middle of the answer", text or ""),
        "Try again; if it stays so, the Ollama server's log says why the model stopped.",
        upstream_status=200,
    )


def _told(said: Any) -> tuple[str | None, dict[str, Any]]:
    """The text of an `error`, and llama-server's own error object where it is one or quotes one."""
    inner = _as_object(said)
    if isinstance(said, str):
        inner = _as_object((_object(said.encode(errors="replace")) or {}).get("error"))
        if not inner:
            return said, {}
    message = inner.get("message") if inner else None
    return (message if isinstance(message, str) else "", inner) if inner else (None, {})


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(data)
    except errors.BadUpstream:
        return None


def _as_object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _from_bare_status(status: int, body: bytes, context: ErrorContext) -> OllamaError:
    """An answer that is not Ollama's JSON: its Host check, its router, a proxy, another service."""
    if status == 403 and not body.strip():
        return errors.Forbidden(
            "the Ollama server refuses the host name that it was called by",
            "Call it by an address that it allows, or set OLLAMA_ORIGINS and OLLAMA_HOST on the server.",
        )
    if status in {401, 403, 407}:
        return _refused_by_proxy(status, context)
    if status == 400 and any(words in body for words in _WANTS_TLS):
        return wrong_scheme(context, "https")
    if status == 413:
        return errors.TooLarge(
            f"{context.address} does not take a request of this size",
            "Send less, or raise the limit of the proxy before Ollama.",
        )
    if status == 429:
        return errors.RateLimited(f"{context.address} allows no more calls for now", "Try again later.")
    if status >= 500:
        return errors.Upstream(
            _quoting(f"what answers at {context.address} failed with HTTP {status}", plain_words(body)),
            "Check that the Ollama server runs, and the proxy before it if there is one, then try again.",
        )
    return not_ollama(context, status)


_WANTS_TLS = (b"HTTP request to an HTTPS server", b"plain HTTP request was sent to HTTPS port")
"""As Go's servers say it, and nginx."""


def plain_words(body: bytes) -> str:
    """What a server says in a form of its own: the text of a record, or plain text; "" for anything else.

    >>> plain_words(b'{"detail": "no GPU"}'), plain_words(b"no GPU"), plain_words(b"<html>no GPU</html>")
    ('no GPU', 'no GPU', '')
    """
    record = _object(body)
    if record is not None:
        texts = (record.get(key) for key in ("message", "detail", "error_description", "title", "msg"))
        return next((text for text in texts if isinstance(text, str)), "")
    text = body[:_READ_LIMIT].decode(errors="replace").strip()
    is_text = text[:1] not in ("<", "{", "[") and "\ufffd" not in text
    return text if is_text and all(c.isprintable() or c.isspace() for c in text) else ""


def not_json(body: bytes) -> OllamaError:
    """A line in the middle of an answer that is none of Ollama's, with what it says."""
    return errors.BadUpstream(
        _quoting("Ollama sent a line that is not JSON", plain_words(body)),
        "Check that OLLAMA_HOST is an Ollama server and that no proxy changes its answers.",
    )


def _refused_by_proxy(status: int, context: ErrorContext) -> OllamaError:
    if context.keeps_key and status != 407:
        return _kept_key(f"{context.address} answered HTTP {status}", context)
    return errors.Forbidden(
        f"{context.address} answered HTTP {status}",
        "Set the credentials that it wants in OLLAMA_MCP_HEADERS or OLLAMA_API_KEY.",
    )


def _kept_key(cause: str, context: ErrorContext) -> OllamaError:
    return errors.Forbidden(
        cause,
        "OLLAMA_API_KEY was not sent, as it is for ollama.com: "
        f"OLLAMA_MCP_API_KEY_HOST={context.name} sends it here, too.",
    )


def _seconds(retry_after: str | None) -> float | None:
    """The seconds of a Retry-After; a date, and what is no waiting time, counts as absent."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds < _LONGEST_WAIT_S else None


_LONGEST_WAIT_S = 7 * 24 * 3600


Make = Callable[[str, "re.Match[str]", dict[str, Any], ErrorContext], OllamaError]


def _from_text(status: int, text: str, inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    for statuses, pattern, make in _TABLE:
        found = pattern.search(text) if status in statuses else None
        if found is not None:
            return make(text, found, inner, context)
    return _by_status(status, text)


def _overflow(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    tokens, window = _count(inner, "n_prompt_tokens"), _count(inner, "n_ctx")
    counts = f" of {tokens} tokens" if tokens else ""
    size = f" of {window} tokens" if window else ""
    return errors.ContextOverflow(
        f"the prompt{counts} does not fit the window{size} of {context.model or 'the model'}",
        ways=[
            ("", "send a shorter text"),
            ("options", 'send a larger "num_ctx" in options'),
            ("truncate", "send truncate=true to have it cut"),
        ],
        tokens=tokens,
        window=window,
    )


def _count(inner: dict[str, Any], name: str) -> int | None:
    value = inner.get(name)
    return value if type(value) is int and 0 < value < 2**63 else None


_CAPABILITY_OF = {"chat": "completion", "generate": "completion"}


def _lacks(capability: str) -> Make:
    def make(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
        return lacks(context.model, capability)

    return make


def _lacks_named(
    text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext
) -> OllamaError:
    name = found.group(1)
    return lacks(context.model, _CAPABILITY_OF.get(name, name))


WITHOUT = {
    "vision": ("", "leave out images"),
    "tools": ("tools", "leave out tools"),
    "thinking": ("think", 'send think=""'),
    "insert": ("suffix", "leave out suffix"),
}
"""How to do without a capability: the argument that asks for it, and what to do."""


def lacks(model: str, capability: str, having: list[str] | None = None) -> OllamaError:
    """A model that cannot do what was asked; `having` names installed models that can."""
    instead = _named(having[0]) if having else [("", f"name a model that has {capability}")]
    return errors.CapabilityMissing(
        f"{model or 'the model'} does not have the capability {capability}",
        ways=[*instead, *([WITHOUT[capability]] if capability in WITHOUT else [])],
        lacks=capability,
        having=having or [],
    )


def _named(model: str) -> list[tuple[str, str]]:
    """How to name another model, as the called tool takes it."""
    return [("model", f'send model="{model}"'), ("models", f'send "{model}" in models')]


def model_not_found(
    model: str, similar: list[str] | None = None, setting: str = "", *, replaceable: bool = True
) -> OllamaError:
    """A model that is not installed.

    Args:
        model: Its name.
        similar: Installed names that look alike.
        setting: The setting that names the model, where the caller did not.
        replaceable: Whether another one would do; not for what is done to a model.
    """
    install = ("", f"install it with `ollama pull {model}`")
    listed = ("", "take one that ollama_list_models has")
    instead = _named(similar[0]) if similar else [listed]
    ways = [*instead, install] if replaceable else [listed]
    others = f"; installed and alike: {', '.join(similar)}" if similar else ""
    return errors.ModelNotFound(
        f'model "{model}"{f" of {setting}" if setting else ""} is not installed{others}',
        ways=ways,
        model=model,
        similar=similar or [],
    )


def model_is_broken(model: str) -> OllamaError:
    """A model that Ollama lists, and does not find when it is called."""
    return errors.ModelNotFound(
        f'Ollama lists the model "{model}", but does not find it when it is called',
        f"Install it anew with `ollama pull {model}`, or name another one.",
        model=model,
        similar=[],
    )


def _not_found(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    return model_not_found(context.model or scrub(text))


def _no_endpoint(
    text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext
) -> OllamaError:
    return not_ollama(context)


def _not_in_registry(
    text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext
) -> OllamaError:
    return errors.ModelNotFound(
        f'no registry has a model "{context.model}"',
        "Check the name and its tag at https://ollama.com/library.",
        model=context.model,
    )


def _argument(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    return errors.InvalidArgument(
        _quoting("Ollama refused the request", text), "Correct that argument and call again."
    )


def _too_large(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    return errors.TooLarge(_quoting("Ollama does not take a request of this size", text), "Send less.")


def _forbidden(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    remedy = "Use a local model; ollama_list_models has the installed ones."
    if context.in_cloud:
        remedy = "Set OLLAMA_API_KEY to a valid key of https://ollama.com."
    elif context.keeps_key:
        return _kept_key(_quoting("the Ollama server refuses", text), context)
    return errors.Forbidden(_quoting("the Ollama server refuses", text), remedy)


def _not_yours(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    return errors.Forbidden(
        _quoting(f"the registry does not allow that for {context.model or 'the model'}", text),
        "Use a name of your own account, and sign in on the Ollama machine with `ollama signin`.",
    )


def _no_memory(text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext) -> OllamaError:
    error = errors.Upstream(
        _quoting(f"{context.model or 'the model'} does not fit into the memory", text),
        ways=[
            ("model", "name a smaller model"),
            ("models", "name smaller models"),
            ("options", 'send a smaller "num_ctx" in options'),
            ("", "unload another (ollama_status, ollama_unload_model)"),
        ],
    )
    error.retryable = False
    return error


def broken_call(name: str = "a tool", said: str = "") -> OllamaError:
    """A call of a tool that the model began and did not get right, with what was said of it."""
    return errors.Upstream(
        _quoting(f"the model wrote a call of {name} whose arguments cannot be read", said),
        "Ask again, in other words or with fewer tools, or name a more capable model.",
    )


def _broken_call(
    text: str, found: re.Match[str], inner: dict[str, Any], context: ErrorContext
) -> OllamaError:
    return broken_call(said=text)


_ANY_TEXT = ""
_TABLE: list[tuple[set[int], re.Pattern[str], Make]] = [
    (statuses, re.compile(pattern, re.IGNORECASE), make)
    for statuses, pattern, make in (
        (
            {400, 500},
            r"exceed_context_size|exceeds? the (?:available )?context|input length exceeds",
            _overflow,
        ),
        ({400}, r"does not support (chat|generate|thinking|tools|insert|vision|embedding)", _lacks_named),
        ({400, 500}, r"multimodal|does not support image", _lacks("vision")),
        ({400, 500, 501}, r"not support embed", _lacks("embedding")),
        ({404}, r"\bmodel\b", _not_found),
        ({404}, _ANY_TEXT, _no_endpoint),
        ({413}, _ANY_TEXT, _too_large),
        ({200}, r"unauthorized|not authorized|access denied", _not_yours),
        ({200}, r"file does not exist|model .* not found", _not_in_registry),
        ({400, 422}, _ANY_TEXT, _argument),
        ({500}, r"^option \"|^invalid format|^unsupported quantization", _argument),
        (
            {200},
            r"^invalid model name|unsupported|^invalid file magic|insecure protocol http|^quantization is",
            _argument,
        ),
        ({401, 403}, _ANY_TEXT, _forbidden),
        ({500}, r"error parsing tool call", _broken_call),
        (
            {200, 500},
            r"more system memory|(out of|insufficient|not enough) (v?ram|memory)|cudamalloc|unable to alloc",
            _no_memory,
        ),
    )
]


def _by_status(status: int, text: str) -> OllamaError:
    if status == 503:
        return errors.Busy(_quoting("Ollama is busy", text), "Try again in a few seconds.")
    if status == 429:
        return errors.RateLimited(_quoting("Ollama's limit is reached", text), "Try again later.")
    return errors.Upstream(
        _quoting("Ollama failed", text), "Try again; if it stays so, the Ollama server's log says why."
    )
