"""What Prometheus reads of the gateway at `/metrics`: requests by route and status, their time, and this process.

Labels are templates of routes, never addresses: whatever somebody asks for, the number of series stays. Time is
counted to the first byte of an answer, since how quickly a phone takes a film says nothing about the gateway. Counts
that others keep (a cache, the log of clicks) are read when they are asked for: `Counts`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ettametta_pipelines.gateway.access import Rule, open_to
from ettametta_pipelines.gateway.operators import FORWARDING_HEADERS
from ettametta_pipelines.state.session import StateDatabase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "unmatched"
# Closer around the promised 50 and 150 ms; the last ones tell a slow vendor from one that hangs.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class Counts:
    """A counter that somebody else keeps: `read` gives the count of each value of `label`, which must be few."""

    name: str
    says: str
    label: str
    read: Callable[[], Mapping[str, float]]

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self.name, self.says, labels=[self.label])
        for value, count in self.read().items():
            family.add_metric([value], count)
        yield family

    def describe(self) -> Iterable[CounterMetricFamily]:
        return ()


class GatewayMetrics:
    """The gateway's own figures and the counts it was given."""

    def __init__(self, state: StateDatabase, others: Iterable[Counts]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ettametta_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "ettametta_http_request_duration_seconds", "From a request to the first byte of its answer", ["route"],
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.running = Gauge("ettametta_http_requests_running", "Requests under way", registry=self.registry)
        connections = Gauge(
            "ettametta_database_connections_used", "Connections of this process in a transaction",
            registry=self.registry,
        )  # fmt: skip
        connections.set_function(lambda: state.connections_used)
        ProcessCollector(registry=self.registry)
        for counts in others:
            self.registry.register(counts)

    def exposition(self, request: Request) -> Response:
        """The figures. Whatever came through a proxy came from outside, where they are nobody's business."""
        if any(name in request.headers for name in FORWARDING_HEADERS):
            raise HTTPException(404)
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE)


def measure(app: FastAPI, state: StateDatabase, others: Iterable[Counts] = ()) -> None:
    """Count every request of an application from here on, and serve `/metrics`."""
    metrics = GatewayMetrics(state, others)
    app.add_api_route("/metrics", metrics.exposition, methods=["GET"], dependencies=[open_to(Rule.MACHINES)])
    app.add_middleware(_CountedRequests, metrics=metrics)


class _CountedRequests:
    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, metrics = perf_counter(), self._metrics
        answered = False

        async def counted(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._note(scope, str(message["status"]), perf_counter() - begun)
            await send(message)

        metrics.running.inc()
        try:
            await self._app(scope, receive, counted)
        finally:
            metrics.running.dec()
            if not answered:
                # Further out it becomes a 500, or the sender hung up.
                self._note(scope, "500", perf_counter() - begun)

    def _note(self, scope: Scope, status: str, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
