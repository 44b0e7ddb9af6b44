"""`ollama-mcp serve`: MCP on stdin and stdout, or over HTTP; logs on stderr."""

from __future__ import annotations

import gc
import logging
import os
import sys
from dataclasses import replace
from typing import Any

from mcp.server import MCPServer

from ollama_mcp.app import App
from ollama_mcp.server import create_server
from ollama_mcp.settings import Settings
from ollama_mcp.settings.listening import Authority
from ollama_mcp.tools import BYPASSES_QUEUE
from ollama_mcp.transports.standard_streams import Wires
from ollama_mcp.transports.stdio import run_stdio

_log = logging.getLogger("ollama_mcp")


def serve(settings: Settings, wires: Wires | None) -> int:
    """Serve until the client goes or a signal comes; returns the exit status.

    Args:
        settings: In force.
        wires: The standard streams, which have been claimed; none over HTTP.
    """
    if not start_log(settings):
        return 2
    for warning in settings.warnings:
        _log.warning("%s", warning)
    app = App.create(replace(settings, backend=replace(settings.backend, swift=True)))
    try:
        server = create_server(app, log_level=settings.log_level)
        return _serve_http(server, app) if wires is None else _serve_stdio(server, app, wires)
    except ValueError as error:
        print(f"ollama-mcp: {error}", file=sys.stderr)
        return 2


def _serve_stdio(server: MCPServer[Any], app: App, wires: Wires) -> int:
    if os.isatty(wires[0]):
        print("ollama-mcp: waiting for an MCP client on stdin; to see what works, run `ollama-mcp doctor`",
              file=sys.stderr)  # fmt: skip
    if app.settings.http.is_meant:
        _log.warning("tokens, verifier, --sse and whom to let in mean nothing without --http: this is stdio")
    _tidy()
    return run_stdio(
        server,
        wires=wires,
        on_stop=app.aclose,
        line_limit=app.settings.limits.line,
        priority_tools=BYPASSES_QUEUE,
        protocol=app.settings.protocol,
    )


def _serve_http(server: MCPServer[Any], app: App) -> int:
    """Serve over HTTP.

    Raises:
        ValueError: What is to be let in is contrary, or open to others without their having a token.
    """
    from ollama_mcp.transports import http  # noqa: PLC0415 - stdio starts without it

    settings = app.settings.http
    if app.settings.protocol != "auto":
        _log.warning("OLLAMA_MCP_PROTOCOL is for stdio: over HTTP each request says which version it speaks")
    try:
        access, sockets = http.listen(app.settings)
    except OSError as error:
        bind = str(Authority(*settings.bind)) if settings.bind else ""
        print(f"ollama-mcp: OLLAMA_MCP_HTTP {bind}: {error.strerror or error}; name another port or address",
              file=sys.stderr)  # fmt: skip
        return 1
    serving = http.http_app(server, app, access)
    _tidy()

    def say() -> None:
        for address in http.addresses_of(sockets):
            also = " and /sse" if settings.sse else ""
            print(f"ollama-mcp: serving MCP on {address}{also} to {access.describe(settings)}",
                  file=sys.stderr, flush=True)  # fmt: skip

    return http.run_http(serving, sockets, access, grace=settings.grace, on_started=say)


def _tidy() -> None:
    """Freeze what is loaded now: collecting it again and again stops every call for 60 to 150 ms."""
    gc.freeze()
    gc.enable()


def start_log(settings: Settings) -> bool:
    """Send the log to stderr and, where that is set, to a file; False if it cannot be opened."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if settings.log_file:
        try:
            handlers.append(logging.FileHandler(settings.log_file, encoding="utf-8"))
        except OSError as error:
            print(f"ollama-mcp: OLLAMA_MCP_LOG_FILE: {error.strerror}; name a file in a folder that exists",
                  file=sys.stderr)  # fmt: skip
            return False
    logging.basicConfig(
        level=settings.log_level, handlers=handlers, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "httpcore", "httpx2", "httpcore2", "mcp.client"):  # they log addresses
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of each request that is no HTTP: whoever reaches the port could fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return True
