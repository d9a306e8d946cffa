"""The orchestrator's composition root."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial

import anyio
from docket import Docket
from fastapi import FastAPI

from orchestrator.access import AuthMiddleware, Keys, TenantQuotas
from orchestrator.answers import AnswerEquivalence
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.jobs import TASK, JobRunner, JobStore
from orchestrator.jobs import router as jobs_router
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.openai import refuse
from orchestrator.openai import router as openai_router
from orchestrator.page import router as page_router
from orchestrator.routes import router
from orchestrator.runner import Runner
from orchestrator.settings import OrchestratorSettings
from services.call_context import new_id
from services.http.app import create_app
from services.http.client import client_for
from services.http.health import Check
from services.http.server import beside
from services.redis import RedisProbe
from services.settings import SettingsError


class _Parts:
    """The parts that a service and a worker have in common. Raises `SettingsError` for an invalid file of keys."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.metrics, self.answers, self.redis = OrchestratorMetrics(), AnswerEquivalence(), RedisProbe(settings.redis_url)
        self.clients = client_for(settings.actor_url), client_for(settings.critic_url)
        self.actor, self.critic = HTTPActor(self.clients[0], self.metrics), HTTPCritic(self.clients[1], self.metrics)
        url = settings.redis_url or f"memory://{new_id('jobs')}"
        self.docket = Docket("counterpoint", url, execution_ttl=timedelta(0))  # the store keeps the results of jobs
        self.quotas = TenantQuotas(Keys.load(settings.keys_file) if settings.keys_file else None, self.docket)
        self.runner = Runner(settings, self.actor, self.critic, self.answers, self.metrics, self.quotas)
        durable, ttl, lease = settings.redis_url is not None, settings.job_ttl_seconds, settings.job_lease_seconds
        self.job_runner = JobRunner(self.runner, JobStore(self.docket, ttl, lease, durable=durable))
        self.docket.register(self.job_runner.run_job, names=[TASK])

    @asynccontextmanager
    async def running(self, *, jobs: bool) -> AsyncGenerator[None]:
        """Hold connections and the worker of answers for as long as the context lasts; with `jobs`, run jobs too."""
        actor, critic = self.clients
        worker = self.job_runner.running(self.docket) if jobs else nullcontext()
        async with actor, critic, self.answers.running(), self.redis.running(), self.docket, worker:
            yield


def create(settings: OrchestratorSettings) -> FastAPI:
    """Return the orchestrator's application. Raises `SettingsError`."""
    parts = _Parts(settings)
    metrics, runner, store = parts.metrics, parts.runner, parts.job_runner.store
    error_formats = {"/v1/": refuse}
    metrics.most_in_flight.set(settings.max_in_flight)

    async def count_jobs() -> None:
        metrics.set_jobs(*await store.queue_length())

    metrics.gather = count_jobs

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with parts.running(jobs=settings.redis_url is None):
            yield

    return create_app(
        title="Counterpoint",
        settings=settings,
        lifespan=lifespan,
        routers=[router(runner), openai_router(runner), jobs_router(runner, store), page_router()],
        checks={
            "actor": Check(parts.actor.check),
            "critic": Check(parts.critic.check, required=False),
            "redis": Check(parts.redis.check, required=False),
        },
        service_metrics=metrics,
        error_formats=error_formats,
        guards=[partial(AuthMiddleware, quotas=parts.quotas, error_formats=error_formats)],
    )


async def work(settings: OrchestratorSettings, *, exposed: bool = False) -> None:
    """Run jobs out of Redis until cancelled; `exposed`: with its metrics and health on `settings.port`.

    Raises `SettingsError` where no Redis is configured.
    """
    if settings.redis_url is None:
        raise SettingsError("a worker needs COUNTERPOINT_REDIS_URL: without Redis the orchestrator runs its own jobs")
    parts = _Parts(settings)
    async with parts.running(jobs=True), anyio.create_task_group() as group:
        if exposed:
            group.start_soon(beside, _worker_app(settings, parts), settings)
        await anyio.sleep_forever()


def _worker_app(settings: OrchestratorSettings, parts: _Parts) -> FastAPI:
    """Return the application with the health and the metrics of a worker."""
    return create_app(
        title="Counterpoint worker",
        settings=settings,
        lifespan=lambda _app: nullcontext(),
        routers=[],
        checks={"redis": Check(parts.redis.check)},
        service_metrics=parts.metrics,
    )
