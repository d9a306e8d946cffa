"""`create_app()`: the parts that all services' applications have in common."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from services.http import error_responses, health, openapi
from services.http.body_limit import BodyLimit, Refuse
from services.http.health import Check
from services.observability import metrics, tracing
from services.observability.logging import RequestObserver
from services.observability.metrics import ServiceMetrics
from services.settings import ServiceSettings

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

VERSION = "0.1.0"


def create_app(  # noqa: PLR0913 - the parts of an application
    *,
    title: str,
    settings: ServiceSettings,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    checks: Mapping[str, Check],
    service_metrics: ServiceMetrics,
    error_formats: Mapping[str, Refuse] | None = None,
    guards: Sequence[Callable[[ASGIApp], ASGIApp]] = (),
) -> FastAPI:
    """Create an application: problem details, limits, logs, metrics and health checks around a service's own routes.

    `error_formats` has the error format of the paths that begin with each of its keys, where it is not problem details.
    `guards` are middleware that may refuse a request before its body is read.
    """

    @asynccontextmanager
    async def traced(app: FastAPI) -> AsyncGenerator[None]:
        async with lifespan(app):
            yield
        await tracing.flush()

    app = FastAPI(title=title, version=VERSION, lifespan=traced, redoc_url=None)
    error_responses.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, error_formats=error_formats)
    for guard in guards:
        app.add_middleware(guard)
    app.add_middleware(RequestObserver, metrics=service_metrics)
    for router in (*routers, health.router(checks), metrics.router(service_metrics)):
        app.include_router(router)
    openapi.describe(app)
    return app
