"""Serving over HTTP: Streamable HTTP, probes and metrics, behind names, tokens and limits."""

from __future__ import annotations

from ollama_mcp.transports.http.application import HttpServer, http_app
from ollama_mcp.transports.http.auth import Access, access_of, require_auth_for_other_machines
from ollama_mcp.transports.http.serve_http import addresses_of, listen, open_sockets, run_http

__all__ = [
    "Access",
    "HttpServer",
    "access_of",
    "addresses_of",
    "http_app",
    "listen",
    "open_sockets",
    "require_auth_for_other_machines",
    "run_http",
]
