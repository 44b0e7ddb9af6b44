"""What is turned away before anybody asks who it is: strange names and strange pages.

The SDK has such a check, of exact strings or of `name:*`, which takes anything behind the colon. A mounted
application does not know its port, and /metrics and /sse are not the SDK's alone.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from ollama_mcp.settings.listening import is_loopback
from ollama_mcp.transports.http.access import Access
from ollama_mcp.transports.http.refusals import logged, refusal
from ollama_mcp.transports.http.traffic import Traffic


class Doors:
    """ASGI: looks at Host and Origin, whichever address the server is bound to.

    Args:
        app: What is behind.
        access: Who may pass, and under which names.
        traffic: Says whether the server still takes something.
    """

    def __init__(self, app: ASGIApp, access: Access, traffic: Traffic) -> None:
        self._app = app
        self._access = access
        self._names = access.names
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn away, or hand on."""
        answer = self._refused(scope) or self._app
        await answer(scope, receive, send)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        if not self._traffic.serving:
            return refusal(
                503, logged("the lifespan of http_app was not entered: give it to your application")
            )
        if _all(scope, b"content-length") and _all(scope, b"transfer-encoding"):
            # RFC 9112, 6.1: a proxy before us may have read another body than we would.
            return refusal(400, "a request has one length", close=True)
        if not self._is_open_to(scope):
            return refusal(403, logged("who does not come through loopback needs a token, and none is set"))
        if not self._is_called_by_name(scope):
            return refusal(421, logged(_strange("Host", "hosts", _all(scope, b"host"))))
        if not self._is_from_a_known_page(scope):
            return refusal(403, logged(_strange("Origin", "origins", _all(scope, b"origin"))))
        return None

    def _is_open_to(self, scope: Scope) -> bool:
        """Nobody else than this machine, unless tokens are checked or the operator wants it so."""
        access = self._access
        return access.verifier is not None or access.insecure or is_loopback(_local(scope)[0])

    def _is_called_by_name(self, scope: Scope) -> bool:
        hosts = _all(scope, b"host")
        return len(hosts) == 1 and self._names.has_host(hosts[0], _local(scope), _scheme(scope))

    def _is_from_a_known_page(self, scope: Scope) -> bool:
        """Programs send no Origin, nor does an image of a strange page, which says so elsewhere."""
        if not _all(scope, b"origin") and _all(scope, b"sec-fetch-site") == ["cross-site"]:
            return False
        origins, local, scheme = _all(scope, b"origin"), _local(scope), _scheme(scope)
        return len(origins) <= 1 and all(self._names.has_origin(o, local, scheme) for o in origins)


def _strange(header: str, flag: str, values: list[str]) -> str:
    """What to do about a name that is not known, where there is one name."""
    if len(values) != 1:
        return f"there has to be one {header} header"
    shown = values[0][:100]
    return f"the {header} {shown!r} is none of this server's; --allow-{flag} {shown} lets it in"


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _scheme(scope: Scope) -> str:
    return scope.get("scheme", "http")


def _local(scope: Scope) -> tuple[str, int]:
    """Where the connection came to; a port that no header has, where the ASGI server does not say."""
    address, port = scope.get("server") or ("", None)
    return address, port or 0
