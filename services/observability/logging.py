"""Structured logs without bodies, query strings or secrets: one line a request, every line with its request id."""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Literal

import structlog
from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.call_context import REQUEST_ID, TRACE, request_id_of, traceparent_of
from services.observability import tracing
from services.observability.metrics import ServiceMetrics

QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that are polled every few seconds; their requests are logged at debug level."""

log = structlog.get_logger("access")


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Set up the process's logging, once, at its start."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), format="%(levelname)s %(name)s %(message)s")


class RequestObserver:
    """ASGI middleware: gives each request an id, a log line at its end, metrics and, if it is a POST, a span."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID))
        scope["request_id"] = request_id
        status = 499  # the client left before a response began
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id), _traced(scope) as traced:
            try:
                await self.app(scope, receive, observed)
            finally:
                self._record(scope, status, time.perf_counter() - started)
                if traced:
                    traced.span.update_name(f"POST {_route(scope)}")
                    traced.set({tracing.ROUTE: _route(scope), tracing.STATUS: status})
                    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        traced.fail(str(status))

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in {"GET", "POST", "DELETE"} else "other"
        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.seconds.labels(route, method).observe(seconds)
        write = log.debug if route in QUIET_ROUTES else log.info
        write("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


@contextmanager
def _traced(scope: Scope) -> Generator[tracing.Traced | None]:
    """Open a span around a POST request; other requests do not belong to a solve."""
    if scope["method"] != "POST":
        yield None
        return
    traceparent = traceparent_of(Headers(scope=scope).get(TRACE))
    attributes = {tracing.METHOD: "POST", tracing.REQUEST_ID: scope["request_id"]}
    with tracing.span("POST", traceparent, attributes, SpanKind.SERVER) as traced:
        scope[TRACE] = traced.traceparent
        yield traced
