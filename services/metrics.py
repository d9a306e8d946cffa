"""Prometheus metrics: one registry an application, so that several can live in one process."""

from dataclasses import dataclass, field

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Histogram bounds, in seconds: from a route's own overhead to a long solve."""


@dataclass(slots=True)
class ServiceMetrics:
    """What every service measures of itself."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)

    def __post_init__(self) -> None:
        """Register the metrics."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("route", "method")
        self.requests = Counter(
            "counterpoint_http_requests_total", "HTTP requests answered.", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "counterpoint_http_request_seconds",
            "Time from a request's arrival to the end of its response.",
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )


def router(metrics: ServiceMetrics) -> APIRouter:
    """`GET /metrics`."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return routes
