"""The orchestrator's composition root."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
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
from orchestrator.openai.routes import router as openai_router
from orchestrator.openai.wire import refuse
from orchestrator.page.routes import router as page_router
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


def create(settings: OrchestratorSettings) -> FastAPI:
    """The orchestrator's application."""
    metrics = OrchestratorMetrics()
    clients = client_for(settings.actor_url), client_for(settings.critic_url)
    actor, critic = HTTPActor(clients[0], metrics), HTTPCritic(clients[1], metrics)
    answers, redis = AnswerEquivalence(), RedisProbe(settings.redis_url)
    docket = docket_of(settings)
    quotas = quotas_of(settings, docket)
    runner = Runner(settings, actor, critic, answers, metrics, quotas)
    job_runner = job_runner_of(settings, runner, docket)
    forms = {"/v1/": refuse}
    metrics.most_in_flight.set(settings.max_in_flight)

    async def count_jobs() -> None:
        metrics.set_jobs(*await job_runner.store.queue_length())

    metrics.gather = count_jobs

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as opened:
            for client in clients:
                opened.push_async_callback(client.aclose)
            await opened.enter_async_context(answers.running())
            await opened.enter_async_context(redis.running())
            await opened.enter_async_context(docket)
            if settings.redis_url is None:
                await opened.enter_async_context(job_runner.running(docket))
            yield

    return create_app(
        title="Counterpoint",
        settings=settings,
        lifespan=lifespan,
        routers=[router(runner), openai_router(runner), jobs_router(runner, job_runner.store, docket), page_router()],
        checks={
            "actor": Check(actor.check),
            "critic": Check(critic.check, required=False),
            "redis": Check(redis.check, required=False),
        },
        service_metrics=metrics,
        error_formats=forms,
        guards=[partial(AuthMiddleware, quotas=quotas, forms=forms)],
    )


async def work(settings: OrchestratorSettings, *, exposed: bool = False) -> None:
    """Run jobs out of Redis until cancelled; `exposed`: with its metrics and health on `settings.port`.

    Raises `SettingsError` where no Redis is configured.
    """
    if settings.redis_url is None:
        raise SettingsError("a worker needs COUNTERPOINT_REDIS_URL: without Redis the orchestrator runs its own jobs")
    metrics = OrchestratorMetrics()
    answers = AnswerEquivalence()
    async with client_for(settings.actor_url) as acting, client_for(settings.critic_url) as judging:
        docket = docket_of(settings)
        actor, critic = HTTPActor(acting, metrics), HTTPCritic(judging, metrics)
        runner = Runner(settings, actor, critic, answers, metrics, quotas_of(settings, docket))
        job_runner = job_runner_of(settings, runner, docket)
        async with answers.running(), docket, job_runner.running(docket), anyio.create_task_group() as group:
            if exposed:
                group.start_soon(beside, _looked_at(settings, metrics), settings)
            await anyio.sleep_forever()


def _looked_at(settings: OrchestratorSettings, metrics: OrchestratorMetrics) -> FastAPI:
    """What a worker serves: how it is, and what it measures."""
    redis = RedisProbe(settings.redis_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with redis.running():
            yield

    return create_app(
        title="Counterpoint worker",
        settings=settings,
        lifespan=lifespan,
        routers=[],
        checks={"redis": Check(redis.check)},
        service_metrics=metrics,
    )


def docket_of(settings: OrchestratorSettings) -> Docket:
    """Where jobs are queued and limits are counted: in Redis, or in this process's own memory."""
    url = settings.redis_url or f"memory://{new_id('jobs')}"
    return Docket("counterpoint", url, execution_ttl=timedelta(0))  # what became of a job is the store's to know


def quotas_of(settings: OrchestratorSettings, docket: Docket) -> TenantQuotas:
    """Return the tenants' limits, from the file of keys if there is one. Raises `SettingsError`."""
    return TenantQuotas(None if settings.keys_file is None else Keys.load(settings.keys_file), docket)


def job_runner_of(settings: OrchestratorSettings, runner: Runner, docket: Docket) -> JobRunner:
    """Return the runner of a docket's jobs, registered as its task."""
    ttl, lease = settings.job_ttl_seconds, settings.job_lease_seconds
    job_runner = JobRunner(runner, JobStore(docket, ttl, lease, durable=settings.redis_url is not None))
    docket.register(job_runner.run_job, names=[TASK])
    return job_runner
