"""`ollama-mcp serve`: MCP on stdin and stdout, or over HTTP; logs on stderr."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from ollama_mcp import __version__
from ollama_mcp.app import App
from ollama_mcp.cli.output import start_log
from ollama_mcp.errors import WrongSettings
from ollama_mcp.server import create_server, register
from ollama_mcp.settings import Settings
from ollama_mcp.settings.listening import Authority
from ollama_mcp.tools.results import error_result
from ollama_mcp.transports.standard_streams import Wires
from ollama_mcp.transports.stdio import run_stdio

_log = logging.getLogger("ollama_mcp")


def serve(settings: Settings, wires: Wires | None, in_words_of_flags: Callable[[str], str]) -> int:
    """Serve until the client goes or a signal comes; returns the exit status.

    Args:
        settings: In force.
        wires: The standard streams, which have been claimed; none over HTTP.
        in_words_of_flags: Names flags in a problem, where they were given, in place of their variables.
    """
    try:
        start_log(settings)
        app = App.create(replace(settings, backend=replace(settings.backend, swift=True)))
        server = create_server(app, log_level=settings.log_level)
        for warning in settings.warnings:
            _log.warning("%s", warning)
        return _serve_http(server, app) if wires is None else _serve_stdio(server, app, wires)
    except ValueError as error:
        problem = in_words_of_flags(str(error))
        print(f"ollama-mcp: {problem}", file=sys.stderr)
        return 2 if wires is None else serve_problems([problem], wires)


def serve_problems(problems: list[str], wires: Wires) -> int:
    """Serve the usual tools, each of which only says what is wrong with the settings; returns 2.

    A client shows of a server that ends at once no more than "disconnected".
    """
    if os.isatty(wires[0]):
        return 2  # a person has read it
    told = "; ".join(problem.rstrip(".") for problem in problems)
    error = WrongSettings(
        f"{told} (wrong settings of ollama-mcp)",
        "Tell the user: correct that where your client starts ollama-mcp, then restart the server.",
    )
    server: MCPServer[Any] = MCPServer(
        "ollama-mcp", title="Ollama", version=__version__, instructions=str(error)
    )
    register(server, App.create(Settings()))

    async def explain(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        return error_result(error) if ctx.method == "tools/call" else await call_next(ctx)

    server.middleware.append(explain)
    _tidy()
    run_stdio(server, wires=wires)
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
