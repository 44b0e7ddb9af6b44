"""Refusals over HTTP, told to the client in a form that it can show, and to the operator's log."""

from __future__ import annotations

import logging

from mcp_types import INTERNAL_ERROR, INVALID_REQUEST
from starlette.responses import JSONResponse

from ollama_mcp.errors import RateLimited
from ollama_mcp.jobs.rate_limit import Rate, RateLimit

_log = logging.getLogger(__name__)
_lines = RateLimit({"lines": Rate(6, 60.0)}, burst=6)
"""Whoever reaches the port could fill the disk else."""


def refusal(status: int, why: str, retry_after_s: int = 0, *, close: bool = False) -> JSONResponse:
    """An answer that is no MCP, as a JSON-RPC error: of no other body do clients show the text.

    Args:
        status: Of HTTP.
        why: For people; without anything that is secret.
        retry_after_s: Seconds after which it may be tried again; 0 is never.
        close: Whether nothing more is read from the connection.
    """
    code = INTERNAL_ERROR if status >= 500 else INVALID_REQUEST
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": why}}
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    if close:
        headers["Connection"] = "close"
    return JSONResponse(body, status, headers)


def logged(why: str, about: str = "") -> str:
    """Tell the operator, too, who alone can change it; of what it is about a few times a minute at most."""
    try:
        _lines.admit("lines", about)
    except RateLimited:
        return why
    _log.warning("refused a request: %s", why)
    return why
