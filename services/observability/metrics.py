"""Prometheus metrics: one registry an application, so that several can live in one process.

Names begin with `counterpoint_` and end with their unit; labels are of closed sets, which are exported from the start.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TypeVar

import anyio
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from services.contracts.usage import Usage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Histogram bounds, in seconds: from a route's own overhead to a long solve."""
GATHER_SECONDS = 1.0
"""Time that a scrape waits for values from elsewhere, before it exports the last known ones."""


@dataclass(slots=True)
class ServiceMetrics:
    """The metrics of every service. `gather` is awaited before each scrape."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    gather: Callable[[], Awaitable[None]] | None = None
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)

    def __post_init__(self) -> None:
        """Register the metrics."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = self._counter("http_requests", "HTTP requests answered.", route=(), method=(), status=())
        self.seconds = self._histogram(
            "http_request_seconds",
            "Time from a request's arrival to the end of its response.",
            SECONDS,
            route=(),
            method=(),
        )

    def _counter(self, name: str, help_text: str, **labels: Iterable[str]) -> Counter:
        """Return a counter that starts at 0 for every combination of its labels' values, where these are given."""
        return _started(Counter(f"counterpoint_{name}_total", help_text, tuple(labels), registry=self.registry), labels)

    def _gauge(self, name: str, help_text: str, **labels: Iterable[str]) -> Gauge:
        """Return a gauge that starts at 0."""
        return _started(Gauge(f"counterpoint_{name}", help_text, tuple(labels), registry=self.registry), labels)

    def _histogram(self, name: str, help_text: str, bounds: tuple[float, ...], **labels: Iterable[str]) -> Histogram:
        """Return a histogram that starts empty."""
        histogram = Histogram(f"counterpoint_{name}", help_text, tuple(labels), buckets=bounds, registry=self.registry)
        return _started(histogram, labels)


MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)


def _started(metric: MetricT, labels: Mapping[str, Iterable[str]]) -> MetricT:
    """Export a metric from the start, with every combination of its labels' values."""
    for values in product(*labels.values()) if labels else ():
        metric.labels(*values)
    return metric


class RoleMetrics(ServiceMetrics):
    """The metrics of a role service's calls."""

    def __init__(self, verbs: Iterable[str]) -> None:
        super().__init__()
        outcomes = ("ok", "failed", "refused", "cancelled")
        self.calls = self._counter(
            "role_calls", "Calls of this service by verb and how they ended.", verb=verbs, outcome=outcomes
        )
        self.tokens = self._counter(
            "role_tokens", "Tokens that the engine computed, by kind.", kind=("prompt", "cached", "completion")
        )
        self.in_flight = self._gauge("role_in_flight", "Calls running or waiting now.")
        self.most_in_flight = self._gauge("role_in_flight_limit", "Calls that may run or wait at once.")
        self.generating = self._gauge("engine_in_flight", "Generations that the engine has not let go of.")

    def record(self, verb: str, outcome: str, usage: Usage) -> None:
        """Count a call that has ended."""
        self.calls.labels(verb, outcome).inc()
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("cached").inc(usage.cached_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)


def router(metrics: ServiceMetrics) -> APIRouter:
    """Return the route `GET /metrics`."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        if metrics.gather is not None:
            with anyio.move_on_after(GATHER_SECONDS):
                await metrics.gather()
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return routes
