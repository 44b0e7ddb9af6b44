"""What is turned away before anybody asks who it is: strange names, strange pages, and all at the end."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_mcp.listening import Names
from ollama_mcp.transports.http.traffic import Traffic, refusal


class Doors:
    """ASGI: looks at Host and Origin, whichever address the server is bound to.

    Args:
        app: What is behind.
        names: Those that may pass.
        traffic: Says whether the server still takes something.
    """

    def __init__(self, app: ASGIApp, names: Names, traffic: Traffic) -> None:
        self._app = app
        self._names = names
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn away, or hand on."""
        if self._traffic.closing:
            answer = refusal(503, "the server ends", 1)
        elif not self._is_called_by_name(scope):
            answer = refusal(421, "the Host header names another server; OLLAMA_MCP_ALLOW_HOSTS adds names")
        elif not self._is_from_a_known_page(scope):
            answer = refusal(403, "pages of this Origin may not call; OLLAMA_MCP_ALLOW_ORIGINS adds some")
        else:
            answer = self._app
        await answer(scope, receive, send)

    def _is_called_by_name(self, scope: Scope) -> bool:
        hosts = _all(scope, b"host")
        return len(hosts) == 1 and self._names.has_host(hosts[0], _local(scope), _scheme(scope))

    def _is_from_a_known_page(self, scope: Scope) -> bool:
        """Programs send no Origin."""
        origins, local, scheme = _all(scope, b"origin"), _local(scope), _scheme(scope)
        return len(origins) <= 1 and all(self._names.has_origin(o, local, scheme) for o in origins)


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _scheme(scope: Scope) -> str:
    return scope.get("scheme", "http")


def _local(scope: Scope) -> tuple[str, int]:
    """Where the connection came to; a port that no header has, where the ASGI server does not say."""
    address, port = scope.get("server") or ("", None)
    return address, port or 0
