"""Ollama's error answers: a failing status, or an `error` in the middle of a stream, as an `OllamaError`.

`_TABLE` says which text means which error. Texts of Ollama carry paths and addresses of its machine, so
that `scrub` goes over each before it is quoted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast
from urllib.parse import urljoin, urlsplit

from ollama_mcp import errors
from ollama_mcp.client.failures import ErrorContext, not_ollama, through_proxy, wrong_scheme
from ollama_mcp.errors import OllamaError
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.ollama.model_names import is_cloud_name
from ollama_mcp.ollama.ndjson import parse_object

_TEXT_LIMIT = 200
"""Characters of a server's text that are quoted."""
_READ_LIMIT = 2000
"""Characters of it that are looked through."""
_LONGEST_RETRY_S = 7 * 24 * 3600
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

_PLAIN_PATH = re.compile(r"[\w/.-]{0,80}\Z")
_SIGNIN = re.compile(r"https://ollama\.com/[\w/?&=.%~+-]*\Z")
_WANTS_TLS = (b"HTTP request to an HTTPS server", b"plain HTTP request was sent to HTTPS port")
"""As Go's servers say it, and nginx."""


def scrub(text: str) -> str:
    """Return a server's text without its paths, addresses and secrets, on one line of 200 characters.

    >>> scrub('open /root/.ollama/models/blobs/sha256-1: no such file')
    'open …: no such file'
    >>> scrub("dial tcp: lookup registry.ollama.ai on 198.51.100.53:53: no such host")
    'dial tcp: lookup registry.ollama.ai on …: no such host'
    """
    if len(text) > _READ_LIMIT:  # cut between words: half an address is not recognised
        text = " ".join(text[:_READ_LIMIT].split()[:-1])
    line = " ".join(_UNSAFE.sub("…", text).split())
    return line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"


def _quoting(cause: str, text: str) -> str:
    said = scrub(text)
    return f"{cause}: {said}" if said else cause


def from_status(
    status: int, body: bytes, retry_after: str | None, context: ErrorContext, location: str = ""
) -> OllamaError:
    """Translate an answer whose status is not 2xx.

    Args:
        status: The HTTP status.
        body: The body, as far as it was read.
        retry_after: The header of that name, if there was one.
        context: Of the request.
        location: The target of a redirect, if there was one.

    Returns:
        The error, with `upstream_status` and, in seconds, `retry_after_s`.
    """
    if 300 <= status < 400:
        return _redirected(status, context, location)
    record = _object(body) or {}
    text, details = _text_and_details(record.get("error"))
    if text is None or status == 407:  # only a proxy answers 407, whatever its body says
        error = through_proxy(_from_bare_status(status, body, context), context)
    elif status == 401 and not context.in_cloud and (signin := _signin(record, context)):
        error = signin
    else:
        error = _from_text(status, text, details, context)
    error.upstream_status = status
    try:
        seconds = float(retry_after or "")
    except ValueError:  # no number, or a date, which counts as absent
        seconds = math.nan
    error.retry_after_s = seconds if 0 <= seconds < _LONGEST_RETRY_S else None
    return error


def _redirected(status: int, context: ErrorContext, location: str) -> OllamaError:
    """Return the error of a redirect, which is not followed: a request has a prompt, and a key perhaps."""
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


def _signin(record: dict[str, Any], context: ErrorContext) -> OllamaError | None:
    """Return the error of an Ollama that is not signed in to its cloud, with the link that it gives."""
    link = record.get("signin_url")
    is_known = isinstance(link, str) and len(link) <= _TEXT_LIMIT and _SIGNIN.match(link)
    if not is_known and not is_cloud_name(context.model):
        return None
    way = f", or open {link}" if is_known else ""
    return errors.Forbidden(
        f"the Ollama server is not signed in to ollama.com, which {context.model or 'the model'} needs",
        f"Sign in on the machine of Ollama: `ollama signin`{way}.",
    )


def _from_bare_status(status: int, body: bytes, context: ErrorContext) -> OllamaError:
    """Translate an answer that is not Ollama's JSON: its Host check, its router, a proxy, another service."""
    address = context.address
    if status == 403 and not body.strip():
        return errors.Forbidden(
            "the Ollama server refuses the host name that it was called by",
            "Call it by an address that it allows, or set OLLAMA_ORIGINS and OLLAMA_HOST on the server.",
        )
    if status in {401, 403} and context.keeps_key:
        return _kept_key(f"{address} answered HTTP {status}", context)
    if status in {401, 403, 407}:
        return errors.Forbidden(
            f"{address} answered HTTP {status}",
            "Set the credentials that it wants in OLLAMA_MCP_HEADERS or OLLAMA_API_KEY.",
        )
    if status == 400 and any(words in body for words in _WANTS_TLS):
        return wrong_scheme(context, "https")
    if status == 413:
        return errors.TooLarge(
            f"{address} does not take a request of this size",
            "Send less, or raise the limit of the proxy before Ollama.",
        )
    if status == 429:
        return errors.RateLimited(f"{address} allows no more calls for now", "Try again later.")
    if status >= 500:
        return errors.Upstream(
            _quoting(f"what answers at {address} failed with HTTP {status}", plain_words(body)),
            "Check that the Ollama server runs, and the proxy before it if there is one, then try again.",
        )
    return not_ollama(context, status)


def _kept_key(cause: str, context: ErrorContext) -> OllamaError:
    return errors.Forbidden(
        cause,
        "OLLAMA_API_KEY was not sent, as it is for ollama.com: "
        f"OLLAMA_MCP_API_KEY_HOST={context.hostname} sends it here, too.",
    )


def from_line(error: Any, context: ErrorContext, *, tells_in_stream: bool) -> OllamaError:
    """Translate the `error` of a line in the middle of an answer.

    The text of a generation's decides no code: when a runner dies, Ollama quotes the last error that it
    ever printed, which may belong to another call.

    Args:
        error: The value of the field.
        context: Of the request.
        tells_in_stream: Whether the endpoint tells the failure of the call in such a line.
    """
    text, details = _text_and_details(error)
    text = text or ""
    if "error parsing tool call" in text:
        return broken_call(said=text)
    if tells_in_stream:
        return _from_text(200, text, details, context)
    return errors.Upstream(
        _quoting("Ollama stopped in the middle of the answer", text),
        "Try again; if it stays so, the Ollama server's log says why the model stopped.",
        upstream_status=200,
    )


def not_json(body: bytes) -> OllamaError:
    """Return the error of a line in the middle of an answer that is none of Ollama's, with its text."""
    return errors.BadUpstream(
        _quoting("Ollama sent a line that is not JSON", plain_words(body)),
        "Check that OLLAMA_HOST is an Ollama server and that no proxy changes its answers.",
    )


def plain_words(body: bytes) -> str:
    """Return the text of a server's own kind of error: of a record, or plain; "" for a page or bytes.

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


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(data)
    except errors.BadUpstream:
        return None


def _text_and_details(error: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the text of an `error`, and llama-server's own error object where it is one or quotes one."""
    details: Any = error
    if isinstance(error, str):
        details = (_object(error.encode(errors="replace")) or {}).get("error")
        if not details or not isinstance(details, dict):
            return error, {}
    if not details or not isinstance(details, dict):
        return None, {}
    message = cast("dict[str, Any]", details).get("message")
    return (message if isinstance(message, str) else "", cast("dict[str, Any]", details))


# --- errors that services make, too ----------------------------------------------------------------

WITHOUT = {
    "vision": ("", "leave out images"),
    "tools": ("tools", "leave out tools"),
    "thinking": ("think", 'send think=""'),
    "insert": ("suffix", "leave out suffix"),
}
"""How to do without a capability: the argument that asks for it, and what to do."""


def lacks(model: str, capability: str, having: list[str] | None = None) -> OllamaError:
    """Return the error of a model that cannot do what was asked.

    Args:
        model: The model; "" where it is not known.
        capability: In Ollama's word: completion, vision, tools, thinking, insert, embedding.
        having: Installed models that can.
    """
    instead = _named(having[0]) if having else [("", f"name a model that has {capability}")]
    return errors.CapabilityMissing(
        f"{model or 'the model'} does not have the capability {capability}",
        ways=[*instead, *([WITHOUT[capability]] if capability in WITHOUT else [])],
        lacks=capability,
        having=having or [],
    )


def _named(model: str) -> list[tuple[str, str]]:
    """Return the ways to name another model, by the argument of the called tool."""
    return [("model", f'send model="{model}"'), ("models", f'send "{model}" in models')]


def model_not_found(
    model: str, similar: list[str] | None = None, setting: str = "", *, replaceable: bool = True
) -> OllamaError:
    """Return the error of a model that is not installed.

    Args:
        model: The name.
        similar: Installed names that look alike, the nearest first.
        setting: The setting that names the model, where the caller did not.
        replaceable: Whether another model would do; not for what is done to a model.
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
    """Return the error of a model that Ollama lists, and does not find when it is called."""
    return errors.ModelNotFound(
        f'Ollama lists the model "{model}", but does not find it when it is called',
        f"Install it anew with `ollama pull {model}`, or name another one.",
        model=model,
        similar=[],
    )


def broken_call(name: str = "a tool", said: str = "") -> OllamaError:
    """Return the error of a tool call that the model began and did not get right.

    Args:
        name: The tool.
        said: Ollama's text about it.
    """
    return errors.Upstream(
        _quoting(f"the model wrote a call of {name} whose arguments cannot be read", said),
        "Ask again, in other words or with fewer tools, or name a more capable model.",
        call=name,
    )


# --- the table of texts ----------------------------------------------------------------------------


class _ErrorText(NamedTuple):
    """An error text of Ollama, and where the pattern of the table found it."""

    text: str
    match: re.Match[str]
    details: dict[str, Any]
    context: ErrorContext

    @property
    def model(self) -> str:
        return self.context.model or "the model"


def _overflow(found: _ErrorText) -> OllamaError:
    def count(name: str) -> int | None:
        value = found.details.get(name)
        return value if type(value) is int and 0 < value < 2**63 else None

    tokens, window = count("n_prompt_tokens"), count("n_ctx")
    counts = f" of {tokens} tokens" if tokens else ""
    size = f" of {window} tokens" if window else ""
    return errors.ContextOverflow(
        f"the prompt{counts} does not fit the window{size} of {found.model}",
        ways=[
            ("", "send a shorter text"),
            ("options", 'send a larger "num_ctx" in options'),
            ("truncate", "send truncate=true to have it cut"),
        ],
        tokens=tokens,
        window=window,
    )


def _lacks_named(found: _ErrorText) -> OllamaError:
    name = found.match[1]
    return lacks(found.context.model, "completion" if name in {"chat", "generate"} else name)


def _not_in_registry(found: _ErrorText) -> OllamaError:
    return errors.ModelNotFound(
        f'no registry has a model "{found.context.model}"',
        "Check the name and its tag at https://ollama.com/library.",
        model=found.context.model,
    )


def _bad_argument(found: _ErrorText) -> OllamaError:
    return errors.InvalidArgument(
        _quoting("Ollama refused the request", found.text), "Correct that argument and call again."
    )


def _too_large(found: _ErrorText) -> OllamaError:
    return errors.TooLarge(_quoting("Ollama does not take a request of this size", found.text), "Send less.")


def _forbidden(found: _ErrorText) -> OllamaError:
    cause = _quoting("the Ollama server refuses", found.text)
    if found.context.in_cloud:
        return errors.Forbidden(cause, "Set OLLAMA_API_KEY to a valid key of https://ollama.com.")
    if found.context.keeps_key:
        return _kept_key(cause, found.context)
    return errors.Forbidden(cause, "Use a local model; ollama_list_models has the installed ones.")


def _not_yours(found: _ErrorText) -> OllamaError:
    return errors.Forbidden(
        _quoting(f"the registry does not allow that for {found.model}", found.text),
        "Use a name of your own account, and sign in on the Ollama machine with `ollama signin`.",
    )


def _no_memory(found: _ErrorText) -> OllamaError:
    error = errors.Upstream(
        _quoting(f"{found.model} does not fit into the memory", found.text),
        ways=[
            ("model", "name a smaller model"),
            ("models", "name smaller models"),
            ("options", 'send a smaller "num_ctx" in options'),
            ("", "unload another (ollama_status, ollama_unload_model)"),
        ],
    )
    error.retryable = False
    return error


def _not_implemented(found: _ErrorText) -> OllamaError:
    error = errors.Upstream(
        _quoting("the server cannot do that", found.text), "Do without it, or use Ollama itself."
    )
    error.retryable = False  # no later attempt will help
    return error


_ANY_TEXT = ""
_ROWS: list[tuple[set[int], str, Callable[[_ErrorText], OllamaError]]] = [
    ({400, 500}, r"exceed_context_size|exceeds? the (?:available )?context|input length exceeds", _overflow),
    ({400}, r"does not support (chat|generate|thinking|tools|insert|vision|embedding)", _lacks_named),
    ({400, 500}, r"multimodal|does not support image", lambda e: lacks(e.context.model, "vision")),
    ({400, 500, 501}, r"not support embed", lambda e: lacks(e.context.model, "embedding")),
    ({404}, r"\bmodel\b", lambda e: model_not_found(e.context.model or scrub(e.text))),
    ({404}, _ANY_TEXT, lambda e: not_ollama(e.context)),
    ({413}, _ANY_TEXT, _too_large),
    ({200}, r"unauthorized|not authorized|access denied", _not_yours),
    ({200}, r"file does not exist|model .* not found", _not_in_registry),
    ({400, 422}, _ANY_TEXT, _bad_argument),
    ({500}, r"^option \"|^invalid format|^unsupported quantization", _bad_argument),
    (
        {200},
        r"^invalid model name|unsupported|^invalid file magic|insecure protocol http|^quantization is",
        _bad_argument,
    ),
    ({401, 403}, _ANY_TEXT, _forbidden),
    ({501}, _ANY_TEXT, _not_implemented),
    ({500}, r"error parsing tool call", lambda e: broken_call(said=e.text)),
    (
        {200, 500},
        r"more system memory|(out of|insufficient|not enough) (v?ram|memory)|cudamalloc|unable to alloc",
        _no_memory,
    ),
]
"""Statuses (200 is a line of a stream), a pattern, and the error; the first row that fits counts."""
_TABLE = [(statuses, re.compile(pattern, re.IGNORECASE), make) for statuses, pattern, make in _ROWS]


def _from_text(status: int, text: str, details: dict[str, Any], context: ErrorContext) -> OllamaError:
    for statuses, pattern, make in _TABLE:
        match = pattern.search(text) if status in statuses else None
        if match is not None:
            return make(_ErrorText(text, match, details, context))
    if status == 503:
        return errors.Busy(_quoting("Ollama is busy", text), "Try again in a few seconds.")
    if status == 429:
        return errors.RateLimited(_quoting("Ollama's limit is reached", text), "Try again later.")
    return errors.Upstream(
        _quoting("Ollama failed", text), "Try again; if it stays so, the Ollama server's log says why."
    )
