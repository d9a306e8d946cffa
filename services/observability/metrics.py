"""Prometheus metrics: one registry an application, so that several can live in one process.

Names begin with `counterpoint_` and end with their unit; labels are of closed sets, which are exported from the start.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import product

import anyio
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from services.contracts.usage import Usage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Histogram bounds, in seconds: from a route's own overhead to a long solve."""
GATHER_SECONDS = 1.0
"""How long a scrape waits for what has to be asked elsewhere; after it the last value stands."""


@dataclass(slots=True)
class ServiceMetrics:
    """What every service measures of itself. `gather` is awaited before each scrape."""

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

    def _counter(self, name: str, sentence: str, **labels: Iterable[str]) -> Counter:
        """A counter that begins at 0 for all combinations of its labels' values, as far as they are given."""
        counter = Counter(f"counterpoint_{name}_total", sentence, tuple(labels), registry=self.registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _gauge(self, name: str, sentence: str, **labels: Iterable[str]) -> Gauge:
        """A gauge that begins at 0."""
        gauge = Gauge(f"counterpoint_{name}", sentence, tuple(labels), registry=self.registry)
        for values in product(*labels.values()) if labels else ():
            gauge.labels(*values)
        return gauge

    def _histogram(self, name: str, sentence: str, bounds: tuple[float, ...], **labels: Iterable[str]) -> Histogram:
        """A histogram that begins empty."""
        histogram = Histogram(f"counterpoint_{name}", sentence, tuple(labels), buckets=bounds, registry=self.registry)
        for values in product(*labels.values()) if labels else ():
            histogram.labels(*values)
        return histogram


class RoleMetrics(ServiceMetrics):
    """What a role service measures of its calls."""

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
        """A call has ended."""
        self.calls.labels(verb, outcome).inc()
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("cached").inc(usage.cached_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)


def router(metrics: ServiceMetrics) -> APIRouter:
    """`GET /metrics`."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        if metrics.gather is not None:
            with anyio.move_on_after(GATHER_SECONDS):
                await metrics.gather()
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return routes
