"""Health and metrics: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ollama_mcp.app import App
from ollama_mcp.transports.http.middleware import OpenRequests

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Sample:
    """A number with its labels."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()

    def written(self, name: str) -> str:
        """A line of the format."""
        labels = ",".join(f'{label}="{_escaped(text)}"' for label, text in self.labels)
        return f"{name}{{{labels}}} {self.value!r}" if labels else f"{name} {self.value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@dataclass(frozen=True)
class Metric:
    """A name, its kind (`counter` or `gauge`), what it says, and its samples."""

    name: str
    kind: str
    help_text: str
    samples: tuple[Sample, ...]

    def lines(self) -> Iterator[str]:
        """Yield the metric in the text format."""
        yield f"# HELP {self.name} {self.help_text}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from (sample.written(self.name) for sample in self.samples)


def exposition(app: App, open_requests: OpenRequests) -> str:
    """Return all metrics, as a scraper reads them."""
    metrics = [*_http_metrics(open_requests), *_call_metrics(app), *_queue_metrics(app), *_job_metrics(app)]
    return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"


def _http_metrics(open_requests: OpenRequests) -> Iterator[Metric]:
    statuses = [Sample(n, (("status", str(status)),)) for status, n in sorted(open_requests.statuses.items())]
    yield _metric("http_responses_total", "counter", "Answers over HTTP that began.", statuses)
    yield _metric(
        "http_in_flight", "gauge", "Requests over HTTP in flight.", [Sample(open_requests.in_flight)]
    )


def _call_metrics(app: App) -> Iterator[Metric]:
    calls = sorted(app.calls.ended.items())
    ended = [Sample(n, (("tool", tool), ("code", code))) for (tool, code), n in calls]
    yield _metric("calls_total", "counter", "Calls of tools that ended; code is OK or the error's.", ended)
    yield _metric("calls_running", "gauge", "Calls of tools that go on.", [Sample(app.calls.running)])
    took = [Sample(seconds, (("tool", tool),)) for tool, seconds in sorted(app.calls.seconds.items())]
    yield _metric("call_seconds_total", "counter", "Seconds that calls of tools took together.", took)


def _queue_metrics(app: App) -> Iterator[Metric]:
    lines = app.model_queue.statistics()
    for name, kind, help_text, values in (
        ("model_running", "gauge", "Calls of a model that run.", [line.running for line in lines]),
        ("model_waiting", "gauge", "Calls of a model that wait.", [line.waiting for line in lines]),
        ("model_admitted_total", "counter", "Calls of a model that ran.", [line.admitted for line in lines]),
        ("model_refused_total", "counter", "Calls that were BUSY.", [line.refused for line in lines]),
    ):
        by_model = zip(lines, values, strict=True)
        yield _metric(name, kind, help_text, [Sample(n, (("model", line.model),)) for line, n in by_model])


def _job_metrics(app: App) -> Iterator[Metric]:
    yield _metric("replies_in_flight", "gauge", "Answers being generated.", [Sample(app.jobs.in_flight)])


def _metric(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> Metric:
    return Metric(f"ollama_mcp_{name}", kind, help_text, tuple(samples))


_ANSWER_S = 0.8
"""Seconds in which Ollama must answer: Kubernetes waits one."""


class Probes:
    """The endpoints of orchestrators and of monitoring.

    Args:
        app: Whose Ollama is asked.
        traffic: Says whether the server still takes something.
    """

    def __init__(self, app: App, open_requests: OpenRequests) -> None:
        self._app = app
        self._traffic = open_requests

    async def health(self, _: Request) -> Response:
        """200: the process serves."""
        return _status_only(200 if self._traffic.serving else 503)

    async def ready(self, _: Request) -> Response:
        """200: a call would reach Ollama; 503: it would not, or the server ends."""
        if self._traffic.closing or not self._traffic.serving:
            return _status_only(503)
        with anyio.move_on_after(_ANSWER_S):
            return _status_only(200 if await self._app.status_probe.is_up() else 503)
        return _status_only(503)

    async def metrics(self, _: Request) -> Response:
        """Numbers; behind the same tokens as the calls."""
        return Response(exposition(self._app, self._traffic), media_type=CONTENT_TYPE)


def _status_only(status: int) -> Response:
    if status == 200:
        return PlainTextResponse("ok\n")
    return PlainTextResponse("unavailable\n", status, {"Retry-After": "1"})
