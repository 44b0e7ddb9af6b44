"""Serving over HTTP: Streamable HTTP, probes and metrics, behind names, tokens and limits."""

from __future__ import annotations

from ollama_mcp.transports.http.access import Access, access_of, refuse_exposure
from ollama_mcp.transports.http.application import HttpServer, http_app
from ollama_mcp.transports.http.serving import addresses_of, open_sockets, resolved, run_http

__all__ = [
    "Access",
    "HttpServer",
    "access_of",
    "addresses_of",
    "http_app",
    "open_sockets",
    "refuse_exposure",
    "resolved",
    "run_http",
]
