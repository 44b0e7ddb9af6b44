"""What asks whether all is well, and need not say who it is: nothing is told but a status."""

from __future__ import annotations

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ollama_mcp.app import App
from ollama_mcp.transports.http import metrics
from ollama_mcp.transports.http.traffic import Traffic

_ANSWER_S = 0.8
"""Seconds in which Ollama must answer: Kubernetes waits one."""


class Probes:
    """The endpoints of orchestrators and of monitoring.

    Args:
        app: Whose Ollama is asked.
        traffic: Says whether the server still takes something.
    """

    def __init__(self, app: App, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def health(self, _: Request) -> Response:
        """200: the process serves."""
        return _bare(200 if self._traffic.serving else 503)

    async def ready(self, _: Request) -> Response:
        """200: a call would reach Ollama; 503: it would not, or the server ends."""
        if self._traffic.closing or not self._traffic.serving:
            return _bare(503)
        with anyio.move_on_after(_ANSWER_S):
            return _bare(200 if await self._app.overview.is_up() else 503)
        return _bare(503)

    async def metrics(self, _: Request) -> Response:
        """Numbers; behind the same tokens as the calls."""
        return Response(metrics.exposition(self._app, self._traffic), media_type=metrics.CONTENT_TYPE)


def _bare(status: int) -> Response:
    if status == 200:
        return PlainTextResponse("ok\n")
    return PlainTextResponse("unavailable\n", status, {"Retry-After": "1"})
