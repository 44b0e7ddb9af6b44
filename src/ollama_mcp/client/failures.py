"""The one place where a failing answer becomes an `OllamaError` (httpx's exceptions: `connection`).

Texts of Ollama carry its own paths and name servers, so they are scrubbed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pydantic_core

from ollama_mcp import errors
from ollama_mcp.errors import OllamaError

_TEXT_LIMIT = 200
_UNSAFE = re.compile(
    r"""
    (?:https?://)?[\w.-]+:\d{2,5}->\S+          # a socket pair
    | \[?[0-9a-fA-F:.]*\d[0-9a-fA-F:.]*\]?:\d{2,5}\b  # an address with a port
    | \b\d{1,3}(?:\.\d{1,3}){3}\b               # an address
    | (?<![\w/.:])(?:[A-Za-z]:)?[\\/](?:[\w.@~+ -]+[\\/])+[\w.@~+-]*  # an absolute path
    """,
    re.VERBOSE,
)


def scrub(text: str) -> str:
    """Show a server's words without its paths and addresses: one line of at most 200 characters.

    >>> scrub('open /root/.ollama/models/blobs/sha256-1: no such file')
    'open …: no such file'
    >>> scrub("dial tcp: lookup registry.ollama.ai on 198.51.100.53:53: no such host")
    'dial tcp: lookup registry.ollama.ai on …: no such host'
    """
    line = " ".join(_UNSAFE.sub("…", text).split())
    return line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"


# --- no answer, or half of one --------------------------------------------------------------------


def unreachable(address: str) -> OllamaError:
    """No connection."""
    return errors.Unreachable(
        f"no Ollama server answers at {address}",
        "Start it with `ollama serve`, or set OLLAMA_HOST to where it runs.",
    )


def clock_ran_out(clock: str, address: str) -> OllamaError:
    """One of the clocks connect, first_byte, idle."""
    waiting = {
        "connect": "take the connection",
        "first_byte": "begin its answer",
        "idle": "send the next part of its answer",
    }[clock]
    remedy = {
        "connect": "Check that the machine is up, or raise OLLAMA_MCP_CONNECT_TIMEOUT.",
        "first_byte": "The model may still be loading: try again, or raise OLLAMA_MCP_FIRST_BYTE_TIMEOUT.",
        "idle": "Try again; if it stays so, unload the model or raise OLLAMA_MCP_IDLE_TIMEOUT.",
    }[clock]
    return errors.Timeout(
        f"Ollama at {address} did not {waiting} in time ({clock} clock)", remedy, clock=clock
    )


def stream_broken() -> OllamaError:
    """The connection went away under the answer."""
    return errors.StreamBroken(
        "the connection to Ollama was lost before the answer was complete",
        "Try again; the Ollama server's log says why it stopped.",
    )


def not_ollama(address: str, status: int | None = None) -> OllamaError:
    """Another service, or a very old server."""
    return errors.NotOllama(
        f"what answers at {address} does not speak Ollama's API",
        "Set OLLAMA_HOST to the Ollama server (default port 11434), or update it if it is very old.",
        upstream_status=status,
    )


# --- answers with a failing status -------------------------------------------------------------


class Asked(NamedTuple):
    """What a failing answer is an answer to."""

    address: str
    model: str
    in_cloud: bool = False


def from_status(status: int, body: bytes, retry_after: str | None, asked: Asked) -> OllamaError:
    """Translate an answer whose status is not 2xx."""
    if 300 <= status < 400:
        return errors.BadUpstream(
            "Ollama's address answered with a redirect, which is not followed",
            "Set OLLAMA_HOST to the final address.",
            upstream_status=status,
        )
    text, inner = _error_text(body)
    if text is None:
        return _from_bare_status(status, body, asked)
    error = _from_text(status, text, inner, asked)
    error.upstream_status = status
    error.retry_after_s = _seconds(retry_after)
    return error


def from_line(text: str, asked: Asked, *, tells_in_stream: bool) -> OllamaError:
    """Translate an `{"error": …}` line in the middle of an answer.

    A generation's takes no code from its text: when a runner dies, Ollama quotes the last error
    that it ever printed, which may belong to another call.
    """
    if tells_in_stream:
        return _from_text(200, text, {}, asked)
    return errors.Upstream(
        f"Ollama stopped in the middle of the answer: {scrub(text)}",
        "Try again; if it stays so, the Ollama server's log says why the model stopped.",
        upstream_status=200,
    )


def _error_text(body: bytes) -> tuple[str | None, dict[str, Any]]:
    """The text of `{"error": …}`, and llama-server's own error object where one is quoted inside."""
    outer = _object(body)
    said = outer.get("error") if outer else None
    if isinstance(said, str):
        inner = _as_object((_object(said.encode()) or {}).get("error"))
        return (str(inner.get("message", said)), inner) if inner else (said, {})
    inner = _as_object(said)
    return (str(inner.get("message", "")), inner) if inner else (None, {})


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        return _as_object(pydantic_core.from_json(data))
    except ValueError:
        return None


def _as_object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _from_bare_status(status: int, body: bytes, asked: Asked) -> OllamaError:
    """An answer that is not Ollama's JSON: its Host check, its router, a proxy, another service."""
    if status == 403 and not body.strip():
        return errors.Forbidden(
            "the Ollama server refuses the host name that it was called by",
            "Call it by an address that it allows, or set OLLAMA_ORIGINS and OLLAMA_HOST on the server.",
            upstream_status=status,
        )
    if status in {401, 403, 407}:
        return _refused_by_proxy(status, asked)
    if status in {502, 503, 504}:
        return errors.Upstream(
            f"a proxy in front of Ollama answered HTTP {status}",
            "Check that the Ollama server behind it runs, then try again.",
            upstream_status=status,
        )
    return not_ollama(asked.address, status)


def _refused_by_proxy(status: int, asked: Asked) -> OllamaError:
    return errors.Forbidden(
        f"{asked.address} answered HTTP {status}",
        "Set the credentials that it wants in OLLAMA_MCP_HEADERS or OLLAMA_API_KEY.",
        upstream_status=status,
    )


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(float(retry_after or ""), 0.0)
    except ValueError:
        return None


Make = Callable[[str, "re.Match[str]", dict[str, Any], Asked], OllamaError]


def _from_text(status: int, text: str, inner: dict[str, Any], asked: Asked) -> OllamaError:
    for statuses, pattern, make in _TABLE:
        found = pattern.search(text) if status in statuses else None
        if found is not None:
            return make(text, found, inner, asked)
    return _by_status(status, text)


def _overflow(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
    tokens, window = inner.get("n_prompt_tokens"), inner.get("n_ctx")
    counts = f" of {tokens} tokens" if tokens else ""
    size = f" of {window} tokens" if window else ""
    return errors.ContextOverflow(
        f"the prompt{counts} does not fit the window{size} of {asked.model}",
        'Send a shorter prompt, a larger "num_ctx" in options, or truncate=true to have it cut.',
        tokens=tokens,
        window=window,
    )


_CAPABILITY_OF = {"chat": "completion", "generate": "completion"}


def _lacks(capability: str) -> Make:
    def make(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
        return lacks(asked.model, capability)

    return make


def _lacks_named(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
    name = found.group(1)
    return lacks(asked.model, _CAPABILITY_OF.get(name, name))


_WITHOUT = {
    "vision": "leave out images",
    "tools": "leave out tools",
    "thinking": 'send think=""',
    "insert": "leave out suffix",
}


def lacks(model: str, capability: str, having: list[str] | None = None) -> OllamaError:
    """A model that cannot do what was asked; `having` names installed models that can."""
    instead = f'send model="{having[0]}"' if having else f"name a model that has {capability}"
    without = _WITHOUT.get(capability)
    ways = f"{instead}, or {without}" if without else instead
    return errors.CapabilityMissing(
        f"{model} does not have the capability {capability}",
        f"{ways[0].upper()}{ways[1:]}.",
        lacks=capability,
        having=having or [],
    )


def model_not_found(model: str, similar: list[str] | None = None) -> OllamaError:
    """A model that is not installed; `similar` are installed names that look alike."""
    instead = f'Send model="{similar[0]}", or install it' if similar else "Install it"
    others = f"; installed and alike: {', '.join(similar)}" if similar else ""
    return errors.ModelNotFound(
        f'model "{model}" is not installed{others}',
        f"{instead} with `ollama pull {model}`.",
        model=model,
        similar=similar or [],
    )


def _not_found(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
    return model_not_found(asked.model or scrub(text))


def _not_in_registry(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
    return errors.ModelNotFound(
        f'no registry has a model "{asked.model}"',
        "Check the name and its tag at https://ollama.com/library.",
        model=asked.model,
    )


def _argument(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
    return errors.InvalidArgument(
        f"Ollama refused the request: {scrub(text)}", "Correct that argument and call again."
    )


def _forbidden(text: str, found: re.Match[str], inner: dict[str, Any], asked: Asked) -> OllamaError:
    return errors.Forbidden(
        f"the Ollama server refuses: {scrub(text)}",
        "Use a local model; ollama_list_models has the installed ones.",
    )


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
        ({404}, _ANY_TEXT, _not_found),
        ({200}, r"file does not exist|model .* not found", _not_in_registry),
        ({400, 413, 422}, _ANY_TEXT, _argument),
        ({500}, r"^option \"|^invalid format|^unsupported quantization", _argument),
        ({200}, r"^invalid model name|unsupported|^invalid file magic|insecure protocol http", _argument),
        ({401, 403}, _ANY_TEXT, _forbidden),
    )
]


def _by_status(status: int, text: str) -> OllamaError:
    said = scrub(text)
    if status == 503:
        return errors.Busy(f"Ollama is busy: {said}", "Try again in a few seconds.")
    if status == 429:
        return errors.RateLimited(f"Ollama's limit is reached: {said}", "Try again later.")
    return errors.Upstream(
        f"Ollama failed: {said}", "Try again; if it stays so, the Ollama server's log says why."
    )
