"""`create_app()`: what every service's application is made of."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from services.http import error_responses, health, openapi
from services.http.body_limit import BodyLimit, Refuse
from services.http.health import Check
from services.observability import metrics, tracing
from services.observability.logging import Observed
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
    forms: Mapping[str, Refuse] | None = None,
    guards: Sequence[Callable[[ASGIApp], ASGIApp]] = (),
) -> FastAPI:
    """An application with errors as problems, limits, logs, metrics and health around a service's own routes.

    `forms`: how errors are written instead under paths that begin with these prefixes. `guards`: middleware that may refuse
    a request before its body is read.
    """

    @asynccontextmanager
    async def traced(app: FastAPI) -> AsyncGenerator[None]:
        async with lifespan(app):
            yield
        await tracing.flush()

    app = FastAPI(title=title, version=VERSION, lifespan=traced, redoc_url=None)
    error_responses.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, forms=forms)
    for guard in guards:
        app.add_middleware(guard)
    app.add_middleware(Observed, metrics=service_metrics)
    for router in (*routers, health.router(checks), metrics.router(service_metrics)):
        app.include_router(router)
    openapi.describe(app)
    return app
